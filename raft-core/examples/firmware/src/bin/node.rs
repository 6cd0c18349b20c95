//! One server in an image of its own: the core, a serial line to its peers, and a journal in flash.
//!
//! It is told who it is by the emulator's command line: `ID FLASH_FILE`, of a cluster of the servers 1, 2 and 3. Whoever is at the
//! other end of the line carries the messages to the servers that they name.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;

use cortex_m::{asm, interrupt};
use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use firmware::board::flash::FileFlash;
use firmware::board::heap::CountingHeap;
use firmware::board::{self, clock, semihosting, stack, uart};
use firmware::journal::{Journal, Opened};
use firmware::line::{self, Decoder, FRAME_BYTES_MAX, Kind};
use firmware::report::{Report, digest, role_number};
use firmware::{Command, limits};
use raft_core::{Entries, Instant, Message, NodeId, Output, Payload, Raft, codec};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;

#[global_allocator]
static HEAP: CountingHeap = CountingHeap::empty();

/// The measured most of a voter with a full log, and the two buffers of journal and messages: see `make.sh budget`.
const HEAP_BYTES: usize = 10 * 1024;

/// What one message can need on its way through the core. With less left, messages are dropped, as networks do.
const HEAP_RESERVE_BYTES: usize = 1024;

/// The most bytes taken off the line in one turn.
const BYTES_PER_TURN_MAX: usize = 1024;

/// How often it says how it is.
const REPORT_INTERVAL: core::time::Duration = core::time::Duration::from_millis(100);

#[entry]
fn main() -> ! {
    let memory = cortex_m::singleton!(: [u8; HEAP_BYTES] = [0; HEAP_BYTES]);
    HEAP.init(memory.expect("main runs once"));
    let peripherals = cortex_m::Peripherals::take().expect("main runs once");
    clock::start(peripherals.SYST);
    let mut words = [0; 256];
    let Some((id, path)) = arguments(&mut words) else {
        fail("start it with -semihosting-config arg=ID,arg=FLASH_FILE");
    };
    let Ok(flash) = FileFlash::open(path) else { fail("the flash file cannot be opened") };
    match Journal::open(flash, |bytes| Command::from(bytes)) {
        Ok(opened) => {
            let buffers = cortex_m::singleton!(: Buffers = Buffers::new());
            Node::new(id, opened, buffers.expect("main runs once")).run()
        }
        Err(error) => fail(error),
    }
}

/// The node's id, and the flash file's name with a zero behind it.
fn arguments(buffer: &mut [u8]) -> Option<(NodeId, &[u8])> {
    let line = semihosting::command_line(buffer).ok()?;
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (id, path) = line.split_at(space);
    let id = core::str::from_utf8(id).ok()?.parse().ok()?;
    Some((NodeId::new(id), path.get(1..)?))
}

/// A server that cannot run, or must not go on.
fn fail(why: impl core::fmt::Display) -> ! {
    hprintln!("node: {}", why);
    board::exit(false)
}

struct Node {
    raft: Raft<Command, Pcg32>,
    journal: Journal<FileFlash>,
    buffers: &'static mut Buffers,
    /// Where messages are encoded.
    encoded: Vec<u8>,
    report: Report,
    report_at: Instant,
}

/// What is too large for the stack.
struct Buffers {
    line: Decoder,
    frame: [u8; FRAME_BYTES_MAX],
}

impl Buffers {
    const fn new() -> Self {
        Self { line: Decoder::new(), frame: [0; FRAME_BYTES_MAX] }
    }

    /// Puts a frame on the line. What is too long for it is lost on it, which the limits rule out.
    fn send(&mut self, kind: Kind, body: &[u8]) {
        if let Ok(frame) = line::encode(kind, body, &mut self.frame) {
            uart::send(frame);
        }
    }
}

