//! Where the state machine's work is done: by the node's loop while the work is quick, and
//! otherwise by the state machine's thread.
//!
//! A change of thread each way costs several times what a quick command costs. So the choice is
//! measured. The work starts on the thread, and moves into the loop after several quick batches in
//! a row. It moves back when a turn's work in the loop takes too long on average, or when the
//! thread had to [stand in](super::state_machine_jobs) for the loop. After each move back the
//! thread asks for twice as many quick batches.

use std::time::Duration;

/// Work counts as quick in the loop if a turn's share takes less than this part of the heartbeat
/// interval: 1 ms of 50 ms.
const QUICK_PART: u32 = 50;

/// After how many quick batches in a row the work first moves into the loop.
const QUICK_BATCHES_MIN: u32 = 16;

/// The most quick batches in a row that a state machine must show, however often it was slow.
const QUICK_BATCHES_MAX: u32 = 4096;

/// The share of the newest measurement in the average. One pause of the process must not count as a
/// slow state machine.
const NEWEST_SHARE: u32 = 8;

/// Where the next work is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Thread,
    Loop,
}

/// The place, and what was measured.
#[derive(Debug)]
pub(super) struct ApplyPlace {
    place: Place,
    /// The choice of the application; `None` if it is measured.
    fixed: bool,
    quick_max: Duration,
    /// The average time of a turn's work in the loop.
    average: Duration,
    quick_batches: u32,
    quick_batches_needed: u32,
}

impl ApplyPlace {
    /// The choice of a state machine: `blocks` is what it says of itself.
    pub(super) fn new(blocks: Option<bool>, heartbeat_interval: Duration) -> Self {
        Self {
            place: if blocks == Some(false) { Place::Loop } else { Place::Thread },
            fixed: blocks.is_some(),
            quick_max: heartbeat_interval / QUICK_PART,
            average: Duration::ZERO,
            quick_batches: 0,
            quick_batches_needed: QUICK_BATCHES_MIN,
        }
    }

    /// Whether the state machine has a thread.
    pub(super) fn has_thread(&self) -> bool {
        !(self.fixed && self.place == Place::Loop)
    }

    /// Lets the thread do the work for good, unless the application chose the loop.
    pub(super) fn stay_on_thread(&mut self) {
        self.leave_loop();
        self.fixed = true;
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Takes the time of a batch on the thread. A batch must be twice as quick there as in the
    /// loop, so that the work does not move to and fro.
    pub(super) fn thread_took(&mut self, span: Duration) {
        if span > self.quick_max / 2 {
            self.quick_batches = 0;
        } else {
            self.quick_batches = self.quick_batches.saturating_add(1);
        }
    }

    /// To be called when the thread has no work left.
    pub(super) fn thread_is_idle(&mut self) {
        if !self.fixed && self.quick_batches >= self.quick_batches_needed {
            self.place = Place::Loop;
            self.average = Duration::ZERO;
        }
    }

    /// Takes the time of a turn's work in the loop.
    pub(super) fn loop_took(&mut self, span: Duration) {
        self.average = (self.average * (NEWEST_SHARE - 1) + span) / NEWEST_SHARE;
        if self.average > self.quick_max {
            self.leave_loop();
        }
    }

    /// Moves the work to the thread.
    pub(super) fn leave_loop(&mut self) {
        if self.fixed || self.place == Place::Thread {
            return;
        }
        self.place = Place::Thread;
        self.quick_batches = 0;
        self.quick_batches_needed = (self.quick_batches_needed * 2).min(QUICK_BATCHES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_millis(50);
    const QUICK: Duration = Duration::from_micros(5);

    /// Reports batches of this time on the thread, until the work moves into the loop.
    fn batches_until_loop(place: &mut ApplyPlace, span: Duration) -> Option<u32> {
        (1..=10_000).find(|_| {
            place.thread_took(span);
            place.thread_is_idle();
            place.place() == Place::Loop
        })
    }

    #[test]
    fn quick_work_moves_into_the_loop_and_slow_work_back() {
        let mut place = ApplyPlace::new(None, HEARTBEAT);
        assert_eq!(batches_until_loop(&mut place, Duration::from_millis(1)), None);
        for needed in [16, 32, 64] {
            assert_eq!(batches_until_loop(&mut place, QUICK), Some(needed));
            (0..1000).for_each(|_| place.loop_took(QUICK));
            place.loop_took(Duration::from_millis(5));
            assert_eq!(place.place(), Place::Loop, "one pause is forgiven");
            (0..10).for_each(|_| place.loop_took(Duration::from_millis(2)));
            assert_eq!(place.place(), Place::Thread);
        }
        (0..20).for_each(|_| {
            assert!(batches_until_loop(&mut place, QUICK) <= Some(QUICK_BATCHES_MAX));
            place.leave_loop();
        });
    }

    #[test]
    fn a_slow_batch_on_the_thread_begins_the_count_anew() {
        let mut place = ApplyPlace::new(None, HEARTBEAT);
        (1..QUICK_BATCHES_MIN).for_each(|_| place.thread_took(QUICK));
        place.thread_took(Duration::from_millis(1));
        assert_eq!(batches_until_loop(&mut place, QUICK), Some(QUICK_BATCHES_MIN));
    }

    #[test]
    fn the_choice_of_the_application_stays() {
        let mut thread = ApplyPlace::new(Some(true), HEARTBEAT);
        assert_eq!(batches_until_loop(&mut thread, QUICK), None);
        let mut in_loop = ApplyPlace::new(Some(false), HEARTBEAT);
        in_loop.loop_took(Duration::from_secs(9));
        in_loop.leave_loop();
        assert_eq!(in_loop.place(), Place::Loop);
    }
}
