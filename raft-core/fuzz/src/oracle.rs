//! What an observer knows who sees all that goes into a server and all that comes out: what is on
//! its disk, what it was told, what it has said. From this follows what it may say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use raft_core::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Config, Entry, ForwardOutcome,
    HardState, Index, InstallSnapshot, Instant, LogId, Membership, Message, NodeId, Output,
    ProposalId, Raft, ReadId, ReadSnapshot, RequestVote, RequestVoteReply, Role, SnapshotMeta,
    Status, Suffrage, Term, Write, WriteId, WriteSnapshot,
};
use rand_pcg::Pcg32;

use crate::disk::{
    Log, entry_at, has_run, is_quorum, knows, last, membership_at, snapshot, term_at,
};
use crate::evidence::{Evidence, Followers, Read};
use crate::files::Files;
use crate::peers::{fits, is_leaders, is_promise, is_reply};

/// The observer of one server, over all its lives.
pub(crate) struct Oracle {
    config: Config,
    /// What the disk has answered for, and what it has yet to.
    pub(crate) disk: Log,
    in_flight: VecDeque<Write<Vec<u8>>>,
    /// The disk, once it has answered for everything.
    pub(crate) written: Log,
    pub(crate) files: Files,
    /// Whom the server helped to lead in each term, itself included.
    votes: BTreeMap<Term, NodeId>,
    /// The latest term that anyone may count on the server to remember.
    promised_term: Term,
    /// The requests for a read index of earlier lives.
    requests: BTreeSet<(Term, ReadId)>,
    life: Life,
    current: Evidence,
}

/// What ends with a crash.
#[derive(Default)]
struct Life {
    last_write: WriteId,
    apply_sent: Index,
    reads: BTreeMap<ReadId, Read>,
    requests: BTreeSet<(Term, ReadId)>,
    /// The commands that the server forwards, and its newest request.
    forwards: BTreeSet<ProposalId>,
    forward_request: ProposalId,
    heard_from: BTreeSet<NodeId>,
    /// The pieces of snapshots that a leader sent: which, and from where.
    pieces: BTreeSet<(LogId, u64)>,
    /// Who stands in a term because the leader before asked for it.
    asked_to_stand: BTreeSet<(Term, NodeId)>,
    /// Since the last tick it promised a leader to elect nobody else for so long, or was bound by
    /// that when it began.
    promise_due: Duration,
    /// Until then it votes for nobody who was not asked to stand.
    bound_until: Instant,
    now: Instant,
}

impl Oracle {
    pub(crate) fn new(config: Config, disk: Log) -> Self {
        let mut oracle = Self {
            config,
            written: Log::default(),
            in_flight: VecDeque::new(),
            files: Files::default(),
            votes: BTreeMap::new(),
            promised_term: disk.hard_state.current_term,
            requests: BTreeSet::new(),
            disk,
            life: Life::default(),
            current: Evidence::default(),
        };
        if let Some(snapshot) = &oracle.disk.snapshot {
            oracle.files.hold(snapshot.clone());
        }
        oracle.on_crash(0);
        oracle
    }

    /// The process dies. Of the writes that were on their way, so many are on disk.
    pub(crate) fn on_crash(&mut self, kept: usize) -> Log {
        for write in self.in_flight.drain(..).take(kept) {
            self.disk.replay(write);
        }
        self.in_flight.clear();
        self.written = self.disk.clone();
        self.files.on_crash();
        self.requests.append(&mut self.life.requests);
        self.life = Life {
            apply_sent: snapshot(&self.disk).index,
            promise_due: self.promise_at_start(),
            ..Life::default()
        };
        self.current = Evidence::default();
        self.disk.clone()
    }

    /// For how long a server that starts is bound: by what it stored, or by what a version promised
    /// that stored nothing.
    fn promise_at_start(&self) -> Duration {
        match self.disk.hard_state.promise_micros {
            0 if has_run(&self.disk) => promise(&self.config),
            stored => Duration::from_micros(stored.into()),
        }
    }

    /// The oldest write that the disk has yet to answer for, or the one that comes next.
    pub(crate) fn awaited_write(&self) -> WriteId {
        self.in_flight.front().map_or(self.life.last_write.next(), |write| write.id)
    }

