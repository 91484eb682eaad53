//! The optional mechanisms of the reactor, by name: what was asked for, and what this kernel has.

use std::fmt;
use std::str::FromStr;

/// A mechanism that makes things faster where the kernel has it, and that nothing needs to be correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Task work of operations runs only when the reactor asks for it (needs `SingleIssuer`; Linux 6.1).
    DeferTaskrun,
    /// Drives and connections are in the ring's own file table.
    FixedFiles,
    /// Arenas are registered with the ring, so that disk operations need not pin their pages each time.
    FixedBuffers,
    /// Arenas lie in huge pages where there are any.
    Hugepages,
    /// Where many completions are expected, a sleep waits a little for more than one (Linux 6.12).
    MinWait,
    /// A sleeping reactor is woken through the waker's own ring instead of an eventfd (Linux 6.7).
    MsgRing,
    /// One accept operation yields all connections of a listener.
    MultishotAccept,
    /// The submission queue has no indirection array (Linux 6.6).
    NoSqarray,
    /// Arenas are bound to the NUMA node of the reactor's core.
    NumaBinding,
    /// Receives take memory from a ring of buffers when bytes arrive, not before.
    ProvidedBuffers,
    /// The ring is entered by an index instead of a file descriptor.
    RegisteredRing,
    /// The kernel may assume that one thread submits.
    SingleIssuer,
    /// After recent traffic the reactor looks for more before it sleeps.
    Spin,
    /// The kernel flags pending task work, so that spinning enters it only when there is some.
    TaskrunFlag,
}

/// A set of [`Feature`]s.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Features(u32);

/// A name that is not one of a feature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown reactor feature {name:?}; the features are: {}, or all", Features::all())]
pub struct UnknownFeature {
    /// As it was given.
    pub name: String,
}

impl Feature {
    /// Every feature, in alphabetical order.
    pub const ALL: [Self; 14] = [
        Self::DeferTaskrun,
        Self::FixedBuffers,
        Self::FixedFiles,
        Self::Hugepages,
        Self::MinWait,
        Self::MsgRing,
        Self::MultishotAccept,
        Self::NoSqarray,
        Self::NumaBinding,
        Self::ProvidedBuffers,
        Self::RegisteredRing,
        Self::SingleIssuer,
        Self::Spin,
        Self::TaskrunFlag,
    ];

    /// The name by which it is printed and switched off.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DeferTaskrun => "defer-taskrun",
            Self::FixedFiles => "fixed-files",
            Self::FixedBuffers => "fixed-buffers",
            Self::Hugepages => "hugepages",
            Self::MinWait => "min-wait",
            Self::MsgRing => "msg-ring",
            Self::MultishotAccept => "multishot-accept",
            Self::NoSqarray => "no-sqarray",
            Self::NumaBinding => "numa-binding",
            Self::ProvidedBuffers => "provided-buffers",
            Self::RegisteredRing => "registered-ring",
            Self::SingleIssuer => "single-issuer",
            Self::Spin => "spin",
            Self::TaskrunFlag => "taskrun-flag",
        }
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl Features {
    /// All of them: what is used where the kernel has it.
    #[must_use]
    pub fn all() -> Self {
        Feature::ALL.into_iter().fold(Self::none(), |set, feature| Self(set.0 | feature.bit()))
    }

    /// None of them.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// Everything but the features named; the name `all` stands for every one.
    ///
    /// # Errors
    /// The first name that is not one of a feature.
    pub fn all_but<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownFeature> {
        let mut set = Self::all();
        for name in names {
            match name {
                "all" => set = Self::none(),
                name => set.remove(name.parse()?),
            }
        }
        Ok(set)
    }

    /// Adds a feature.
    pub fn insert(&mut self, feature: Feature) {
        self.0 |= feature.bit();
    }

    /// Takes a feature out.
    pub fn remove(&mut self, feature: Feature) {
        self.0 &= !feature.bit();
    }

    /// True where the feature is in the set.
    #[must_use]
    pub fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    /// The features of the set, in alphabetical order.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.has(*feature))
    }
}

impl Default for Features {
    fn default() -> Self {
        Self::all()
    }
}

impl FromStr for Feature {
    type Err = UnknownFeature;

    fn from_str(name: &str) -> Result<Self, UnknownFeature> {
        Self::ALL
            .into_iter()
            .find(|feature| feature.name() == name)
            .ok_or_else(|| UnknownFeature { name: name.to_owned() })
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One line: the names, with commas.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        for (index, feature) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(feature.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_feature_and_is_unique() {
        for feature in Feature::ALL {
            assert_eq!(feature.name().parse(), Ok(feature));
            assert_eq!(Feature::ALL.iter().filter(|other| other.name() == feature.name()).count(), 1);
        }
        assert_eq!(Features::all().iter().count(), Feature::ALL.len());
    }

    #[test]
    fn names_switch_features_off() {
        let set = Features::all_but(["spin", "msg-ring"]).unwrap();
        assert!(!set.has(Feature::Spin));
        assert!(!set.has(Feature::MsgRing));
        assert!(set.has(Feature::FixedFiles));
        assert_eq!(Features::all_but(["all"]).unwrap(), Features::none());
        assert_eq!(Features::none().to_string(), "none");
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = Features::all_but(["warp-drive"]).unwrap_err();
        assert!(error.to_string().contains("\"warp-drive\""));
        assert!(error.to_string().contains("defer-taskrun"));
    }
}
