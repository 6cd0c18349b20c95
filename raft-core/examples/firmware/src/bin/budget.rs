//! What one server of three costs, with a log of 4 KiB: instructions and allocations for each turn
//! of its loop, and its heap.
//!
//! Three servers talk in one image, in bytes and in a time of their own, and one of them is
//! measured: from the bytes of a message to the bytes of its answers and writes. Run it with
//! `make.sh budget`: QEMU then lets each instruction take 64 ns of the emulated time, and SysTick
//! counts that.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use firmware::board;
use firmware::board::heap::CountingHeap;
use firmware::{Command, limits};
use raft_core::{
    Body, Config, Entry, Index, Instant, Message, NodeId, Output, Payload, ProposeError, Raft,
    Restored, Role, Term, codec,
};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;

#[global_allocator]
static HEAP: CountingHeap = CountingHeap::empty();

const HEAP_BYTES: usize = 44 * 1024;
/// How many ticks of SysTick, at 12 MHz, are how many instructions of 64 ns: 83,333 ps against
/// 64,000.
const TICKS_TO_INSTRUCTIONS: (u64, u64) = (83_333, 64_000);
const TICKS_MAX: u32 = 0x00ff_ffff;
const COMMAND: &[u8] = b"sixteen bytes it";
/// How often the measured server is elected, loses its followers, and follows another.
const CYCLES: usize = 7;
/// Of these, the first do not count: the log's memory doubles until it holds what the log's limit
/// allows.
const WARM_UP_CYCLES: usize = 5;
const COMMANDS_PER_WARM_UP_CYCLE: usize = 6;
const COMMANDS_PER_CYCLE: usize = 3;
const HEARTBEATS_PER_CYCLE: u32 = 20;

/// Position of the server that is measured.
const MEASURED: usize = 2;

#[entry]
fn main() -> ! {
    let memory = cortex_m::singleton!(: [u8; HEAP_BYTES] = [0; HEAP_BYTES]);
    HEAP.init(memory.expect("main runs once"));
    let peripherals = cortex_m::Peripherals::take().expect("main runs once");
    let mut syst = peripherals.SYST;
    syst.set_clock_source(SystClkSource::Core);
    syst.set_reload(TICKS_MAX);
    syst.clear_current();
    syst.enable_counter();

    let mut cluster = Cluster::new();
    for cycle in 0..CYCLES {
        if cycle == WARM_UP_CYCLES {
            cluster.meter.rows = [Row::NONE; KINDS.len()];
        }
        let warm = cycle >= WARM_UP_CYCLES;
        cluster.play(if warm { COMMANDS_PER_CYCLE } else { COMMANDS_PER_WARM_UP_CYCLE });
    }
    cluster.meter.print();
    let entries = cluster.fill();
    let restart_max = cluster.restart(entries);
    let meter = &cluster.meter;
    hprintln!();
    hprintln!("| RAM of a voter, N = 3, log of 4 KiB | bytes |");
    hprintln!("|---|---|");
    hprintln!("| the value `Raft` | {} |", size_of::<Raft<Command, Pcg32>>());
    hprintln!("| its heap, with a full log of {} entries | {} |", entries, meter.heap);
    hprintln!("| its heap at most, with all that passes through a turn | {} |", meter.heap_max);
    hprintln!("| its heap at most, while it starts with such a log | {} |", restart_max);
    board::exit(true)
}

/// What a turn of the loop was about.
const KINDS: [&str; 10] = [
    "follower: a heartbeat, answered",
    "follower: an entry, written and acknowledged",
    "follower: another asks for its vote or pre-vote",
    "leader: heartbeats to both",
    "leader: a command, written and sent to both",
    "leader: an answer",
    "candidate: asks both for their votes or pre-votes",
    "candidate: an answer, the deciding ones included",
    "leader: takes a command from its client",
    "others",
];

#[derive(Clone, Copy)]
struct Row {
    turns: u32,
    ticks: u32,
    ticks_max: u32,
    allocations: u32,
    allocations_max: u32,
}

impl Row {
    const NONE: Self =
        Self { turns: 0, ticks: 0, ticks_max: 0, allocations: 0, allocations_max: 0 };
}

struct Meter {
    rows: [Row; KINDS.len()],
    /// Bytes that the measured server holds.
    heap: usize,
    /// The most that it ever held, in the middle of a turn.
    heap_max: usize,
}

