//! What is supported and what it affects: log pages (00h), commands (05h), features (12h).
//! Base spec 2.0, sections 5.16.1.1, 5.16.1.6 and 5.16.1.18.

layout! {
    /// Supported Log Pages page (00h), indexed by LID.
    pub struct SupportedLogPages: 1024 {
        /// One descriptor per LID.
        0 => pages: [LogPageSupport; 256],
    }
}

flags! {
    /// LID Supported and Effects.
    pub struct LogPageSupport(u32) {
        /// Supported (LSUPP).
        SUPPORTED = 1 << 0,
        /// The offset may be an index (IOS).
        INDEX_OFFSET = 1 << 1,
    }
}

layout! {
    /// Commands Supported and Effects page (05h).
    pub struct CommandsEffectsLog: 4096 {
        /// Admin commands, by opcode (ACS).
        0 => admin: [CommandEffects; 256],
        /// I/O commands of the command set asked for, by opcode (IOCS).
        1024 => io: [CommandEffects; 256],
    }
}

flags! {
    /// Command supported and effects.
    pub struct CommandEffects(u32) {
        /// Supported (CSUPP).
        SUPPORTED = 1 << 0,
        /// May change logical block content (LBCC).
        CONTENT_CHANGE = 1 << 1,
        /// May change namespace capabilities (NCC).
        NAMESPACE_CAPABILITY_CHANGE = 1 << 2,
        /// May change the namespace inventory (NIC).
        NAMESPACE_INVENTORY_CHANGE = 1 << 3,
        /// May change controller capabilities (CCC).
        CONTROLLER_CAPABILITY_CHANGE = 1 << 4,
        /// Only with no other command for the namespace outstanding (CSE = 001b).
        EXCLUSIVE_NAMESPACE = 0b001 << 16,
        /// Only with no other command for any namespace outstanding (CSE = 010b).
        EXCLUSIVE_ALL = 0b010 << 16,
        /// Takes a UUID index.
        UUID_SELECTION = 1 << 19,
        /// Scope: namespace (CSP bit 0).
        SCOPE_NAMESPACE = 1 << 20,
        /// Scope: controller (CSP bit 1).
        SCOPE_CONTROLLER = 1 << 21,
        /// Scope: NVM subsystem (CSP bit 5).
        SCOPE_SUBSYSTEM = 1 << 25,
    }
}

layout! {
    /// Feature Identifiers Supported and Effects page (12h), indexed by FID.
    pub struct FeatureEffectsLog: 1024 {
        /// One descriptor per FID.
        0 => features: [FeatureEffects; 256],
    }
}

flags! {
    /// FID supported and effects.
    pub struct FeatureEffects(u32) {
        /// Supported (FSUPP).
        SUPPORTED = 1 << 0,
        /// Setting it may change user data (UDCC).
        CONTENT_CHANGE = 1 << 1,
        /// Setting it may change namespace capabilities (NCC).
        NAMESPACE_CAPABILITY_CHANGE = 1 << 2,
        /// Setting it may change the namespace inventory (NIC).
        NAMESPACE_INVENTORY_CHANGE = 1 << 3,
        /// Setting it may change controller capabilities (CCC).
        CONTROLLER_CAPABILITY_CHANGE = 1 << 4,
        /// Takes a UUID index.
        UUID_SELECTION = 1 << 19,
        /// Scope: namespace (FSP bit 0).
        SCOPE_NAMESPACE = 1 << 20,
        /// Scope: controller (FSP bit 1).
        SCOPE_CONTROLLER = 1 << 21,
        /// Scope: NVM subsystem (FSP bit 5).
        SCOPE_SUBSYSTEM = 1 << 25,
    }
}
