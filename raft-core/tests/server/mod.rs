//! One server under the hand of a test, which plays its peers, its disk, its state machine and its
//! clock.
//!
//! The server is number 1. After every message and every moment it takes a whole turn of the host's
//! loop. Its disk answers at once, unless the test holds it.
// Each test crate that includes this file uses its own part.
#![allow(dead_code, unreachable_pub)]

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use raft_core::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Config, Entries, Entry, HardState,
    Index, Instant, LogId, Membership, Message, NodeId, Output, Payload, Raft, ReadId,
    RequestPreVote, RequestPreVoteReply, RequestVote, RequestVoteReply, Restored, Role, Round,
    Session, SnapshotMeta, Term, Wake, Write, WriteId,
};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;

pub type Command = Vec<u8>;

/// More turns than any test needs.
const TURNS_MAX: usize = 100;

pub fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

pub fn term(number: u64) -> Term {
    Term::new(number)
}

pub fn index(number: u64) -> Index {
    Index::new(number)
}

/// The position of an entry.
pub fn at(term: u64, index: u64) -> LogId {
    LogId::new(Term::new(term), Index::new(index))
}

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A command whose bytes name its term and index.
pub fn entry(term: u64, index: u64) -> Entry<Command> {
    let payload = Payload::Command(format!("{term}.{index}").into_bytes());
    Entry { term: Term::new(term), index: Index::new(index), payload }
}

/// The entry of this term at this index.
pub fn entry_of(of_term: u64, at: u64, payload: Payload<Command>) -> Entry<Command> {
    Entry { term: term(of_term), index: index(at), payload }
}

/// Entries of these terms, from the one after `prev` on.
pub fn entries_after(prev: u64, terms: &[u64]) -> Vec<Entry<Command>> {
    terms.iter().zip(prev + 1..).map(|(term, index)| entry(*term, index)).collect()
}

/// AppendEntries in all its parts, for tests that need to choose them.
pub fn append(prev: LogId, entries: Vec<Entry<Command>>, commit: u64) -> AppendEntries<Command> {
    AppendEntries {
        session: Session::new(1),
        round: Round::new(1),
        prev_log: prev,
        entries: entries.into(),
        leader_commit: Index::new(commit),
        rank: None,
        election_timeout_micros: None,
        takes_proposals: true,
    }
}

/// What a voter of a new cluster has on its disk from its first write on, beside the rest.
pub fn with_beginning(mut stored: Restored<Command>, config: &Config) -> Restored<Command> {
    if stored != Restored::default() && stored.snapshot.is_none() {
        let membership = Membership::of_voters(config.voters.iter().copied());
        stored.snapshot = Some(SnapshotMeta { last: LogId::ZERO, membership });
    }
    stored
}

pub struct TestServer {
    pub raft: Raft<Command, Pcg32>,
    pub now: Instant,
    /// While true, no write is answered for.
    pub disk_held: bool,
    /// Writes that the server was not yet told of.
    pub writes: Vec<Write<Command>>,
    /// What a restart would find.
    pub stored: Restored<Command>,
    /// What it sent and nobody took yet.
    pub sent: Vec<Message<Command>>,
    pub applied: Vec<Entry<Command>>,
    pub reads_ready: Vec<(ReadId, Index)>,
    pub reads_lost: Vec<ReadId>,
    pub roles: Vec<Role>,
    /// What concerns snapshots and members.
    pub others: Vec<Output<Command>>,
    /// What the peers promise when they answer: as long as the server would believe.
    pub peers_promise_micros: u32,
    /// The newest round that a peer which leads has used.
    round: u64,
    lives: u64,
}

impl Deref for TestServer {
    type Target = Raft<Command, Pcg32>;

    fn deref(&self) -> &Self::Target {
        &self.raft
    }
}

impl DerefMut for TestServer {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.raft
    }
}

impl TestServer {
    /// Server 1 of a cluster of `size`, which has never run.
    pub fn new(size: u64) -> Self {
        Self::with(size, |_| {})
    }

    pub fn with(size: u64, configure: impl FnOnce(&mut Config)) -> Self {
        Self::restored(size, Restored::default(), configure)
    }

    /// Server 1 of `size`, in this term, with entries of these terms on its disk.
    pub fn holding(size: u64, current_term: u64, log: &[u64]) -> Self {
        let hard_state =
            HardState { current_term: term(current_term), voted_for: None, ..Default::default() };
        Self::restored(
            size,
            Restored { hard_state, entries: entries_after(0, log), ..Restored::default() },
            |_| {},
        )
    }

