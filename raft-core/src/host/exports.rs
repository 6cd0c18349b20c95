//! The names that every adapter exports, in one list, so that no adapter lacks one.

/// Exports, from an adapter, what its users name: once in the adapter's root.
#[doc(hidden)]
#[macro_export]
macro_rules! adapter_exports {
    () => {
        pub use $crate::host::{
            Call, Client, ClientError, CommandNumber, Format, FormatError, Postcard,
            SessionCommand, SessionId, SessionLimits, SessionRefused, SessionReply, Sessions,
            Typed, TypedStateMachine,
        };
        pub use $crate::host::{
            Capture, ChangeError, ClusterId, Faults, FileJournal, Finding, Handle, Journal, Label,
            LabelError, Lead, Leadership, LeadershipWatch, MembershipWatch, MemoryJournal, Metrics,
            MetricsReader, NodeConfig, NodeStatus, NotUnderstood, Pending, ProposeError, ReadError,
            SnapshotError, StartError, StateMachine, StopReason, Stopped, Stopping, StorageError,
            StoreId, Traffic, TransferError, Transport, WaitError, Within, WorkerKind,
            WorkerStatus, WorkerTask,
        };
        pub use $crate::{
            Change, Config, Index, LogId, Member, Membership, MembershipError, NodeId, Role,
            Suffrage, Term,
        };
    };
}
