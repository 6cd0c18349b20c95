//! A client that keeps a leader busy until it goes, and then looks after what it was promised.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::host::ProposeError;

use crate::runtime::{Answer, Member, Probe};

/// How many commands are on their way at once.
pub const IN_FLIGHT: usize = 64;

/// Between looks at a log that is to hold what was promised.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// A client at work, on a thread of its own.
pub(super) struct Load {
    thread: JoinHandle<Served>,
}

/// What became of the commands.
pub(super) struct Served {
    /// Those that the leader said are committed.
    committed: Vec<Bytes>,
    /// When the last of them was proposed: it was the last that the leader accepted.
    pub(super) last_accepted: Option<Instant>,
    /// Those of which nobody knows what became.
    unknown: usize,
}

struct Proposed {
    command: Bytes,
    at: Instant,
    answer: Answer<Result<usize, ProposeError>>,
}

impl Load {
    /// Begins, and ends when the leader refuses a command. No other client in the life of the cluster has this number.
    pub(super) fn begin(leader: Box<dyn Member>, client: u64) -> Self {
        Self { thread: thread::spawn(move || serve(&*leader, client)) }
    }

    /// What became of all commands.
    ///
    /// # Errors
    ///
    /// The client failed; its panic was printed.
    pub(super) fn end(self) -> io::Result<Served> {
        self.thread.join().map_err(|_| io::Error::other("the client under load failed"))
    }
}

impl Served {
    /// Waits until this log holds all that was promised.
    ///
    /// # Errors
    ///
    /// It does not come to hold it; or nobody knows what became of a command, which an orderly hand-over leaves to no one.
    pub(super) fn hold_to_it(&self, log: &Arc<Probe>, patience: Duration) -> io::Result<()> {
        if self.unknown > 0 {
            let error = format!("{} commands may or may not be committed", self.unknown);
            return Err(io::Error::other(error));
        }
        let until = Instant::now() + patience;
        loop {
            let applied: BTreeSet<_> = log.commands().into_iter().collect();
            let lost = self.committed.iter().filter(|command| !applied.contains(*command)).count();
            if lost == 0 {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("{lost} acknowledged commands are lost")));
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

fn serve(leader: &dyn Member, client: u64) -> Served {
    let mut served = Served { committed: vec![], last_accepted: None, unknown: 0 };
    let mut in_flight = VecDeque::new();
    let mut numbers = 0_u64..;
    let mut refused = false;
    loop {
        while !refused && in_flight.len() < IN_FLIGHT {
            let number = numbers.next().unwrap_or_default();
            let command = Bytes::from([client.to_le_bytes(), number.to_le_bytes()].concat());
            let at = Instant::now();
            let answer = leader.propose(command.clone());
            in_flight.push_back(Proposed { command, at, answer });
        }
        let Some(Proposed { command, at, answer }) = in_flight.pop_front() else {
            return served;
        };
        match answer.wait("an answer to a command") {
            Ok(_) => {
                served.committed.push(command);
                served.last_accepted = served.last_accepted.max(Some(at));
            }
            Err(error) => {
                refused = true;
                served.unknown += usize::from(error.may_commit());
            }
        }
    }
}
