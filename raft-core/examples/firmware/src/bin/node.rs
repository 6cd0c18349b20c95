//! One server in an image of its own: the core, a serial line to its peers, and a journal in flash.
//!
//! It is told who it is by the emulator's command line: `ID FLASH_FILE`, of a cluster of the
//! servers 1, 2 and 3. The bridge at the other end of the line carries the messages to the servers
//! that they name.
#![no_std]
#![no_main]

use cortex_m::{asm, interrupt};
use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use firmware::board::flash::FileFlash;
use firmware::board::heap::CountingHeap;
use firmware::board::{self, clock, semihosting, stack, uart};
use firmware::journal::{Journal, Opened};
use firmware::limits::HEAP_BYTES;
use firmware::line::{self, Decoder, FRAME_BYTES_MAX, Kind};
use firmware::report::{Report, role_number};
use firmware::server::{RESERVE_BYTES, Server};
use raft_core::{Instant, NodeId, Role};

#[global_allocator]
static HEAP: CountingHeap = CountingHeap::empty();

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
    match Journal::open(flash) {
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
    server: Server<FileFlash>,
    buffers: &'static mut Buffers,
    torn: bool,
    role: Role,
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
    fn new(id: NodeId, opened: Opened<FileFlash>, buffers: &'static mut Buffers) -> Self {
        let torn = opened.torn;
        // Where there is a hardware generator, it is handed to the core as it is, or gives the
        // seed.
        let seed = semihosting::time() ^ id.get().rotate_left(56);
        let server = Server::new(id, opened, seed).unwrap_or_else(|error| fail(error));
        uart::start();
        Self { server, buffers, torn, role: Role::Follower, report_at: Instant::ZERO }
    }

    fn run(mut self) -> ! {
        loop {
            let more = self.take_input();
            let Self { server, buffers, .. } = &mut self;
            if let Err(error) =
                server.turn(clock::now(), |_, body| buffers.send(Kind::Message, body))
            {
                fail(error);
            }
            uart::pump();
            self.say_how_it_is();
            if !stack::is_intact() {
                fail("the stack has reached its end");
            }
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
            let has_memory = HEAP.has_block(RESERVE_BYTES);
            match frame.kind {
                Kind::Message => self.server.hear(frame.body, has_memory),
                Kind::Propose => self.server.propose(frame.body, has_memory),
                Kind::Report => {}
            }
        }
        true
    }

    fn say_how_it_is(&mut self) {
        let (now, raft) = (clock::now(), self.server.raft());
        if now < self.report_at && self.role == raft.role() {
            return;
        }
        self.role = raft.role();
        self.report_at = now + REPORT_INTERVAL;
        let (heap, stack, line) = (HEAP.usage(), stack::usage(), self.buffers.line.counts());
        let (overrun, unsent) = uart::lost();
        let (state, counts) = (self.server.state(), self.server.counts());
        let report = Report {
            uptime: (now.as_micros() / 1_000) as u32,
            role: role_number(raft.role()),
            term: raft.term().get() as u32,
            leader: raft.leader().map_or(0, |leader| leader.get() as u32),
            applied: state.applied as u32,
            commands: state.commands,
            digest: state.digest,
            refused: counts.refused,
            frames: line.frames,
            damaged: line.damaged,
            overlong: line.overlong,
            overrun,
            undecodable: counts.undecodable,
            starved: counts.starved,
            unsent,
            torn: self.torn.into(),
            taken: counts.taken,
            installed: counts.installed,
            rewrites: self.server.rewrites(),
            allocations: heap.allocations,
            heap_used_max: heap.used_max as u32,
            stack_used_max: stack.used_max as u32,
        };
        self.buffers.send(Kind::Report, &report.encode());
    }

    /// Until a byte comes in or a deadline; SysTick wakes us once in a millisecond to look.
    fn sleep(&self) {
        let deadline = self.server.raft().next_deadline();
        interrupt::free(|_| {
            // An interrupt that comes now waits, and ends the sleep as well: none is missed in
            // between.
            if !uart::has_received() && deadline.is_none_or(|deadline| deadline > clock::now()) {
                asm::wfi();
            }
        });
    }
}
