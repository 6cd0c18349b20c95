//! What no run may break, checked after every event, from outside: by what servers write, send,
//! apply and say of themselves.
//!
//! - Election Safety (Figure 3): at most one leader per term; and one vote per server and term,
//!   over all its lives.
//! - Leader Append-Only: a leader never removes or replaces an entry of its log.
//! - Log Matching: every entry of one term and index that is ever written or sent has the same
//!   content and the same predecessor. By induction two logs that share an entry are the same up to
//!   it.
//! - Leader Completeness: what is committed is on the disks of a majority, and a new leader holds
//!   what was committed in earlier terms.
//! - State Machine Safety: one entry per index, applied in order and from the disk.
//! - The gate: what a message promises is on its sender's disk when it leaves.
//! - Terms and commit indexes only grow; nothing comes in that a correct cluster cannot bring
//!   about.

use std::collections::{BTreeMap, HashMap};

use raft_core::{
    AppendEntries, AppendResult, Body, Entry, HardState, Index, LogId, Message, NodeId, Payload,
    Role, Term, Write,
};

use super::{Command, Host, Server};

pub(super) struct Checks {
    leaders: BTreeMap<Term, NodeId>,
    votes: HashMap<(Term, NodeId), NodeId>,
    /// Every entry ever seen, with the term of its predecessor.
    entries: HashMap<LogId, (Term, Payload<Command>)>,
    /// By index, from 1.
    committed: Vec<Committed>,
    servers: Vec<Seen>,
    /// The members change, so not every server is a voter.
    pub(super) members_change: bool,
}

/// An entry that a state machine has seen.
struct Committed {
    id: LogId,
    /// The term of the server that applied it first: no earlier than the one in which it was
    /// committed.
    known_in: Term,
}

/// What a server looked like when it was last checked.
#[derive(Clone, Default)]
struct Seen {
    term: Term,
    commit_index: Index,
    last_index: Index,
    leads: bool,
}

impl Checks {
    pub(super) fn new(servers: u64) -> Self {
        Self {
            leaders: BTreeMap::new(),
            votes: HashMap::new(),
            entries: HashMap::new(),
            committed: Vec::new(),
            servers: (0..servers).map(|_| Seen::default()).collect(),
            members_change: false,
        }
    }

    /// A life begins: what is on the disk is kept, the commit index is not.
    pub(super) fn on_start(&mut self, server: usize, host: &Host) {
        let term = host.stored.hard_state.current_term;
        self.servers[server] = Seen { term, ..Seen::default() };
    }

    pub(super) fn on_leader(&mut self, id: NodeId, term: Term) {
        let leader = *self.leaders.entry(term).or_insert(id);
        assert_eq!(leader, id, "two leaders in term {term}");
    }

    pub(super) fn on_write(
        &mut self,
        server: usize,
        raft: &Server,
        log: &[Entry<Command>],
        write: &Write<Command>,
    ) {
        let seen = &self.servers[server];
        let still_leads = seen.leads && seen.term == raft.term() && raft.role() == Role::Leader;
        let id = raft.id();
        assert!(
            !still_leads || write.truncate_from.is_none(),
            "leader {id} removes from its own log"
        );
        let keep = write.truncate_from.map_or(log.len(), |from| from.get() as usize - 1);
        assert!(keep <= log.len(), "server {id} removes what it never wrote");
        let committed = self.servers[server].commit_index.get() as usize;
        assert!(keep >= committed, "server {id} removes what it knows to be committed");
        let last = keep.checked_sub(1).map_or(LogId::ZERO, |last| log[last].id());
        self.match_entries(last, &write.entries);
    }

    fn match_entries(&mut self, mut previous: LogId, entries: &[Entry<Command>]) {
        for entry in entries {
            assert_eq!(entry.index, previous.index.next(), "a gap after {previous}");
            let known = self.entries.entry(entry.id());
            let known = known.or_insert_with(|| (previous.term, entry.payload.clone()));
            assert!(known.1 == entry.payload, "two entries are {}", entry.id());
            assert_eq!(known.0, previous.term, "entry {} follows two different logs", entry.id());
            previous = entry.id();
        }
    }

    /// "A node never says what it could forget."
    pub(super) fn on_send(&mut self, host: &Host, peer: &Host, message: &Message<Command>) {
        let Message { from, to, term, body } = message;
        let stored = host.stored.hard_state;
        let is_reply = !super::network::is_request(message);
        assert!(
            !is_reply || stored.current_term == *term,
            "server {from} speaks in term {term} with term {} on its disk: {body:?}",
            stored.current_term
        );
        match body {
            // They promise nothing about their sender.
            Body::RequestPreVote(_)
            | Body::RequestVote(_)
            | Body::RequestPreVoteReply(_)
            | Body::TimeoutNow(_)
            | Body::ReadIndex(_)
            | Body::ReadIndexReply(_)
            | Body::Propose(_)
            | Body::ProposeReply(_) => {}
            Body::RequestVoteReply(reply) => {
                if reply.granted {
                    assert_eq!(stored.voted_for, Some(*to), "server {from} says a vote too early");
                    self.on_vote(*term, *from, *to);
                }
            }
            Body::AppendEntries(append) => {
                let leads = HardState { current_term: *term, voted_for: Some(*from), ..stored };
                assert_eq!(stored, leads, "server {from} leads what it could forget");
                self.on_leader(*from, *term);
                self.on_vote(*term, *from, *from);
                self.check_append(peer, append);
            }
            Body::AppendEntriesReply(reply) => {
                if let AppendResult::Matched(index) = reply.result {
                    check_match(host, peer, *term, index);
                }
            }
            body @ (Body::InstallSnapshot(_) | Body::InstallSnapshotReply(_) | _) => {
                panic!("the checks do not know {body:?}")
            }
        }
    }