impl Node {
    fn new(id: NodeId, opened: Opened<FileFlash, Command>, buffers: &'static mut Buffers) -> Self {
        let Opened { journal, restored, torn } = opened;
        let config = limits::config(id, [1, 2, 3].map(NodeId::new));
        // Where there is a hardware generator, it is handed to the core as it is, or seeds this one.
        let rng = Pcg32::seed_from_u64(semihosting::time() ^ id.get().rotate_left(56));
        let raft = Raft::new(config, restored, rng);
        uart::start();
        Self {
            raft: raft.unwrap_or_else(|error| fail(error)),
            journal,
            buffers,
            encoded: Vec::with_capacity(line::BODY_BYTES_MAX),
            report: Report { torn: torn.into(), ..Report::default() },
            report_at: Instant::ZERO,
        }
    }

    fn run(mut self) -> ! {
        loop {
            let more = self.take_input();
            self.raft.tick(clock::now());
            self.do_outputs();
            uart::pump();
            self.say_how_it_is();
            if !more {
                self.sleep();
            }
        }
    }

    /// Takes what has come, within a bound. Returns whether more may be there.
    fn take_input(&mut self) -> bool {
        for _ in 0..BYTES_PER_TURN_MAX {
            let Some(byte) = uart::receive() else { return false };
            let Some(frame) = self.buffers.line.push(byte) else { continue };
            if HEAP.usage().free < HEAP_RESERVE_BYTES {
                self.report.starved = self.report.starved.saturating_add(1);
                continue;
            }
            match frame.kind {
                Kind::Message => match codec::decode_message(frame.body, Command::from) {
                    Ok(message) => self.raft.step(message),
                    Err(_) => self.report.undecodable = self.report.undecodable.saturating_add(1),
                },
                Kind::Propose => {
                    if self.raft.propose(frame.body.into()).is_err() {
                        self.report.refused = self.report.refused.saturating_add(1);
                    }
                }
                Kind::Report => {}
            }
        }
        true
    }

    fn do_outputs(&mut self) {
        while let Some(output) = self.raft.poll_outbox() {
            match output {
                Output::Persist(write) => {
                    let id = write.id;
                    if let Err(error) = self.journal.write(&write) {
                        fail(error);
                    }
                    self.raft.persisted(id);
                }
                Output::Send(message) => self.send(&message),
                Output::Apply(entries) => self.apply(entries),
                Output::RoleChanged { .. } => self.report_at = Instant::ZERO,
                _ => {}
            }
        }
    }

    fn send(&mut self, message: &Message<Command>) {
        self.encoded.clear();
        codec::encode_message(message, &mut self.encoded);
        self.buffers.send(Kind::Message, &self.encoded);
    }

    /// The state machine: how many commands there were, and a digest of them all.
    fn apply(&mut self, entries: Entries<Command>) {
        for entry in entries {
            self.raft.applied(entry.index);
            self.report.applied = entry.index.get() as u32;
            if let Payload::Command(command) = entry.payload {
                self.report.commands = self.report.commands.wrapping_add(1);
                self.report.digest = digest(self.report.digest, &command);
            }
        }
    }

    fn say_how_it_is(&mut self) {
        let now = clock::now();
        if now < self.report_at {
            return;
        }
        self.report_at = now + REPORT_INTERVAL;
        let (heap, stack, counts) = (HEAP.usage(), stack::usage(), self.buffers.line.counts());
        let (overrun, unsent) = uart::lost();
        self.report = Report {
            uptime: (now.as_micros() / 1_000) as u32,
            role: role_number(self.raft.role()),
            term: self.raft.term().get() as u32,
            leader: self.raft.leader().map_or(0, |leader| leader.get() as u32),
            frames: counts.frames,
            damaged: counts.damaged,
            overlong: counts.overlong,
            overrun,
            unsent,
            rewrites: self.journal.rewrites(),
            allocations: heap.allocations,
            heap_used_max: heap.used_max as u32,
            stack_used_max: stack.used_max as u32,
            ..self.report
        };
        self.buffers.send(Kind::Report, &self.report.encode());
    }

    /// Until a byte comes in or a deadline; SysTick wakes us once in a millisecond to look.
    fn sleep(&self) {
        let deadline = self.raft.next_deadline();
        interrupt::free(|_| {
            // An interrupt that comes now waits, and ends the sleep as well: none is missed in between.
            if !uart::has_received() && deadline.is_none_or(|deadline| deadline > clock::now()) {
                asm::wfi();
            }
        });
    }
}
