//! Names for what a recording knows by its length and digest alone, and messages in the words of
//! scenarios.

use std::collections::HashMap;

use raft_core::host::recorder::RecordedCommand;
use raft_core::sim::scenario::describe;
use raft_core::{
    AppendEntries, Body, Change, Entry, InstallSnapshot, Message, NodeId, Payload, Propose,
};

/// Commands, labels and stores by the order in which they were first seen.
#[derive(Default)]
pub(crate) struct Names {
    commands: HashMap<(usize, u32), usize>,
    labels: Vec<Vec<u8>>,
    stores: Vec<u64>,
}

impl Names {
    /// The name that stands for a command: equal commands have equal names.
    pub(crate) fn command(&mut self, command: &RecordedCommand) -> Vec<u8> {
        let next = self.commands.len() + 1;
        let known = (command.as_ref().len(), command.digest());
        let number = *self.commands.entry(known).or_insert(next);
        format!("c{number}").into_bytes()
    }

    /// The message as a server of the scenario would send it.
    pub(crate) fn message(&mut self, message: &Message<RecordedCommand>) -> Message<Vec<u8>> {
        let Message { from, to, term, body } = message;
        Message { from: *from, to: *to, term: *term, body: self.body(body) }
    }

    fn body(&mut self, body: &Body<RecordedCommand>) -> Body<Vec<u8>> {
        match body {
            Body::AppendEntries(append) => {
                let AppendEntries {
                    session,
                    round,
                    prev_log,
                    entries,
                    leader_commit,
                    rank,
                    election_timeout_micros,
                    takes_proposals,
                } = append;
                let entries: Vec<_> = entries.iter().map(|entry| self.entry(entry)).collect();
                Body::AppendEntries(AppendEntries {
                    session: *session,
                    round: *round,
                    prev_log: *prev_log,
                    entries: entries.into(),
                    leader_commit: *leader_commit,
                    rank: *rank,
                    election_timeout_micros: *election_timeout_micros,
                    takes_proposals: *takes_proposals,
                })
            }
            Body::InstallSnapshot(install) => {
                let InstallSnapshot { session, snapshot, offset, chunk: _, done } = install;
                Body::InstallSnapshot(InstallSnapshot {
                    session: *session,
                    snapshot: snapshot.clone(),
                    offset: *offset,
                    chunk: Vec::new(),
                    done: *done,
                })
            }
            Body::Propose(propose) => {
                let Propose { round, session, id, commands } = propose;
                let commands = commands.iter().map(|command| self.command(command)).collect();
                Body::Propose(Propose { round: *round, session: *session, id: *id, commands })
            }
            Body::RequestPreVote(a) => Body::RequestPreVote(*a),
            Body::RequestPreVoteReply(a) => Body::RequestPreVoteReply(*a),
            Body::RequestVote(a) => Body::RequestVote(*a),
            Body::RequestVoteReply(a) => Body::RequestVoteReply(*a),
            Body::AppendEntriesReply(a) => Body::AppendEntriesReply(*a),
            Body::InstallSnapshotReply(a) => Body::InstallSnapshotReply(*a),
            Body::TimeoutNow(a) => Body::TimeoutNow(*a),
            Body::ReadIndex(a) => Body::ReadIndex(*a),
            Body::ReadIndexReply(a) => Body::ReadIndexReply(*a),
            Body::ProposeReply(a) => Body::ProposeReply(*a),
            body => panic!("this program does not know the message {body:?}"),
        }
    }

    fn entry(&mut self, entry: &Entry<RecordedCommand>) -> Entry<Vec<u8>> {
        let payload = match &entry.payload {
            Payload::Noop => Payload::Noop,
            Payload::Command(command) => Payload::Command(self.command(command)),
            Payload::Configuration(membership) => Payload::Configuration(membership.clone()),
            payload => panic!("this program does not know the payload {payload:?}"),
        };
        Entry { term: entry.term, index: entry.index, payload }
    }

    /// The steps of a change, in the words of scenarios; none if a step has no word.
    pub(crate) fn changes(&mut self, changes: &[Change]) -> Option<String> {
        let words: Option<Vec<_>> = changes.iter().map(|change| self.change(change)).collect();
        words.map(|words| words.join(" "))
    }

    fn change(&mut self, change: &Change) -> Option<String> {
        Some(match change {
            Change::AddLearner { id, label } if label.is_empty() => format!("add:{id}"),
            Change::AddLearner { id, label } => format!("add:{id}:{}", self.label(label)),
            Change::Promote(id) => format!("promote:{id}"),
            Change::Demote(id) => format!("demote:{id}"),
            Change::Remove(id) => format!("remove:{id}"),
            Change::Relabel { id, label } => format!("relabel:{id}:{}", self.label(label)),
            Change::Prioritise { id, priority } => format!("priority:{id}:{priority}"),
            Change::Identify(_) => "identify".into(),
            Change::RecordStore { id, store } => {
                format!("store:{id}:{}", position(&mut self.stores, store))
            }
            _ => return None,
        })
    }

    fn label(&mut self, label: &Vec<u8>) -> String {
        format!("label-{}", position(&mut self.labels, label))
    }
}

/// The place of a value among those seen, from 1.
fn position<T: Clone + PartialEq>(known: &mut Vec<T>, value: &T) -> usize {
    let at = known.iter().position(|one| one == value).unwrap_or(known.len());
    if at == known.len() {
        known.push(value.clone());
    }
    at + 1
}

/// `"c1" "c2"`
pub(crate) fn quoted(commands: &[Vec<u8>]) -> String {
    let words = commands.iter().map(|name| format!("\"{}\"", String::from_utf8_lossy(name)));
    words.collect::<Vec<_>>().join(" ")
}

/// `N hears N's KIND DETAILS..`, for messages like this one.
pub(crate) fn hears(message: &Message<Vec<u8>>) -> String {
    let (from, to) = (message.from, message.to);
    let described = describe(message);
    let words: Vec<_> = described.split(' ').skip(3).collect();
    format!("{to} hears {from}'s {}", words.join(" "))
}

/// Whether somebody asks for a vote, or answers.
pub(crate) fn is_about_votes(message: &Message<RecordedCommand>) -> bool {
    matches!(
        message.body,
        Body::RequestPreVote(_)
            | Body::RequestPreVoteReply(_)
            | Body::RequestVote(_)
            | Body::RequestVoteReply(_)
    )
}

/// `1 2 3`
pub(crate) fn list(ids: &[NodeId]) -> String {
    let words: Vec<_> = ids.iter().map(NodeId::to_string).collect();
    words.join(" ")
}
