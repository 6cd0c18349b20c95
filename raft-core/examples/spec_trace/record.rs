//! What a server has in memory and on its disk, as a TLA+ record for `trace.tla`.
//!
//! The host's traces are made of these records, too: it includes this file.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use raft_core::{Index, LogId, Membership, NodeId, ReadId, Restored, Role, Status, Suffrage};

/// A server that does not run.
pub(crate) fn of_stopped<C>(id: NodeId, stored: &Restored<C>) -> String {
    format!("[server |-> {id}, kind |-> \"stopped\", disk |-> {}]", disk(stored))
}

/// A client has asked a server to read, and was not refused.
pub(crate) fn of_asked(id: NodeId, read: ReadId) -> String {
    format!("[server |-> {id}, kind |-> \"asked\", read |-> {read}]")
}

/// The end of a read: the state that answers it includes this index, or it was lost.
pub(crate) fn of_read_end(id: NodeId, read: ReadId, index: Option<Index>) -> String {
    match index {
        Some(index) => {
            format!("[server |-> {id}, kind |-> \"answered\", read |-> {read}, index |-> {index}]")
        }
        None => format!("[server |-> {id}, kind |-> \"lost\", read |-> {read}]"),
    }
}

/// A server that runs.
pub(crate) fn of_running<C>(status: &Status, stored: &Restored<C>) -> String {
    let role = match status.role {
        Role::Follower => "follower",
        Role::PreCandidate => "precandidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        role => panic!("unknown to the specification: {role}"),
    };
    let number = |id: Option<NodeId>| id.map_or(0, NodeId::get);
    let (incoming, outgoing, learners) = sets(&status.membership);
    format!(
        "[server |-> {}, kind |-> \"runs\", term |-> {}, vote |-> {}, role |-> \"{role}\", \
         leader |-> {}, last |-> {}, base |-> {}, commit |-> {}, applied |-> {}, \
         incoming |-> {incoming}, outgoing |-> {outgoing}, learners |-> {learners}, disk |-> {}]",
        status.id,
        status.current_term,
        number(status.voted_for),
        number(status.leader),
        pair(status.last_log),
        status.log_base.index,
        status.commit_index,
        status.last_applied,
        disk(stored),
    )
}

/// The disk: term, vote, the log's last entry, the position before its first. Where the last entry
/// is, their number says, so that a log with an entry too many is seen.
fn disk<C>(stored: &Restored<C>) -> String {
    let vote = stored.hard_state.voted_for.map_or(0, NodeId::get);
    let last_term = stored.entries.last().map_or(stored.base.term, |entry| entry.term);
    let last_index = stored.base.index.get() + stored.entries.len() as u64;
    let term = stored.hard_state.current_term;
    format!("<<{term}, {vote}, {last_term}, {last_index}, {}>>", stored.base.index)
}

/// The voters after and, in a joint configuration, before; and the learners.
fn sets(membership: &Membership) -> (String, String, String) {
    let (mut incoming, mut outgoing, mut learners) = (Vec::new(), Vec::new(), Vec::new());
    for member in membership.members() {
        match member.suffrage {
            Suffrage::Voter => {
                incoming.push(member.id);
                if membership.is_joint() {
                    outgoing.push(member.id);
                }
            }
            Suffrage::Incoming => incoming.push(member.id),
            Suffrage::Outgoing | Suffrage::Demoted => outgoing.push(member.id),
            Suffrage::Learner => learners.push(member.id),
            suffrage => panic!("unknown to the specification: {suffrage:?}"),
        }
    }
    (set(&incoming), set(&outgoing), set(&learners))
}

/// A set of servers.
pub(crate) fn set(ids: &[NodeId]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    format!("{{{}}}", ids.join(", "))
}

fn pair(last: LogId) -> String {
    format!("<<{}, {}>>", last.term, last.index)
}
