//! What happened, as small records: a hash over all of them, the last ones for the report of a
//! failure, and all of them on request.

use alloc::vec::Vec;
use core::fmt;

use super::draw::mix;
use crate::message::{AppendResult, Body, Message};
use crate::role::Role;
use crate::time::Instant;
use crate::types::{Index, NodeId, Term, WriteId};

/// How many records a failure brings along.
pub const RECENT_RECORDS: usize = 64;

/// One thing that happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Record {
    /// When, in virtual time.
    pub at: Instant,
    /// The server; 0 for events that concern all servers.
    pub server: NodeId,
    /// What.
    pub what: What,
}

/// What can happen at a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum What {
    /// It sent a message, which may be lost yet.
    Sent(Gist),
    /// A message arrived.
    Received(Gist),
    /// A message that it sent was lost, or could not pass.
    Lost(Gist),
    /// Its timer fired.
    Woke,
    /// It asked for a write that ends with this entry, or has none.
    Wrote(WriteId, Index),
    /// Its disk answered for all writes up to this one.
    Synced(WriteId),
    /// Its state machine applied all entries up to this one.
    Applied(Index),
    /// Its role, term or leader changed.
    Became(Role, Term, Option<NodeId>),
    /// It accepted a command.
    Proposed(Term, Index),
    /// It accepted a command that it forwards to its leader.
    Forwards,
    /// It accepted a read.
    AskedToRead,
    /// It started, with a log that ends here.
    Started(Term, Index),
    /// It crashed; so many unsynced writes survived.
    Crashed(usize),
    /// It stopped to run, without a crash.
    Paused,
    /// It goes on.
    Resumed,
    /// It holds a snapshot of its own that ends there.
    TookSnapshot(Index),
    /// It could not take a snapshot that was to end there.
    SnapshotFailed(Index),
    /// Its state is that of an installed snapshot that ends there.
    Restored(Index),
    /// Another configuration is in force there.
    HasMembers {
        /// How many take part.
        members: usize,
        /// How many of them vote. During a change the old and the new voters count together.
        voters: usize,
    },
    /// It accepted a change of membership.
    Changes(Term, Index),
    /// The server was switched off for good.
    Retired,
    /// A fault was injected here; which one, the plan's step with this number says.
    Fault(u64),
    /// All faults are over.
    Healed,
}

/// What a message says, in short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gist {
    /// The kind of message: the letters under which it is printed.
    pub kind: &'static str,
    /// The other server: the receiver or the sender.
    pub peer: NodeId,
    /// The message's term.
    pub term: Term,
    /// The index that it is about: the last entry of a candidate or an append, the match or the
    /// rejection of a reply.
    pub index: Index,
    /// How many entries it carries.
    pub entries: usize,
}

impl Gist {
    /// The gist of a message. `peer` is the server at the other end.
    #[inline]
    pub(super) fn of<C>(message: &Message<C>, peer: NodeId) -> Self {
        let (kind, index, entries) = match &message.body {
            Body::RequestPreVote(request) => ("RequestPreVote", request.last_log.index, 0),
            Body::RequestPreVoteReply(reply) if reply.granted => ("pre-vote", Index::ZERO, 0),
            Body::RequestPreVoteReply(_) => ("no pre-vote", Index::ZERO, 0),
            Body::RequestVote(request) => ("RequestVote", request.last_log.index, 0),
            Body::RequestVoteReply(reply) if reply.granted => ("vote", reply.last_log.index, 0),
            Body::RequestVoteReply(reply) => ("no vote", reply.last_log.index, 0),
            Body::AppendEntries(append) => {
                let last = append.entries.last().map_or(append.prev_log.index, |last| last.index);
                ("AppendEntries", last, append.entries.len())
            }
            Body::AppendEntriesReply(reply) => match reply.result {
                AppendResult::Matched(index) => ("matched", index, 0),
                AppendResult::Rejected { prev_log_index, .. } => ("rejected", prev_log_index, 0),
            },
            Body::InstallSnapshot(install) => ("InstallSnapshot", install.snapshot.last.index, 0),
            Body::InstallSnapshotReply(reply) => ("installing", reply.snapshot.index, 0),
            Body::TimeoutNow(request) => ("TimeoutNow", request.last_log.index, 0),
            Body::ReadIndex(_) => ("ReadIndex", Index::ZERO, 0),
            Body::ReadIndexReply(_) => ("index to read", Index::ZERO, 0),
            Body::Propose(request) => ("Propose", Index::ZERO, request.commands.len()),
            Body::ProposeReply(reply) => ("appended", reply.first, reply.appended as usize),
        };
        Self { kind, peer, term: message.term, index, entries }
    }
}

