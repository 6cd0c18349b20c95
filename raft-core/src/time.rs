//! Time without a clock: the host tells what time it is, in microseconds since an origin of its
//! own.

use crate::checkpoint::stored;
use core::fmt;
use core::ops::Add;
use core::time::Duration;

/// A moment, in microseconds since an origin that the host chose (start of the process, power-on).
///
/// The host's clock must be monotonic; [`Raft::tick`](crate::Raft::tick) ignores steps back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Instant(u64);

stored! { struct Instant(_) }

impl Instant {
    /// The host's origin.
    pub const ZERO: Self = Self(0);

    /// The moment that many microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The moment that many microseconds later; saturates at the end of time.
    pub(crate) const fn plus_micros(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// The time from `earlier` until `self`; zero if `earlier` is later.
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Spans are rounded down to microseconds; the sum saturates at the end of time.
    fn add(self, span: Duration) -> Self {
        self.plus_micros(micros(span))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A span in whole microseconds, saturating. In line wherever times are added it would take a
/// kilobyte and a half of a microcontroller's flash.
#[inline(never)]
pub(crate) fn micros(span: Duration) -> u64 {
    let seconds = span.as_secs().saturating_mul(1_000_000);
    seconds.saturating_add(u64::from(span.subsec_micros()))
}
