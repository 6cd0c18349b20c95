//! Durations in fixed buckets, each twice as wide as the one before.

use std::time::Duration;

use super::cells::Cell;

/// The number of buckets. The last one has no upper bound.
const BUCKETS: usize = 22;

/// The upper bound of the first bucket is two to the power of this, in microseconds.
const FIRST_BOUND_LOG2: u32 = 4;

/// How long something took, each time since the node started.
///
/// The bounds are the same for every histogram: 16 µs, 32 µs, 64 µs and so on up to 16.8 s, and one
/// bucket for all that took longer. So a quantile is known up to a factor of two.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: Duration,
}

impl Histogram {
    /// How often it happened.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All durations together, each rounded down to a microsecond.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The buckets by rising bound: the upper bound, included, and how many durations were up to
    /// this bound and beyond the bound before. The last bucket has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        (0..BUCKETS).zip(self.counts).map(|(number, count)| (bound(number), count))
    }

    /// The smallest bound such that at least this share of the durations, from 0 to 1, was up to
    /// it. `None` if nothing was measured, or if the duration is beyond the last bound.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let mut below = 0;
        for (bound, in_bucket) in self.buckets() {
            below += in_bucket;
            if below > 0 && below as f64 >= share * count as f64 {
                return bound;
            }
        }
        None
    }
}

/// The buckets with their bounds: `{"count": 3, "sum": .., "buckets": [[bound, count], ..]}`.
#[cfg(feature = "serde")]
impl serde::Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut histogram = serializer.serialize_struct("Histogram", 3)?;
        histogram.serialize_field("count", &self.count())?;
        histogram.serialize_field("sum", &self.sum())?;
        histogram.serialize_field("buckets", &self.buckets().collect::<std::vec::Vec<_>>())?;
        histogram.end()
    }
}

/// The upper bound of this bucket; `None` for the last one.
fn bound(number: usize) -> Option<Duration> {
    let exponent = u32::try_from(number).ok()?.checked_add(FIRST_BOUND_LOG2)?;
    (number + 1 < BUCKETS).then(|| Duration::from_micros(1 << exponent))
}

/// The bucket of a duration in microseconds.
fn bucket(micros: u64) -> usize {
    let bits = u64::BITS - micros.saturating_sub(1).leading_zeros();
    (bits.saturating_sub(FIRST_BOUND_LOG2) as usize).min(BUCKETS - 1)
}

/// A histogram to which one thread at a time adds.
#[derive(Default, Debug)]
pub(in crate::host) struct HistogramCells {
    counts: [Cell; BUCKETS],
    sum_micros: Cell,
}

impl HistogramCells {
    /// Adds a duration.
    pub(in crate::host) fn record(&self, span: Duration) {
        self.record_many(span, 1);
    }

    /// Adds a duration `count` times.
    pub(in crate::host) fn record_many(&self, span: Duration, count: u64) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)].add_alone(count);
        self.sum_micros.add_alone(micros.wrapping_mul(count));
    }

    pub(super) fn read(&self) -> Histogram {
        let mut counts = [0; BUCKETS];
        for (count, cell) in counts.iter_mut().zip(&self.counts) {
            *count = cell.get();
        }
        Histogram { counts, sum: Duration::from_micros(self.sum_micros.get()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const fn micros(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    #[test]
    fn each_duration_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        let bounds: Vec<_> = Histogram::default().buckets().filter_map(|(b, _)| b).collect();
        assert_eq!((bounds.len(), bounds[0], bounds[1]), (BUCKETS - 1, micros(16), micros(32)));
        assert_eq!(bounds[BUCKETS - 2], micros(1 << 24));
        for (number, bound) in bounds.iter().enumerate() {
            let micros = bound.as_micros() as u64;
            assert_eq!(bucket(micros), number, "{bound:?} is included");
            assert_eq!(bucket(micros + 1), number + 1, "a microsecond more is not");
        }
        assert_eq!((bucket(0), bucket(1), bucket(u64::MAX)), (0, 0, BUCKETS - 1));
    }

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let cells = HistogramCells::default();
        assert_eq!(cells.read().quantile(0.5), None);
        cells.record_many(micros(100), 98);
        cells.record(micros(1000));
        cells.record(Duration::from_secs(3600));
        let read = cells.read();
        assert_eq!(read.count(), 100);
        assert_eq!(read.sum(), micros(98 * 100 + 1000) + Duration::from_secs(3600));
        assert_eq!(read.quantile(0.5), Some(micros(128)));
        assert_eq!(read.quantile(0.0), Some(micros(128)), "the least that was measured");
        assert_eq!(read.quantile(0.99), Some(micros(1024)));
        assert_eq!(read.quantile(1.0), None, "an hour is beyond the last bound");
    }
}
