//! What is replicated: the application's state machine (§2, Figure 1).

use bytes::Bytes;

use crate::types::Index;

/// A deterministic machine that every node feeds with the same commands in the same order.
///
/// It lives on a thread of its own: a slow `apply` delays replies and reads, never a heartbeat. One that is always quick may
/// [say so](StateMachine::blocks).
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use raft_core::Index;
/// use raft_core::host::StateMachine;
///
/// /// Counts the bytes that the cluster has agreed upon.
/// struct Total(u64);
///
/// impl StateMachine for Total {
///     type Reply = u64;
///
///     fn apply(&mut self, _index: Index, command: Bytes) -> u64 {
///         self.0 += command.len() as u64;
///         self.0
///     }
/// }
/// ```
pub trait StateMachine: Send + 'static {
    /// What the proposer of a command gets back.
    type Reply: Send + 'static;

    /// Applies a committed command and answers its proposer.
    ///
    /// Called once for each command in the life of the process, by rising index; indexes are missing where Raft keeps entries of
    /// its own. After a restart it begins with the first command again, so the state need not be stored. What it does
    /// must follow from the commands alone: no clock, no randomness, no reading of the environment, or the
    /// nodes drift apart. A panic stops the node; it may not be trusted to go on with half a command.
    fn apply(&mut self, index: Index, command: Bytes) -> Self::Reply;

    /// Whether applying a command, or a read, may take its time. Asked once.
    ///
    /// A state machine that never blocks, and takes a few microseconds at most, is called by the node's loop itself. That saves two
    /// changes of thread, which is most of the latency of a command when neither disk nor network is on its way. With hundreds of
    /// commands at once a thread of its own is the better choice even then, for it shares the work.
    fn blocks(&self) -> bool {
        true
    }
}
