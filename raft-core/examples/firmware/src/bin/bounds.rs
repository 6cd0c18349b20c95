//! Fills a server to its bounds, in a heap of the size that the node has, and says how near the end
//! it came.
//!
//! Two leaders that no server would follow for long send it whatever makes it hold more: a log of
//! the commands that take most memory, none of which is committed; terms that begin and end with
//! nothing done; snapshots, whole and not; messages that are too long; votes that make it lead, and
//! commands then. Ends with success only if the heap sufficed, and the reserve for one message as
//! well.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;

use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use firmware::board::heap::CountingHeap;
use firmware::board::{self, stack};
use firmware::journal::Journal;
use firmware::limits::{BATCH_BYTES_MAX, HEAP_BYTES, LOG_BYTES_MAX, LOG_ENTRIES_MAX};
use firmware::line::BODY_BYTES_MAX;
use firmware::server::{RESERVE_BYTES, Server};
use firmware::{Command, command, snapshot};
use raft_core::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Entry, Index, InstallSnapshot, Instant,
    LogId, Membership, Message, NodeId, Payload, RequestPreVoteReply, RequestVote,
    RequestVoteReply, Role, Round, Session, SnapshotMeta, Term, codec,
};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

#[global_allocator]
static HEAP: CountingHeap = CountingHeap::empty();

const FLASH_BYTES: usize = 24 * 1024;
const PAGE_BYTES: usize = 1024;
const ERASED: u8 = 0xff;
const MESSAGES: usize = 6000;
/// Of commands that fill the log, these leave most of its bytes to what is not counted.
const COMMAND: [u8; 57] = [7; 57];

/// A chip in RAM, that never fails.
struct RamFlash(&'static mut [u8; FLASH_BYTES]);

impl ErrorType for RamFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for RamFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        let held = self.0.get(offset as usize..).and_then(|held| held.get(..bytes.len()));
        bytes.copy_from_slice(held.ok_or(NorFlashErrorKind::OutOfBounds)?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH_BYTES
    }
}

impl NorFlash for RamFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE_BYTES;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        let held = self.0.get_mut(from as usize..to as usize);
        held.ok_or(NorFlashErrorKind::OutOfBounds)?.fill(ERASED);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        let held = self.0.get_mut(offset as usize..).and_then(|held| held.get_mut(..bytes.len()));
        held.ok_or(NorFlashErrorKind::OutOfBounds)?.copy_from_slice(bytes);
        Ok(())
    }
}

struct Flood {
    server: Server<RamFlash>,
    rng: Pcg32,
    now: Instant,
    /// Where messages are encoded: not the server's.
    body: Vec<u8>,
    /// The most that a message and all that followed from it took.
    turn_max: usize,
    entries_max: u64,
    led: u32,
    /// What the last question of the server's was numbered with.
    campaign: u64,
}

#[entry]
fn main() -> ! {
    // The buffer is the flood's.
    let memory = cortex_m::singleton!(: [u8; HEAP_BYTES + BODY_BYTES_MAX + 8] = [0; HEAP_BYTES + BODY_BYTES_MAX + 8]);
    HEAP.init(memory.expect("main runs once"));
    let body = Vec::with_capacity(BODY_BYTES_MAX);
    let flash = cortex_m::singleton!(: [u8; FLASH_BYTES] = [ERASED; FLASH_BYTES]);
    let Ok(opened) = Journal::open(RamFlash(flash.expect("main runs once"))) else {
        board::exit(false)
    };
    let Ok(server) = Server::new(NodeId::new(3), opened, 3) else { board::exit(false) };
    let (rng, now) = (Pcg32::seed_from_u64(7), Instant::ZERO);
    let mut flood =
        Flood { server, rng, now, body, turn_max: 0, entries_max: 0, led: 0, campaign: 0 };
    for phase in 0..4 {
        flood.fill(phase);
        for _ in 0..MESSAGES / 4 {
            flood.next();
        }
    }
    let (counts, heap) = (flood.server.counts(), HEAP.usage());
    let used_max = heap.used_max - BODY_BYTES_MAX;
    hprintln!("| a server at its bounds | bytes | of |");
    hprintln!("|---|---|---|");
    hprintln!("| its heap at most | {} | {} |", used_max, HEAP_BYTES);
    hprintln!("| a message and what follows, at most | {} | {} |", flood.turn_max, RESERVE_BYTES);
    hprintln!("| the log's entries at most | {} | {} |", flood.entries_max, LOG_ENTRIES_MAX);
    hprintln!();
    hprintln!(
        "of {} messages: {} refused for want of memory, {} of too many parts; led {} times, took {} snapshots, was sent {}",
        MESSAGES,
        counts.starved,
        counts.undecodable,
        flood.led,
        counts.taken,
        counts.installed
    );
    let everything =
        flood.led > 0 && counts.taken > 0 && counts.installed > 0 && counts.starved > 0;
    let within = flood.turn_max <= RESERVE_BYTES && used_max < HEAP_BYTES && stack::is_intact();
    hprintln!("{}", if everything && within { "done" } else { "FAILED" });
    board::exit(everything && within)
}

impl Flood {
    /// A log of as many bytes as it takes, and then of terms; nothing is committed.
    fn fill(&mut self, phase: u64) {
        for _ in 0..LOG_BYTES_MAX / BATCH_BYTES_MAX * 3 {
            let (payload, count) = match phase % 2 {
                0 => (Payload::Command(command(&COMMAND)), 2),
                _ => (Payload::Command(command(&[])), 8),
            };
            self.append(0, count, &payload, false);
        }
        for _ in 0..LOG_ENTRIES_MAX {
            self.append(1, 1, &Payload::Noop, false);
        }
    }

