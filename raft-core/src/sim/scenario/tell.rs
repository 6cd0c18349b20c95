//! How messages, entries and servers are put into words, in stories as in scripts.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Command;
use crate::{
    AppendResult, Body, Entry, HardState, Membership, Message, NodeId, Payload, Role, Suffrage,
    Write,
};

/// The messages that servers exchange.
pub(super) const KINDS: [&str; 13] = [
    "RequestPreVote",
    "RequestPreVoteReply",
    "RequestVote",
    "RequestVoteReply",
    "AppendEntries",
    "AppendEntriesReply",
    "InstallSnapshot",
    "InstallSnapshotReply",
    "TimeoutNow",
    "ReadIndex",
    "ReadIndexReply",
    "Propose",
    "ProposeReply",
];

/// The words in descriptions of messages; beside them stand numbers, positions and entries.
pub(super) const DETAILS: [&str; 19] = [
    "term", "log", "granted", "refused", "after", "entries", "empty", "commit", "matched",
    "rejected", "hint", "session", "first", "snapshot", "offset", "received", "done", "transfer",
    "read",
];

const ROLES: [(&str, Role); 4] = [
    ("follower", Role::Follower),
    ("pre-candidate", Role::PreCandidate),
    ("candidate", Role::Candidate),
    ("leader", Role::Leader),
];

pub(super) fn role(role: Role) -> &'static str {
    ROLES.iter().find(|(_, known)| *known == role).expect("every role has its word").0
}

pub(super) fn role_named(word: &str) -> Option<Role> {
    ROLES.iter().find(|(known, _)| *known == word).map(|(_, role)| *role)
}

pub(super) fn kind(body: &Body<Command>) -> &'static str {
    match body {
        Body::RequestPreVote(_) => "RequestPreVote",
        Body::RequestPreVoteReply(_) => "RequestPreVoteReply",
        Body::RequestVote(_) => "RequestVote",
        Body::RequestVoteReply(_) => "RequestVoteReply",
        Body::AppendEntries(_) => "AppendEntries",
        Body::AppendEntriesReply(_) => "AppendEntriesReply",
        Body::InstallSnapshot(_) => "InstallSnapshot",
        Body::InstallSnapshotReply(_) => "InstallSnapshotReply",
        Body::TimeoutNow(_) => "TimeoutNow",
        Body::ReadIndex(_) => "ReadIndex",
        Body::ReadIndexReply(_) => "ReadIndexReply",
        Body::Propose(_) => "Propose",
        Body::ProposeReply(_) => "ProposeReply",
    }
}

/// A message in the words of scripts:
/// `1 -> 2 AppendEntries term 1 after 0.0 entries 1:noop commit 0`
pub fn message(message: &Message<Vec<u8>>) -> String {
    let Message { from, to, term, body } = message;
    format!("{from} -> {to} {} term {term} {}", kind(body), details(body))
}

fn details(body: &Body<Command>) -> String {
    let verdict = |granted| if granted { "granted" } else { "refused" };
    match body {
        Body::RequestPreVote(request) => format!("log {}", request.last_log),
        Body::RequestPreVoteReply(reply) => verdict(reply.granted).into(),
        Body::RequestVote(request) => {
            let transfer = if request.transfer { " transfer" } else { "" };
            format!("log {}{transfer}", request.last_log)
        }
        Body::RequestVoteReply(reply) => {
            format!("{} log {}", verdict(reply.granted), reply.last_log)
        }
        Body::AppendEntries(append) => {
            let held = match append.entries.is_empty() {
                true => "empty".into(),
                false => format!("entries {}", entries(&append.entries)),
            };
            format!("after {} {held} commit {}", append.prev_log, append.leader_commit)
        }
        Body::AppendEntriesReply(reply) => match reply.result {
            AppendResult::Matched(index) => format!("matched {index}"),
            AppendResult::Rejected { prev_log_index, hint } => {
                format!("rejected {prev_log_index} hint {hint}")
            }
        },
        Body::InstallSnapshot(install) => {
            let done = if install.done { " done" } else { "" };
            format!("snapshot {} offset {}{done}", install.snapshot.last, install.offset)
        }
        Body::InstallSnapshotReply(reply) => {
            format!("snapshot {} received {}", reply.snapshot, reply.received)
        }
        Body::TimeoutNow(request) => format!("log {}", request.last_log),
        Body::ReadIndex(request) => format!("read {}", request.id),
        Body::ReadIndexReply(reply) => format!("read {} commit {}", reply.id, reply.index),
        Body::Propose(request) => format!("commands {}", request.commands.len()),
        Body::ProposeReply(reply) => format!("appended {} at {}", reply.appended, reply.first),
    }
}

