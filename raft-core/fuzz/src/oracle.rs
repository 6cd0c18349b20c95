//! What an observer knows who sees all that goes into a server and all that comes out: what is on its disk, what it was told,
//! what it has said. From this follows what it may say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft_core::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Config, Entry, HardState, Index,
    Message, NodeId, Output, ReadId, RequestVoteReply, Restored, Role, Round, Status, Term, Write,
    WriteId,
};

use crate::peers::{fits, is_leaders, is_promise};

type Log = Restored<Vec<u8>>;

/// The observer of one server, over all its lives.
pub(crate) struct Oracle {
    config: Config,
    /// What the disk has answered for, and what it has yet to.
    pub(crate) disk: Log,
    in_flight: VecDeque<Write<Vec<u8>>>,
    /// The disk, once it has answered for everything.
    pub(crate) written: Log,
    /// Whom the server helped to lead in each term, itself included.
    votes: BTreeMap<Term, NodeId>,
    /// The latest term that anyone may count on the server to remember.
    promised_term: Term,
    life: Life,
    current: InTerm,
}

/// What ends with a crash.
#[derive(Default)]
struct Life {
    last_write: WriteId,
    handed_out: Index,
    reads: BTreeMap<ReadId, Read>,
}

/// A read that the server has accepted.
struct Read {
    /// The newest round that had left by then.
    asked_after: Round,
    /// Whether a majority has echoed a later one.
    confirmed: bool,
}

/// What ends with a term or with leadership.
#[derive(Default)]
struct InTerm {
    term: Term,
    /// What each leader of the term claimed to have in its log.
    claims: BTreeMap<NodeId, BTreeMap<Index, BTreeSet<Term>>>,
    /// The newest commit index that the server was told.
    told_commit: Index,
    peers: BTreeMap<NodeId, Peer>,
}

/// What a leader was told by a follower.
#[derive(Default)]
struct Peer {
    matched: Index,
    round_sent: Round,
    round_echoed: Round,
}

impl Oracle {
    pub(crate) fn new(config: Config, disk: Log) -> Self {
        Self {
            config,
            written: disk.clone(),
            in_flight: VecDeque::new(),
            votes: BTreeMap::new(),
            promised_term: disk.hard_state.current_term,
            disk,
            life: Life::default(),
            current: InTerm::default(),
        }
    }

    /// The process dies. Of the writes that were on their way, so many are on disk.
    pub(crate) fn on_crash(&mut self, kept: usize) -> Log {
        for write in self.in_flight.drain(..).take(kept) {
            self.disk.replay(write);
        }
        self.in_flight.clear();
        self.written = self.disk.clone();
        (self.life, self.current) = (Life::default(), InTerm::default());
        self.disk.clone()
    }

    /// The oldest write that the disk has yet to answer for, or the one that comes next.
    pub(crate) fn awaited_write(&self) -> WriteId {
        self.in_flight.front().map_or(self.life.last_write.next(), |write| write.id)
    }

    pub(crate) fn writes_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn handed_out(&self) -> Index {
        self.life.handed_out
    }

    /// The newest round that left in this term.
    pub(crate) fn round_sent(&self) -> Round {
        self.current.peers.values().map(|peer| peer.round_sent).max().unwrap_or_default()
    }

    /// The host is about to answer for this write. One that was never asked for means nothing.
    pub(crate) fn on_persisted(&mut self, id: WriteId) {
        if id > self.life.last_write {
            return;
        }
        let done = self.in_flight.partition_point(|write| write.id <= id);
        for write in self.in_flight.drain(..done) {
            self.disk.replay(write);
        }
    }

    pub(crate) fn on_read(&mut self, id: ReadId) {
        let alone = self.config.voters.len() == 1;
        let read = Read { asked_after: self.round_sent(), confirmed: alone };
        assert!(self.life.reads.insert(id, read).is_none(), "two reads of one name");
    }

    /// The server has taken a message.
    pub(crate) fn on_message(
        &mut self,
        message: &Message<Vec<u8>>,
        before: &Status,
        after: &Status,
    ) {
        let is_peer = message.from != self.config.id && self.config.voters.contains(&message.from);
        if message.to != self.config.id || !is_peer || message.term != after.current_term {
            return;
        }
        self.enter(after.current_term);
        match &message.body {
            Body::AppendEntries(append) => self.note_claims(message.from, append),
            Body::AppendEntriesReply(reply) if before.role == Role::Leader => {
                self.note_reply(message.from, reply, before.last_log.index);
            }
            _ => {}
        }
    }

