//! The runtime-neutral half of an adapter (feature `std`). None of it is asynchronous.
//!
//! Here is everything that adapters to different runtimes would otherwise each write: the loop's
//! body, the threads of journal and state machine, the bookkeeping of requests, the journal, the
//! framing, the handshake, an in-process network. An adapter adds what only its runtime has.
//!
//! ```text
//!                    requests                 Handle ── propose, read, status, lead, shutdown
//!                       │                        each returns a Pending: await it, or block
//!        messages       ▼      reports
//!   Transport ──────► Inbox ◄────────────────┬───────────────────────┐
//!       ▲               │ wake               │ persisted             │ applied
//!       │               ▼                    │                       │
//!       │         Driver::turn        journal's thread       state machine's thread
//!       │     step, propose, tick,           ▲                       ▲
//!       │         poll_outbox                │                       │ entries, with waiting clients;
//!       └───────────────┴────────────────────┴───────────────────────┘ confirmed reads
//!           messages             writes
//! ```
//!
//! # Writing an adapter
//!
//! A node starts with [`Driver::start`]. It needs a hook that wakes the adapter's loop, and returns
//! a [`Handle`] for the application and a [`Driver`] for the loop:
//!
//! ```
//! # use std::time::Instant;
//! # use raft_core::host::{Driver, Next, StateMachine};
//! # fn let_others_run() {}
//! # fn wait_until_woken_or(_: Option<Instant>) {}
//! fn run<S: StateMachine>(mut driver: Driver<S>) {
//!     loop {
//!         match driver.turn() {
//!             Next::Again => let_others_run(),
//!             Next::Wait(deadline) => wait_until_woken_or(deadline),
//!             Next::Stop => return, // and drop the driver
//!         }
//!     }
//! }
//! ```
//!
//! So an adapter supplies five things:
//!
//! 1. **The wake hook.** It is called from any thread, also while the loop turns, and must then
//!    make the next wait return at once: a wake must not be lost. It is called once for all inputs
//!    between two turns. It must not block.
//! 2. **The wait**, as precise as the runtime can: a millisecond late is most of an election. Too
//!    early is harmless. It takes the deadline of the turn right before it, never an older one.
//! 3. **The spawn** of the loop, and of [`Driver::start`] where blocking is allowed, for it reads
//!    the journal.
//! 4. **A handle**: a node type around [`Handle`] whose methods await (or [`wait`](Pending::wait)
//!    for) what `Handle` returns. All else ([`LeadershipWatch`], [`Lead`], the errors) it
//!    re-exports.
//! 5. **Transports**: sockets for messages, and a task that sleeps for a [`Hub`], the in-process
//!    network, whose [`LateDelivery::turn`] is driven like a driver. One that notices that a peer's
//!    process is gone [says so](MessageInbox::suspect); [`tcp::Dialing`] does.
//!
//! An adapter knows no Raft: one that looks at a term to decide something is wrong.
//!
//! # The rooms
//!
//! Each uses only those above it, and nothing that is below it:
//!
//! | room | what stands in it |
//! |---|---|
//! | `identity` `clock` `worker_kind` | who a node is, what time it is, what its threads are |
//! | `wire` | what two nodes say before the first message, members' labels, frames of bytes |
//! | `state_machine` `storage_error` `stop_reason` `error` | the application, and what may fail |
//! | `known_peers` `transport` | which peers are let in, and what carries messages |
//! | `channel` `tcp` | an in-process network, and what transports over TCP share |
//! | `threads` | what all threads of a node have in common: jobs, panics, watch, end |
//! | `snapshot` | snapshots in pieces, and the threads that read and write them |
//! | `journal` | where a node's writes and snapshots are kept |
//! | `node` | the loop, its requests, and the threads of journal and state machine |
//!
//! # What holds
//!
//! - Nothing blocks the loop: requests and messages that find the [inbox](NodeConfig::inbox_max)
//!   full are refused or dropped, a [`Transport`] drops what it cannot queue, journal and state
//!   machine have threads of their own. What their queues hold is bounded by the windows in
//!   [`Config`](crate::Config).
//! - Everyone who waits is answered: by the state machine, by a lost leadership, or by the node's
//!   end; also if the state machine hangs. Whichever thread hangs, that is noticed
//!   ([`NodeStatus::stuck`]).
//! - A node ends when it is asked to, with its last [`Handle`], when its [`Driver`] is dropped, at
//!   the first failed write and at a panic of its journal or state machine. All ways are one: the
//!   driver is dropped, and [`Handle::stopped`] resolves when the journal is synced and closed, the
//!   threads have ended and the transport has closed its sockets; a thread that hangs is waited for
//!   [`NodeConfig::shutdown_max`] long.

mod channel;
mod clock;
mod error;
mod identity;
pub mod journal;
mod known_peers;
mod node;
mod snapshot;
mod state_machine;
mod stop_reason;
mod storage_error;
pub mod tcp;
mod threads;
mod transport;
mod wire;
mod worker_kind;

pub use channel::{Endpoint, Faults, Hub, LateDelivery, Traffic};
pub use clock::{Clock, Next};
pub use error::{
    ChangeError, ProposeError, ReadError, RestoreError, SnapshotError, StartError, StopReason,
    Stopped, TransferError,
};
pub use identity::{ClusterId, Identity, Introduction, Past, StoreId};
pub use journal::{FileJournal, Journal, MemoryJournal, Survivor};
pub use node::{
    DIGEST_INTERVAL, Driver, Handle, Lead, Leadership, LeadershipWatch, NodeConfig, NodeStatus,
    Pending, StateDifference, Unanswered, WaitError,
};
pub use snapshot::{SnapshotReader, SnapshotStore, SnapshotWriter};
pub use state_machine::{Capture, NotUnderstood, StateMachine};
pub use storage_error::StorageError;
pub use threads::WorkerStatus;
pub use transport::{MessageInbox, PeerInbox, Running, Transport};
pub use wire::{ADDRESS_BYTES_MAX, Label, LabelError, NOTE_BYTES_MAX, frame, handshake};
pub use worker_kind::{WorkerKind, WorkerTask};