impl Meter {
    fn measure<T>(&mut self, kind: usize, work: impl FnOnce() -> T) -> T {
        HEAP.forget_used_max();
        let before = HEAP.usage();
        let start = SYST::get_current();
        let result = work();
        let ticks = start.wrapping_sub(SYST::get_current()) & TICKS_MAX;
        let after = HEAP.usage();
        let allocations = after.allocations.wrapping_sub(before.allocations);
        let row = &mut self.rows[kind];
        row.turns += 1;
        row.ticks += ticks;
        row.ticks_max = row.ticks_max.max(ticks);
        row.allocations += allocations;
        row.allocations_max = row.allocations_max.max(allocations);
        self.heap_max = self.heap_max.max(self.heap + after.used_max - before.used);
        self.heap = (self.heap + after.used).wrapping_sub(before.used);
        result
    }

    fn print(&self) {
        hprintln!(
            "| a turn of the loop, bytes to bytes | instructions, mean | at most | allocations, mean | at most |"
        );
        hprintln!("|---|---|---|---|---|");
        for (kind, row) in KINDS.iter().zip(&self.rows).filter(|(_, row)| row.turns > 0) {
            let instructions =
                |ticks: u32| u64::from(ticks) * TICKS_TO_INSTRUCTIONS.0 / TICKS_TO_INSTRUCTIONS.1;
            let hundredths = row.allocations * 100 / row.turns;
            let (mean, most) = (instructions(row.ticks / row.turns), instructions(row.ticks_max));
            let (whole, part) = (hundredths / 100, hundredths % 100);
            hprintln!(
                "| {} | {} | {} | {}.{:02} | {} |",
                kind,
                mean,
                most,
                whole,
                part,
                row.allocations_max
            );
        }
    }
}

/// A message on its way: to which server, and its bytes.
type Sent = (usize, Vec<u8>);

struct Cluster {
    servers: [Raft<Command, Pcg32>; 3],
    /// Memory for what a turn encodes, so that encoding itself allocates nothing.
    encoded: Vec<u8>,
    /// Where one message of the turn ends and the next begins, and whose it is.
    ends: Vec<(usize, usize)>,
    sent: VecDeque<Sent>,
    now: Instant,
    cut: Option<usize>,
    meter: Meter,
}

impl Cluster {
    fn new() -> Self {
        let ids = [1, 2, 3].map(NodeId::new);
        let mut meter = Meter { rows: [Row::NONE; KINDS.len()], heap: 0, heap_max: 0 };
        let mut server = |position: usize| {
            // Who stands first is for the timeouts below to say.
            let mut config = Config { rank_slot: None, ..limits::config(ids[position], ids) };
            if position == MEASURED {
                // It stands before any other does, whenever it hears of none.
                config.election_timeout_max =
                    config.election_timeout_min + Duration::from_millis(1);
            } else {
                config.election_timeout_min *= 2;
                config.election_timeout_max *= 2;
            }
            let make =
                || Raft::new(config, Restored::default(), Pcg32::seed_from_u64(position as u64));
            let raft =
                if position == MEASURED { meter.measure(KINDS.len() - 1, make) } else { make() };
            raft.expect("the configuration is sound")
        };
        let servers = [0, 1, 2].map(&mut server);
        let (encoded, ends) = (Vec::with_capacity(4096), Vec::with_capacity(32));
        let (sent, now) = (VecDeque::with_capacity(32), Instant::ZERO);
        Self { servers, encoded, ends, sent, now, cut: None, meter }
    }

    /// One life of a leader: elected, busy, idle, cut off; another leads it, and at last is gone.
    fn play(&mut self, commands: usize) {
        self.run_until(|cluster| cluster.servers[MEASURED].role() == Role::Leader);
        self.cut = None;
        self.be_busy(MEASURED, commands);
        self.cut = Some(MEASURED);
        self.run_until(|cluster| {
            (0..MEASURED).any(|at| cluster.servers[at].role() == Role::Leader)
        });
        let other = (0..MEASURED).find(|at| self.servers[*at].role() == Role::Leader);
        self.cut = None;
        self.run_until(|cluster| cluster.servers[MEASURED].leader().is_some());
        self.be_busy(other.unwrap_or(0), commands);
        self.cut = other;
    }

    /// Commands one by one, and then only heartbeats.
    fn be_busy(&mut self, leader: usize, commands: usize) {
        for _ in 0..commands {
            self.propose(leader).expect("it leads and has room");
            self.settle();
        }
        let end =
            self.now + limits::config(NodeId::new(1), []).heartbeat_interval * HEARTBEATS_PER_CYCLE;
        self.run_until(|cluster| cluster.now >= end);
    }

