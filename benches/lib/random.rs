//! A pseudo-random sequence for benches: speed matters, secrecy does not.

/// A linear congruential generator, of whose numbers the upper 31 bits are used.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number in `0..bound`; `bound` is at most 2^31.
    // Inlined, so that what counts instructions counts no call.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
