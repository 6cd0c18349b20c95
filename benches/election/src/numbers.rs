//! Many measurements of one thing.

use std::time::Duration;

/// Spans, in order.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    sorted: Vec<Duration>,
}

impl Sample {
    /// How many.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// In order.
    pub fn sorted(&self) -> &[Duration] {
        &self.sorted
    }

    /// The smallest span that this many per mille do not exceed; zero of none.
    pub fn per_mille(&self, rank: usize) -> Duration {
        let place = (self.sorted.len() * rank).div_ceil(1000).saturating_sub(1);
        self.sorted.get(place).copied().unwrap_or_default()
    }

    /// The median.
    pub fn p50(&self) -> Duration {
        self.per_mille(500)
    }

    /// Nine of ten do not exceed it.
    pub fn p90(&self) -> Duration {
        self.per_mille(900)
    }

    /// 99 of a hundred do not exceed it.
    pub fn p99(&self) -> Duration {
        self.per_mille(990)
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.per_mille(1000)
    }

    /// The mean.
    pub fn mean(&self) -> Duration {
        let count = u32::try_from(self.sorted.len().max(1)).unwrap_or(u32::MAX);
        self.sorted.iter().sum::<Duration>() / count
    }
}

impl FromIterator<Duration> for Sample {
    fn from_iter<I: IntoIterator<Item = Duration>>(spans: I) -> Self {
        let mut sorted: Vec<_> = spans.into_iter().collect();
        sorted.sort_unstable();
        Self { sorted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_spans_that_were_measured() {
        let sample: Sample = (1..=1000).rev().map(Duration::from_micros).collect();
        let micros = [sample.p50(), sample.p90(), sample.p99(), sample.max(), sample.per_mille(1)];
        assert_eq!(micros.map(|span| span.as_micros()), [500, 900, 990, 1000, 1]);
        let one: Sample = [Duration::from_secs(1)].into_iter().collect();
        assert_eq!((one.p50(), one.p99(), one.mean()), (one.max(), one.max(), one.max()));
        assert_eq!(Sample::default().p99(), Duration::ZERO);
    }
}
