//! An omniscient observer: what no run may break, checked after every event.
//!
//! It sees what every server writes, sends, applies and says of itself, and keeps a picture of
//! every disk. What a check costs depends on the event and not on the length of a log: by
//! induction, what held before the event needs no second look.
//!
//! - **Election Safety**: one leader per term and one vote per server and term, over all lives.
//! - **Leader Append-Only**: a leader's writes remove nothing, and its log never gets shorter.
//! - **Log Matching**: every entry of one term and index, written or sent, has the same content and
//!   the same predecessor.
//! - **Leader Completeness**: a new leader holds the newest entry committed before its term.
//!   A leader commits entries of its own term (§5.4.2) that are on the disks of a majority by the
//!   configuration in force, and they stay there.
//! - **State Machine Safety**: one entry for each index, applied in order and from the disk. States
//!   at one index have one digest.
//! - **Members by the log**: the newest configuration in the log is in force, and its voters elect
//!   and commit (§6).
//! - **Snapshot content**: a snapshot ends with a committed entry, names the members at that entry,
//!   and is the same wherever it was taken (§7).
//! - **Forwarding**: a leader appends a forwarded command once, and its answer names that entry.
//! - **Durability**: what a message promises is on its sender's disk when the message leaves.
//! - **Monotonicity**: term, commit index and applied index only grow in a life.
//!
//! The observer needs no simulator: a test that runs [`Raft`] by hand reports what happens and gets
//! a [`Verdict`].

mod bounds;
mod disk;
mod forwards;
mod in_force;
mod logs;
mod members;
mod recorded;
mod seen;
mod snapshots;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use rand_core::Rng;

use self::bounds::check_bounds;
use self::disk::Disk;
use self::forwards::Forwards;
use self::in_force::InForce;
use self::seen::Seen;
use super::violation::{Verdict, Violation, hold};
use crate::entries::{Entry, Payload};
use crate::membership::Membership;
use crate::message::{AppendResult, Body, Message, SnapshotMeta};
use crate::output::{Restored, Write};
use crate::raft::Raft;
use crate::role::Role;
use crate::time::Instant;
use crate::types::{Command, HardState, Index, LogId, NodeId, ProposalId, ReadId, Term, WriteId};

/// Watches a cluster. Tell it of everything that happens, in order.
#[derive(Clone, Debug)]
pub struct Observer<C> {
    /// In the order of their ids.
    servers: Vec<Watched>,
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(Term, NodeId), NodeId>,
    /// Votes of servers that have lost their disks since, each with its candidate.
    lost_votes: BTreeSet<(Term, NodeId, NodeId)>,
    /// Every entry ever seen, with the term of its predecessor.
    entries: Seen<C>,
    /// What some server knows to be committed, by index, from 1.
    committed: Vec<Committed>,
    /// The configurations among them, and the newest. The first is that with which the cluster
    /// began.
    configurations: Vec<InForce>,
    members: InForce,
    /// Some configuration was ever proposed.
    members_change: bool,
    /// The content of every snapshot ever seen.
    states: BTreeMap<LogId, Box<[u8]>>,
    /// A digest of the state after each index at which some batch of entries ended.
    digests: BTreeMap<Index, u64>,
    /// The commands that were forwarded.
    forwards: Forwards,
    tolerates_strangers: bool,
}

/// An entry that some server knows to be committed.
#[derive(Clone, Copy, Debug)]
struct Committed {
    /// None if the entry was part of a snapshot when the observer began to watch.
    term: Option<Term>,
    /// The term of the server that knew it first: no earlier than the one in which it was
    /// committed.
    known_in: Term,
}

#[derive(Clone, Debug)]
struct Watched {
    id: NodeId,
    has_started: bool,
    disk: Disk,
    /// What the disk held that this server has lost, which others count on.
    lost: Option<Box<Disk>>,
    /// What it looked like after its last turn.
    role: Role,
    term: Term,
    commit_index: Index,
    last: LogId,
    members: InForce,
    applied: Index,
    /// Reads and what was committed anywhere when they were asked for.
    reads: VecDeque<(ReadId, Index)>,
}

impl<C: Command + Eq> Observer<C> {
    /// Watches these servers, none of which has run yet.
    pub fn new(ids: impl IntoIterator<Item = NodeId>) -> Self {
        let mut observer = Self {
            servers: Vec::new(),
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            lost_votes: BTreeSet::new(),
            entries: Seen::new(),
            committed: Vec::new(),
            configurations: Vec::new(),
            members: InForce::default(),
            members_change: false,
            states: BTreeMap::new(),
            digests: BTreeMap::new(),
            forwards: Forwards::default(),
            tolerates_strangers: false,
        };
        ids.into_iter().for_each(|id| observer.watch(id));
        observer
    }

