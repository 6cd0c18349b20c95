//! A client that keeps a leader busy until it goes, and then looks after what it was promised.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::host::ProposeError;
use runtimes::{Answer, Member, Probe};

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
    /// Those that the leader did not refuse.
    accepted: Vec<Bytes>,
    /// When the last of them was proposed.
    pub(super) last_accepted: Option<Instant>,
    /// Those of them whose client was told that they may be committed, for its leader went before
    /// it knew.
    pub(super) unanswered: u64,
}

struct Proposed {
    command: Bytes,
    at: Instant,
    answer: Answer<Result<usize, ProposeError>>,
}

impl Load {
    /// Begins, and ends when the leader refuses a command. No other client in the life of the
    /// cluster has this number.
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
    /// Waits until this log holds all that the leader accepted, answered or not.
    ///
    /// # Errors
    ///
    /// It does not come to hold it.
    pub(super) fn hold_to_it(&self, log: &Arc<Probe>, patience: Duration) -> io::Result<()> {
        let until = Instant::now() + patience;
        loop {
            let applied: BTreeSet<_> = log.commands().into_iter().collect();
            let lost = self.accepted.iter().filter(|command| !applied.contains(*command)).count();
            if lost == 0 {
                return Ok(());
            }
            if Instant::now() > until {
                let all = self.accepted.len();
                return Err(io::Error::other(format!("{lost} of {all} commands are lost")));
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

fn serve(leader: &dyn Member, client: u64) -> Served {
    let mut served = Served { accepted: vec![], last_accepted: None, unanswered: 0 };
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
        let (is_accepted, is_answered) = match answer.wait("an answer to a command") {
            Ok(_) => (true, true),
            Err(error) => (error.may_commit(), !error.may_commit()),
        };
        refused |= !(is_accepted && is_answered);
        if is_accepted {
            served.accepted.push(command);
            served.last_accepted = served.last_accepted.max(Some(at));
            served.unanswered += u64::from(!is_answered);
        }
    }
}
