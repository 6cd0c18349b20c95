//! Not to be run: the least image that hears messages, so that `make.sh panics` can look through it
//! for ways to panic.
//!
//! What a peer can reach is [`hear`] and [`turn`]; nothing in them but the core and its codec can
//! panic.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::hint::black_box;

use cortex_m_rt::entry;
use firmware::board;
use firmware::board::heap::CountingHeap;
use firmware::{Command, limits};
use raft_core::{Instant, NodeId, Output, Raft, Restored, codec};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;

#[global_allocator]
static HEAP: CountingHeap = CountingHeap::empty();

type Server = Raft<Command, Pcg32>;

#[entry]
fn main() -> ! {
    let config = limits::config(NodeId::new(3), [1, 2, 3].map(NodeId::new));
    let raft = Raft::new(config, Restored::default(), Pcg32::seed_from_u64(1));
    let mut raft = raft.expect("the configuration is sound");
    let mut bytes = Vec::new();
    loop {
        hear(&mut raft, black_box(&bytes));
        turn(&mut raft, black_box(Instant::ZERO), &mut bytes);
        if black_box(false) {
            board::exit(true);
        }
    }
}

/// Any bytes from a peer.
#[inline(never)]
fn hear(raft: &mut Server, bytes: &[u8]) {
    if let Ok(message) = codec::decode_message(bytes, Command::from) {
        raft.step(message);
    }
}

/// What follows from them.
#[inline(never)]
fn turn(raft: &mut Server, now: Instant, bytes: &mut Vec<u8>) {
    raft.tick(now);
    while let Some(output) = raft.poll_outbox() {
        match output {
            Output::Persist(write) => {
                codec::encode_write(&write, bytes);
                raft.persisted(write.id);
            }
            Output::Send(message) => codec::encode_message(&message, bytes),
            Output::Apply { from, through } => {
                for entry in raft.entries(from, through) {
                    black_box(entry);
                }
                raft.applied(through);
            }
            other => drop(black_box(other)),
        }
    }
    black_box(raft.next_deadline());
}
