//! All that a server holds besides its role (Figure 2). The role is apart, so that a rule can hold
//! both at the same time.

use alloc::vec::Vec;

use crate::checkpoint::stored;
use crate::config::Config;
use crate::message::{Body, Message};
use crate::reason::Reasons;
use crate::role::Role;
use crate::state::durable::Durable;
use crate::state::forwards::Forwards;
use crate::state::inflights::Inflights;
use crate::state::log::Log;
use crate::state::members::Members;
use crate::state::memberships::Memberships;
use crate::state::outbox::Outbox;
use crate::state::peers::Peers;
use crate::state::promise::Promise;
use crate::state::reads::Reads;
use crate::state::roles::VoteRequest;
use crate::state::snapshots::Snapshots;
use crate::state::timers::Timers;
use crate::status::Counters;
use crate::time::Instant;
use crate::types::{Index, NodeId, Term};

/// A server, whatever its role is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Server<C, R> {
    pub(crate) config: Config,
    /// The configurations in the log, and the members by the newest: a server's position there is
    /// its index in every table.
    pub(crate) memberships: Memberships,
    pub(crate) members: Members,
    /// The host has yet to hear of the members.
    pub(crate) membership_changed: bool,
    pub(crate) rng: R,
    /// The time of the last tick.
    pub(crate) now: Instant,
    /// What this server has promised to leaders (thesis 6.4.1).
    pub(crate) promise: Promise,

    pub(crate) current_term: Term,
    pub(crate) voted_for: Option<NodeId>,
    pub(crate) log: Log<C>,
    pub(crate) durable: Durable,
    pub(crate) snapshots: Snapshots<C>,

    pub(crate) timers: Timers,
    /// Vote requests that wait for the next tick.
    pub(crate) vote_requests: Vec<VoteRequest>,
    /// Numbers the pre-votes asked for.
    pub(crate) campaigns: u64,

    pub(crate) commit_index: Index,
    /// The size of what a leader has yet to commit, in bytes.
    pub(crate) uncommitted_bytes: usize,
    /// The last entry given to the state machine, and the one it has answered for.
    pub(crate) apply_sent: Index,
    pub(crate) last_applied: Index,
    pub(crate) inflight_applies: Inflights,

    pub(crate) reads: Reads,
    /// The commands that this server forwards to its leader.
    pub(crate) forwards: Forwards<C>,
    pub(crate) outbox: Outbox<C>,
    /// What the host was last told of role, term and leader.
    pub(crate) reported: (Role, Term, Option<NodeId>),
    pub(crate) counters: Counters,
    pub(crate) reasons: Reasons,
    /// The table of a leader that is none any more, kept so that an election allocates nothing.
    pub(crate) idle_peers: Peers,
}

stored! {
    struct Server<C, R> {
        config, memberships, members, membership_changed, rng, now, promise, current_term,
        voted_for, log, durable, snapshots, timers, vote_requests, campaigns, commit_index,
        uncommitted_bytes, apply_sent, last_applied, inflight_applies, reads, forwards, outbox,
        reported, counters, reasons, idle_peers,
    }
}

impl<C, R> Server<C, R> {
    /// A reply that rests on the current term and vote: held until both are durable.
    pub(crate) fn hold_reply(&mut self, to: NodeId, body: Body<C>) {
        let message = self.message(to, body);
        self.outbox.hold(message, &self.durable);
    }

    pub(crate) fn message(&self, to: NodeId, body: Body<C>) -> Message<C> {
        Message { from: self.config.id, to, term: self.current_term, body }
    }
}
