//! Latencies in classes whose width follows their size: 64 a power of two, so that any value is known to 1.6 %.

/// Classes a power of two.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.ilog2();
/// Values beyond are counted as this one: 2^40 ns, 18 minutes.
const VALUE_MAX: u64 = (1 << 40) - 1;
const CLASSES: usize = (40 - STEP_BITS as usize + 1) * STEPS as usize;

/// Counts of values in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
}

impl Histogram {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self { counts: vec![0; CLASSES].into_boxed_slice(), count: 0, sum: 0, min: u64::MAX, max: 0 }
    }

    /// Counts a value.
    pub(super) fn add(&mut self, value: u64) {
        self.counts[class_of(value)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds what another counted.
    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// How many values there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The smallest value, 0 without any.
    pub(super) fn min(&self) -> u64 {
        if self.count == 0 { 0 } else { self.min }
    }

    /// The largest value.
    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// The mean, 0 without any value.
    pub(super) fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }

    /// The value that `share` (0.0..=1.0) of all values do not exceed, rounded up within its class.
    pub(super) fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (class, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return top_of(class).min(self.max);
            }
        }
        self.max
    }
}

/// Values below 64 have classes of their own; above, the six bits after the leading one choose within a power of two.
fn class_of(value: u64) -> usize {
    let value = value.min(VALUE_MAX);
    if value < STEPS {
        return value as usize;
    }
    let shift = value.ilog2() - STEP_BITS;
    (u64::from(shift + 1) * STEPS + ((value >> shift) - STEPS)) as usize
}

/// The largest value of a class.
fn top_of(class: usize) -> u64 {
    let (power, step) = (class as u64 / STEPS, class as u64 % STEPS);
    if power == 0 { step } else { ((STEPS + step + 1) << (power - 1)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_class_that_ends_at_or_after_it() {
        let powers = (0..40).map(|power| 1_u64 << power);
        for value in powers.flat_map(|value| [value - 1, value, value + 1, value + value / 3]) {
            let top = top_of(class_of(value));
            assert!(top >= value, "{value} is above its class, which ends at {top}");
            assert!((top - value) as f64 <= value as f64 / 60.0, "{value} is told as {top}");
        }
        assert_eq!(class_of(u64::MAX), CLASSES - 1, "the longest latencies share the last class");
    }

    #[test]
    fn quantiles_of_evenly_spread_values_are_their_shares() {
        let mut histogram = Histogram::new();
        for value in 1..=100_000 {
            histogram.add(value);
        }
        for (share, value) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.9999, 99_990.0)] {
            let told = histogram.quantile(share) as f64;
            assert!((told - value).abs() <= value / 60.0, "quantile {share} is told as {told}");
        }
        assert_eq!((histogram.min(), histogram.max(), histogram.mean()), (1, 100_000, 50_000));
    }

    #[test]
    fn merging_is_the_same_as_counting_together() {
        let (mut odd, mut even, mut all) = (Histogram::new(), Histogram::new(), Histogram::new());
        for value in 0..10_000_u64 {
            if value % 2 == 0 {
                even.add(value * 7)
            } else {
                odd.add(value * 7)
            }
            all.add(value * 7);
        }
        odd.merge(&even);
        assert_eq!(odd.counts, all.counts);
        assert_eq!((odd.count(), odd.quantile(0.9)), (all.count(), all.quantile(0.9)));
    }

    #[test]
    fn nothing_counted_is_zero_everywhere() {
        let empty = Histogram::new();
        assert_eq!((empty.min(), empty.max(), empty.mean(), empty.quantile(0.5)), (0, 0, 0, 0));
    }
}