    /// Watches one server more, which has never run.
    pub fn watch(&mut self, id: NodeId) {
        let at = self.servers.partition_point(|server| server.id < id);
        self.servers.insert(at, Watched::new(id));
    }

    /// From now on servers may get messages that are for others, or of servers that are no members.
    pub fn tolerate_strangers(&mut self) {
        self.tolerates_strangers = true;
    }

    /// The last entry that any server knows to be committed.
    pub fn committed(&self) -> Index {
        Index::new(self.committed.len() as u64)
    }

    /// How many changes of membership were completed.
    pub fn changes(&self) -> u64 {
        let complete = self.configurations.iter().skip(1).filter(|c| !c.membership.is_joint());
        complete.count() as u64
    }

    /// The newest configuration that any server knows to be committed; empty before the first
    /// write.
    pub fn membership(&self) -> &Membership {
        &self.members.membership
    }

    /// Whether this server is or was a member, by what is known to be committed.
    pub fn was_member(&self, id: NodeId) -> bool {
        self.configurations.iter().any(|members| members.membership.suffrage(id).is_some())
    }

    /// How many terms had a leader.
    pub fn elections(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// A life begins, with what the disk holds.
    pub fn on_start(&mut self, id: NodeId, restored: &Restored<C>) -> Verdict {
        let base = restored.base;
        if !self.server(id).has_started {
            self.match_entries(base, &restored.entries)?;
            self.server_mut(id).disk = Disk::holding(restored);
            self.note_base(base);
        }
        let server = self.server_mut(id);
        let last = restored.entries.last().map_or(base, Entry::id);
        let (disk, snapshot) = (&server.disk, restored.snapshot.as_ref());
        hold!(
            disk.hard_state() == restored.hard_state
                && (disk.base(), disk.last(), disk.snapshot()) == (base, last, snapshot),
            Durability,
            "server {id} starts with {base} to {last} and {:?}, and had stored {} to {} and {:?}",
            restored.hard_state,
            disk.base(),
            disk.last(),
            disk.hard_state()
        );
        let applied = snapshot.map_or(Index::ZERO, |snapshot| snapshot.last.index);
        let (disk, term) = (core::mem::take(&mut server.disk), restored.hard_state.current_term);
        let lost = server.lost.take();
        // What it takes to be in force is looked for in its first turn.
        let seen = Watched { has_started: true, disk, lost, term, applied, ..Watched::new(id) };
        *server = Watched { commit_index: applied, ..seen };
        Ok(())
    }

    /// A life ends. Of the writes that were not synced, the first `kept` survive.
    pub fn on_crash(&mut self, id: NodeId, kept: usize) -> Verdict {
        let removed = self.server_mut(id).disk.crash(kept)?;
        self.check_removed(id, removed)
    }

    /// A server lost its disk, and with it all that it has promised.
    pub fn on_wipe(&mut self, id: NodeId) {
        *self.server_mut(id) = Watched::new(id);
        self.votes.retain(|(_, voter), _| *voter != id);
    }

    /// A server asks for a write.
    pub fn on_write<R: Rng>(&mut self, raft: &Raft<C, R>, write: &Write<C>) -> Verdict {
        let id = raft.id();
        let server = self.server(id);
        if let Some(from) = write.truncate_from {
            let leads = server.role == Role::Leader && raft.role() == Role::Leader;
            let leads = leads && server.term == raft.term();
            hold!(!leads, LeaderAppendOnly, "leader {id} removes {from} and on from its log");
            let committed = server.commit_index;
            // A disk that was stuck since before the conflict is told of the truncation and of what
            // is committed there by one write.
            let replaces = write.entries.first().is_some_and(|entry| entry.index == from);
            hold!(
                from > committed || replaces,
                StateMachineSafety,
                "server {id} removes {from}, and knows {committed} to be committed"
            );
        }
        if let Some(snapshot) = write.snapshot.as_deref() {
            let (last, applied) = (snapshot.last, server.applied);
            let installs = server.disk.written_term_at(last.index) != Some(last.term);
            let compacted = last.index < server.disk.base().index;
            hold!(
                !compacted && (!installs || last.index > applied),
                StateMachineSafety,
                "server {id} installs the snapshot {last}, and has applied {applied}"
            );
            self.note_beginning(snapshot);
            self.check_snapshot(id, snapshot)?;
        }
        self.server_mut(id).disk.write_head(write)?;
        let previous = self.server(id).disk.previous_of(write);
        self.match_entries(previous, &write.entries)?;
        self.server_mut(id).disk.write(write)
    }

    /// A server's disk answered for this write and all before it.
    pub fn on_synced(&mut self, id: NodeId, write: WriteId) -> Verdict {
        let removed = self.server_mut(id).disk.sync(write)?;
        self.check_removed(id, removed)
    }

    /// A message leaves. "A node never says what it could forget."
    #[inline]
    pub fn on_send(&mut self, message: &Message<C>) -> Verdict {
        let Message { from, to, term, body } = message;
        let stored = self.server(*from).disk.hard_state();
        match body {
            // They promise nothing about their sender.
            Body::RequestPreVote(_)
            | Body::RequestVote(_)
            | Body::ReadIndex(_)
            | Body::Propose(_) => Ok(()),
            Body::RequestPreVoteReply(_)
            | Body::ReadIndexReply(_)
            | Body::InstallSnapshotReply(_) => speaks_in_stored_term(*from, *term, stored),
            Body::RequestVoteReply(reply) => {
                speaks_in_stored_term(*from, *term, stored)?;
                if !reply.granted {
                    return Ok(());
                }
                let durable = stored.voted_for == Some(*to);
                hold!(
                    durable,
                    Durability,
                    "server {from} says a vote for {to} that it could forget"
                );
                self.note_vote(*term, *from, *to)
            }
            Body::InstallSnapshot(install) => {
                leads_for_certain(*from, *term, stored)?;
                self.check_install(*from, install)
            }
            Body::TimeoutNow(_) => leads_for_certain(*from, *term, stored),
            Body::ProposeReply(reply) => {
                leads_for_certain(*from, *term, stored)?;
                self.forwards.check_reply(*to, *term, reply)
            }
            Body::AppendEntries(append) => {
                leads_for_certain(*from, *term, stored)?;
                self.check_append(*from, *to, *term, append)
            }
            Body::AppendEntriesReply(reply) => {
                speaks_in_stored_term(*from, *term, stored)?;
                keeps_promise(*from, reply.promise_micros, stored)?;
                match reply.result {
                    AppendResult::Matched(index) => self.check_match(*from, *to, *term, index),
                    AppendResult::Rejected { .. } => Ok(()),
                }
            }
        }
    }

    /// A server learned where the leader appended the command that it forwarded.
    pub fn check_forward(&self, server: NodeId, id: ProposalId, entry: LogId) -> Verdict {
        self.forwards.check_answer(server, id, entry)
    }

    /// A server hands an entry to its state machine.
    pub fn on_apply<R: Rng>(&mut self, raft: &Raft<C, R>, entry: &Entry<C>) -> Verdict {
        let (id, at) = (raft.id(), entry.id());
        let server = self.server(id);
        let applied = server.applied;
        hold!(
            at.index == applied.next(),
            StateMachineSafety,
            "server {id} applies {at} after index {applied}"
        );
        hold!(
            server.disk.term_at(at.index) == Some(at.term),
            StateMachineSafety,
            "server {id} applies {at}, which is not on its disk"
        );
        self.note_committed(id, at, raft.term())?;
        let known = self.entries.get(at).is_some_and(|(_, known)| *known == entry.payload);
        hold!(known, LogMatching, "server {id} applies another {at} than was written");
        self.server_mut(id).applied = at.index;
        Ok(())
    }

    /// A server accepted a read.
    pub fn on_read(&mut self, id: NodeId, read: ReadId) {
        let committed = self.committed();
        self.server_mut(id).reads.push_back((read, committed));
    }

    /// A server says that a read may be served from any state that includes `index`.
    pub fn on_read_ready(&mut self, id: NodeId, read: ReadId, index: Index) -> Verdict {
        let server = self.server_mut(id);
        let at = server.reads.iter().position(|(asked, _)| *asked == read);
        let asked = at.and_then(|at| server.reads.remove(at));
        let Some((_, committed)) = asked else {
            hold!(false, FreshReads, "server {id} answers read {read}, which nobody asked for");
            return Ok(());
        };
        let applied = server.applied;
        hold!(
            index >= committed && applied >= index,
            FreshReads,
            "server {id} serves a read at {index} with {applied} applied; {committed} was committed before"
        );
        Ok(())
    }

    /// How many reads wait that this life of the server has accepted.
    pub fn reads_waiting(&self, id: NodeId) -> usize {
        self.server(id).reads.len()
    }

    /// A server says that a read is lost.
    pub fn on_read_lost(&mut self, id: NodeId, read: ReadId) {
        self.server_mut(id).reads.retain(|(asked, _)| *asked != read);
    }

    /// A server has done a turn of its loop: inputs, a tick at `now` on its own clock, and all
    /// outputs.
    #[inline]
    pub fn after_turn<R: Rng>(&mut self, raft: &Raft<C, R>, now: Instant) -> Verdict {
        let id = raft.id();
        let at = position(&self.servers, id);
        let (role, term, last) = (raft.role(), raft.term(), raft.server.log.last());
        let commit_index = raft.server.commit_index;
        let before = self.follow_members(raft)?;
        let seen = &self.servers[at];
        let (seen_term, seen_commit) = (seen.term, seen.commit_index);
        hold!(
            term >= seen_term,
            Monotonicity,
            "server {id}: term falls from {seen_term} to {term}"
        );
        hold!(
            commit_index >= seen_commit,
            Monotonicity,
            "server {id}: commit index falls from {seen_commit} to {commit_index}"
        );
        if role == Role::Leader {
            if seen.role == Role::Leader && seen_term == term {
                let before = seen.last;
                let grows = last.index >= before.index && raft.server.log.contains(before);
                hold!(grows, LeaderAppendOnly, "the log of leader {id} ended {before}, now {last}");
                let counted = raft.server.log.term_at(commit_index).is_none_or(|of| of == term);
                hold!(
                    commit_index == seen_commit || counted,
                    LeaderCompleteness,
                    "leader {id} commits {commit_index} by counting, an entry of an earlier term"
                );
            } else {
                self.on_leader(raft)?;
                let members = before.as_ref().unwrap_or(&self.servers[at].members);
                self.check_elected(raft, members)?;
            }
            if commit_index > seen_commit {
                self.check_majority(raft, before.as_ref())?;
            }
        }
        if commit_index > seen_commit {
            let from = seen_commit.next().max(raft.server.log.base().index.next());
            for index in from.get()..=commit_index.get() {
                let index = Index::new(index);
                let Some(term_at) = raft.server.log.term_at(index) else { continue };
                self.note_committed(id, LogId::new(term_at, index), term)?;
            }
        }
        check_bounds(raft)?;
        let deadline = raft.next_deadline();
        hold!(
            deadline.is_none_or(|deadline| deadline > now),
            LawsOfTime,
            "server {id} is due again at once after its tick at {now}"
        );
        self.check_counters(raft)?;
        let seen = &mut self.servers[at];
        (seen.role, seen.term, seen.commit_index, seen.last) = (role, term, commit_index, last);
        Ok(())
    }

    /// A server leads a term that it did not lead before.
    fn on_leader<R: Rng>(&mut self, raft: &Raft<C, R>) -> Verdict {
        let (id, term) = (raft.id(), raft.term());
        self.note_leader(id, term)?;
        self.note_vote(term, id, id)?;
        let mut earlier = self.committed.iter().enumerate().rev();
        let Some((at, committed)) = earlier.find(|(_, committed)| committed.known_in < term) else {
            return Ok(());
        };
        let Some(needed) = committed.term else { return Ok(()) };
        let needed = LogId::new(needed, Index::new(at as u64 + 1));
        let held = needed.index <= raft.server.log.base().index || raft.server.log.contains(needed);
        hold!(
            held,
            LeaderCompleteness,
            "leader {id} of term {term} lacks {needed}, long committed"
        );
        Ok(())
    }

    fn note_leader(&mut self, id: NodeId, term: Term) -> Verdict {
        let leader = *self.leaders.entry(term).or_insert(id);
        hold!(leader == id, ElectionSafety, "{leader} and {id} both lead term {term}");
        Ok(())
    }

    fn note_vote(&mut self, term: Term, voter: NodeId, candidate: NodeId) -> Verdict {
        let voted = *self.votes.entry((term, voter)).or_insert(candidate);
        hold!(
            voted == candidate,
            ElectionSafety,
            "server {voter} votes for {voted} and {candidate} in term {term}"
        );
        Ok(())
    }

    /// What is known to be committed is so for ever.
    fn note_committed(&mut self, id: NodeId, entry: LogId, known_in: Term) -> Verdict {
        let at = committed_of(entry.index);
        if at == self.committed.len() {
            self.committed.push(Committed { term: Some(entry.term), known_in });
            if let Some((_, Payload::Configuration(membership))) = self.entries.get(entry) {
                let (index, membership) = (entry.index, (**membership).clone());
                self.members = InForce { index, membership };
                self.configurations.push(self.members.clone());
            }
        }
        let known = self.committed.get(at).map(|known| known.term.unwrap_or(entry.term));
        hold!(
            known == Some(entry.term),
            StateMachineSafety,
            "server {id} takes {entry} for committed, where others know of term {known:?}"
        );
        let committed = &mut self.committed[at];
        committed.known_in = committed.known_in.min(known_in);
        Ok(())
    }

    /// The committed entry at this index.
    fn committed_at(&self, index: Index) -> Option<LogId> {
        let term = self.committed.get(committed_of(index))?.term?;
        Some(LogId::new(term, index))
    }

    /// The configuration that was in force at this committed entry; none if no server has reported
    /// it.
    fn members_at(&self, index: Index) -> Option<&InForce> {
        let after = self.configurations.partition_point(|members| members.index <= index);
        self.configurations.get(after.checked_sub(1)?)
    }

    /// A disk that was not empty when it was first seen tells that all up to its base is committed,
    /// but not in which terms.
    fn note_base(&mut self, base: LogId) {
        let unknown = Committed { term: None, known_in: base.term };
        let length = usize::try_from(base.index.get()).unwrap_or(usize::MAX);
        self.committed.resize(self.committed.len().max(length), unknown);
        if let Some(known) = self.committed.get_mut(committed_of(base.index)) {
            known.term = Some(base.term);
        }
    }

    /// The members with which the cluster begins, as the first write of one of them tells.
    fn note_beginning(&mut self, snapshot: &SnapshotMeta) {
        if self.configurations.is_empty() && snapshot.last == LogId::ZERO {
            let membership = snapshot.membership.clone();
            let beginning = InForce { index: Index::ZERO, membership };
            self.members = beginning.clone();
            self.configurations.push(beginning);
        }
    }

    fn find(&self, id: NodeId) -> Option<&Watched> {
        let found = self.servers.binary_search_by_key(&id, |server| server.id);
        found.ok().and_then(|at| self.servers.get(at))
    }

    #[inline]
    fn server(&self, id: NodeId) -> &Watched {
        &self.servers[position(&self.servers, id)]
    }

    #[inline]
    fn server_mut(&mut self, id: NodeId) -> &mut Watched {
        let at = position(&self.servers, id);
        &mut self.servers[at]
    }
}

impl Watched {
    fn new(id: NodeId) -> Self {
        Self {
            id,
            has_started: false,
            disk: Disk::default(),
            lost: None,
            role: Role::Follower,
            term: Term::ZERO,
            commit_index: Index::ZERO,
            last: LogId::ZERO,
            members: InForce::default(),
            applied: Index::ZERO,
            reads: VecDeque::new(),
        }
    }
}

/// Where the committed entry at this index is noted; beyond everything for index 0, where no entry
/// is.
fn committed_of(index: Index) -> usize {
    usize::try_from(index.get()).unwrap_or(usize::MAX).wrapping_sub(1)
}

/// Where a server stands; most clusters number theirs from 1.
#[inline]
fn position(servers: &[Watched], id: NodeId) -> usize {
    let guess = (id.get() as usize).wrapping_sub(1);
    if servers.get(guess).is_some_and(|server| server.id == id) {
        return guess;
    }
    let found = servers.binary_search_by_key(&id, |server| server.id);
    found.unwrap_or_else(|_| panic!("sim: server {id} is not among those that are watched"))
}

#[inline]
fn speaks_in_stored_term(from: NodeId, term: Term, stored: HardState) -> Verdict {
    let on_disk = stored.current_term;
    hold!(on_disk == term, Durability, "server {from} speaks in term {term}, stored is {on_disk}");
    Ok(())
}

#[inline]
fn keeps_promise(from: NodeId, promised: u32, stored: HardState) -> Verdict {
    let on_disk = stored.promise_micros;
    hold!(
        promised <= on_disk,
        Durability,
        "server {from} promises {promised} µs to its leader, stored is {on_disk}"
    );
    Ok(())
}

#[inline]
fn leads_for_certain(from: NodeId, term: Term, stored: HardState) -> Verdict {
    let leads = HardState { current_term: term, voted_for: Some(from), ..stored };
    hold!(stored == leads, Durability, "server {from} leads term {term}, and could forget it");
    Ok(())
}
