//! A server under any sequence of inputs, with a host that crashes and a disk that takes its time.
//!
//! Nothing that peers say, in whatever order, with whatever numbers, may make it panic, break an
//! invariant that it checks of itself, say what it could forget ([`oracle`](crate::oracle)), break
//! the laws of time, or take more memory than its configuration allows.

use std::collections::VecDeque;
use std::time::Duration;

use arbitrary::Arbitrary;
use raft_core::{
    Body, Change, ChangeRefused, Config, Entry, Index, Instant, Lease, LogId, Membership, Message,
    NodeId, Output, Payload, ProposeError, Raft, ReadRefused, ReadSnapshot, Restored, SnapshotMeta,
    Status, Term, TransferRefused, WriteId,
};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;

use crate::files::SNAPSHOT_BYTES;
use crate::memory;
use crate::oracle::Oracle;
use crate::peers::{AnyMessage, Near, SERVERS_MIN, View, answer};

/// How many of the server's messages may be answered late.
const SENT_MAX: usize = 16;
/// How much work a server may ask for at once.
const OUTPUTS_MAX: usize = 700;
/// What a server takes besides its log, in bytes.
const BESIDES_LOG_BYTES_MAX: u64 = 16 << 10;
/// What a server that is no member may make it hold, in bytes; and how many such servers it hears
/// at a time.
const STRANGER_BYTES_MAX: u64 = 256;
const STRANGERS_MAX: u64 = 400;
/// The first of those that come in crowds.
const STRANGER: u64 = 1_000;
/// A leader's changes of membership need no room in the log; one that an event brings is at most
/// this long, in bytes.
const CONFIGURATION_BYTES_MAX: usize = 64 * 8;
/// How far the clock goes: behind the end of time all deadlines are one.
const TIME_MAX: Instant = Instant::from_micros(u64::MAX / 2);
const LOG_BYTES_MAX: usize = 2_000;

/// A server's configuration, what it restarts from, and what happens to it.
#[derive(Arbitrary, Debug)]
pub struct Input {
    setup: Setup,
    events: Vec<Event>,
}

#[derive(Arbitrary, Debug)]
struct Setup {
    peers: u8,
    id: u8,
    no_pre_vote: bool,
    no_check_quorum: bool,
    window: u8,
    seed: u8,
    /// By how much each entry's term on disk is higher than that of the entry before.
    log: [u8; 4],
    /// How many of these entries a snapshot includes, and whether they are gone.
    snapshot: u8,
    compacted: bool,
    lease: bool,
    ranks: bool,
    joins: bool,
}