    /// What was said in another term counts for nothing.
    fn enter(&mut self, term: Term) {
        if self.current.term != term {
            self.current = InTerm { term, ..InTerm::default() };
        }
    }

    fn note_claims(&mut self, leader: NodeId, append: &AppendEntries<Vec<u8>>) {
        let claims = self.current.claims.entry(leader).or_default();
        let ids = append.entries.iter().map(Entry::id);
        for id in ids.chain([append.prev_log]) {
            claims.entry(id.index).or_default().insert(id.term);
        }
        self.current.told_commit = self.current.told_commit.max(append.leader_commit);
    }

    fn note_reply(&mut self, from: NodeId, reply: &AppendEntriesReply, last_index: Index) {
        let peer = self.current.peers.entry(from).or_default();
        peer.round_echoed = peer.round_echoed.max(reply.round.min(peer.round_sent));
        match reply.result {
            AppendResult::Matched(index) if index <= last_index => {
                peer.matched = peer.matched.max(index);
            }
            AppendResult::Matched(_) | AppendResult::Rejected { .. } => {}
        }
        for read in self.life.reads.values_mut() {
            let echoed = self.current.peers.values().filter(|p| p.round_echoed > read.asked_after);
            read.confirmed |= 1 + echoed.count() >= majority(&self.config);
        }
    }

    /// Whether the server may be what it has become by an input.
    pub(crate) fn check_change(&mut self, before: &Status, after: &Status) {
        assert!(after.current_term >= before.current_term, "a term taken back");
        assert!(after.commit_index >= before.commit_index, "a commit taken back");
        self.enter(after.current_term);
        if after.commit_index > before.commit_index {
            self.check_commit(after);
        }
        if before.role == Role::Leader && after.role != Role::Leader {
            self.current.peers.clear();
        }
        let Config { inflight_writes_max, reads_waiting_max, .. } = self.config;
        assert!(after.writes_in_flight <= inflight_writes_max);
        assert!(after.reads_waiting <= reads_waiting_max);
    }

    /// A leader commits what a majority has, itself only with what its disk has; a follower what it was told.
    fn check_commit(&self, status: &Status) {
        let commit_index = status.commit_index;
        if status.role != Role::Leader {
            assert!(commit_index <= self.current.told_commit, "committed what no leader said");
            return;
        }
        let own = term_at(&self.disk, commit_index) == Some(status.current_term);
        let peers = self.current.peers.values().filter(|peer| peer.matched >= commit_index);
        let held = usize::from(own) + peers.count();
        assert!(held >= majority(&self.config), "committed {commit_index}, which {held} hold");
        let term = term_at(&self.written, commit_index);
        assert!(
            term.is_none_or(|term| term == status.current_term),
            "committed by counting an older term"
        );
    }

    /// Whether the server may ask for this.
    pub(crate) fn check_output(&mut self, output: &Output<Vec<u8>>, status: &Status) {
        match output {
            Output::Persist(write) => self.check_write(write),
            Output::Send(message) => self.check_send(message, status),
            Output::Apply(entries) => self.check_apply(entries, status),
            Output::ReadReady { id, index } => {
                let read = self.life.reads.remove(id).expect("a read that was asked for, once");
                assert!(read.confirmed, "a read that no majority has confirmed");
                assert!(*index <= self.life.handed_out, "a read ahead of its entries");
            }
            Output::ReadLost { id } => {
                assert!(self.life.reads.remove(id).is_some(), "a read that was asked for, once");
            }
            Output::RoleChanged { role, term, leader } => {
                let now = (status.role, status.current_term, status.leader);
                assert_eq!((*role, *term, *leader), now);
                if *role == Role::Leader {
                    self.check_leads(*term);
                }
            }
            output => panic!("unknown to the fuzzer: {output:?}"),
        }
    }

    fn check_write(&mut self, write: &Write<Vec<u8>>) {
        assert_eq!(write.id, self.life.last_write.next(), "writes are numbered without gaps");
        self.life.last_write = write.id;
        if let Some(next) = write.hard_state {
            let HardState { current_term, voted_for } = self.written.hard_state;
            assert!(next.current_term >= current_term, "a term taken back");
            let keeps = voted_for.is_none() || next.voted_for == voted_for;
            assert!(keeps || next.current_term > current_term, "a vote taken back");
        }
        if let Some(from) = write.truncate_from {
            assert!(from > self.life.handed_out, "an entry removed that was applied");
        }
        let bytes: usize = write.entries.iter().map(Entry::size).sum();
        assert!(write.entries.len() <= 1 || bytes <= self.config.write_bytes_max);
        self.written.replay(write.clone());
        self.in_flight.push_back(write.clone());
    }