    pub fn restored(
        size: u64,
        stored: Restored<Command>,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        // Random timeouts, as in the paper.
        let mut config = Config { rank_slot: None, ..Config::new(id(1), (1..=size).map(id)) };
        configure(&mut config);
        let stored = with_beginning(stored, &config);
        let raft = Raft::new(config, stored.clone(), Pcg32::seed_from_u64(1)).expect("sound");
        let mut server = Self {
            raft,
            now: Instant::ZERO,
            disk_held: false,
            writes: Vec::new(),
            stored,
            sent: Vec::new(),
            applied: Vec::new(),
            reads_ready: Vec::new(),
            reads_lost: Vec::new(),
            roles: Vec::new(),
            others: Vec::new(),
            peers_promise_micros: u32::MAX,
            round: 0,
            lives: 1,
        };
        server.turn();
        server
    }

    /// A candidate of the term after `current_term`, which nobody has answered.
    pub fn candidate(size: u64, current_term: u64, log: &[u64]) -> Self {
        let mut server = Self::holding(size, current_term, log);
        server.stand();
        server
    }

    /// A leader of the term after `current_term`, whose first messages are still in `sent`.
    pub fn leader(size: u64, current_term: u64, log: &[u64]) -> Self {
        let mut server = Self::holding(size, current_term, log);
        server.lead();
        server
    }

    // Time.

    /// Turns of the host's loop, until it would sleep: a disk that answers meanwhile may have left
    /// work for another tick.
    pub fn turn(&mut self) {
        for _ in 0..TURNS_MAX {
            self.raft.tick(self.now);
            self.poll();
            if self.raft.next_deadline().is_none_or(|deadline| deadline > self.now) {
                return;
            }
        }
        panic!("the server never sleeps: {:?}", self.raft.status());
    }

    /// Sleeps and wakes, each time after the peers have said `each_time`, until the server leads no
    /// more.
    pub fn run_until_it_steps_down(&mut self, each_time: impl Fn(&mut Self)) {
        for _ in 0..TURNS_MAX {
            each_time(self);
            self.now = self.raft.next_deadline().expect("a leader wakes by itself");
            self.turn();
            if self.raft.role() != Role::Leader {
                return;
            }
        }
        panic!("it leads for ever: {:?}", self.raft.status());
    }

    pub fn poll(&mut self) {
        while let Some(output) = self.raft.poll_outbox() {
            self.carry_out(output);
        }
    }

    #[allow(clippy::wildcard_enum_match_arm)]
    fn carry_out(&mut self, output: Output<Command>) {
        match output {
            Output::Persist(write) => {
                self.writes.push(write);
                if !self.disk_held {
                    self.sync();
                }
            }
            Output::Send(message) => self.sent.push(message),
            Output::Apply { from, through } => {
                self.applied.extend(self.raft.entries(from, through).cloned());
                self.raft.applied(through);
            }
            Output::ReadReady { id, index } => self.reads_ready.push((id, index)),
            Output::ReadLost { id } => self.reads_lost.push(id),
            Output::RoleChanged { role, .. } => self.roles.push(role),
            output => self.others.push(output),
        }
    }

