//! Several clusters at once, and yet no trial among the noise of another's start.
//!
//! A trial mostly waits. So clusters of several threads share the machine: many may be without a
//! leader at once, for an election takes little of the processor; but nothing starts or ends
//! meanwhile, which takes much of it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

/// What clusters share that take turns in being noisy. Without another that shares it, it forbids
/// nothing.
#[derive(Clone, Default, Debug)]
pub struct Quiet {
    floor: Arc<RwLock<()>>,
}

/// While this is held, no trial makes noise.
pub struct Measuring<'a>(
    #[expect(dead_code, reason = "held for its drop")] RwLockReadGuard<'a, ()>,
);

/// While this is held, no trial measures.
pub struct Noise<'a>(#[expect(dead_code, reason = "held for its drop")] RwLockWriteGuard<'a, ()>);

impl Quiet {
    /// Waits until this moment, and if there is noise then, again for as long as it takes by this
    /// interval: the phase within it stays what it was to be.
    pub fn measure_at(&self, mut moment: Instant, interval: Duration) -> Measuring<'_> {
        loop {
            thread::sleep(moment.saturating_duration_since(Instant::now()));
            if let Ok(guard) = self.floor.try_read() {
                return Measuring(guard);
            }
            moment += interval;
        }
    }

    /// Waits until no trial measures.
    pub fn make_noise(&self) -> Noise<'_> {
        Noise(self.floor.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_measure_in_the_noise_keeps_the_phase() {
        let quiet = Quiet::default();
        let interval = Duration::from_millis(20);
        let begin = Instant::now();
        let noise = quiet.make_noise();
        let measured_at = thread::scope(|scope| {
            let measuring = scope.spawn(|| {
                let _measuring = quiet.measure_at(begin, interval);
                begin.elapsed()
            });
            thread::sleep(interval / 2);
            drop(noise);
            measuring.join().unwrap()
        });
        assert!(measured_at >= interval, "{measured_at:?}");
    }

    #[test]
    fn many_measure_at_once() {
        let quiet = Quiet::default();
        let now = Instant::now();
        let first = quiet.measure_at(now, Duration::MAX);
        let second = quiet.measure_at(now, Duration::MAX);
        assert!(quiet.floor.try_write().is_err());
        drop((first, second));
        drop(quiet.make_noise());
    }
}
