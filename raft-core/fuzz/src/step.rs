//! A server under any sequence of inputs, with a host that crashes and a disk that takes its time.
//!
//! Nothing that peers say, in whatever order, with whatever numbers, may make it panic, break an invariant that it checks of itself,
//! say what it could forget ([`oracle`](crate::oracle)), break the laws of time, or take more memory than its configuration allows.

use std::collections::VecDeque;
use std::time::Duration;

use arbitrary::Arbitrary;
use raft_core::{
    Body, Config, Entry, Index, Instant, Message, NodeId, Output, Payload, ProposeError, Raft,
    Refused, Restored, Status, Term, WriteId,
};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;

use crate::memory;
use crate::oracle::Oracle;
use crate::peers::{AnyMessage, Near, View, answer};

/// How many of the server's messages may be answered late.
const SENT_MAX: usize = 16;
/// How much work a server may ask for at once.
const OUTPUTS_MAX: usize = 300;
/// What a server takes besides its log, in bytes.
const BESIDES_LOG_BYTES_MAX: u64 = 6 << 10;
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
    Message(AnyMessage),
    /// The process ends and starts again; of the writes under way, so many are on disk.
    Crash {
        kept: u8,
    },
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
    /// No-ops need no room in the log; each needs an event.
    noops_max: usize,
}

impl Host {
    fn new(setup: &Setup) -> Self {
        let config = config(setup);
        let restored = restored(setup);
        let rng = Pcg32::seed_from_u64(setup.seed.into());
        let raft = Raft::new(config.clone(), restored.clone(), rng).expect("a sound start");
        Self {
            raft,
            noops_max: restored.entries.len(),
            oracle: Oracle::new(config, restored),
            now: Instant::ZERO,
            sent: VecDeque::new(),
            campaign: 0,
        }
    }

    fn on_event(&mut self, event: Event, before: &Status) {
        self.noops_max += 1;
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
                let message = answer(&self.sent[to], yes, &self.view());
                self.step(message, before);
            }
            Event::Persisted(id) => {
                let id = WriteId::new(id.to(self.oracle.awaited_write().get()));
                self.oracle.on_persisted(id);
                self.raft.persisted(id);
            }
            Event::Applied(index) => {
                let index = Index::new(index.to(self.oracle.handed_out().get()));
                self.raft.applied(index);
            }
            Event::Propose { bytes } => self.propose(vec![bytes; usize::from(bytes)]),
            Event::Read => self.read(),
            Event::Message(message) => {
                let message = message.to_message(&self.view());
                self.step(message, before);
            }
            Event::Crash { .. } => unreachable!("the caller's, for it begins everything anew"),
        }
    }

    fn view(&self) -> View<'_> {
        View {
            id: self.raft.id(),
            voters: self.raft.config().voters.len() as u64,
            term: self.raft.term(),
            log: &self.oracle.written,
            campaign: self.campaign,
            round: self.oracle.round_sent(),
        }
    }

    fn step(&mut self, message: Message<Vec<u8>>, before: &Status) {
        self.raft.step(message.clone());
        self.oracle.on_message(&message, before, &self.raft.status());
    }

    /// The laws of time: after a tick there is no deadline that has come, and time never goes back.
    fn tick(&mut self, now: Instant) {
        let now = now.min(TIME_MAX);
        self.raft.tick(now);
        self.now = self.now.max(now);
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
                    bytes <= bytes_max && status.log_bytes <= LOG_BYTES_MAX + self.noop_bytes()
                );
                assert_eq!((term, index), (status.last_log.term, status.last_log.index));
            }
            Err(ProposeError::TooLarge { .. }) => assert!(bytes > bytes_max),
            Err(
                ProposeError::NotLeader { command, .. } | ProposeError::LogFull { command, .. },
            ) => {
                assert_eq!(command.len(), bytes, "given back");
            }
            Err(error) => panic!("unknown to the fuzzer: {error}"),
        }
    }

    fn read(&mut self) {
        match self.raft.read() {
            Ok(id) => self.oracle.on_read(id),
            Err(Refused::NotLeader { .. } | Refused::TooManyReads { .. }) => {}
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
            let Some(output) = self.raft.poll_outbox() else { return };
            self.oracle.check_change(&before, &self.raft.status());
            self.oracle.check_output(&output, &self.raft.status());
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
        let rng = Pcg32::seed_from_u64(self.now.as_micros());
        let config = self.raft.config().clone();
        self.raft = Raft::new(config, restored, rng).expect("what it wrote, it reads");
        self.raft.tick(self.now);
    }

    fn check(&mut self, before: &Status) {
        let after = self.raft.status();
        self.oracle.check_change(before, &after);
        assert!(after.log_bytes <= LOG_BYTES_MAX + self.noop_bytes(), "the log's limit");
    }

    fn noop_bytes(&self) -> usize {
        self.noops_max * Entry::<Vec<u8>>::OVERHEAD_BYTES
    }

    /// A copy takes what the server holds.
    fn check_memory(&self) {
        let (_, bytes) = memory::peak(|| self.raft.clone());
        let log_bytes = self.raft.status().log_bytes as u64;
        assert!(bytes <= BESIDES_LOG_BYTES_MAX + 2 * log_bytes, "{bytes} for {log_bytes} of log");
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
        reads_waiting_max: 5,
        ..Config::new(id, (1..=voters).map(NodeId::new))
    }
}

/// A log of up to four entries, and nothing voted.
fn restored(setup: &Setup) -> Restored<Vec<u8>> {
    let mut restored = Restored::default();
    let mut last = 0;
    for (index, rise) in (1..).zip(setup.log).take_while(|(_, rise)| *rise > 0) {
        last += u64::from(rise % 3);
        let payload = Payload::Command(vec![rise; 3]);
        restored.entries.push(Entry { term: Term::new(last), index: Index::new(index), payload });
    }
    restored.hard_state.current_term = Term::new(last);
    restored
}
