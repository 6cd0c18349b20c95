//! What the page writes of commands, messages and servers.

use raft_core::sim::Swap;
use raft_core::{Body, Message, Role, Wake};

/// A command as the page writes it.
pub(crate) fn command(swap: &Swap) -> String {
    let name = ["w", "x", "y", "z"].get(swap.register()).copied().unwrap_or("?");
    format!("{name}={}", swap.value())
}

/// The class of a message, what it says, and whether it refuses.
pub(crate) fn message(message: &Message<Swap>) -> (&'static str, String, bool) {
    use raft_core::AppendResult::{Matched, Rejected};
    let term = message.term;
    match &message.body {
        Body::RequestPreVote(_) => ("vote", format!("pre-vote for term {term}?"), false),
        Body::RequestPreVoteReply(reply) => {
            ("reply", yes("pre-vote", reply.granted), !reply.granted)
        }
        Body::RequestVote(_) => ("vote", format!("vote in term {term}?"), false),
        Body::RequestVoteReply(reply) => ("reply", yes("vote", reply.granted), !reply.granted),
        Body::AppendEntries(append) if append.entries.is_empty() => {
            ("beat", format!("heartbeat, commit {}", append.leader_commit), false)
        }
        Body::AppendEntries(append) => {
            let last = append.entries.last().map_or(0, |last| last.index.get());
            ("append", format!("entries to {last}"), false)
        }
        Body::AppendEntriesReply(reply) => match reply.result {
            Matched(index) => ("reply", format!("holds {index}"), false),
            Rejected { prev_log_index, .. } => ("reply", format!("lacks {prev_log_index}"), true),
        },
        Body::InstallSnapshot(_) => ("append", "snapshot".to_owned(), false),
        Body::InstallSnapshotReply(_) => ("reply", "snapshot".to_owned(), false),
        Body::TimeoutNow(_) => ("vote", "stand now".to_owned(), false),
        Body::ReadIndex(_) => ("beat", "read?".to_owned(), false),
        Body::ReadIndexReply(_) => ("reply", "read".to_owned(), false),
        Body::Propose(_) => ("append", "command".to_owned(), false),
        Body::ProposeReply(_) => ("reply", "command".to_owned(), false),
        _ => ("reply", "a message".to_owned(), false),
    }
}

fn yes(what: &str, granted: bool) -> String {
    format!("{}{what}", if granted { "" } else { "no " })
}

pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        _ => "learner",
    }
}

pub(crate) fn wake(why: Wake) -> &'static str {
    match why {
        Wake::Election => "election",
        Wake::Heartbeat => "heartbeat",
        Wake::Quorum => "quorum",
        _ => "other",
    }
}