    fn check_send(&mut self, message: &Message<Vec<u8>>, status: &Status) {
        let Message { from, to, term, body } = message;
        assert_eq!((*from, *term), (self.config.id, status.current_term));
        assert!(to != from && self.config.voters.contains(to), "to a stranger");
        assert!(fits(body, status.role), "a {:?} says {body:?}", status.role);
        assert!(*term >= self.promised_term, "a promised term is forgotten");
        if is_promise(body) {
            self.promised_term = *term;
            let durable = self.disk.hard_state.current_term;
            assert!(durable >= *term, "speaks for term {term}, durable is {durable}");
        }
        if is_leaders(body) {
            self.check_leads(*term);
        }
        match body {
            Body::RequestVoteReply(RequestVoteReply { granted: true, .. }) => {
                assert_eq!(self.disk.hard_state.voted_for, Some(*to), "a vote that is not durable");
                let vote = self.votes.entry(*term).or_insert(*to);
                assert_eq!(vote, to, "two votes in term {term}");
            }
            Body::AppendEntriesReply(AppendEntriesReply { result, .. }) => {
                self.check_append_result(*to, *result);
            }
            Body::AppendEntries(append) => self.check_append(*to, append),
            _ => {}
        }
    }

    fn check_leads(&mut self, term: Term) {
        let vote = HardState { current_term: term, voted_for: Some(self.config.id) };
        assert_eq!(self.disk.hard_state, vote, "leads a term that it could forget");
        let vote = self.votes.entry(term).or_insert(self.config.id);
        assert_eq!(*vote, self.config.id, "leads a term in which it voted for another");
    }

    /// An acknowledged entry is durable, no write on its way replaces it, and the leader has said that it has it: either so, or by
    /// naming a later one, for who shares that shares all before (Log Matching).
    fn check_append_result(&self, leader: NodeId, result: AppendResult) {
        let AppendResult::Matched(index) = result else { return };
        if index == Index::ZERO {
            return;
        }
        let durable = term_at(&self.disk, index);
        assert!(durable.is_some(), "acknowledges entry {index}, which is not durable");
        assert_eq!(term_at(&self.written, index), durable, "acknowledges what is replaced");
        let claims = self.current.claims.get(&leader);
        let claimed = claims.is_some_and(|claims| {
            let mut later = claims.range(index.next()..);
            let here = claims.get(&index).zip(durable);
            here.is_some_and(|(terms, term)| terms.contains(&term)) || later.next().is_some()
        });
        assert!(claimed, "acknowledges entry {index}, which is not the leader's");
    }

    fn check_append(&mut self, to: NodeId, append: &AppendEntries<Vec<u8>>) {
        let peer = self.current.peers.entry(to).or_default();
        assert!(append.leader_commit <= peer.matched, "a commit index beyond what the peer has");
        peer.round_sent = peer.round_sent.max(append.round);
        let bytes: usize = append.entries.iter().map(Entry::size).sum();
        assert!(append.entries.len() <= 1 || bytes <= self.config.append_bytes_max);
        let mut last = append.prev_log;
        for entry in &append.entries {
            assert!(entry.index == last.index.next() && entry.term >= last.term);
            last = entry.id();
        }
    }

    fn check_apply(&mut self, entries: &[Entry<Vec<u8>>], status: &Status) {
        assert!(!entries.is_empty());
        for entry in entries {
            assert_eq!(entry.index, self.life.handed_out.next(), "each once, in order");
            assert!(entry.index <= status.commit_index, "applied before it is committed");
            assert_eq!(
                entry_at(&self.disk, entry.index),
                Some(entry),
                "applied before it is durable"
            );
            self.life.handed_out = entry.index;
        }
    }
}

fn majority(config: &Config) -> usize {
    config.voters.len() / 2 + 1
}

fn entry_at(log: &Log, index: Index) -> Option<&Entry<Vec<u8>>> {
    let at = log.entries.binary_search_by_key(&index, |entry| entry.index).ok()?;
    log.entries.get(at)
}

fn term_at(log: &Log, index: Index) -> Option<Term> {
    entry_at(log, index).map(|entry| entry.term)
}
