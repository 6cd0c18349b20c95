//! What is the same on every executor.

pub use raft_core;
pub use raft_core::host::{
    Call, Client, ClientError, CommandNumber, Format, FormatError, Postcard, SessionCommand,
    SessionId, SessionLimits, SessionRefused, SessionReply, Sessions, Typed, TypedStateMachine,
};
pub use raft_core::host::{
    Capture, ChangeError, ClusterId, Faults, FileJournal, Finding, Handle, Journal, Label,
    LabelError, Lead, Leadership, LeadershipWatch, MemoryJournal, Metrics, MetricsReader,
    NodeConfig, NodeStatus, NotUnderstood, Pending, ProposeError, ReadError, SnapshotError,
    StartError, StateMachine, StopReason, Stopped, StorageError, StoreId, Traffic, TransferError,
    Transport, WaitError, Within, WorkerKind, WorkerStatus, WorkerTask,
};
pub use raft_core::{
    Change, Config, Index, LogId, Member, Membership, MembershipError, NodeId, Role, Suffrage, Term,
};
