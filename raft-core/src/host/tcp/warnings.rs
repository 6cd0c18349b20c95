//! Which warnings are logged when the same thing happens again and again.
//!
//! A port scanner, a wiped peer, or a host without file descriptors causes many warnings in a
//! second, and a line for each would hide everything else. So of each cause and peer the first few
//! within [`WARNING_INTERVAL`] are logged as warnings, and the others only for debugging. The next
//! warning says how many were left out. [`Counts`](super::Counts) counts all of them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::types::NodeId;

/// How long warnings of one cause are counted together.
pub(super) const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// How many warnings of one cause are logged in that time.
pub(super) const WARNINGS_PER_INTERVAL: u32 = 5;

/// The most pairs of cause and peer that are told apart.
const KEYS_MAX: usize = 256;

/// What went wrong, as far as the difference matters to a reader of the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Cause {
    /// No connection can be accepted.
    Accept,
    /// The system gives no thread or task to dial.
    Spawn,
    Cut,
    Io,
    Tls,
    Idle,
    Frame,
    Decode,
    Unexpected,
    Misaddressed,
    /// A node has lost its memory. It dials again and again until an operator acts.
    OtherStore,
    Refused,
    Handshake,
    /// An end that is expected in normal operation.
    Expected,
}

impl Cause {
    fn warnings_per_interval(self) -> u32 {
        match self {
            Self::OtherStore => 1,
            Self::Accept
            | Self::Spawn
            | Self::Cut
            | Self::Io
            | Self::Tls
            | Self::Idle
            | Self::Frame
            | Self::Decode
            | Self::Unexpected
            | Self::Misaddressed
            | Self::Refused
            | Self::Handshake
            | Self::Expected => WARNINGS_PER_INTERVAL,
        }
    }
}

#[derive(Default, Debug)]
pub(super) struct Warnings(Mutex<BTreeMap<(Cause, Option<NodeId>), Window>>);

#[derive(Debug)]
struct Window {
    begun: Instant,
    logged: u32,
    left_out: u64,
}

impl Warnings {
    /// Whether to log this warning now: the number of similar warnings left out before it, or
    /// `None` to leave it out.
    pub(super) fn may_warn(&self, cause: Cause, peer: Option<NodeId>, now: Instant) -> Option<u64> {
        let mut windows = self.0.lock().expect("nothing panics while it holds this lock");
        let is_over =
            |window: &Window| now.saturating_duration_since(window.begun) >= WARNING_INTERVAL;
        if windows.len() >= KEYS_MAX && !windows.contains_key(&(cause, peer)) {
            windows.retain(|_, window| !is_over(window));
            // A stranger may use any number of ids.
            if windows.len() >= KEYS_MAX {
                return None;
            }
        }
        let new = || Window { begun: now, logged: 0, left_out: 0 };
        let window = windows.entry((cause, peer)).or_insert_with(new);
        if is_over(window) {
            (window.begun, window.logged) = (now, 0);
        }
        if window.logged >= cause.warnings_per_interval() {
            window.left_out += 1;
            return None;
        }
        window.logged += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_warnings_of_one_cause_a_few_are_logged_and_the_next_says_how_many_were_not() {
        let warnings = Warnings::default();
        let start = Instant::now();
        let warn = |cause, after| warnings.may_warn(cause, None, start + after);
        let silent = (0..511).filter_map(|at| warn(Cause::Idle, Duration::from_millis(39 * at)));
        assert_eq!(silent.collect::<std::vec::Vec<_>>(), [0; WARNINGS_PER_INTERVAL as usize]);
        assert_eq!(warn(Cause::Frame, WARNING_INTERVAL / 2), Some(0), "another cause");
        let left_out = 511 - u64::from(WARNINGS_PER_INTERVAL);
        assert_eq!(warn(Cause::Idle, WARNING_INTERVAL), Some(left_out));
        assert_eq!(warn(Cause::Idle, WARNING_INTERVAL), Some(0));
    }

    #[test]
    fn each_peer_has_its_own_and_a_lost_memory_is_told_once() {
        let warnings = Warnings::default();
        let now = Instant::now();
        for peer in [1, 2].map(|peer| Some(NodeId::new(peer))) {
            assert_eq!(warnings.may_warn(Cause::OtherStore, peer, now), Some(0));
            assert_eq!(warnings.may_warn(Cause::OtherStore, peer, now), None);
        }
    }

    #[test]
    fn no_number_of_strangers_takes_more_than_so_much_memory() {
        let warnings = Warnings::default();
        let now = Instant::now();
        for peer in 0..10_000 {
            warnings.may_warn(Cause::Cut, Some(NodeId::new(peer)), now);
        }
        assert_eq!(warnings.0.lock().unwrap().len(), KEYS_MAX);
        assert_eq!(warnings.may_warn(Cause::Idle, None, now + WARNING_INTERVAL), Some(0));
    }
}