#[derive(Arbitrary, Debug)]
enum Event {
    /// The whole outbox is taken, or this many outputs.
    Poll(Option<u8>),
    /// Time goes on to the server's deadline.
    Deadline,
    /// Time goes on by milliseconds.
    Tick(u8),
    /// The host's clock shows nonsense.
    WrongTick(Near),
    /// A sound peer answers one of the server's last messages.
    Answer {
        to: u8,
        yes: bool,
    },
    /// The disk answers: for the oldest write, or another.
    Persisted(Near),
    Applied(Near),
    Propose {
        bytes: u8,
    },
    Read,
    Forward {
        bytes: u8,
    },
    Message(AnyMessage),
    /// The process ends and starts again; of the writes under way, so many are on disk.
    Crash {
        kept: u8,
    },
    /// Many servers that nobody knows say the same.
    Crowd {
        count: u8,
        message: AnyMessage,
    },
    Change(AnyChange, Option<AnyChange>),
    Transfer(Option<u8>),
    Suspect(u8),
    TakeSnapshot,
    SnapshotTaken {
        failed: bool,
        index: Near,
    },
    SnapshotRead {
        failed: bool,
        short: bool,
        offset: Near,
    },
    SnapshotWritten {
        failed: bool,
        bytes: Near,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum AnyChange {
    Add(u8),
    Promote(u8),
    Demote(u8),
    Remove(u8),
    Relabel(u8),
    Prioritise(u8, u8),
}

/// Runs a server through all that, checking along the way.
pub fn run(input: Input) {
    let mut host = Host::new(&input.setup);
    for event in input.events {
        if let Event::Crash { kept } = event {
            host.crash(kept.into());
            continue;
        }
        let before = host.raft.status();
        host.on_event(event, &before);
        host.check(&before);
    }
    host.check_memory();
    host.poll(None);
    host.check_memory();
    host.crash(usize::MAX);
}

struct Host {
    raft: Raft<Vec<u8>, Pcg32>,
    oracle: Oracle,
    now: Instant,
    sent: VecDeque<Message<Vec<u8>>>,
    campaign: u64,
    /// No-ops and configurations need no room in the log; each needs an event.
    events: usize,
    strangers: u64,
    lives: u64,
}

impl Host {
    fn new(setup: &Setup) -> Self {
        let config = config(setup);
        let restored = restored(setup, &config);
        let rng = Pcg32::seed_from_u64(setup.seed.into());
        let raft = Raft::new(config.clone(), restored.clone(), rng).expect("a sound start");
        Self {
            raft,
            events: restored.entries.len(),
            strangers: 0,
            lives: 1,
            oracle: Oracle::new(config, restored),
            now: Instant::ZERO,
            sent: VecDeque::new(),
            campaign: 0,
        }
    }

    fn on_event(&mut self, event: Event, before: &Status) {
        self.events += 1;
        match event {
            Event::Poll(outputs) => self.poll(outputs.map(usize::from)),
            Event::Deadline => {
                if let Some(deadline) = self.raft.next_deadline() {
                    self.tick(deadline);
                }
            }
            Event::Tick(millis) => self.tick(self.now + Duration::from_millis(millis.into())),
            Event::WrongTick(micros) => {
                self.tick(Instant::from_micros(micros.to(self.now.as_micros())));
            }
            Event::Answer { to, yes } => {
                let Some(to) = self.sent.len().checked_sub(1 + usize::from(to) % SENT_MAX) else {
                    return;
                };
                let message = answer(&self.sent[to], yes, &self.view(&before.membership));
                self.step(message, before);
            }
            Event::Persisted(id) => {
                let id = WriteId::new(id.to(self.oracle.awaited_write().get()));
                self.oracle.on_persisted(id);
                self.raft.persisted(id);
            }
            Event::Applied(index) => {
                let index = Index::new(index.to(self.oracle.apply_sent().get()));
                self.raft.applied(index);
            }
            Event::Propose { bytes } => self.propose(vec![bytes; usize::from(bytes)]),
            Event::Read => self.read(before),
            Event::Forward { bytes } => self.forward(vec![bytes; usize::from(bytes)]),
            Event::Message(message) => {
                let message = message.to_message(&self.view(&before.membership));
                self.step(message, before);
            }
            Event::Crash { .. } => unreachable!("the caller's, for it begins everything anew"),
            Event::Crowd { count, message } => self.crowd(count, &message),
            Event::Change(one, other) => self.change(one, other),
            Event::Transfer(to) => self.transfer(to.map(server)),
            Event::Suspect(leader) => {
                self.raft.suspect_leader(
                    before.leader.filter(|_| leader < 200).unwrap_or(server(leader)),
                );
            }
            Event::TakeSnapshot => {
                // Refused if one is being taken, or nothing is new.
                let _ = self.raft.take_snapshot();
            }
            Event::SnapshotTaken { failed, index } => self.snapshot_taken(failed, index),
            Event::SnapshotRead { failed, short, offset } => {
                if let Some(read) = self.oracle.files.reads.pop_front() {
                    self.snapshot_read(read, failed, short, offset);
                }
            }
            Event::SnapshotWritten { failed, bytes } => self.snapshot_written(failed, bytes),
        }
    }

    fn crowd(&mut self, count: u8, message: &AnyMessage) {
        for _ in 0..count {
            let before = self.raft.status();
            let message = message.to_message(&self.view(&before.membership));
            let from = NodeId::new(STRANGER + self.strangers);
            self.strangers += 1;
            self.step(Message { from, ..message }, &before);
            self.oracle.check_change(&before, &self.raft.status());
        }
        self.check_memory();
    }

    fn change(&mut self, one: AnyChange, other: Option<AnyChange>) {
        let changes: Vec<_> = [Some(one), other].into_iter().flatten().map(to_change).collect();
        let before = self.raft.status();
        match self.raft.change_membership(&changes) {
            Ok((term, index)) => {
                assert!(!before.membership.is_joint(), "one change at a time");
                let last = self.raft.status().last_log;
                assert_eq!((term, index), (last.term, last.index));
            }
            Err(
                ChangeRefused::NotLeader { .. }
                | ChangeRefused::NotReady
                | ChangeRefused::ChangePending { .. }
                | ChangeRefused::NotCaughtUp { .. }
                | ChangeRefused::Transferring { .. }
                | ChangeRefused::Invalid(_),
            ) => assert_eq!(before, self.raft.status(), "refused, and yet changed"),
            Err(error) => panic!("unknown to the fuzzer: {error}"),
        }
    }

    fn transfer(&mut self, to: Option<NodeId>) {
        match self.raft.transfer_leadership(to) {
            Ok(to) => assert!(to != self.raft.id(), "to itself"),
            Err(
                TransferRefused::NotLeader { .. }
                | TransferRefused::Transferring { .. }
                | TransferRefused::NoSuccessor,
            ) => {}
            Err(error) => panic!("unknown to the fuzzer: {error}"),
        }
    }

    fn snapshot_taken(&mut self, failed: bool, index: Near) {
        let Some(taking) = self.oracle.files.taking.clone() else { return };
        let at = Index::new(index.to(taking.last.index.get()));
        if failed {
            self.oracle.files.taking = None;
            self.raft.snapshot_failed();
        } else if at == taking.last.index {
            self.oracle.files.taking = None;
            self.oracle.files.hold(taking);
            self.raft.snapshot_taken(at);
        } else {
            let before = self.raft.status();
            self.raft.snapshot_taken(at);
            assert_eq!(before, self.raft.status(), "another than was asked for");
        }
    }

    fn snapshot_read(&mut self, read: ReadSnapshot, failed: bool, short: bool, offset: Near) {
        let ReadSnapshot { to, snapshot, offset: asked, bytes_max, .. } = read;
        if failed || self.oracle.files.held(snapshot).is_none() {
            self.raft.snapshot_unreadable(to, snapshot);
            return;
        }
        let left = SNAPSHOT_BYTES.saturating_sub(asked);
        let whole = left.min(bytes_max as u64);
        let bytes = if short { whole.min(1) } else { whole };
        let chunk = vec![snapshot.index.get() as u8; bytes as usize];
        self.raft.snapshot_read(to, snapshot, offset.to(asked), chunk, bytes == left);
    }

    fn snapshot_written(&mut self, failed: bool, bytes: Near) {
        let files = &mut self.oracle.files;
        if failed {
            if let Some(install) = files.fail_to_write() {
                self.raft.snapshot_unwritable(install);
            }
        } else if let Some((install, written)) = files.write() {
            // A host that claims more than it has is mistaken; less is only late.
            self.raft.snapshot_written(install, bytes.to(written).min(written));
        }
    }

    fn view<'a>(&'a self, membership: &'a Membership) -> View<'a> {
        View {
            id: self.raft.id(),
            membership,
            term: self.raft.term(),
            log: &self.oracle.written,
            campaign: self.campaign,
            read_request: self.oracle.read_request(),
            forward_request: self.oracle.forward_request(),
            followers: self.oracle.followers(),
            incoming: self.oracle.files.incoming(),
            incoming_bytes: self.oracle.files.incoming_bytes(),
        }
    }

    fn step(&mut self, message: Message<Vec<u8>>, before: &Status) {
        self.oracle.on_asked_to_stand(&message, before);
        self.raft.step(message.clone());
        self.oracle.on_message(&message, before, &self.raft.status());
    }

    /// The laws of time: after a tick there is no deadline that has come, and time never goes back.
    fn tick(&mut self, now: Instant) {
        let now = now.min(TIME_MAX);
        let before = self.raft.status();
        self.now = self.now.max(now);
        self.oracle.on_tick(self.now, &before);
        self.raft.tick(now);
        let deadline = self.raft.next_deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "due after its tick");

        let idle = self.raft.clone();
        self.raft.tick(self.now);
        assert!(self.raft == idle, "an early tick changed something");
    }

    fn propose(&mut self, command: Vec<u8>) {
        let bytes = command.len();
        let bytes_max = self.raft.config().command_bytes_max;
        match self.raft.propose(command) {
            Ok((term, index)) => {
                let status = self.raft.status();
                assert!(
                    bytes <= bytes_max && status.log_bytes <= LOG_BYTES_MAX + self.roomless_bytes()
                );
                assert_eq!((term, index), (status.last_log.term, status.last_log.index));
            }
            Err(ProposeError::TooLarge { .. }) => assert!(bytes > bytes_max),
            Err(
                ProposeError::NotLeader { command, .. }
                | ProposeError::LogFull { command, .. }
                | ProposeError::TooManyUncommitted { command, .. }
                | ProposeError::Transferring { command, .. },
            ) => {
                assert_eq!(command.len(), bytes, "given back");
            }
            Err(error) => panic!("unknown to the fuzzer: {error}"),
        }
    }

    fn forward(&mut self, command: Vec<u8>) {
        let bytes = command.len();
        match self.raft.forward(command) {
            Ok(id) => self.oracle.on_forward(id),
            Err(error) => assert_eq!(error.into_command().len(), bytes, "given back"),
        }
    }

    fn read(&mut self, before: &Status) {
        match self.raft.read() {
            Ok(id) => self.oracle.on_read(id, before),
            Err(ReadRefused::NoLeader | ReadRefused::TooManyReads { .. }) => {}
            Err(error) => panic!("unknown to the fuzzer: {error}"),
        }
    }

    fn poll(&mut self, outputs: Option<usize>) {
        for count in 0.. {
            if outputs == Some(count) {
                return;
            }
            assert!(count < OUTPUTS_MAX, "a server asks for bounded work");
            let before = self.raft.status();
            let Some(output) = self.raft.poll_outbox() else {
                self.oracle.check_quiet(&before);
                return;
            };
            self.oracle.check_change(&before, &self.raft.status());
            self.oracle.check_output(&output, &self.raft);
            if let Output::Send(message) = output {
                self.keep(message);
            }
        }
    }

    fn keep(&mut self, message: Message<Vec<u8>>) {
        if let Body::RequestPreVote(request) = &message.body {
            self.campaign = request.campaign;
        }
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(message);
    }

    /// What a server wrote, it reads.
    fn crash(&mut self, kept: usize) {
        let restored = self.oracle.on_crash(kept.min(self.oracle.writes_in_flight()));
        self.lives += 1;
        let rng = Pcg32::seed_from_u64(1_000 + self.lives);
        let config = self.raft.config().clone();
        self.raft = Raft::new(config, restored, rng).expect("what it wrote, it reads");
        self.tick(self.now);
    }

    fn check(&mut self, before: &Status) {
        let after = self.raft.status();
        self.oracle.check_change(before, &after);
        // What earlier leaders had room for is taken beyond the limit.
        assert!(after.log_bytes <= 2 * LOG_BYTES_MAX + self.roomless_bytes(), "the log's limit");
    }

    fn roomless_bytes(&self) -> usize {
        self.events * (Entry::<Vec<u8>>::OVERHEAD_BYTES + CONFIGURATION_BYTES_MAX)
    }

    /// A copy takes what the server holds.
    fn check_memory(&self) {
        let (_, bytes) = memory::peak(|| self.raft.clone());
        let log_bytes = self.raft.status().log_bytes as u64;
        let strangers = STRANGER_BYTES_MAX * self.strangers.min(STRANGERS_MAX);
        let bytes_max = BESIDES_LOG_BYTES_MAX + strangers + 3 * log_bytes;
        assert!(bytes <= bytes_max, "{bytes} for {log_bytes} of log");
    }
}

fn server(number: u8) -> NodeId {
    NodeId::new(1 + u64::from(number) % (SERVERS_MIN + 1))
}

fn to_change(change: AnyChange) -> Change {
    match change {
        AnyChange::Add(id) => Change::add_learner(server(id), [id; 2]),
        AnyChange::Promote(id) => Change::Promote(server(id)),
        AnyChange::Demote(id) => Change::Demote(server(id)),
        AnyChange::Remove(id) => Change::Remove(server(id)),
        AnyChange::Relabel(id) => Change::Relabel { id: server(id), label: vec![id; 4] },
        AnyChange::Prioritise(id, priority) => Change::Prioritise { id: server(id), priority },
    }
}

fn config(setup: &Setup) -> Config {
    const VOTERS: [u64; 4] = [3, 1, 2, 5];
    let voters = VOTERS[usize::from(setup.peers % 4)];
    let id = NodeId::new(1 + u64::from(setup.id) % voters);
    let window = 1 + usize::from(setup.window % 4);
    Config {
        pre_vote: !setup.no_pre_vote,
        check_quorum: !setup.no_check_quorum,
        command_bytes_max: 90,
        append_bytes_max: 100 * window,
        inflight_appends_max: window,
        inflight_bytes_max: 300,
        write_bytes_max: 100 * window,
        inflight_writes_max: window,
        apply_bytes_max: 100,
        inflight_applies_max: window,
        log_bytes_max: LOG_BYTES_MAX,
        uncommitted_bytes_max: 900,
        reads_waiting_max: 5,
        forwards_waiting_max: 5,
        forwards_bytes_max: 300,
        snapshot_log_bytes: 400,
        snapshot_log_entries: 4,
        log_tail_bytes: 40 * usize::from(setup.snapshot % 3),
        snapshot_chunk_bytes: 10,
        inflight_chunks_max: window,
        promotion_lag_max: 1,
        rank_slot: setup.ranks.then_some(Duration::from_millis(10)),
        lease: (setup.lease && !setup.no_check_quorum).then_some(Lease { drift_ppm_max: 500 }),
        ..Config::new(id, (1..=voters).filter(|_| !setup.joins).map(NodeId::new))
    }
}

/// A log of up to four entries, with or without a snapshot of the first of them, and nothing voted.
fn restored(setup: &Setup, config: &Config) -> Restored<Vec<u8>> {
    let mut restored = Restored::default();
    let mut last = 0;
    for (index, rise) in (1..).zip(setup.log).take_while(|(_, rise)| *rise > 0) {
        last += u64::from(rise % 3);
        let payload = Payload::Command(vec![rise; 3]);
        restored.entries.push(Entry { term: Term::new(last), index: Index::new(index), payload });
    }
    restored.hard_state.current_term = Term::new(last);
    let included = if setup.joins { 0 } else { usize::from(setup.snapshot % 8) };
    let included = included.min(restored.entries.len());
    if !setup.joins && !restored.entries.is_empty() {
        let membership = Membership::of_voters(config.voters.iter().copied());
        restored.snapshot = Some(SnapshotMeta { last: LogId::ZERO, membership });
    }
    if let Some(end) = included.checked_sub(1).and_then(|at| restored.entries.get(at)) {
        let membership = Membership::of_voters(config.voters.iter().copied());
        let last = end.id();
        restored.snapshot = Some(SnapshotMeta { last, membership });
        if setup.compacted {
            restored.entries.drain(..included);
            restored.base = last;
        }
    }
    restored
}
