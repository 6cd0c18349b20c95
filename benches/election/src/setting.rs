//! What a trial is: how many servers, which timeouts, on what, and what befalls the leader.

use std::fmt;
use std::io;
use std::time::Duration;

use raft_core::host::Faults;
use raft_core::{Adaptive, Config, NodeId};
use runtimes::{Runtime, Smol, Threads, Tokio};

/// The runtimes that are measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum On {
    /// tokio with two threads.
    Tokio,
    /// tokio with one thread.
    TokioCurrent,
    /// smol's global executor.
    Smol,
    /// async-std's executor.
    AsyncStd,
    /// Plain threads.
    Threads,
}

impl On {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Tokio, Self::TokioCurrent, Self::Smol, Self::AsyncStd, Self::Threads];

    /// As benches and reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::TokioCurrent => "tokio-current",
            Self::Smol => "smol",
            Self::AsyncStd => "async-std",
            Self::Threads => "threads",
        }
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// The operating system gives no threads.
    pub fn start(self) -> io::Result<Box<dyn Runtime>> {
        Ok(match self {
            Self::Tokio => Box::new(Tokio::multi_thread()?),
            Self::TokioCurrent => Box::new(Tokio::current_thread()?),
            Self::Smol => Box::new(Smol::global()),
            Self::AsyncStd => Box::new(Smol::of_async_std()),
            Self::Threads => Box::new(Threads),
        })
    }
}

/// What befalls the leader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Failure {
    /// There is none yet: all servers start at once.
    Cold,
    /// Nothing that it says is heard any more, and no connection is closed: a host that lost its
    /// power, a cable that was cut.
    Silence,
    /// Its process ends: the operating system closes its connections. Over channels there are none,
    /// and it is silence.
    Kill,
    /// It is told to shut down.
    Handover,
    /// The same while a client keeps [`IN_FLIGHT`](super::load::IN_FLIGHT) commands on their way,
    /// none of which may be lost.
    LoadedHandover,
    /// It falls silent together with the follower that would have stood first.
    WithSuccessor,
    /// It falls silent when followers already have, as many as leave a bare majority.
    BareMajority,
    /// The operating system ends its process: SIGKILL. Each server is a process of its own.
    Sigkill,
    /// Its process is stopped and keeps its connections: SIGSTOP, a grey failure.
    Sigstop,
}

impl Failure {
    /// Those of the bench.
    pub const BENCHED: [Self; 4] = [Self::Cold, Self::Silence, Self::Kill, Self::Handover];

    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Cold,
        Self::Silence,
        Self::Kill,
        Self::Handover,
        Self::LoadedHandover,
        Self::WithSuccessor,
        Self::BareMajority,
        Self::Sigkill,
        Self::Sigstop,
    ];

    /// What happens, in a sentence.
    pub fn about(self) -> &'static str {
        match self {
            Self::Cold => {
                "All servers start at once; from then on, though nobody was without a leader before."
            }
            Self::Silence => {
                "Nothing passes to or from the leader any more; no connection is closed."
            }
            Self::Kill => "The same, and its sockets are closed as the end of its process would.",
            Self::Handover => "It is told to shut down.",
            Self::LoadedHandover => {
                "It is told to shut down while a client keeps 64 commands on their way. The time is \
                 from when the last command was proposed that it accepted. Every trial asserts that its successor has all of \
                 these; unanswered are those of which the client was told only that they may be committed."
            }
            Self::WithSuccessor => {
                "Silence of the leader and of the follower with the first deadline, both at once."
            }
            Self::BareMajority => {
                "Silence of the leader when one of five has been silent before: all that are left are needed."
            }
            Self::Sigkill => "Each server is a process, and the leader's gets SIGKILL.",
            Self::Sigstop => {
                "Each server is a process, and the leader's gets SIGSTOP: it does nothing and keeps its connections."
            }
        }
    }

    /// As benches and reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Silence => "silence",
            Self::Kill => "kill",
            Self::Handover => "handover",
            Self::LoadedHandover => "loaded-handover",
            Self::WithSuccessor => "with-successor",
            Self::BareMajority => "bare-majority",
            Self::Sigkill => "sigkill",
            Self::Sigstop => "sigstop",
        }
    }

    /// Whether the leader announces its end, so that no follower waits for a deadline.
    pub fn is_planned(self) -> bool {
        matches!(self, Self::Handover | Self::LoadedHandover)
    }

    /// Whether connections of the leader are closed, which followers may notice before any
    /// deadline.
    pub fn closes_connections(self) -> bool {
        matches!(self, Self::Kill | Self::Sigkill)
    }
}

