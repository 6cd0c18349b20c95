//! What will happen in a run: what each event of the queue is.

use alloc::boxed::Box;

use super::files::Job;
use crate::message::Message;
use crate::types::NodeId;

/// Something that will happen.
pub(super) enum Event<C> {
    /// A message arrives.
    Arrival(Message<C>),
    /// A sync of a server's disk ends, if that life of the server is not over.
    SyncEnds { at: usize, life: u64 },
    /// A job on a server's files ends, if that life of the server is not over.
    FileDone { at: usize, life: u64, job: Box<Job<C>> },
    /// A state machine ends its current work, if that life of the server is not over.
    WorkDone { at: usize, life: u64 },
    /// A fault is over.
    Relief(Relief),
}

/// The end of a fault.
pub(super) enum Relief {
    Weather,
    Mend {
        from: NodeId,
        to: NodeId,
    },
    Unite,
    Start {
        id: NodeId,
        life: u64,
    },
    DiskLatency(NodeId),
    ReleaseDisk(NodeId),
    Files(NodeId),
    /// A server learns that the connection to another died.
    Hint {
        id: NodeId,
        of: NodeId,
    },
    Resume {
        id: NodeId,
        life: u64,
    },
    ResumeAll,
    Connect(NodeId),
    Hearing(NodeId),
    ClockRate(NodeId),
}
