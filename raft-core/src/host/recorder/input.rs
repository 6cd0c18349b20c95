//! Each input of the core, as it stands on a recording.

use std::boxed::Box;
use std::vec::Vec;

use bytes::Bytes;

use crate::change::Change;
use crate::checkpoint::{Out, Stored, stored};
use crate::message::Message;
use crate::types::{Index, InstallId, LogId, NodeId, WriteId};

/// One input of a node's core: a call of the method of that name of [`Raft`](crate::Raft).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Input<C> {
    /// A message came.
    Step(Box<Message<C>>),
    /// A client's command came.
    Propose(C),
    /// The time, in microseconds since the last one told.
    Tick(u64),
    /// The outputs were polled so many times.
    Poll(u64),
    /// The outputs were polled until there was none.
    PollAll,
    /// The journal made a write durable.
    Persisted(WriteId),
    /// The state machine applied the entries up to this one.
    Applied(Index),
    /// A client's read came.
    Read,
    /// The transport suspects that this server is gone.
    SuspectLeader(NodeId),
    /// Leadership is to be handed over.
    TransferLeadership(Option<NodeId>),
    /// The members are to change.
    ChangeMembership(Vec<Change>),
    /// The server keeps its vote to itself, or does so no more.
    Abstain(bool),
    /// A snapshot is to be taken.
    TakeSnapshot,
    /// A snapshot was taken.
    SnapshotTaken(Index),
    /// A snapshot could not be taken.
    SnapshotFailed,
    /// The stored snapshot is damaged.
    SnapshotDamaged(LogId),
    /// A piece of a snapshot was read.
    SnapshotRead {
        /// The follower that it is for.
        to: NodeId,
        /// The snapshot.
        snapshot: LogId,
        /// Where the piece begins, in bytes.
        offset: u64,
        /// The piece.
        chunk: C,
        /// Whether the snapshot ends with it.
        done: bool,
    },
    /// A snapshot could not be read.
    SnapshotUnreadable {
        /// The follower that it is for.
        to: NodeId,
        /// The snapshot.
        snapshot: LogId,
    },
    /// A snapshot that is being received was written up to here.
    SnapshotWritten {
        /// The attempt to receive it.
        install: InstallId,
        /// How many of its bytes are written.
        written: u64,
    },
    /// A client's command came that is forwarded to the leader.
    Forward(C),
    /// The state of the core has this digest. The core is told nothing.
    Digest(u32),
}

stored! {
    enum Input<C> {
        0 Step { 0: message },
        1 Propose { 0: command },
        2 Tick { 0: micros },
        3 Poll { 0: times },
        4 PollAll {},
        5 Persisted { 0: write },
        6 Applied { 0: index },
        7 Read {},
        8 SuspectLeader { 0: leader },
        9 TransferLeadership { 0: to },
        10 ChangeMembership { 0: changes },
        11 Abstain { 0: abstains },
        12 TakeSnapshot {},
        13 SnapshotTaken { 0: index },
        14 SnapshotFailed {},
        15 SnapshotDamaged { 0: snapshot },
        16 SnapshotRead { to: to, snapshot: snapshot, offset: offset, chunk: chunk, done: done },
        17 SnapshotUnreadable { to: to, snapshot: snapshot },
        18 SnapshotWritten { install: install, written: written },
        19 Digest { 0: digest },
        20 Forward { 0: command },
    }
}

/// Writes [`Input::Step`] without a copy of the message.
pub(super) fn put_step(message: &Message<Bytes>, out: &mut Out<'_>) {
    out.byte(0);
    message.put(out);
}

/// Writes [`Input::Propose`] without a copy of the command.
pub(super) fn put_propose(command: &Bytes, out: &mut Out<'_>) {
    out.byte(1);
    command.put(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Body, TimeoutNow};
    use crate::types::Term;

    #[test]
    fn what_is_written_without_a_copy_is_the_same() {
        let (mut copied, mut borrowed) = (Vec::new(), Vec::new());
        let command = Bytes::from_static(b"command");
        let message = Message {
            from: NodeId::new(2),
            to: NodeId::new(1),
            term: Term::new(300),
            body: Body::TimeoutNow(TimeoutNow { last_log: LogId::ZERO }),
        };
        let mut out = Out { bytes: &mut copied, contents: true, entries: true };
        Input::Step(Box::new(message.clone())).put(&mut out);
        Input::Propose(command.clone()).put(&mut out);
        let mut out = Out { bytes: &mut borrowed, contents: true, entries: true };
        put_step(&message, &mut out);
        put_propose(&command, &mut out);
        assert_eq!(copied, borrowed);
    }
}