pub(super) fn payload(payload: &Payload<Command>) -> String {
    match payload {
        Payload::Noop => "noop".into(),
        Payload::Command(command) => self::command(command),
        Payload::Configuration(_) => "members".into(),
    }
}

pub(super) fn command(command: &Command) -> String {
    format!("\"{}\"", String::from_utf8_lossy(command))
}

pub(super) fn commands(commands: &[Command]) -> String {
    let words: Vec<_> = commands.iter().map(command).collect();
    if words.is_empty() { "nothing".into() } else { words.join(" ") }
}

pub(super) fn entry(entry: &Entry<Command>) -> String {
    format!("{}:{}", entry.term, payload(&entry.payload))
}

/// `1:noop 1:"a"`
pub(super) fn entries(entries: &[Entry<Command>]) -> String {
    let words: Vec<_> = entries.iter().map(entry).collect();
    if words.is_empty() { "nothing".into() } else { words.join(" ") }
}

/// `voters 1 2 3, learners 4`; in a joint configuration `voters 1 2, incoming 4, outgoing 3`
pub(super) fn membership(membership: &Membership) -> String {
    let suffrages = [
        ("voters", Suffrage::Voter),
        ("learners", Suffrage::Learner),
        ("incoming", Suffrage::Incoming),
        ("outgoing", Suffrage::Outgoing),
        ("demoted", Suffrage::Demoted),
    ];
    let parts = suffrages.iter().filter_map(|(name, suffrage)| {
        let of_suffrage = of_suffrage(membership, *suffrage);
        (!of_suffrage.is_empty()).then(|| format!("{name} {}", ids(&of_suffrage)))
    });
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { "nobody".into() } else { parts.join(", ") }
}

/// `1 2 3`
pub(super) fn ids(ids: &[NodeId]) -> String {
    let words: Vec<_> = ids.iter().map(NodeId::to_string).collect();
    if words.is_empty() { "nobody".into() } else { words.join(" ") }
}

/// The members with that suffrage.
pub(super) fn of_suffrage(membership: &Membership, suffrage: Suffrage) -> Vec<NodeId> {
    let members = membership.members().iter().filter(|member| member.suffrage == suffrage);
    members.map(|member| member.id).collect()
}

/// `term 2, vote for 1`
pub(super) fn hard_state(hard_state: &HardState) -> String {
    let vote = hard_state.voted_for.map_or("no vote".into(), |id| format!("vote for {id}"));
    format!("term {}, {vote}", hard_state.current_term)
}

pub(super) fn write(write: &Write<Command>) -> String {
    let hard_state = write.hard_state.as_ref().map(hard_state);
    let truncate = write.truncate_from.map(|from| format!("removes all from index {from} on"));
    let entries = (!write.entries.is_empty()).then(|| entries(&write.entries));
    let snapshot = write.snapshot.as_ref().map(|snapshot| {
        format!("snapshot {} with {}", snapshot.last, membership(&snapshot.membership))
    });
    let compact = write.compact_to.as_ref().map(|base| format!("compacts to {base}"));
    let parts = [hard_state, snapshot, compact, truncate, entries];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    parts.join(", ")
}
