//! The threads of a node under every order of their steps that a scheduler comes up with.
//!
//! ```sh
//! RUSTFLAGS='--cfg raft_shuttle' cargo test -p raft-core --features std --lib interleavings
//! ```
//!
//! `shuttle` runs one thread at a time. After each step on a lock, an atomic, a channel or a
//! thread, it chooses which thread goes on. If all threads wait, or a thread is left that nobody
//! ends, the test fails and prints the order of steps. A wait with a timeout never times out here,
//! so no wake-up may be missing. All threads see all stores at once: the tests say nothing about
//! the orderings of atomics.
//!
//! The same seed gives the same runs. `SHUTTLE_RANDOM_SEED` sets another seed, and `RAFT_RUNS` the
//! number of runs of each scheduler.

use std::string::String;
use std::sync::Arc;

use bytes::Bytes;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::{Condvar, Mutex};
use shuttle::{Config, Runner};

use crate::host::state_machine::StateMachine;
use crate::types::Index;

mod ending;
mod inbox;
mod leadership;
mod threads;
mod whole_node;

/// How many runs of a test each scheduler makes.
const RUNS: usize = 2000;

/// The seed of the first run.
const SEED: u64 = 14;

/// How often a run of the second scheduler takes a thread's turn away from it. Few faults need
/// more.
const CHANGES_OF_TURN: usize = 3;

/// The stack of a thread, in bytes.
const STACK_BYTES: usize = 1 << 18;

/// Runs `body` under many orders of its threads' steps: half of them are random, and in the other
/// half one thread runs for as long as it can, with few changes of turn.
fn explore(body: impl Fn() + Send + Sync + 'static) {
    let runs = std::env::var("RAFT_RUNS").ok();
    explore_runs(runs.and_then(|runs: String| runs.parse().ok()).unwrap_or(RUNS), body);
}

fn explore_runs(runs: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    let body = Arc::new(body);
    let again = Arc::clone(&body);
    let random = RandomScheduler::new_from_seed(SEED, runs);
    Runner::new(random, config.clone()).run(move || body());
    let pct = PctScheduler::new_from_seed(SEED, CHANGES_OF_TURN, runs);
    Runner::new(pct, config).run(move || again());
}

/// An adapter's wake hook and the wait of its loop.
#[derive(Default)]
struct Bell {
    state: Mutex<BellState>,
    changed: Condvar,
}

#[derive(Default)]
struct BellState {
    is_rung: bool,
    rings: usize,
}

impl Bell {
    fn ring(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_rung = true;
        state.rings += 1;
        self.changed.notify_all();
    }

    /// Waits for a ring since the last wait.
    fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        while !state.is_rung {
            state = self.changed.wait(state).unwrap();
        }
        state.is_rung = false;
    }

    /// Whether the bell was rung since the last wait.
    fn was_rung(&self) -> bool {
        std::mem::take(&mut self.state.lock().unwrap().is_rung)
    }

    fn rings(&self) -> usize {
        self.state.lock().unwrap().rings
    }
}

/// A state machine that counts commands.
#[derive(Default)]
struct Count(u64);

impl StateMachine for Count {
    type Reply = u64;

    fn apply(&mut self, _index: Index, _command: Bytes) -> u64 {
        self.0 += 1;
        self.0
    }
}
