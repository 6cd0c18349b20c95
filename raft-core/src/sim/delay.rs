//! How long things take: messages on their way, a disk at its work.

use core::time::Duration;

use super::draw::Draw;

/// How long something takes, each time anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Delay {
    /// Always the same.
    Constant(Duration),
    /// Any time from `min` to `max`, both included.
    Uniform {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// `min`, and on top of it a time that is mostly short and sometimes long.
    Exponential {
        /// The shortest.
        min: Duration,
        /// The mean of what comes on top.
        mean: Duration,
    },
    /// Mostly `usual`, and now and then up to `spike`.
    Spikes {
        /// The usual delay.
        usual: Duration,
        /// The longest that a spike takes.
        spike: Duration,
        /// How many of 1000 delays are spikes.
        spikes_per_mille: u32,
    },
    /// Mostly `usual`, and now and then `long`.
    Hiccups {
        /// The usual delay.
        usual: Duration,
        /// The long delay.
        long: Duration,
        /// How many of 1000 delays are long.
        per_mille: u32,
    },
}

impl Delay {
    pub(super) fn draw(self, draw: &mut Draw) -> Duration {
        match self {
            Self::Constant(span) => span,
            Self::Uniform { min, max } => draw.span(min, max),
            Self::Exponential { min, mean } => min.saturating_add(draw.exponential(mean)),
            Self::Hiccups { usual, long, per_mille } => {
                if draw.per_mille(per_mille) {
                    long
                } else {
                    usual
                }
            }
            Self::Spikes { usual, spike, spikes_per_mille } => {
                if draw.per_mille(spikes_per_mille) {
                    draw.span(usual, spike)
                } else {
                    usual
                }
            }
        }
    }
}
