//! Any sequence of inputs: nothing that peers say, in whatever order, with whatever numbers, can
//! panic a server, grow its memory without bound, take back a term or a commit, or break the laws
//! of time. One seed, one run.
//!
//! The invariants that the core checks of itself in debug builds are checked along the way.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::server::{id, index, ms, term};
use raft_core::{
    Adaptive, AppendEntries, AppendEntriesReply, AppendResult, Body, Config, Entry, ForwardOutcome,
    Index, LogId, Message, Output, Payload, ProposalId, Propose, ProposeRefusal, ProposeReply,
    Raft, RequestPreVote, RequestPreVoteReply, RequestVote, RequestVoteReply, Restored, Role,
    Round, Session, WriteId,
};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

const INPUTS: usize = 2_000;
const LOG_BYTES_MAX: usize = 4_000;

struct Any {
    raft: Raft<Vec<u8>, Pcg32>,
    rng: Pcg32,
    now: raft_core::Instant,
    /// How many inputs in a hundred carry senseless numbers.
    nonsense: u64,
    writes: Vec<WriteId>,
    handed_out: Index,
    restored: Restored<Vec<u8>>,
    campaign: u64,
    /// The request that the server sent last, and how many commands wait to be answered.
    forwarded: ProposalId,
    forwards: usize,
    /// Whether peers send appends at all, or leave the lead to the server.
    peers_lead: bool,
    led: u64,
    truncated: u64,
}