    fn next(&mut self) {
        let kind = self.rng.next_u32() % 16;
        let term = self.server.raft().term();
        let (_, last) = self.server.raft().log_range();
        match kind {
            0..=2 => self.append(0, 2, &Payload::Command(command(&COMMAND)), true),
            3 => self.append(0, 8, &Payload::Command(command(&[])), false),
            4 => self.append(1, 1, &Payload::Noop, kind == 4),
            5 => self.append(0, 200, &Payload::Noop, true),
            6 => {
                let membership = Membership::of_voters([1, 2, 3].map(NodeId::new));
                self.append(0, 1, &Payload::Configuration(membership.into()), false);
            }
            7 => {
                // Long enough for an election.
                self.now = self.now + core::time::Duration::from_secs(2);
                self.turn();
            }
            8..=10 => {
                let campaign = self.campaign;
                let granted = RequestPreVoteReply { granted: true, campaign };
                self.hear(term, Body::RequestPreVoteReply(granted));
                let term = self.server.raft().term();
                let granted = RequestVoteReply { granted: true, last_log: last };
                self.hear(term, Body::RequestVoteReply(granted));
            }
            11 => {
                let last_log = LogId::new(term, Index::new(u64::MAX / 2));
                self.hear(term.next(), Body::RequestVote(RequestVote { last_log, transfer: true }));
            }
            12 => self.install(last),
            _ => {
                for _ in 0..4 {
                    let has_memory = HEAP.has_block(RESERVE_BYTES);
                    self.measured(|server| server.propose(&COMMAND, has_memory));
                }
                self.turn();
                let session = Session::new(u64::from(self.rng.next_u32() % 4));
                let result = AppendResult::Matched(self.server.raft().log_range().1.index);
                let reply = AppendEntriesReply {
                    session,
                    round: Round::new(u64::MAX),
                    result,
                    promise_micros: 0,
                    state: None,
                };
                self.hear(term, Body::AppendEntriesReply(reply));
            }
        }
    }

    /// Entries behind the server's last, from a leader of its own term or a later one.
    fn append(&mut self, newer: u64, count: u64, payload: &Payload<Command>, commit: bool) {
        let term = Term::new(self.server.raft().term().get() + newer);
        let prev_log = self.server.raft().log_range().1;
        let entry = |index| Entry { term, index: Index::new(index), payload: payload.clone() };
        let first = prev_log.index.get() + 1;
        let append = AppendEntries {
            session: Session::new(1),
            round: Round::new(u64::from(self.rng.next_u32())),
            prev_log,
            entries: (first..first + count.min(8)).map(entry).collect(),
            leader_commit: if commit { prev_log.index } else { Index::ZERO },
            rank: None,
            election_timeout_micros: None,
            takes_proposals: true,
        };
        self.hear(term, Body::AppendEntries(append));
        if count > 8 {
            // Too many for memory, here as there.
            self.body.truncate(20);
            self.body.resize(20 + count as usize, 0xf6);
            let (body, has_memory) =
                (core::mem::take(&mut self.body), HEAP.has_block(RESERVE_BYTES));
            self.measured(|server| server.hear(&body, has_memory));
            self.body = body;
        }
    }

    /// A snapshot of something behind the server's last entry.
    fn install(&mut self, last: LogId) {
        let term = self.server.raft().term();
        let membership = Membership::of_voters([1, 2, 3].map(NodeId::new));
        let last = LogId::new(term, Index::new(last.index.get() + 5));
        let meta = SnapshotMeta { last, membership };
        let mut bytes = Vec::new();
        snapshot::encode(&meta, &[1; 8], &mut bytes);
        let (chunk, session) = (command(&bytes), Session::new(1));
        drop(bytes);
        let snapshot = Box::new(meta);
        let install = InstallSnapshot { session, snapshot, offset: 0, chunk, done: true };
        self.hear(term, Body::InstallSnapshot(install));
    }

    fn hear(&mut self, term: Term, body: Body<Command>) {
        let message = Message { from: NodeId::new(1), to: NodeId::new(3), term, body };
        self.body.clear();
        codec::encode_message(&message, &mut self.body);
        drop(message);
        let body = core::mem::take(&mut self.body);
        let has_memory = HEAP.has_block(RESERVE_BYTES);
        self.measured(|server| server.hear(&body, has_memory));
        self.body = body;
        self.turn();
    }

    fn turn(&mut self) {
        self.now = self.now + core::time::Duration::from_millis(1);
        let (now, mut campaign) = (self.now, self.campaign);
        self.measured(|server| {
            let done = server.turn(now, |_, body| {
                if let Ok(message) = codec::decode_message(body, command) {
                    if let Body::RequestPreVote(request) = message.body {
                        campaign = request.campaign;
                    }
                }
            });
            if let Err(error) = done {
                hprintln!("bounds: {}", error);
                board::exit(false)
            }
        });
        self.led += u32::from(self.server.raft().role() == Role::Leader);
        self.campaign = campaign;
    }

    fn measured(&mut self, work: impl FnOnce(&mut Server<RamFlash>)) {
        let before = HEAP.usage();
        HEAP.forget_used_max();
        work(&mut self.server);
        let after = HEAP.usage();
        self.turn_max = self.turn_max.max(after.used_max - before.used);
        HEAP.raise_used_max(before.used_max);
        let (base, last) = self.server.raft().log_range();
        self.entries_max = self.entries_max.max(last.index.get() - base.index.get());
    }
}