    fn on_vote(&mut self, term: Term, voter: NodeId, candidate: NodeId) {
        let voted = *self.votes.entry((term, voter)).or_insert(candidate);
        assert_eq!(voted, candidate, "server {voter} votes twice in term {term}");
    }

    fn check_append(&mut self, peer: &Host, append: &AppendEntries<Command>) {
        self.match_entries(append.prev_log, &append.entries);
        // The leader knows of it only because the follower has it on its disk; a server that is
        // removed holds it once it has taken this message.
        let held = peer.stored.entries.len() as u64;
        let held = if self.members_change { u64::MAX } else { held };
        assert!(append.leader_commit.get() <= held, "a commit index beyond what the peer holds");
    }

    pub(super) fn on_apply(&mut self, host: &Host, raft: &Server, entry: &Entry<Command>) {
        assert_eq!(entry.index, host.last_applied.next(), "applied one by one, in order");
        let at = entry.index.get() as usize - 1;
        let stored = host.stored.entries.get(at);
        assert!(stored == Some(entry), "entry {} is applied but not durable", entry.id());
        match self.committed.get(at) {
            Some(known) => assert_eq!(known.id, entry.id(), "two entries applied at one index"),
            None => self.committed.push(Committed { id: entry.id(), known_in: raft.term() }),
        }
    }

    pub(super) fn after_turn(
        &mut self,
        server: usize,
        raft: &Server,
        hosts: &[Host],
        tolerates_oddities: bool,
    ) {
        let status = raft.status();
        let (id, term, leads) = (status.id, status.current_term, status.role == Role::Leader);
        let seen = self.servers[server].clone();
        assert!(term >= seen.term, "the term of server {id} falls");
        assert!(status.commit_index >= seen.commit_index, "the commit index of server {id} falls");
        if leads && seen.leads && term == seen.term {
            assert!(status.last_log.index >= seen.last_index, "the log of leader {id} shrinks");
        } else if leads {
            self.on_leader(id, term);
            self.check_completeness(id, term, &hosts[server].log);
        }
        if leads && status.commit_index > seen.commit_index && !self.members_change {
            check_majority(status.commit_index, &hosts[server].log, hosts);
        }
        if !tolerates_oddities {
            let counters = status.counters;
            assert_eq!(counters.protocol_violations, 0, "server {id} saw the impossible");
            assert_eq!(counters.malformed, 0, "server {id} was sent nonsense");
            assert_eq!(counters.misrouted, 0, "server {id}: misrouted");
            assert!(counters.unknown_sender == 0 || self.members_change, "server {id}: unknown");
            assert_eq!(counters.api_misuse, 0, "the pump makes a mistake");
        }
        let (commit_index, last_index) = (status.commit_index, status.last_log.index);
        self.servers[server] = Seen { term, commit_index, last_index, leads };
    }

    /// The newest entry that was committed before this term is in the new leader's log, and so are
    /// all before it.
    fn check_completeness(&self, id: NodeId, term: Term, log: &[Entry<Command>]) {
        let earlier = self.committed.iter().rev().find(|committed| committed.known_in < term);
        let Some(Committed { id: needed, .. }) = earlier else { return };
        let held = log.get(needed.index.get() as usize - 1).map(Entry::id);
        assert_eq!(held, Some(*needed), "leader {id} of term {term} lacks what was committed");
    }
}

/// What a leader takes for committed is on the disks of a majority.
fn check_majority(index: Index, log: &[Entry<Command>], hosts: &[Host]) {
    let at = index.get() as usize - 1;
    let holders = hosts.iter().filter(|host| host.stored.entries.get(at) == Some(&log[at]));
    let count = holders.count();
    assert!(count * 2 > hosts.len(), "entry {index} is committed on {count} disks");
}

/// An entry that a follower acknowledges is on its disk, and is the same in the leader's log.
fn check_match(host: &Host, leader: &Host, term: Term, index: Index) {
    let Some(at) = index.get().checked_sub(1) else { return };
    let Some(held) = host.stored.entries.get(at as usize) else {
        panic!("a follower acknowledges {index}, which is not on its disk");
    };
    let leads = leader.raft.as_ref().is_some_and(|r| r.role() == Role::Leader && r.term() == term);
    if leads {
        let own = leader.log.get(at as usize).map(Entry::id);
        assert_eq!(own, Some(held.id()), "a follower acknowledges what its leader does not have");
    }
}