impl fmt::Display for Gist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, term, index, entries, .. } = self;
        write!(f, "{kind} (term {term}, index {index}")?;
        if *entries > 0 { write!(f, ", {entries} entries)") } else { f.write_str(")") }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.server.get() {
            0 => write!(f, "{} -- ", self.at)?,
            server => write!(f, "{} S{server} ", self.at)?,
        }
        match &self.what {
            What::Sent(gist) => write!(f, "sends {gist} to S{}", gist.peer),
            What::Received(gist) => write!(f, "receives {gist} of S{}", gist.peer),
            What::Lost(gist) => write!(f, "loses {gist} to S{}", gist.peer),
            What::Woke => f.write_str("wakes"),
            What::Wrote(write, last) => write!(f, "writes {write}, through index {last}"),
            What::Synced(write) => write!(f, "has synced all writes through {write}"),
            What::Applied(index) => write!(f, "applies through index {index}"),
            What::Became(role, term, Some(leader)) => {
                write!(f, "becomes {role:?} in term {term}, led by S{leader}")
            }
            What::Became(role, term, None) => write!(f, "becomes {role:?} in term {term}"),
            What::Proposed(term, index) => write!(f, "accepts command {term}.{index}"),
            What::Forwards => f.write_str("accepts a command to forward"),
            What::AskedToRead => f.write_str("accepts a read"),
            What::Started(term, last) => write!(f, "starts in term {term}, log through {last}"),
            What::Crashed(kept) => write!(f, "CRASHES, keeps {kept} unsynced writes"),
            What::Paused => f.write_str("PAUSES"),
            What::Resumed => f.write_str("goes on"),
            What::TookSnapshot(index) => write!(f, "has a snapshot through index {index}"),
            What::SnapshotFailed(index) => {
                write!(f, "could not take a snapshot through index {index}")
            }
            What::Restored(index) => write!(f, "restores a snapshot through index {index}"),
            What::HasMembers { members, voters } => {
                write!(f, "has {members} members now, {voters} of them voters")
            }
            What::Changes(term, index) => {
                write!(f, "accepts a change of membership, {term}.{index}")
            }
            What::Retired => f.write_str("IS RETIRED"),
            What::Fault(step) => write!(f, "FAULT, step {step} of the plan"),
            What::Healed => f.write_str("ALL FAULTS END"),
        }
    }
}

/// The records of a run.
pub(super) struct Trace {
    hash: u64,
    count: u64,
    recent: [Record; RECENT_RECORDS],
    /// All records, if they are kept.
    pub(super) all: Option<Vec<Record>>,
}

impl Trace {
    pub(super) fn new() -> Self {
        let none = Record { at: Instant::ZERO, server: NodeId::new(0), what: What::Healed };
        Self { hash: 0, count: 0, recent: [none; RECENT_RECORDS], all: None }
    }

    #[inline]
    pub(super) fn note(&mut self, at: Instant, server: NodeId, what: What) {
        let record = Record { at, server, what };
        self.recent[self.count as usize % RECENT_RECORDS] = record;
        self.count += 1;
        let place = at.as_micros() ^ server.get().rotate_left(56);
        self.hash = fold(fold(self.hash, place), what.number());
        if let Some(all) = &mut self.all {
            all.push(record);
        }
    }

    /// Two runs with the same hash were the same, but for a chance in 2^64.
    pub(super) fn hash(&self) -> u64 {
        mix(self.hash ^ self.count)
    }

    /// The last records, oldest first.
    pub(super) fn recent(&self) -> Vec<Record> {
        let first = self.count.saturating_sub(RECENT_RECORDS as u64);
        (first..self.count).map(|at| self.recent[at as usize % RECENT_RECORDS]).collect()
    }
}

impl What {
    /// A number that tells this from other things that happen.
    #[inline]
    fn number(&self) -> u64 {
        let pair = |tag: u64, a: u64, b: u64| fold(fold(tag, a), b);
        match self {
            Self::Sent(gist) => gist.number(1),
            Self::Received(gist) => gist.number(2),
            Self::Lost(gist) => gist.number(3),
            Self::Woke => 4,
            Self::Wrote(write, last) => pair(5, write.get(), last.get()),
            Self::Synced(write) => pair(6, write.get(), 0),
            Self::Applied(index) => pair(7, index.get(), 0),
            Self::Became(role, term, leader) => {
                let leader = leader.map_or(0, NodeId::get);
                pair(8, term.get(), leader << 2 | *role as u64)
            }
            Self::Proposed(term, index) => pair(9, term.get(), index.get()),
            Self::AskedToRead => 10,
            Self::Started(term, last) => pair(11, term.get(), last.get()),
            Self::Crashed(kept) => pair(12, *kept as u64, 0),
            Self::Paused => 13,
            Self::Resumed => 14,
            Self::Fault(step) => pair(15, *step, 0),
            Self::Healed => 16,
            Self::TookSnapshot(index) => pair(17, index.get(), 0),
            Self::SnapshotFailed(index) => pair(18, index.get(), 0),
            Self::Restored(index) => pair(19, index.get(), 0),
            Self::HasMembers { members, voters } => pair(20, *members as u64, *voters as u64),
            Self::Changes(term, index) => pair(21, term.get(), index.get()),
            Self::Retired => 22,
            Self::Forwards => 23,
        }
    }
}

impl Gist {
    #[inline]
    fn number(&self, tag: u64) -> u64 {
        // Kinds differ in their length or first letter.
        let kind = (self.kind.len() as u64) << 8 | u64::from(self.kind.as_bytes()[0]);
        let about = self.index.get() ^ (self.entries as u64) << 48;
        fold(fold(tag << 56 | kind << 32 | self.peer.get(), self.term.get()), about)
    }
}

#[inline]
const fn fold(hash: u64, number: u64) -> u64 {
    (hash.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_one_order_from_another() {
        let run = |order: [What; 2]| {
            let mut trace = Trace::new();
            for what in order {
                trace.note(Instant::ZERO, NodeId::new(1), what);
            }
            (trace.hash(), trace.recent().len())
        };
        assert_eq!(run([What::Paused, What::Resumed]), run([What::Paused, What::Resumed]));
        assert_ne!(run([What::Paused, What::Resumed]), run([What::Resumed, What::Paused]));
    }

    #[test]
    fn the_last_records_are_kept_in_order() {
        let mut trace = Trace::new();
        for at in 0..100 {
            trace.note(Instant::from_micros(at), NodeId::new(1), What::Woke);
        }
        let recent = trace.recent();
        assert_eq!(recent.len(), RECENT_RECORDS);
        assert_eq!((recent[0].at.as_micros(), recent[63].at.as_micros()), (36, 99));
    }
}