    /// Gives the measured server commands until its log is full; returns how many entries it then
    /// has.
    fn fill(&mut self) -> u64 {
        self.run_until(|cluster| cluster.servers[MEASURED].role() == Role::Leader);
        self.cut = None;
        while !matches!(self.propose(MEASURED), Err(ProposeError::LogFull { .. })) {
            self.settle();
        }
        self.servers[MEASURED].status().last_log.index.get()
    }

    /// Starts the measured server anew with a full log, as a journal restores it: entry by entry.
    /// Returns the most heap in use.
    fn restart(&self, entries: u64) -> usize {
        HEAP.forget_used_max();
        let before = HEAP.usage().used;
        let mut restored = Restored::default();
        restored.hard_state.current_term = Term::new(1);
        restored.entries.reserve_exact(limits::LOG_ENTRIES_MAX);
        for index in (1..=entries).map(Index::new) {
            let payload = Payload::Command(Command::from(COMMAND));
            restored.entries.push(Entry { term: Term::new(1), index, payload });
        }
        let config = limits::config(NodeId::new(3), [1, 2, 3].map(NodeId::new));
        let raft = Raft::new(config, restored, Pcg32::seed_from_u64(3));
        assert!(raft.is_ok(), "the configuration is sound");
        HEAP.usage().used_max - before
    }

    fn propose(&mut self, leader: usize) -> Result<(), ProposeError<Command>> {
        let (raft, command) = (&mut self.servers[leader], Command::from(COMMAND));
        if leader == MEASURED {
            self.meter.measure(8, || raft.propose(command)).map(drop)?;
            self.turn(leader, None, 4);
        } else {
            raft.propose(command).map(drop)?;
            self.turn(leader, None, 0);
        }
        Ok(())
    }

    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.settle();
            let deadlines = self.servers.iter().filter_map(Raft::next_deadline);
            self.now = deadlines.min().unwrap_or(self.now).max(self.now);
            for at in 0..self.servers.len() {
                let kind = match self.servers[at].role() {
                    Role::Leader => 3,
                    Role::Follower | Role::PreCandidate | Role::Candidate | _ => 6,
                };
                if self.servers[at].next_deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.turn(at, None, kind);
                }
            }
        }
        self.settle();
    }

    /// Delivers messages until there are none.
    fn settle(&mut self) {
        while let Some((to, bytes)) = self.sent.pop_front() {
            let message = codec::decode_message(&bytes, firmware::command);
            let message: Message<Command> = message.expect("it was encoded here");
            let from = message.from.get() as usize - 1;
            if self.cut.is_some_and(|cut| cut == from || cut == to) {
                continue;
            }
            let kind = match (self.servers[to].role(), &message.body) {
                (Role::Follower, Body::AppendEntries(append)) if append.entries.is_empty() => 0,
                (Role::Follower, Body::AppendEntries(_)) => 1,
                (Role::Follower, Body::RequestVote(_) | Body::RequestPreVote(_)) => 2,
                (Role::Leader, Body::AppendEntriesReply(_)) => 5,
                (
                    Role::PreCandidate | Role::Candidate,
                    Body::RequestVoteReply(_) | Body::RequestPreVoteReply(_),
                ) => 7,
                _ => 9,
            };
            drop(message);
            self.turn(to, Some(&bytes), kind);
        }
    }

    /// One turn of a server's loop.
    fn turn(&mut self, at: usize, message: Option<&[u8]>, kind: usize) {
        let Self { servers, encoded, ends, now, .. } = self;
        let (raft, now) = (&mut servers[at], *now);
        encoded.clear();
        ends.clear();
        let mut work = || {
            if let Some(bytes) = message {
                let message = codec::decode_message(bytes, firmware::command);
                raft.step(message.expect("it was encoded here"));
            }
            raft.tick(now);
            while let Some(output) = raft.poll_outbox() {
                match output {
                    Output::Persist(write) => {
                        let end = encoded.len();
                        codec::encode_write(&write, encoded);
                        encoded.truncate(end);
                        raft.persisted(write.id);
                    }
                    Output::Send(message) => {
                        codec::encode_message(&message, encoded);
                        ends.push((message.to.get() as usize - 1, encoded.len()));
                    }
                    Output::Apply { through, .. } => raft.applied(through),
                    _ => {}
                }
            }
        };
        if at == MEASURED {
            self.meter.measure(kind, work);
        } else {
            work();
        }
        let mut start = 0;
        for (to, end) in self.ends.drain(..) {
            self.sent.push_back((to, self.encoded[start..end].to_vec()));
            start = end;
        }
    }
}