impl Any {
    fn new(seed: u64) -> Self {
        let mut config = Config::new(id(1), [1, 2, 3].map(id));
        config.pre_vote = seed & 1 == 0;
        config.check_quorum = seed & 2 == 0;
        let floor = Duration::from_millis(5);
        let adaptive = Adaptive { election_timeout_floor: floor };
        config.adaptive = (seed & 7 == 0).then_some(adaptive);
        config.log_bytes_max = LOG_BYTES_MAX;
        config.snapshot_log_bytes = LOG_BYTES_MAX / 4;
        config.log_tail_bytes = LOG_BYTES_MAX / 4;
        config.command_bytes_max = LOG_BYTES_MAX / 4;
        config.inflight_appends_max = 3;
        config.inflight_writes_max = 3;
        config.inflight_applies_max = 2;
        config.reads_waiting_max = 5;
        config.forwards_waiting_max = 5;
        let raft =
            Raft::new(config, Restored::default(), Pcg32::seed_from_u64(seed)).expect("sound");
        Self {
            raft,
            rng: Pcg32::seed_from_u64(!seed),
            now: raft_core::Instant::ZERO,
            nonsense: (seed % 4) * 10,
            writes: Vec::new(),
            handed_out: Index::ZERO,
            restored: Restored::default(),
            campaign: 0,
            forwarded: ProposalId::new(0),
            forwards: 0,
            peers_lead: true,
            led: 0,
            truncated: 0,
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end.max(1)
    }

    /// A number near `usual`, or a senseless one.
    fn near(&mut self, usual: u64) -> u64 {
        if self.below(100) < self.nonsense {
            let extremes = [0, 1, u64::MAX, u64::MAX - 1, u64::MAX / 2, 1 << 32];
            return extremes[self.below(extremes.len() as u64) as usize];
        }
        usual.saturating_add(self.below(3)).saturating_sub(1)
    }

    /// A position near the end of the log, or a senseless one.
    fn position(&mut self) -> LogId {
        let status = self.raft.status();
        let back = self.below(4);
        let near = status.last_log.index.get().saturating_sub(back);
        let (at_term, at_index) = (self.near(status.last_log.term.get()), self.near(near));
        LogId::new(term(at_term), index(at_index))
    }

    fn entries(&mut self, prev: LogId) -> Vec<Entry<Vec<u8>>> {
        let mut last = prev;
        let count = self.below(4);
        let mut entries = Vec::new();
        for _ in 0..count {
            let senseless = self.below(1_000) < self.nonsense;
            let at = if senseless { self.near(0) } else { last.index.get().saturating_add(1) };
            let of = last.term.get().saturating_add(self.below(5) / 4);
            let noop = self.below(4) == 0;
            let payload = if noop {
                Payload::Noop
            } else {
                Payload::Command(vec![0; self.below(40) as usize])
            };
            last = LogId::new(term(of), index(at));
            entries.push(Entry { term: last.term, index: last.index, payload });
        }
        entries
    }

    fn body(&mut self) -> Body<Vec<u8>> {
        let last_log = self.position();
        let granted = self.below(2) == 0;
        let session = Session::new(if self.below(8) == 0 { self.near(1) } else { 1 });
        let kinds = if self.peers_lead { 10 } else { 7 };
        match self.below(kinds) {
            0 => Body::RequestPreVote(RequestPreVote { last_log, campaign: self.near(1) }),
            1 => {
                let campaign = if granted { self.campaign } else { self.near(self.campaign) };
                Body::RequestPreVoteReply(RequestPreVoteReply { granted, campaign })
            }
            2 => Body::RequestVote(RequestVote { last_log, transfer: false }),
            3 => {
                let last_log = self.raft.status().last_log;
                Body::RequestVoteReply(RequestVoteReply { granted, last_log })
            }
            4 => {
                let result = match self.below(3) {
                    0 => AppendResult::Rejected {
                        prev_log_index: self.position().index,
                        hint: last_log,
                    },
                    _ => AppendResult::Matched(last_log.index),
                };
                let round = Round::new(self.near(5));
                Body::AppendEntriesReply(AppendEntriesReply {
                    session,
                    round,
                    result,
                    promise_micros: 0,
                    state: None,
                })
            }
            5 => Body::Propose(Propose {
                session,
                round: Round::new(self.near(5)),
                id: ProposalId::new(self.near(9)),
                commands: (0..self.below(4)).map(|bytes| vec![0; 30 * bytes as usize]).collect(),
            }),
            6 => Body::ProposeReply(ProposeReply {
                id: self.forwarded,
                first: last_log.index,
                appended: self.near(1) as u32,
                refusal: self.refusal(),
            }),
            _ => {
                let (round, leader_commit) = (Round::new(self.near(5)), self.position().index);
                let entries = self.entries(last_log).into();
                let prev_log = last_log;
                let timeout = NonZeroU32::new(self.near(5_000) as u32);
                Body::AppendEntries(AppendEntries {
                    session,
                    round,
                    prev_log,
                    entries,
                    leader_commit,
                    rank: None,
                    election_timeout_micros: timeout.filter(|_| self.below(2) == 0),
                    takes_proposals: self.below(2) == 0,
                })
            }
        }
    }

    fn refusal(&mut self) -> Option<ProposeRefusal> {
        match self.below(5) {
            0 => None,
            1 => Some(ProposeRefusal::TooLarge(self.near(40))),
            2 => Some(ProposeRefusal::LogFull(self.near(40))),
            3 => Some(ProposeRefusal::Transferring(id(2))),
            _ => Some(ProposeRefusal::Other(self.near(7))),
        }
    }

    fn sender(&mut self) -> u64 {
        if self.below(30) == 0 { self.near(1) } else { 2 + self.below(2) }
    }

    /// Mostly the current term, or the server would never get to lead.
    fn sender_term(&mut self) -> u64 {
        let current = self.raft.term().get();
        match self.below(400) {
            0 => self.near(current),
            1..10 => current.saturating_add(1),
            10..40 => current.saturating_sub(1),
            _ => current,
        }
    }

    fn input(&mut self) {
        match self.below(20) {
            0..12 => {
                let (from, to) = (self.sender(), if self.below(50) == 0 { 2 } else { 1 });
                let (term, body) = (term(self.sender_term()), self.body());
                let message = Message { from: id(from), to: id(to), term, body };
                self.raft.step(message);
            }
            12..15 => {
                self.now = self.now + ms(self.below(200));
                let shown = if self.below(10) == 0 { raft_core::Instant::ZERO } else { self.now };
                self.raft.tick(shown);
                assert!(
                    self.raft
                        .next_deadline()
                        .is_some_and(|deadline| deadline > self.now || shown < self.now)
                );
            }
            15 => drop(self.raft.propose(vec![0; self.rng.next_u32() as usize % 64])),
            16 if self.below(2) == 0 => drop(self.raft.read()),
            16 => self.forward(),
            17 => self.acknowledge(),
            _ => self.poll(),
        }
    }

    fn forward(&mut self) {
        if self.raft.forward(vec![0; self.rng.next_u32() as usize % 64]).is_ok() {
            self.forwards += 1;
        }
    }

    fn acknowledge(&mut self) {
        if !self.writes.is_empty() {
            let through = self.below(self.writes.len() as u64) as usize;
            self.raft.persisted(self.writes[through]);
            self.writes.drain(..=through);
        }
        let (extreme_write, extreme_index) = (self.near(0), self.near(0));
        if self.below(100) < self.nonsense {
            self.raft.persisted(WriteId::new(extreme_write.max(1 << 32)));
            self.raft.applied(index(extreme_index.max(1 << 32)));
        }
        self.raft.applied(self.handed_out);
    }

    fn poll(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.raft.poll_outbox() {
            outputs += 1;
            assert!(outputs < 200, "a server asks for bounded work");
            match output {
                Output::Persist(write) => {
                    self.writes.push(write.id);
                    self.truncated += u64::from(write.truncate_from.is_some());
                    self.restored.replay(write);
                }
                Output::Apply { from, through } => {
                    assert_eq!(from, self.handed_out.next(), "each once, in order");
                    let last = self.raft.entries(from, through).last();
                    assert_eq!(last.map(|last| last.index), Some(through), "the log holds them");
                    self.handed_out = through;
                }
                Output::Send(Message { body: Body::RequestPreVote(request), .. }) => {
                    self.campaign = request.campaign;
                }
                Output::Send(Message { body: Body::Propose(request), .. }) => {
                    self.forwarded = request.id;
                }
                Output::Forwarded { outcome, .. } => {
                    self.forwards -= 1;
                    if let ForwardOutcome::Appended(entry) = outcome {
                        assert!(entry.index > self.handed_out, "nobody would answer for it");
                    }
                }
                Output::RoleChanged { role: Role::Leader, .. } => self.led += 1,
                Output::Send(_) | Output::RoleChanged { .. } => {}
                Output::ReadReady { .. } | Output::ReadLost { .. } => {}
                // A host without snapshots.
                Output::TakeSnapshot(_) => {}
                output @ (Output::ReadSnapshot(_)
                | Output::WriteSnapshot(_)
                | Output::Restore(_)
                | Output::MembershipChanged(_)
                | _) => panic!("unknown to the tests: {output:?}"),
            }
        }
    }

    fn check_bounds(&self) {
        let status = self.raft.status();
        // A no-op begins a term even if the log is full, and what earlier leaders had room for is
        // taken as well.
        let noops = Entry::<Vec<u8>>::OVERHEAD_BYTES * INPUTS;
        assert!(status.log_bytes <= 2 * LOG_BYTES_MAX + noops);
        assert!(status.writes_in_flight <= 3 && status.reads_waiting <= 5);
        assert!(status.forwards_waiting <= 5);
        assert_eq!(status.forwards_waiting, self.forwards, "each has one answer");
        assert!(status.commit_index <= status.last_log.index);
        assert!(self.handed_out <= status.commit_index.min(status.durable_index));
    }
}

#[test]
fn no_sequence_of_inputs_does_harm() {
    let (mut led, mut truncated, mut applied) = (0, 0, 0);
    for seed in 0..200 {
        let mut any = Any::new(seed);
        for number in 0..INPUTS {
            any.peers_lead = number / 200 % 2 == 0;
            let (term, commit) = (any.raft.term(), any.raft.status().commit_index);
            any.input();
            assert!(any.raft.term() >= term, "seed {seed}: a term taken back");
            assert!(any.raft.status().commit_index >= commit, "seed {seed}: a commit taken back");
            any.check_bounds();
        }
        any.poll();
        (led, truncated) = (led + any.led, truncated + any.truncated);
        applied += any.handed_out.get();
        let config = any.raft.config().clone();
        let again = Raft::new(config, any.restored, Pcg32::seed_from_u64(seed));
        assert!(again.is_ok(), "seed {seed}: what it wrote, it reads");
    }
    assert!(
        led > 100 && truncated > 100 && applied > 1_000,
        "{led} {truncated} {applied}: too tame"
    );
}
