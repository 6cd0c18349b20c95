//! The half of an adapter that does not depend on the runtime (feature `std`). Only [`tasks`] and
//! [`tcp::asynchronous`] have tasks, and each adapter says what runs them.
//!
//! The host is what adapters to different runtimes would otherwise each write: the body of the
//! loop, the threads of the journal and of the state machine, the bookkeeping of requests, the
//! journal, framing, handshake, and an in-process network. An adapter adds what only its runtime
//! has.
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
//!       │         poll_outbox                │                       │ entries, waiting clients;
//!       └───────────────┴────────────────────┴───────────────────────┘ confirmed reads
//!           messages             writes
//! ```
//!
//! # Writing an adapter
//!
//! [`Driver::start`] starts a node. It takes a hook that wakes the adapter's loop, and returns a
//! [`Handle`] for the application and a [`Driver`] for the loop:
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
//! On a runtime with tasks, [`tasks::run`] is that loop. An adapter supplies five things:
//!
//! 1. **The wake hook.** The host calls it from any thread, also while the loop turns. The next
//!    wait must then return at once, because a wake must not be lost. The host calls the hook once
//!    for all inputs that arrive between two turns. The hook must not block.
//! 2. **The wait**, as precise as the runtime can make it, because a millisecond is most of an
//!    election. A wait that ends too early is harmless. The wait takes the deadline of the turn
//!    right before it, never an older one.
//! 3. **The spawn** of the loop. [`Driver::start`] reads the journal, so the adapter calls it where
//!    blocking is allowed.
//! 4. **A node**: a type that starts the driver and dereferences to [`Handle`], whose answers its
//!    users await or [`wait`](Pending::wait) for. The adapter re-exports everything else:
//!    [`LeadershipWatch`], [`Lead`], the errors.
//! 5. **Transports**: sockets for messages, and a task that sleeps for an [`InProcessNetwork`] and
//!    calls its [`LateDelivery::turn`] as the loop calls the driver's. On a runtime with tasks, a
//!    [`Runtime`](tcp::asynchronous::Runtime) is enough for a transport over TCP. A transport that
//!    notices the end of a peer's process [says so](MessageInbox::suspect), as [`tcp::Dialing`]
//!    does.
//!
//! An adapter knows nothing of Raft. If an adapter looks at a term to decide something, it is
//! wrong.
//!
//! # The rooms
//!
//! Each room uses only the rooms above it in this table:
//!
//! | room | what stands in it |
//! |---|---|
//! | `versions` `timeouts` | what each node says of its program and of its configuration |
//! | `identity` `clock` `worker_kind` | who a node is, what time it is, what its threads are |
//! | `tasks` | a loop as a task: how it is woken, and how it waits |
//! | `wire` | what two nodes say before the first message, members' labels, frames of bytes |
//! | `state_machine` `storage_error` `stop_reason` `error` | the application, and what may fail |
//! | `metrics` | what a node measures, for any thread to read |
//! | `known_peers` `transport` | which peers are let in, and what carries messages |
//! | `channel` `tcp` | an in-process network, and what transports over TCP share |
//! | `threads` | what all threads of a node have in common: jobs, panics, watch, end |
//! | `snapshot` | snapshots in pieces, the threads that read and write them, and backups |
//! | `journal` | where a node's writes and snapshots are kept |
//! | `recorder` | what a core was told, on disk, and how it is replayed |
//! | `node` | the loop, its requests, and the threads of journal and state machine |
//! | `contract` | what journals, stores and transports of an application's own must do, as tests |
//! | `service` | typed commands, and clients whose commands take effect exactly once |
//!
//! # What holds
//!
//! - Nothing blocks the loop. Requests and messages that find the [inbox](NodeConfig::inbox_max)
//!   full are refused or dropped. A [`Transport`] drops what it cannot queue. The journal and the
//!   state machine have threads of their own, and the limits in [`Config`](crate::Config) bound
//!   their queues. A quick state machine is called by the loop, and if it blocks there, its thread
//!   turns the node meanwhile ([`StateMachine::blocks`]).
//! - Every client that waits is answered: by the state machine, by a lost leadership, or by the end
//!   of the node. This holds also if the state machine hangs. The loop notices whichever thread
//!   hangs ([`NodeStatus::stuck`]).
//! - A node ends when it is asked to, when its last [`Handle`] or its [`Driver`] is dropped, at the
//!   first failed write, and at a panic of its journal or state machine. In each case the driver is
//!   dropped. [`Handle::stopped`] resolves when the journal is synced and closed, the threads have
//!   ended, and the transport has closed its sockets. The end waits [`NodeConfig::shutdown_max`] at
//!   most for a thread that hangs.

mod change_error;
mod channel;
mod clock;
#[cfg(feature = "contract")]
pub mod contract;
mod error;
mod exports;
mod identity;
pub mod journal;
mod known_peers;
mod metrics;
mod node;
pub mod recorder;
mod service;
mod snapshot;
mod state_machine;
mod stop_reason;
mod storage_error;
mod sync;
pub mod tasks;
pub mod tcp;
mod threads;
mod timeouts;
#[cfg(feature = "tls")]
pub mod tls;
mod transport;
mod versions;
mod wire;
mod worker_kind;

pub use channel::{Endpoint, Faults, InProcessNetwork, LateDelivery, Traffic};
pub use clock::{Clock, Next};
pub use error::{
    BackupError, ChangeError, ProposeError, ReadError, RestoreError, SnapshotError, StartError,
    StopReason, Stopped, TransferError,
};
pub use identity::{ClusterId, Identity, Introduction, Past, StoreId};
pub use journal::{
    BackupRestoreError, FileJournal, Journal, MemoryJournal, RestoredBackup, Survivor,
};
pub use metrics::{
    Gauges, Histogram, Histograms, MessageMetrics, Metrics, MetricsReader, PeerMetrics, Totals,
};
#[cfg(feature = "futures")]
pub use node::WatchStream;
pub use node::{
    DIGEST_INTERVAL, Driver, Finding, Handle, Lead, Leadership, LeadershipWatch, MembershipWatch,
    NodeConfig, NodeStatus, Pending, StateDifference, Stopping, Unanswered, WaitError, Within,
};
pub use service::{
    Call, Client, ClientError, CommandNumber, Format, FormatError, Postcard, SessionCommand,
    SessionId, SessionLimits, SessionRefused, SessionReply, SessionTable, Sessions, StoredSession,
    Typed, TypedStateMachine,
};
pub use snapshot::{
    Backup, BackupReadError, BackupSummary, SnapshotReader, SnapshotStore, SnapshotWriter,
};
pub use state_machine::{Capture, NotUnderstood, StateMachine};
pub use storage_error::StorageError;
pub use timeouts::Timeouts;
pub use transport::{MessageInbox, PeerInbox, Running, RunningEnd, Transport};
pub use versions::Versions;
pub use wire::{ADDRESS_BYTES_MAX, Label, LabelError, NOTE_BYTES_MAX, frame, handshake};
pub use worker_kind::{WorkerKind, WorkerStatus, WorkerTask};
