//! Raft as a pure state machine: no I/O, no clock, no threads, no runtime.
//!
//! [`Raft`] is the whole of the paper's server ("In Search of an Understandable Consensus
//! Algorithm", extended version, and Ongaro's thesis). A host feeds it messages, time and requests,
//! and does what it asks. It builds for `no_std` with `alloc`.
//!
//! **A message cannot leave before what it promises is durable.** The core holds each reply back
//! until the host has answered for the write behind it, so there are no ordering rules for a host
//! to get wrong but one: do the writes in order.
//!
//! To run a service on an operating system, take an adapter, which does all of this: `raft-tokio`,
//! `raft-smol` or `raft-threads`. What each capability guarantees, and what can go wrong with it,
//! is in the [guide].
//!
//! ```toml
//! [dependencies]
//! raft-core = { path = "../raft/raft-core" } # that name on the registry is of another crate
//! ```
//!
//! # The loop
//!
//! It is the same on every host; only the waiting differs.
//!
//! ```
//! # use raft_core::{Command, Instant, Message, Output, Raft};
//! # use rand_core::Rng;
//! # struct Host<C> { inbox: Vec<Message<C>> }
//! # impl<C: Command> Host<C> {
//! #     fn now(&self) -> Instant { Instant::ZERO }
//! #     fn sleep_until(&self, _: Option<Instant>) {}
//! #     fn send(&self, _: Message<C>) {}
//! #     fn turn<R: Rng>(&mut self, raft: &mut Raft<C, R>) {
//! for message in self.inbox.drain(..) {
//!     raft.step(message);
//! }
//! raft.tick(self.now());
//! while let Some(output) = raft.poll_outbox() {
//!     match output {
//!         Output::Persist(write) => raft.persisted(write.id), // ... once `write` is on disk
//!         Output::Send(message) => self.send(message),
//!         Output::Apply { through, .. } => raft.applied(through), // ... once they are applied
//!         _ => {} // reads, and changes of role
//!     }
//! }
//! self.sleep_until(raft.next_deadline());
//! #     }
//! # }
//! ```
//!
//! # A host in sixty lines
//!
//! Three servers in one thread, with a queue for a network, a vector for a disk, and a clock that
//! jumps to the next deadline:
//!
//! ```
//! use std::collections::VecDeque;
//!
//! use rand_core::SeedableRng;
//! use rand_pcg::Pcg32;
//! use raft_core::{Config, Instant, Message, NodeId, Output, Payload, Raft, Restored, Role};
//!
//! struct Host {
//!     raft: Raft<Vec<u8>, Pcg32>,
//!     disk: Restored<Vec<u8>>,
//!     state_machine: Vec<Vec<u8>>,
//! }
//!
//! impl Host {
//!     fn new(id: u64) -> Self {
//!         let config = Config::new(NodeId::new(id), [1, 2, 3].map(NodeId::new));
//!         let raft = Raft::new(config, Restored::default(), Pcg32::seed_from_u64(id));
//!         Self { raft: raft.expect("valid"), disk: Restored::default(), state_machine: vec![] }
//!     }
//!
//!     fn turn(&mut self, now: Instant, network: &mut VecDeque<Message<Vec<u8>>>) {
//!         self.raft.tick(now);
//!         while let Some(output) = self.raft.poll_outbox() {
//!             match output {
//!                 Output::Persist(write) => {
//!                     let id = write.id;
//!                     self.disk.replay(write); // a file would be written and synced here
//!                     self.raft.persisted(id);
//!                 }
//!                 Output::Send(message) => network.push_back(message),
//!                 Output::Apply { from, through } => {
//!                     for entry in self.raft.entries(from, through) {
//!                         if let Payload::Command(command) = &entry.payload {
//!                             self.state_machine.push(command.clone());
//!                         }
//!                     }
//!                     self.raft.applied(through);
//!                 }
//!                 _ => {} // reads, and changes of role
//!             }
//!         }
//!     }
//! }
//!
//! let mut hosts = [1, 2, 3].map(Host::new);
//! let mut network = VecDeque::<Message<_>>::new();
//! let (mut now, mut proposed) = (Instant::ZERO, false);
//! while hosts.iter().any(|host| host.state_machine.is_empty()) {
//!     if let Some(message) = network.pop_front() {
//!         let to = &mut hosts[message.to.get() as usize - 1];
//!         to.raft.step(message);
//!         to.turn(now, &mut network);
//!     } else {
//!         let deadlines = hosts.iter().filter_map(|host| host.raft.next_deadline());
//!         now = deadlines.min().expect("a timer runs");
//!         hosts.iter_mut().for_each(|host| host.turn(now, &mut network));
//!     }
//!     if let Some(leader) = hosts.iter_mut().find(|host| host.raft.role() == Role::Leader) {
//!         proposed = proposed || leader.raft.propose(b"hello".to_vec()).is_ok();
//!     }
//! }
//! assert!(hosts.iter().all(|host| host.state_machine == [b"hello".to_vec()]));
//! ```
//!
//! # The four laws of time
//!
//! 1. After `tick(now)`, [`Raft::next_deadline`] is `None` or later than `now`; after a step that
//!    left work for the tick it is due at once.
//! 2. A tick too early changes nothing, and time never goes back, whatever the host passes.
//! 3. A host reads the deadline anew just before it sleeps, rounds the sleep up, and passes the
//!    true time to `tick`, not the deadline.
//! 4. A host empties its inbox, within a bound, before it ticks: the heartbeat that forbids an
//!    election may be in it. It reads the clock after that; a tick that is later than its own
//!    deadline listens for a while before it gives anybody up.
//!
//! # Where the paper is
//!
//! | Section | File |
//! |---|---|
//! | Figure 2, state and rules for all servers | `raft.rs`, `state/` |
//! | §5.2 leader election, §5.4.1 election restriction, thesis 9.6 pre-vote | `election.rs` |
//! | thesis 4.2.3 stickiness to a living leader, 6.4.1 what a lease rests on | `promise.rs` |
//! | §5.2, §8 what a leader begins with, thesis 6.2 when it stops | `leader.rs` |
//! | §5.3 log replication | `replication.rs`, `state/progress.rs`, `state/log.rs` |
//! | §5.4.2 committing entries from previous terms | `commit.rs` |
//! | §6 cluster membership changes | `membership.rs`, `change.rs`, `state/memberships.rs`, `reconfiguration.rs`, `quorum.rs` |
//! | §7 log compaction | `snapshot.rs`, `snapshot/` |
//! | thesis 3.10 leadership transfer | `transfer.rs` |
//! | §8 client interaction, thesis 6.4 read-only queries, leases | `read.rs` |
//! | §8, thesis 6.3 client sessions | `host/service/` |
//! | thesis 6.2 commands that a follower forwards to its leader | `forward.rs`, `state/forwards.rs` |
//! | §5.6 timing | `config.rs`, `time.rs`, `tick.rs`, `state/timers.rs`; what timeouts cost: `timing.rs`; timeouts that follow the network: `adaptive.rs` |
//! | §5.1, §5.2 why a role ended or a vote was refused, for operators | `reason.rs` |
//! | thesis 10.2.1 writing to the leader's disk in parallel; what may leave when | `state/durable.rs`, `state/outbox.rs`, `poll.rs` |
//!
//! # Features
//!
//! None is on by default, and each only adds.
#![cfg_attr(feature = "document-features", doc = document_features::document_features!())]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![forbid(unsafe_code)]
// A rule returns how the role goes on (`raft::Next`): to forget that must not compile.
#![deny(unused_must_use)]
#![warn(missing_debug_implementations)]
// Nothing that a peer says can make a server panic. What is left by design, ARCHITECTURE.md lists
// under "Panics".
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::get_unwrap,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::unwrap_used,
    )
)]