    pub(crate) fn writes_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn apply_sent(&self) -> Index {
        self.life.apply_sent
    }

    pub(crate) fn followers(&self) -> &Followers {
        &self.current.followers
    }

    pub(crate) fn on_forward(&mut self, id: ProposalId) {
        assert!(self.life.forwards.insert(id), "a number of its own");
    }

    pub(crate) fn forward_request(&self) -> ProposalId {
        self.life.forward_request
    }

    /// The newest request for a read index in this life.
    pub(crate) fn read_request(&self) -> ReadId {
        let newest = self.life.requests.iter().map(|(_, id)| *id).max();
        newest.unwrap_or(ReadId::new(1))
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

    pub(crate) fn on_read(&mut self, id: ReadId, status: &Status) {
        let read = self.read(status);
        assert!(self.life.reads.insert(id, read).is_none(), "two reads of one name");
    }

    fn read(&self, status: &Status) -> Read {
        Read {
            asked_after: self.current.followers.round_sent(),
            commit: status.commit_index,
            request: None,
            confirmed: false,
        }
    }

    /// The server was told the time.
    pub(crate) fn on_tick(&mut self, now: Instant, status: &Status) {
        self.life.now = now;
        if self.config.lease.is_none() {
            return;
        }
        let due = core::mem::take(&mut self.life.promise_due);
        if !due.is_zero() {
            self.life.bound_until = self.life.bound_until.max(now + due);
        }
        if self.current.followers.hold_lease(self.config.id, &status.membership, now) {
            let remote = self.current.remote_reads.values_mut();
            let reads = self.life.reads.values_mut().filter(|read| read.request.is_none());
            reads.chain(remote).for_each(|read| read.confirmed = true);
        }
    }

    /// The server has taken a message.
    pub(crate) fn on_message(
        &mut self,
        message: &Message<Vec<u8>>,
        before: &Status,
        after: &Status,
    ) {
        let Message { from, to, term, body } = message;
        let (from, own) = (*from, self.config.id);
        if *to != own || from == own {
            return;
        }
        self.life.heard_from.insert(from);
        if let Body::RequestVote(RequestVote { transfer: true, .. }) = body {
            self.life.asked_to_stand.insert((*term, from));
        }
        if *term != after.current_term {
            return;
        }
        self.enter(after.current_term);
        let follows = after.role == Role::Follower && after.leader == Some(from);
        // A leader that asks to be succeeded asks for no stickiness; nor does anything that is
        // dropped.
        let leads = matches!(body, Body::AppendEntries(_) | Body::InstallSnapshot(_));
        let drops = |status: &Status| (status.counters.malformed, status.counters.stale_replies);
        if follows && leads && drops(before) == drops(after) {
            self.life.promise_due = self.life.promise_due.max(promise(&self.config));
        }
        match body {
            Body::AppendEntries(append) => self.current.on_append(from, append),
            Body::InstallSnapshot(install) => {
                self.current.on_install(from, install.snapshot.last);
                self.life.pieces.insert((install.snapshot.last, install.offset));
            }
            Body::AppendEntriesReply(reply) if before.role == Role::Leader => {
                let lease = |micros| lease(&self.config, micros);
                self.current.followers.on_reply(from, reply, before.last_log.index, lease);
                self.confirm_reads(&before.membership);
                self.confirm_reads(&after.membership);
            }
            Body::RequestVoteReply(RequestVoteReply { granted: true, last_log })
                if before.role == Role::Candidate && *last_log == before.last_log =>
            {
                self.current.grants.insert(from);
            }
            Body::ReadIndex(request) if after.role == Role::Leader => {
                let read = self.read(before);
                self.current.remote_reads.entry((from, request.id)).or_insert(read);
            }
            Body::ReadIndexReply(reply) if follows => {
                let mut reads = self.life.reads.values_mut();
                reads.by_ref().filter(|read| read.request == Some(reply.id)).for_each(|read| {
                    (read.confirmed, read.commit) = (true, reply.index);
                });
            }
            _ => {}
        }
    }

    /// What was said in another term counts for nothing.
    fn enter(&mut self, term: Term) {
        if self.current.term != term {
            self.current = Evidence::new(term);
        }
    }

    fn confirm_reads(&mut self, membership: &Membership) {
        let Evidence { followers, remote_reads, .. } = &mut self.current;
        let here = self.life.reads.values_mut().filter(|read| read.request.is_none());
        for read in here.chain(remote_reads.values_mut()) {
            read.confirmed |= followers.have_echoed(self.config.id, read.asked_after, membership);
        }
    }

    /// Whether the server may be what it has become by an input.
    pub(crate) fn check_change(&mut self, before: &Status, after: &Status) {
        assert!(after.current_term >= before.current_term, "a term taken back");
        assert!(after.commit_index >= before.commit_index, "a commit taken back");
        assert!(after.last_applied >= before.last_applied, "applied backwards");
        let entered = after.current_term > before.current_term;
        if entered || after.role != before.role {
            self.check_role(before, after);
        }
        self.check_vote(before, after);
        self.enter(after.current_term);
        if after.commit_index > before.commit_index {
            self.check_commit(before, after);
        }
        if after.snapshot != before.snapshot {
            assert!(after.snapshot.index > before.snapshot.index, "an older snapshot");
            assert!(self.files.held(after.snapshot).is_some(), "a snapshot that is not whole");
        }
        if before.role == Role::Leader && after.role != Role::Leader {
            self.current.followers = Followers::default();
        }
        let Config { inflight_writes_max, reads_waiting_max, forwards_waiting_max, .. } =
            self.config;
        assert!(after.writes_in_flight <= inflight_writes_max);
        assert!(after.reads_waiting <= reads_waiting_max);
        assert!(after.forwards_waiting <= forwards_waiting_max);
    }

    /// Only voters stand, and only those lead for whom a quorum voted, each durably. Who leaves
    /// votes and stands until its removal is committed (thesis 4.2.2).
    fn check_role(&self, before: &Status, after: &Status) {
        let own = self.config.id;
        if matches!(after.role, Role::PreCandidate | Role::Candidate) {
            let votes =
                |in_force: &Membership| in_force.suffrage(own).is_some_and(Suffrage::is_voter);
            // What is not written yet may hold configurations that the oracle has not seen.
            let is_written = last(&self.written) == after.last_log;
            let leaves = || {
                let before = after.commit_index.get()..after.last_log.index.get();
                let mut in_force = before
                    .map(|index| membership_at(&self.written, &self.config, Index::new(index)));
                in_force.any(|membership| votes(&membership))
            };
            let may_stand = votes(&after.membership) || leaves() || !is_written;
            assert!(may_stand, "stands without a vote");
        }
        if after.role == Role::Leader {
            let own_vote = HardState {
                current_term: after.current_term,
                voted_for: Some(own),
                ..self.disk.hard_state
            };
            assert_eq!(self.disk.hard_state, own_vote, "leads a term that it could forget");
            let voted = |id| id == own || self.current.grants.contains(&id);
            assert!(is_quorum(&before.membership, voted), "leads without a quorum");
        }
    }

    /// While a leader may hold a lease, a voter votes for nobody whom that leader has not asked to
    /// stand: not for itself either, unless it decides alone.
    fn check_vote(&self, before: &Status, after: &Status) {
        let Some(candidate) = after.voted_for else { return };
        let is_new =
            (before.current_term, before.voted_for) != (after.current_term, after.voted_for);
        let alone = is_quorum(&before.membership, |id| id == self.config.id);
        if is_new && !alone && self.config.lease.is_some() {
            let asked = self.life.asked_to_stand.contains(&(after.current_term, candidate));
            assert!(asked || self.life.now >= self.life.bound_until, "breaks a promise");
        }
    }

    /// A leader asks this server to stand.
    pub(crate) fn on_asked_to_stand(&mut self, message: &Message<Vec<u8>>, before: &Status) {
        let is_leader = before.leader == Some(message.from) && message.term == before.current_term;
        if matches!(message.body, Body::TimeoutNow(_)) && is_leader {
            self.life.asked_to_stand.insert((message.term.next(), self.config.id));
        }
    }

    /// A leader commits what a quorum has, itself only with what its disk has; a follower what it
    /// was told, be it in the message that ended its own lead.
    fn check_commit(&self, before: &Status, after: &Status) {
        let commit_index = after.commit_index;
        let is_told = commit_index <= self.current.told_commit;
        if after.role != Role::Leader && (is_told || before.role != Role::Leader) {
            assert!(is_told, "committed what no leader said");
            return;
        }
        let own = term_at(&self.disk, commit_index) == Some(after.current_term);
        let holds = |id| match id == self.config.id {
            true => own,
            false => self.current.followers.matched(id) >= commit_index,
        };
        assert!(is_quorum(&before.membership, holds), "committed {commit_index} without a quorum");
        let term = term_at(&self.written, commit_index);
        assert!(
            term.is_none_or(|term| term == after.current_term),
            "committed by counting an older term"
        );
    }

    /// Nothing is left to be said: what was written is the server's log, so the configuration in
    /// force is its newest.
    pub(crate) fn check_quiet(&self, status: &Status) {
        if status.writes_in_flight < self.config.inflight_writes_max {
            let last = last(&self.written);
            assert_eq!(last, status.last_log, "what was written is not the log");
            let in_force = membership_at(&self.written, &self.config, last.index);
            assert_eq!(status.membership, in_force, "not the newest configuration in the log");
        }
    }

    /// Whether the server may ask for this.
    pub(crate) fn check_output(&mut self, output: &Output<Vec<u8>>, raft: &Raft<Vec<u8>, Pcg32>) {
        let status = &raft.status();
        match output {
            Output::Persist(write) => self.check_write(write),
            Output::Send(message) => self.check_send(message, status),
            Output::Apply { from, through } => {
                self.check_apply(raft.entries(*from, *through), status);
                assert_eq!(self.life.apply_sent, *through, "not all that is to be applied");
            }
            Output::ReadReady { id, index } => self.check_read(*id, *index, status),
            Output::ReadLost { id } => {
                assert!(self.life.reads.remove(id).is_some(), "a read that was asked for, once");
            }
            Output::Forwarded { id, outcome } => {
                assert!(self.life.forwards.remove(id), "forwarded, and answered once");
                if let ForwardOutcome::Appended(entry) = outcome {
                    assert!(entry.index > self.life.apply_sent, "nobody would answer for it");
                }
            }
            Output::RoleChanged { role, term, leader } => {
                let now = (status.role, status.current_term, status.leader);
                assert_eq!((*role, *term, *leader), now);
                if *role == Role::Leader {
                    self.check_leads(*term);
                }
            }
            Output::MembershipChanged(membership) => assert_eq!(*membership, status.membership),
            Output::TakeSnapshot(snapshot) => self.check_take(snapshot),
            Output::ReadSnapshot(read) => self.check_snapshot_read(read, status),
            Output::WriteSnapshot(write) => self.check_snapshot_write(write),
            Output::Restore(snapshot) => {
                assert_eq!(Some(snapshot), self.disk.snapshot.as_ref(), "not durably installed");
                assert!(snapshot.last.index > self.life.apply_sent, "restored backwards");
                self.life.apply_sent = snapshot.last.index;
            }
            output => panic!("unknown to the fuzzer: {output:?}"),
        }
    }

    fn check_write(&mut self, write: &Write<Vec<u8>>) {
        assert_eq!(write.id, self.life.last_write.next(), "writes are numbered without gaps");
        self.life.last_write = write.id;
        if let Some(next) = write.hard_state {
            let HardState { current_term, voted_for, .. } = self.written.hard_state;
            assert!(next.current_term >= current_term, "a term taken back");
            let keeps = voted_for.is_none() || next.voted_for == voted_for;
            assert!(keeps || next.current_term > current_term, "a vote taken back");
        }
        if let Some(from) = write.truncate_from {
            assert!(from > self.life.apply_sent, "an entry removed that was applied");
        }
        if let Some(snapshot) = &write.snapshot {
            self.check_installed(snapshot);
        }
        let bytes: usize = write.entries.iter().map(Entry::size).sum();
        assert!(write.entries.len() <= 1 || bytes <= self.config.write_bytes_max);
        self.written.replay(write.clone());
        let (base, snapshot) = (self.written.base, snapshot(&self.written));
        assert!(base.index <= snapshot.index, "compacted without a snapshot");
        let mut end = base;
        for entry in &self.written.entries {
            assert!(entry.index == end.index.next() && entry.term >= end.term, "a gap on disk");
            end = entry.id();
        }
        assert!(snapshot.index <= end.index, "a snapshot beyond the log");
        self.in_flight.push_back(write.clone());
    }

    /// A snapshot in use is held whole, replaces an earlier one, and takes nothing away that was
    /// applied.
    fn check_installed(&self, new: &SnapshotMeta) {
        if new.last == LogId::ZERO {
            let voters = Membership::of_voters(self.config.voters.iter().copied());
            assert_eq!(new.membership, voters, "not how the cluster begins");
            return;
        }
        assert!(self.files.holds(new), "a snapshot that is not whole");
        assert!(new.last.index > snapshot(&self.written).index, "an older snapshot");
        if term_at(&self.written, new.last.index) != Some(new.last.term) {
            assert!(new.last.index > self.life.apply_sent, "replaces what was applied");
        }
    }

    fn check_send(&mut self, message: &Message<Vec<u8>>, status: &Status) {
        let Message { from, to, term, body } = message;
        assert_eq!((*from, *term), (self.config.id, status.current_term));
        let is_member = status.membership.member(*to).is_some() || knows(&self.written, *to);
        let asked = is_reply(body) && self.life.heard_from.contains(to);
        assert!(to != from && (is_member || asked), "to a stranger");
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
            Body::AppendEntriesReply(AppendEntriesReply { result, promise_micros, .. }) => {
                let stored = self.disk.hard_state.promise_micros;
                assert!(*promise_micros <= stored, "a promise that a crash would forget");
                self.check_append_result(*to, *result);
            }
            Body::AppendEntries(append) => self.check_append(*to, append),
            Body::InstallSnapshot(install) => self.check_install(*to, install, status),
            Body::TimeoutNow(_) => self.current.followers.handed_over = true,
            Body::ReadIndex(request) => {
                let name = (*term, request.id);
                assert!(!self.requests.contains(&name), "a request of an earlier life");
                self.life.requests.insert(name);
                let waiting = self.life.reads.values_mut().filter(|read| !read.confirmed);
                waiting.for_each(|read| read.request = read.request.or(Some(request.id)));
            }
            Body::Propose(request) => {
                self.life.forward_request = request.id;
                let waits = (request.id.get()..).take(request.commands.len());
                let waits = waits.map(ProposalId::new).all(|id| self.life.forwards.contains(&id));
                assert!(waits, "a command that nobody forwards");
            }
            Body::ReadIndexReply(reply) => {
                self.confirm_reads(&status.membership);
                let read = self.current.remote_reads.get(&(*to, reply.id));
                let read = read.expect("a read that was asked for in this term");
                assert!(read.confirmed, "a read index that no majority has confirmed");
                assert!(reply.index >= read.commit, "a read before what was committed");
            }
            _ => {}
        }
    }

