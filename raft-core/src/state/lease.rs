//! When the round left from which a leader's lease counts (thesis 6.4.1). The rule that judges a
//! lease is in `read.rs`, and the voters' side in `promise.rs`.

use crate::checkpoint::stored;
use crate::time::Instant;
use crate::types::Round;

/// A leader's lease (thesis 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct LeaseState {
    /// The round from which promises count, and when it left.
    timed: Option<(Round, Instant)>,
    /// A quorum has echoed it, so that the next round takes its place. Until then the promises of
    /// slower voters count from it, too.
    pub(crate) echoed: bool,
    /// No lease any more in this term.
    pub(crate) ended: bool,
}

stored! { struct LeaseState { timed, echoed, ended } }

impl LeaseState {
    /// A round leaves.
    pub(crate) fn on_round(&mut self, round: Round, now: Instant) {
        if self.echoed || self.timed.is_none() {
            self.timed = Some((round, now));
            self.echoed = false;
        }
    }

    /// A moment at which a round that this one follows or is had not left yet; none if that is not
    /// known.
    pub(crate) fn left_at(&self, round: Round) -> Option<Instant> {
        let (timed, left_at) = self.timed?;
        (round >= timed).then_some(left_at)
    }

    /// Whether no quorum has echoed the timed round yet.
    pub(crate) fn awaits_echo(&self) -> bool {
        self.timed.is_some() && !self.echoed
    }

    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Puts its moment elsewhere, for [`Raft::canonical`](crate::Raft::canonical).
    pub(crate) fn move_in_time(&mut self, past: impl Fn(Instant) -> Instant) {
        self.timed = self.timed.map(|(round, left_at)| (round, past(left_at)));
    }
}