extern crate alloc;
#[cfg(raft_trace)]
extern crate self as raft_core;
#[cfg(feature = "std")]
extern crate std;

mod adaptive;
mod canonical;
mod change;
mod checkpoint;
#[cfg(feature = "codec")]
pub mod codec;
mod commit;
mod config;
mod config_error;
mod election;
mod entries;
mod error;
mod forward;
#[cfg(doc)]
pub mod guide;
#[cfg(feature = "std")]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
pub mod host;
mod identity;
mod insertion_sort;
mod invariants;
mod leader;
mod membership;
mod message;
mod output;
mod poll;
mod promise;
mod quorum;
mod raft;
mod read;
mod reason;
mod reconfiguration;
mod refusal;
mod replication;
mod role;
#[cfg(feature = "serde")]
mod serialized;
#[cfg(feature = "sim")]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
pub mod sim;
mod snapshot;
mod state;
mod status;
mod tick;
mod time;
// It reckons with what it is asked, far from any message.
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub mod timing;
mod transfer;
mod types;

pub use change::{Change, MembershipError};
pub use config::{Adaptive, Config, Lease};
pub use config_error::ConfigError;
pub use entries::{Entries, Entry, Payload};
pub use error::{ChangeRefused, NothingToSnapshot, ProposeError, ReadRefused, TransferRefused};
pub use identity::{ClusterIdentity, MemberStore};
pub use membership::{LABEL_BYTES_MAX, Member, Membership, Suffrage};
pub use message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, InstallSnapshot, InstallSnapshotReply,
    Message, Propose, ProposeRefusal, ProposeReply, ReadIndex, ReadIndexReply, RequestPreVote,
    RequestPreVoteReply, RequestVote, RequestVoteReply, SnapshotMeta, StateDigest, TimeoutNow,
};
pub use output::{ForwardOutcome, Output, ReadSnapshot, Restored, Write, WriteSnapshot};
pub use quorum::MEMBERS_MAX;
pub use raft::Raft;
pub use reason::{RefusedVote, StepDown, SteppedDown, VoteRefusal};
pub use role::Role;
pub use state::progress::ProgressState;
pub use status::{Counters, PeerStatus, Status, Wake};
pub use time::Instant;
pub use timing::Forecast;
pub use types::{
    Command, HardState, Index, InstallId, LogId, NodeId, ProposalId, ReadId, Round, Session, Term,
    WriteId,
};

// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