    fn check_leads(&mut self, term: Term) {
        let vote = HardState {
            current_term: term,
            voted_for: Some(self.config.id),
            ..self.disk.hard_state
        };
        assert_eq!(self.disk.hard_state, vote, "leads a term that it could forget");
        let vote = self.votes.entry(term).or_insert(self.config.id);
        assert_eq!(*vote, self.config.id, "leads a term in which it voted for another");
    }

    /// An acknowledged entry is durable, no write on its way replaces it, and the leader has said
    /// that it has it. What a snapshot includes is committed, and so every leader's, also before
    /// the log is compacted up to there.
    fn check_append_result(&self, leader: NodeId, result: AppendResult) {
        let AppendResult::Matched(index) = result else { return };
        if index == Index::ZERO || index < self.disk.base.index {
            return;
        }
        let durable = term_at(&self.disk, index);
        assert!(durable.is_some(), "acknowledges entry {index}, which is not durable");
        if index >= self.written.base.index {
            assert_eq!(term_at(&self.written, index), durable, "acknowledges what is replaced");
        }
        let in_snapshot = index <= snapshot(&self.disk).index.max(snapshot(&self.written).index);
        let claimed = self.current.has_claimed(leader, index, durable);
        assert!(claimed || in_snapshot, "acknowledges entry {index}, which is not the leader's");
    }

