//! What decides a server's future, and nothing else: for model checkers, which must know a state
//! again when they meet it.
//!
//! Two servers whose [`canonical`](Raft::canonical) copies are equal answer every sequence of
//! inputs alike, if the host's clock and the ids of its writes are counted from where each stands.
//! A field that is not named here stays as it is, so that one which is added later can only tell
//! apart too much, and never merge what differs.

use core::time::Duration;

use rand_core::Rng;

use crate::raft::{Following, Leading, Raft};
use crate::reason::Reasons;
use crate::state::roles::Heard;
use crate::state::timers::Timer;
use crate::status::Counters;
use crate::time::Instant;
use crate::types::Command;

impl<C: Command, R: Rng + Clone> Raft<C, R> {
    /// A copy that stands for all servers which will behave like this one. Not to be run: hash it,
    /// or compare it.
    ///
    /// - Times count from the last tick. What was heard of longer ago than any timeout is merely
    ///   old.
    /// - Ids of writes count from the last that is durable, for none is compared but with those
    ///   that follow.
    /// - The counters are zero and the reasons are none, for nothing depends on them.
    pub fn canonical(&self) -> Self {
        let mut copy = self.clone();
        let clock = Clock { now: self.server.now, horizon: self.server.config.disk_patience() };
        copy.server.now = clock.origin();
        let timers = &mut copy.server.timers;
        let timers =
            [&mut timers.election, &mut timers.heartbeat, &mut timers.quorum, &mut timers.transfer];
        for timer in timers {
            if let Timer::Armed(deadline) = timer {
                *deadline = clock.future(*deadline);
            }
        }
        copy.server.promise.move_in_time(|at| clock.future(at));
        copy.server.reads.move_in_time(|at| clock.past(at));
        copy.server.forwards.move_in_time(|at| clock.past(at));
        copy.server.snapshots.move_in_time(|at| clock.future(at));
        if let Some(Following { known, .. }) = copy.following() {
            if let Heard::At(at) = known.heard {
                known.heard = Heard::At(clock.past(at));
            }
            known.listens_until = known.listens_until.map(|at| clock.future(at));
        }
        if let Some(Leading { leader, .. }) = copy.leading() {
            leader.listened_after = leader.listened_after.map(|at| clock.future(at));
            leader.preference_after = clock.future(leader.preference_after);
            leader.lease.move_in_time(|at| clock.past(at));
            leader.timeout.move_in_time(|at| clock.future(at));
            leader.peers.iter_mut().for_each(|peer| {
                peer.on_heard(clock.past(peer.heard_at()));
                peer.promised_until = clock.future(peer.promised_until);
                peer.round_trip.move_in_time(|at| clock.past(at));
            });
        }
        let acknowledged = copy.server.durable.renumber(|silent_since| clock.past(silent_since));
        copy.server.outbox.renumber(acknowledged);
        copy.server.counters = Counters::default();
        copy.server.reasons = Reasons::default();
        copy
    }
}

/// Moves moments to where the last tick is at a fixed time, one horizon after the origin.
struct Clock {
    now: Instant,
    horizon: Duration,
}

impl Clock {
    fn origin(&self) -> Instant {
        Instant::ZERO + self.horizon
    }

    /// A moment that may be to come; the present, if it is not.
    fn future(&self, moment: Instant) -> Instant {
        self.origin() + moment.saturating_duration_since(self.now)
    }

    /// A moment that has passed; the earliest that matters, if it passed earlier still.
    fn past(&self, moment: Instant) -> Instant {
        let age = self.now.saturating_duration_since(moment).min(self.horizon);
        Instant::ZERO + self.horizon.saturating_sub(age)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use rand_pcg::{Pcg32, rand_core::SeedableRng};

    use super::*;
    use crate::{Config, NodeId, Output, Restored};

    type Server = Raft<Vec<u8>, Pcg32>;

    fn started_at(now: Instant) -> Server {
        let config =
            Config { pre_vote: false, ..Config::new(NodeId::new(1), [1, 2, 3].map(NodeId::new)) };
        let mut server = Raft::new(config, Restored::default(), Pcg32::seed_from_u64(1)).unwrap();
        server.tick(now);
        server
    }

    /// The host's origin is of no account.
    #[test]
    fn a_shifted_clock_makes_no_difference() {
        let (early, late) = (started_at(Instant::ZERO), started_at(Instant::from_micros(1 << 40)));
        assert_ne!(early, late);
        assert_eq!(early.canonical(), late.canonical());
    }

    /// Nor is how many writes there were before; whether one is on its way is.
    #[test]
    fn only_writes_on_their_way_make_a_difference() {
        let mut server = started_at(Instant::ZERO);
        server.tick(server.next_deadline().unwrap());
        let idle = server.canonical();
        let Some(Output::RoleChanged { .. }) = server.poll_outbox() else { panic!("a candidate") };
        let Some(Output::Persist(write)) = server.poll_outbox() else { panic!("its vote") };
        assert_ne!(server.canonical().server.durable, idle.server.durable);
        server.persisted(write.id);
        assert_eq!(server.canonical().server.durable.hard_state_gate().get(), 0);
    }
}
