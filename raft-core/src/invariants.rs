//! What must hold on one server at all times, checked after every public call in debug builds.

use rand_core::Rng;

use crate::raft::Raft;
use crate::state::roles::RoleState;
use crate::state::timers::Timer;
use crate::types::Command;

impl<C: Command, R: Rng> Raft<C, R> {
    #[inline]
    pub(crate) fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            self.check_log();
            self.check_role();
            self.check_timeout();
        }
    }

    fn check_log(&self) {
        let last = self.server.log.last();
        assert!(self.server.commit_index <= last.index, "committed beyond the log");
        assert!(self.server.durable.index() <= last.index, "durable beyond the log");
        let (base, snapshot) = (self.server.log.base(), self.server.snapshots.last.last);
        assert!(base.index <= snapshot.index, "compacted without a snapshot");
        assert!(snapshot.index <= self.server.commit_index, "a snapshot of what is not committed");
        assert!(self.server.memberships.index() <= last.index, "a configuration beyond the log");
        let through = self.server.commit_index.min(self.server.durable.index());
        assert!(self.server.apply_sent <= through, "handed out what is not committed and durable");
        assert!(last.term <= self.server.current_term, "an entry of a term not reached yet");
    }

    fn check_role(&self) {
        match &self.role {
            RoleState::Follower(follower) => {
                assert!(
                    self.server.timers.heartbeat == Timer::Off
                        && self.server.timers.quorum == Timer::Off
                );
                if let Some(known) = &follower.leader {
                    assert!(known.id != self.id(), "follows itself");
                    assert!(known.matched <= self.server.log.last().index);
                    assert!(
                        known.acknowledged <= self.server.durable.index(),
                        "said what it could forget"
                    );
                }
            }
            RoleState::PreCandidate(_) => assert!(self.server.timers.election != Timer::Off),
            RoleState::Candidate(_) => {
                assert!(self.server.timers.election != Timer::Off);
                assert_eq!(self.server.voted_for, Some(self.id()), "a candidate votes for itself");
            }
            RoleState::Leader(leader) => {
                assert!(self.server.timers.election == Timer::Off, "a leader stands for election");
                assert!(
                    self.server.durable.hard_state_is_durable(),
                    "leads a term that it could forget"
                );
                assert_eq!(self.server.voted_for, Some(self.id()));
                assert_eq!(
                    leader.peers.len(),
                    self.server.members.ids.len(),
                    "a peer for each member"
                );
                let last_index = self.server.log.last().index;
                for peer in leader.peers.iter() {
                    assert!(peer.match_index() < peer.next_index());
                    assert!(peer.match_index() <= last_index);
                }
            }
        }
    }

    fn check_timeout(&self) {
        let (timeout_in_force, configured) =
            (self.timeout_in_force(), self.server.config.configured_timeout());
        let bounded = self
            .server
            .config
            .adaptive
            .map(|adaptive| self.server.config.bounded(adaptive, timeout_in_force));
        assert_eq!(
            timeout_in_force,
            bounded.unwrap_or(configured),
            "below the floor, or above what is configured"
        );
        if let RoleState::Leader(leader) = &self.role {
            let beats = self.server.config.heartbeat_interval_at(leader.timeout.beat());
            assert!(
                beats.saturating_mul(2) <= timeout_in_force.election_timeout(),
                "a late heartbeat alone would start an election"
            );
        }
    }
}
