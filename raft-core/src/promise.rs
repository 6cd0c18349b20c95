//! Promises to a living leader: until when this server elects nobody else
//! (thesis 4.2.3, 6.4.1, 9.6).
//!
//! [`Raft::bound_until`] is the only answer to that question. Votes, pre-votes, hints that the
//! leader is gone and this server's own candidacy all ask it, so none of them can say yes where
//! another says no. Two things bind a server:
//!
//! - *Stickiness* (thesis 4.2.3). A follower that hears its leader is bound to it for the smallest
//!   election timeout, less a slot of the line of successors. This ends with the leader's term, and
//!   a restart forgets it: it only keeps elections away that nobody needs.
//! - *A promise* (thesis 6.4.1). A follower with a [`Lease`](crate::Lease) says in each
//!   AppendEntriesReply how long it is bound, counted from when it heard the round that the reply
//!   echoes. Reads rest on that, so a promise holds in later terms and in later lives of the
//!   process.
//!
//! The leader's lease is the least of what the voters of a quorum have promised, never what the
//! leader's own configuration says about others. So servers with leases and servers without may run
//! together, and a lease cannot be configured wrong.
//!
//! No promise is longer than what the disk of the follower holds as [`HardState::promise_micros`]:
//! that write is behind the same gate as term and vote. A server that starts is bound for the
//! stored time, whatever its configuration says by then:
//!
//! ```text
//! A   leads with leases; its round leaves at 0 ms
//! B   promises 145 ms, and restarts at 20 ms, with leases off
//! C   asks B for its vote at 60 ms: without what B's disk holds B would grant it, C would commit,
//!     and A serve a stale read
//! ```
//!
//! The stored time falls to what the configuration says with the first new term after all promises
//! have lapsed.
//!
//! [`HardState::promise_micros`]: crate::HardState::promise_micros

use rand_core::Rng;

use crate::raft::Raft;
use crate::state::roles::{Follower, RoleState};
use crate::state::server::Server;
use crate::time::Instant;
use crate::types::Command;

impl<C: Command, R: Rng> Raft<C, R> {
    /// Until when this server is bound to a leader: while it is, it grants no pre-vote, no vote
    /// that the leader has not asked for, and does not stand. A moment that has passed if it is
    /// bound to nobody.
    pub(crate) fn bound_until(&self) -> Instant {
        self.promised_until().max(self.sticky_until())
    }

    /// The part of [`Raft::bound_until`] that binds votes without [`Config::check_quorum`] as well:
    /// leaders hold leases by it.
    pub(crate) fn promised_until(&self) -> Instant {
        self.server.promise.until
    }

    /// Until when what was heard binds this server: of its leader, or by a leader of its own
    /// quorum.
    fn sticky_until(&self) -> Instant {
        let (heard_at, listens_until) = match &self.role {
            RoleState::Follower(Follower { leader: Some(known), .. }) => {
                (known.heard.at(self.server.now), known.listens_until)
            }
            RoleState::Leader(leader) => {
                (self.server.quorum_heard_at(leader), leader.listened_after)
            }
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                return Instant::ZERO;
            }
        };
        let sticky_until =
            heard_at.plus_micros(self.server.config.stickiness_at(self.timeout_in_force()));
        sticky_until.max(listens_until.unwrap_or(Instant::ZERO))
    }
}

impl<C: Command, R: Rng> Server<C, R> {
    /// This server has heard its leader: what it answers promises to elect nobody else.
    pub(crate) fn promise_to_leader(&mut self) {
        if self.promise.give(self.config.promise_micros()) {
            self.durable.on_hard_state_changed();
        }
    }
}