    pub fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.turn();
    }

    /// Sleeps until this wakes the server, and not for anything else but to ask silent voters
    /// again.
    pub fn sleep_until(&mut self, expected: Wake) {
        let (deadline, wake) = self.raft.status().wake.expect("it will wake");
        if wake == Wake::AskAgain && expected != Wake::AskAgain {
            self.now = deadline;
            self.turn();
            return self.sleep_until(expected);
        }
        assert_eq!(wake, expected);
        self.now = deadline;
        self.turn();
    }

    // The disk.

    /// The disk answers nothing from now on.
    pub fn hold_disk(&mut self) {
        self.disk_held = true;
    }

    /// All writes reach the disk, and the server is told of the last.
    pub fn sync(&mut self) {
        if let Some(last) = self.writes.last().map(|write| write.id) {
            self.persist(last);
        }
    }

    /// The writes up to this one reach the disk, and the server is told; then it does what it can.
    pub fn persist(&mut self, through: WriteId) {
        while self.writes.first().is_some_and(|write| write.id <= through) {
            self.stored.replay(self.writes.remove(0));
        }
        self.raft.persisted(through);
        self.poll();
    }

    /// The writes up to this one are reported, no more and no less; then the server does what it
    /// can.
    pub fn persist_next(&mut self) {
        let next = self.writes.first().expect("a write waits").id;
        self.persist(next);
    }

    /// Loses all that was not reported, and starts again.
    pub fn crash(&mut self) {
        self.lives += 1;
        let rng = Pcg32::seed_from_u64(self.lives);
        let config = self.raft.config().clone();
        self.raft = Raft::new(config, self.stored.clone(), rng).expect("sound");
        self.writes.clear();
        self.sent.clear();
        self.applied.clear();
        self.disk_held = false;
        self.turn();
    }

    /// The same, with another configuration.
    pub fn crash_into(&mut self, configure: impl FnOnce(&mut Config)) {
        self.crash();
        let mut config = self.raft.config().clone();
        configure(&mut config);
        let rng = Pcg32::seed_from_u64(self.lives);
        self.raft = Raft::new(config, self.stored.clone(), rng).expect("sound");
        self.turn();
    }

    /// A server in its place that has never run, and has not been told the time.
    pub fn forget(&mut self) {
        let rng = Pcg32::seed_from_u64(1);
        let config = self.raft.config().clone();
        self.stored = Restored::default();
        self.raft = Raft::new(config, self.stored.clone(), rng).expect("sound");
        self.writes.clear();
        self.sent.clear();
        self.applied.clear();
    }

    // Messages.

    /// Takes a message into the core, and does nothing else yet.
    pub fn step_from(&mut self, from: u64, sender_term: u64, body: Body<Command>) {
        let message = Message { from: id(from), to: id(1), term: term(sender_term), body };
        self.raft.step(message);
    }

    pub fn hear(&mut self, from: u64, sender_term: u64, body: Body<Command>) {
        self.step_from(from, sender_term, body);
        self.turn();
    }

    /// What it sent since the last time that somebody looked.
    pub fn take_sent(&mut self) -> Vec<Message<Command>> {
        std::mem::take(&mut self.sent)
    }

    /// The newest message of a kind that it sent since somebody looked, with its term.
    fn newest<T>(&mut self, kind: impl Fn(Body<Command>) -> Option<T>) -> Option<(Term, T)> {
        let mut sent = self.take_sent().into_iter().rev();
        sent.find_map(|message| kind(message.body).map(|found| (message.term, found)))
    }

    /// The appends that it sent to a peer since somebody looked.
    pub fn appends_to(&mut self, peer: u64) -> Vec<AppendEntries<Command>> {
        let sent = self.take_sent().into_iter().filter(|message| message.to == id(peer));
        let append =
            |body| if let Body::AppendEntries(append) = body { Some(append) } else { None };
        sent.filter_map(|message| append(message.body)).collect()
    }

    /// The term and the vote of the answer to a vote request; none if there was no answer.
    pub fn vote_reply(&mut self) -> Option<(Term, bool)> {
        self.newest(|body| {
            if let Body::RequestVoteReply(reply) = body { Some(reply.granted) } else { None }
        })
    }

    pub fn pre_vote_reply(&mut self) -> Option<(Term, bool)> {
        self.newest(|body| {
            if let Body::RequestPreVoteReply(reply) = body { Some(reply.granted) } else { None }
        })
    }

    pub fn append_reply(&mut self) -> Option<(Term, AppendEntriesReply)> {
        self.newest(
            |body| {
                if let Body::AppendEntriesReply(reply) = body { Some(reply) } else { None }
            },
        )
    }

    // Peers that stand for election.

    /// A peer asks for the vote. Whether it was granted, or none if the server does not answer.
    pub fn asked_to_vote(&mut self, from: u64, term: u64, last_log: LogId) -> Option<bool> {
        self.sent.clear();
        self.hear(from, term, Body::RequestVote(RequestVote { last_log, transfer: false }));
        self.vote_reply().map(|(_, granted)| granted)
    }

    /// A peer asks for the vote because its leader told it to.
    pub fn asked_to_take_over(&mut self, from: u64, term: u64, last_log: LogId) -> Option<bool> {
        self.sent.clear();
        self.hear(from, term, Body::RequestVote(RequestVote { last_log, transfer: true }));
        self.vote_reply().map(|(_, granted)| granted)
    }

    /// A peer asks whether it would get the vote in the term after this one.
    pub fn asked_to_pre_vote(&mut self, from: u64, term: u64, last_log: LogId) -> Option<bool> {
        self.sent.clear();
        let request = RequestPreVote { last_log, campaign: 7 };
        self.hear(from, term, Body::RequestPreVote(request));
        self.pre_vote_reply().map(|(_, granted)| granted)
    }

    // A peer that leads.

    /// A leader appends entries of these terms behind `prev`, in a round of its own. The server's
    /// answer, if it gives one.
    pub fn appended(
        &mut self,
        from: u64,
        term: u64,
        prev: LogId,
        terms: &[u64],
        commit: u64,
    ) -> Option<AppendResult> {
        self.sent.clear();
        self.round += 1;
        let mut append = append(prev, entries_after(prev.index.get(), terms), commit);
        append.round = Round::new(self.round);
        self.hear(from, term, Body::AppendEntries(append));
        self.append_reply().map(|(_, reply)| reply.result)
    }

    pub fn heartbeat(&mut self, from: u64, term: u64) -> Option<AppendResult> {
        self.appended(from, term, LogId::ZERO, &[], 0)
    }

    /// The terms of the log's entries, as the disk has them.
    pub fn stored_terms(&self) -> Vec<u64> {
        self.stored.entries.iter().map(|entry| entry.term.get()).collect()
    }

    pub fn applied_ids(&self) -> Vec<LogId> {
        self.applied.iter().map(Entry::id).collect()
    }

    // The server stands for election.

    /// The server hears of no leader for too long.
    pub fn time_out(&mut self) {
        self.sleep_until(Wake::Election);
    }

    /// The server becomes a candidate, with everybody's leave if it asks for that first.
    pub fn stand(&mut self) {
        self.time_out();
        if let Some(campaign) = self.campaign() {
            for peer in 2..=self.raft.config().voters.len() as u64 {
                self.pre_granted(peer, campaign);
            }
        }
        assert_eq!(self.role(), Role::Candidate);
    }

    /// The number of the pre-vote that it last asked for.
    pub fn campaign(&self) -> Option<u64> {
        self.sent.iter().rev().find_map(|message| {
            if let Body::RequestPreVote(request) = &message.body {
                Some(request.campaign)
            } else {
                None
            }
        })
    }

    pub fn pre_granted(&mut self, from: u64, campaign: u64) {
        let reply = RequestPreVoteReply { granted: true, campaign };
        let term = self.term().get();
        self.hear(from, term, Body::RequestPreVoteReply(reply));
    }

    /// A peer grants the server its vote in the current term, for the log that it has.
    pub fn granted(&mut self, from: u64) {
        self.voted(from, true);
    }

    pub fn voted(&mut self, from: u64, granted: bool) {
        let (term, last_log) = (self.term().get(), self.status().last_log);
        let reply = RequestVoteReply { granted, last_log };
        self.hear(from, term, Body::RequestVoteReply(reply));
    }

    /// The server wins an election.
    pub fn lead(&mut self) {
        self.stand();
        for peer in 2..=self.raft.config().voters.len() as u64 {
            self.granted(peer);
        }
        assert_eq!(self.role(), Role::Leader);
    }

    // The server leads.

    pub fn propose_command(&mut self) -> Index {
        let (_, index) = self.raft.propose(b"command".to_vec()).expect("it leads");
        self.poll();
        index
    }

    /// The newest round that was sent to the first follower since somebody looked.
    pub fn newest_round(&self) -> Round {
        let round = |body: &_| {
            if let Body::AppendEntries(append) = body { Some(append.round) } else { None }
        };
        let rounds = self.sent.iter().filter(|message| message.to == id(2));
        rounds.filter_map(|message| round(&message.body)).max().unwrap_or_default()
    }

    /// A follower answers the newest round that it could have seen.
    pub fn answered(&mut self, from: u64, round: Round, result: AppendResult) {
        let promise_micros = self.peers_promise_micros;
        let reply = AppendEntriesReply {
            session: Session::new(1),
            round,
            result,
            promise_micros,
            state: None,
        };
        let term = self.term().get();
        self.hear(from, term, Body::AppendEntriesReply(reply));
    }

    /// A follower holds the leader's log up to here, and echoes no round.
    pub fn matched(&mut self, from: u64, matched: u64) {
        self.answered(from, Round::new(0), AppendResult::Matched(index(matched)));
    }

    /// The same, in a replication session that is not the first.
    pub fn matched_in(&mut self, from: u64, session: u64, matched: u64) {
        let (session, round) = (Session::new(session), Round::new(0));
        let result = AppendResult::Matched(index(matched));
        let reply = AppendEntriesReply { session, round, result, promise_micros: 0, state: None };
        let term = self.term().get();
        self.hear(from, term, Body::AppendEntriesReply(reply));
    }

    pub fn rejected(&mut self, from: u64, prev_log_index: u64, hint: LogId) {
        let prev_log_index = index(prev_log_index);
        self.answered(from, Round::new(0), AppendResult::Rejected { prev_log_index, hint });
    }

    pub fn commit_index(&self) -> u64 {
        self.status().commit_index.get()
    }
}

/// The entries of an append, by term and index.
pub fn ids(entries: &Entries<Command>) -> Vec<LogId> {
    entries.iter().map(Entry::id).collect()
}
