//! A node's own answers to a [run](super::batch), and its description of itself: the same whatever
//! adapter hosts it.

use std::io;

use bytes::Bytes;
use raft_core::Index;
use raft_core::host::{Capture, NodeStatus, NotUnderstood, ProposeError, ReadError, StateMachine};

use super::batch::Outcome;
use super::hold::wait_while_held;
use super::info::Info;
use super::resp::{Frame, error};
use super::store::{Store, Summary};

impl StateMachine for Store {
    type Reply = Frame;

    fn understands(&self, command: &Bytes) -> Result<(), NotUnderstood> {
        Self::understands(self, command).map_err(|e| NotUnderstood::new(e.to_string()))
    }

    fn apply(&mut self, index: Index, command: Bytes) -> Frame {
        wait_while_held();
        Self::apply(self, index, command)
    }

    fn digest(&self) -> Option<u64> {
        Some(Self::digest(self).into())
    }

    fn snapshot(&self) -> Option<Capture> {
        let contents = self.capture();
        Some(Box::new(move |out| contents.write(out)))
    }

    fn restore(&mut self, snapshot: &mut dyn io::Read) -> io::Result<()> {
        wait_while_held();
        Self::restore(self, snapshot)
    }
}

/// What became of a proposed write.
pub fn write_outcome(answer: Result<Frame, ProposeError>) -> Outcome {
    match answer {
        Ok(reply) => Outcome::Replied(reply),
        // It stays as it is, however often it is tried.
        Err(e @ ProposeError::TooLarge { .. }) => Outcome::Replied(error(format!("ERR {e}"))),
        Err(e) if e.may_commit() => Outcome::Unknown,
        Err(_) => Outcome::NotApplied,
    }
}

/// What became of the reads of a run, of which the first were answered, or none.
pub fn read_outcomes(answer: Result<Vec<Frame>, ReadError>) -> Vec<Outcome> {
    answer.unwrap_or_default().into_iter().map(Outcome::Replied).collect()
}

/// What INFO tells: the node's view, and what its store holds.
pub fn info(status: &NodeStatus, store: Summary) -> Frame {
    let raft = &status.raft;
    let info = Info {
        id: raft.id,
        role: raft.role,
        term: raft.current_term,
        leader: raft.leader,
        commit: raft.commit_index,
        store,
    };
    Frame::BulkString(info.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_certainly_not_appended_may_go_again() {
        let command = Bytes::new;
        let not_leader =
            ProposeError::NotLeader { leader: None, address: None, command: command() };
        assert_eq!(write_outcome(Err(not_leader)), Outcome::NotApplied);
        assert_eq!(
            write_outcome(Err(ProposeError::Busy { command: command() })),
            Outcome::NotApplied
        );
        for may_commit in [true, false] {
            let outcome = write_outcome(Err(ProposeError::LeadershipLost { may_commit }));
            assert_eq!(outcome == Outcome::Unknown, may_commit);
        }
        let full = ProposeError::LogFull { bytes_max: 7, command: command() };
        assert_eq!(write_outcome(Err(full)), Outcome::NotApplied, "until it is compacted");
        let large = ProposeError::TooLarge { bytes: 8, bytes_max: 7, command: command() };
        let Outcome::Replied(Frame::Error(text)) = write_outcome(Err(large)) else {
            panic!("the client is told")
        };
        assert_eq!(text, "ERR the command has 8 bytes, more than the 7 allowed");
    }
}