/// How messages travel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Wire {
    /// In process, from loop to loop.
    Channels,
    /// TCP on the loopback.
    Tcp,
}

impl Wire {
    /// As benches and reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Channels => "channels",
            Self::Tcp => "tcp",
        }
    }
}

/// Where writes become durable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Disk {
    /// In memory, at once.
    Memory,
    /// In files, with fdatasync, in the system's directory for temporary files.
    Fsync,
}

impl Disk {
    /// As benches and reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Fsync => "fsync",
        }
    }
}

/// Everything that is chosen about a trial but the runtime and the seed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Setting {
    /// How many servers.
    pub servers: usize,
    /// What befalls the leader.
    pub failure: Failure,
    /// How messages travel.
    pub wire: Wire,
    /// Where writes become durable.
    pub disk: Disk,
    /// When servers stand.
    pub timing: Timing,
    /// What the network adds; for channels alone.
    pub link: Link,
}

/// What a network adds to each message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Link {
    /// How long it is on its way.
    pub delay: Duration,
    /// How many of a thousand are lost.
    pub loss_per_mille: u16,
}

impl Link {
    /// Nothing.
    pub const PERFECT: Self = Self { delay: Duration::ZERO, loss_per_mille: 0 };

    /// As the in-process network takes it.
    pub fn faults(self) -> Faults {
        Faults {
            drop: f64::from(self.loss_per_mille) / 1000.0,
            delay_min: self.delay,
            delay_max: self.delay,
            ..Faults::default()
        }
    }
}

impl Setting {
    /// On what servers run, in words.
    pub fn medium(&self) -> String {
        let Self { wire, disk, link, .. } = *self;
        let mut medium = format!("{}, {}", wire.name(), disk.name());
        if !link.delay.is_zero() {
            medium += &format!(", {} ms each way", link.delay.as_secs_f64() * 1e3);
        }
        if link.loss_per_mille > 0 {
            medium += &format!(", {} % lost", f64::from(link.loss_per_mille) / 10.0);
        }
        medium
    }
}

/// All that is chosen, in words.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, failure, timing, .. } = self;
        write!(f, "{}, {timing}, {}, N = {servers}", failure.name(), self.medium())
    }
}

/// When servers stand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Timing {
    /// The smallest election timeout.
    pub min: Duration,
    /// The end of the range of election timeouts.
    pub max: Duration,
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// Between the ranks of successors; none: all timeouts are random.
    pub rank_slot: Option<Duration>,
    /// How far the timeouts may adapt to the network; none: they stay as they are.
    pub floor: Option<Duration>,
    /// Whether servers ask before they stand.
    pub pre_vote: bool,
}

impl Timing {
    /// Random timeouts of this many milliseconds, with heartbeats as in the paper's Figure 16: half
    /// of the smallest timeout.
    pub const fn paper(min: u64, max: u64) -> Self {
        Self {
            min: Duration::from_millis(min),
            max: Duration::from_millis(max),
            heartbeat: Duration::from_micros(min * 1000 / 2),
            rank_slot: None,
            floor: None,
            pre_vote: true,
        }
    }

    /// The same with ranks, a slot apart.
    pub const fn ranked(self, slot: Duration) -> Self {
        Self { rank_slot: Some(slot), ..self }
    }

    /// The same, adapting down to this.
    pub const fn adaptive(self, floor: Duration) -> Self {
        Self { floor: Some(floor), ..self }
    }

    /// What a server is told.
    pub fn config(&self, id: NodeId, servers: usize) -> Config {
        Config {
            election_timeout_min: self.min,
            election_timeout_max: self.max,
            heartbeat_interval: self.heartbeat,
            rank_slot: self.rank_slot,
            adaptive: self.floor.map(|floor| Adaptive { election_timeout_floor: floor }),
            pre_vote: self.pre_vote,
            ..Config::new(id, (1..=servers as u64).map(NodeId::new))
        }
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{} ms", self.min.as_millis(), self.max.as_millis())?;
        match self.rank_slot {
            Some(slot) => write!(f, ", ranks {} ms apart", slot.as_secs_f64() * 1e3)?,
            None => f.write_str(", random")?,
        }
        match self.floor {
            Some(floor) => write!(f, ", adapting down to {} ms", floor.as_millis()),
            None => Ok(()),
        }
    }
}
