//! How a client numbers its commands: its session, and which of its commands wait for replies.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::another_attempt::PAUSE_MIN;
use super::table::SessionId;
use crate::host::error::ProposeError;
use crate::host::node::Pending;
use crate::host::state_machine::StateMachine;

/// The client's session. No call owns the attempt to open it, because a call that is not polled
/// must not hold up the others.
pub(super) struct Numbering<S: StateMachine> {
    pub(super) session: Option<SessionId>,
    pub(super) opening: Option<Pending<S::Reply, ProposeError>>,
    /// The next attempt to open a session is not before.
    pub(super) open_at: Instant,
    pub(super) pause: Duration,
    pub(super) serials: Serials,
}

/// The serial numbers of a session: which commands wait for their replies.
pub(super) struct Serials {
    /// The lowest serial number whose command waits, or else the next one.
    pub(super) lowest: u64,
    /// Whether each command from the lowest on waits.
    waits: VecDeque<bool>,
}

impl<S: StateMachine> Numbering<S> {
    /// Before the first command.
    pub(super) fn new() -> Self {
        Self {
            session: None,
            opening: None,
            open_at: Instant::now(),
            pause: PAUSE_MIN,
            serials: Serials::new(),
        }
    }
}

impl Serials {
    fn new() -> Self {
        Self { lowest: 1, waits: VecDeque::new() }
    }

    /// A number for a new command.
    pub(super) fn draw(&mut self) -> u64 {
        self.waits.push_back(true);
        self.lowest + self.waits.len() as u64 - 1
    }

    /// No command waits any more.
    pub(super) fn none_waits(&mut self) {
        self.lowest += self.waits.len() as u64;
        self.waits.clear();
    }

    /// The command with this number waits no more.
    pub(super) fn answered(&mut self, serial: u64) {
        let place = serial.checked_sub(self.lowest).and_then(|place| usize::try_from(place).ok());
        if let Some(waits) = place.and_then(|place| self.waits.get_mut(place)) {
            *waits = false;
        }
        while self.waits.front() == Some(&false) {
            self.waits.pop_front();
            self.lowest += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_number_rises_when_it_and_all_before_it_are_answered() {
        let mut serials = Serials::new();
        assert_eq!([serials.draw(), serials.draw(), serials.draw()], [1, 2, 3]);
        serials.answered(2);
        assert_eq!(serials.lowest, 1);
        serials.answered(1);
        assert_eq!(serials.lowest, 3, "2 was answered before");
        serials.answered(1);
        serials.answered(9);
        assert_eq!((serials.lowest, serials.draw()), (3, 4));
        serials.none_waits();
        assert_eq!((serials.lowest, serials.draw()), (5, 5), "no number is given twice");
    }
}