    fn check_append(&mut self, to: NodeId, append: &AppendEntries<Vec<u8>>) {
        let (followers, now) = (&mut self.current.followers, self.life.now);
        followers.on_sent(to, append.session, Some(append.round), now);
        let matched = followers.matched(to);
        assert!(append.leader_commit <= matched, "a commit index beyond what the peer has");
        let bytes: usize = append.entries.iter().map(Entry::size).sum();
        assert!(append.entries.len() <= 1 || bytes <= self.config.append_bytes_max);
        let mut last = append.prev_log;
        for entry in &append.entries {
            assert!(entry.index == last.index.next() && entry.term >= last.term);
            last = entry.id();
        }
    }

    fn check_install(&mut self, to: NodeId, install: &InstallSnapshot<Vec<u8>>, status: &Status) {
        if status.role == Role::Leader {
            self.current.followers.on_sent(to, install.session, None, self.life.now);
        }
        assert!(install.snapshot.last.index <= status.commit_index, "sends what is not committed");
        assert!(install.chunk.len() <= self.config.snapshot_chunk_bytes);
    }

    fn check_apply<'e>(
        &mut self,
        entries: impl Iterator<Item = &'e Entry<Vec<u8>>>,
        status: &Status,
    ) {
        for entry in entries {
            assert_eq!(entry.index, self.life.apply_sent.next(), "each once, in order");
            assert!(entry.index <= status.commit_index, "applied before it is committed");
            let durable = entry_at(&self.disk, entry.index);
            assert_eq!(durable, Some(entry), "applied before it is durable");
            self.life.apply_sent = entry.index;
        }
    }

    fn check_read(&mut self, id: ReadId, index: Index, status: &Status) {
        self.confirm_reads(&status.membership);
        let read = self.life.reads.remove(&id).expect("a read that was asked for, once");
        assert!(read.confirmed, "a read that no majority has confirmed");
        assert!(index >= read.commit, "a read before what was committed");
        assert!(index <= self.life.apply_sent, "a read ahead of its entries");
    }

    /// A snapshot is taken of what was handed out, with the members at that entry.
    fn check_take(&mut self, new: &SnapshotMeta) {
        let index = self.life.apply_sent;
        let last = LogId::new(term_at(&self.disk, index).expect("applied is durable"), index);
        assert_eq!(new.last, last, "not what was applied");
        assert!(index > snapshot(&self.written).index, "an older snapshot");
        assert_eq!(new.membership, membership_at(&self.written, &self.config, index));
        assert!(self.files.taking.replace(new.clone()).is_none(), "one at a time");
    }

    fn check_snapshot_read(&mut self, read: &ReadSnapshot, status: &Status) {
        assert_eq!(status.role, Role::Leader, "only a leader sends snapshots");
        assert!(read.snapshot.index <= snapshot(&self.written).index.max(status.snapshot.index));
        assert_eq!(read.bytes_max, self.config.snapshot_chunk_bytes);
        self.files.on_read(*read);
    }

    fn check_snapshot_write(&mut self, write: &WriteSnapshot<Vec<u8>>) {
        assert!(
            self.life.pieces.contains(&(write.snapshot.last, write.offset)),
            "a piece nobody sent"
        );
        self.files.writes.push_back(write.clone());
    }
}

/// For how long a follower is bound to its leader: the smallest timeout, less the slot of the line
/// of successors.
fn promise(config: &Config) -> Duration {
    let timeout = config.election_timeout_min;
    let slot = config.rank_slot.unwrap_or_default().min(timeout / 4);
    if config.lease.is_some() { timeout - slot } else { Duration::ZERO }
}

/// What a leader makes of a promise.
fn lease(config: &Config, promise_micros: u32) -> Duration {
    let drift = config.lease.map_or(0, |lease| lease.drift_ppm_max);
    let promised = Duration::from_micros(promise_micros.into()).min(promise(config));
    promised.mul_f64(1.0 - f64::from(drift) / 1e6)
}
