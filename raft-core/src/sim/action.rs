//! What can be done to a cluster: each action of a plan. How each is done, and how it ends, is in
//! `faults.rs`.

use core::fmt;
use core::time::Duration;

use super::delay::Delay;
use super::disk::Crash;
use super::network::{Network, Partition};
use crate::time::Instant;
use crate::types::NodeId;

/// One step of a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// When, in virtual time.
    pub at: Instant,
    /// The action.
    pub action: Action,
}

/// Something that is done to a cluster. A fault that lasts says for how long, so a plan stays whole
/// when steps are left out.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Action {
    /// A client asks for what the workload makes of this draw.
    Ask {
        /// Which client.
        client: u64,
        /// Chooses what the client asks for, and which server it asks first.
        draw: u64,
    },
    /// The network gets worse.
    Weather {
        /// The network meanwhile.
        network: Network,
        /// For how long.
        span: Duration,
    },
    /// Messages from one server to another no longer pass.
    CutOneWay {
        /// The sender, which is not heard.
        from: NodeId,
        /// The receiver, which does not hear the sender.
        to: NodeId,
        /// For how long.
        span: Duration,
    },
    /// The cluster is divided.
    Divide {
        /// How.
        partition: Partition,
        /// For how long.
        span: Duration,
    },
    /// A server is killed, and starts again.
    Crash {
        /// Which.
        target: Target,
        /// What becomes of its unsynced writes.
        crash: Crash,
        /// How long it is down.
        span: Duration,
    },
    /// The next sync of a server fails, which stops it; it starts again.
    FailWrite {
        /// Which server.
        target: Target,
        /// When it starts again, from now.
        span: Duration,
    },
    /// A disk is slow.
    SlowDisk {
        /// Whose.
        target: Target,
        /// How long a sync takes meanwhile.
        latency: Delay,
        /// For how long.
        span: Duration,
    },
    /// A disk says nothing.
    StickDisk {
        /// Whose.
        target: Target,
        /// For how long.
        span: Duration,
    },
    /// A server stands still.
    Pause {
        /// Which.
        target: Target,
        /// For how long.
        span: Duration,
    },
    /// All servers stand still at once, and their clocks run on. When a server wakes, it reads its
    /// clock before it handles the messages that came meanwhile.
    PauseAll {
        /// For how long.
        span: Duration,
    },
    /// A server neither hears nor is heard.
    CutOff {
        /// Which.
        target: Target,
        /// For how long.
        span: Duration,
    },
    /// A server receives no message, and its own messages arrive.
    Deafen {
        /// Which.
        target: Target,
        /// For how long.
        span: Duration,
    },
    /// Every server is asked for a read.
    ReadEverywhere,
    /// A clock goes fast or slow.
    ClockRate {
        /// Whose.
        target: Target,
        /// Its rate, in millionths of true time.
        rate_ppm: u32,
        /// For how long.
        span: Duration,
    },
    /// A clock jumps.
    ClockJump {
        /// Whose.
        target: Target,
        /// By how much, in microseconds.
        by_micros: i64,
    },
    /// All work of a server on snapshot files fails.
    FailFiles {
        /// The server.
        target: Target,
        /// For how long.
        span: Duration,
    },
    /// The leader is asked to change the membership.
    Change {
        /// In which way.
        churn: Churn,
        /// Chooses the servers that take part.
        draw: u64,
    },
    /// The leader is asked to hand over.
    Transfer {
        /// To whom.
        draw: u64,
    },
    /// A server is asked for a snapshot.
    TakeSnapshot {
        /// Which server.
        target: Target,
    },
    /// A server is told that the connection to its leader died, although it did not.
    Hint {
        /// Which server.
        target: Target,
    },
    /// A message of the past arrives again.
    Stale {
        /// Which.
        draw: u64,
    },
    /// A message of the past arrives at a server that it is not for.
    Misroute {
        /// Which, and where.
        draw: u64,
    },
    /// A message of the past arrives as if from a server that is no member.
    Stranger {
        /// Which.
        draw: u64,
    },
}

/// The server that an action is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// This server.
    Server(NodeId),
    /// The leader of the newest term at that moment. If there is no leader, the action has no
    /// effect.
    Leader,
    /// The server that was started last of all.
    Newest,
}

/// A way to change the membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Churn {
    /// A new server becomes a learner.
    Join,
    /// A learner becomes a voter.
    Promote,
    /// A voter becomes a learner.
    Demote,
    /// A member leaves, and is switched off later, or not.
    Remove,
    /// All at once: a learner replaces a voter that leaves, and a new server becomes a learner.
    Replace,
    /// A member gets another priority.
    Prioritise,
}

impl fmt::Display for Churn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Join => "a new server joins",
            Self::Promote => "a learner becomes a voter",
            Self::Demote => "a voter becomes a learner",
            Self::Remove => "a member leaves",
            Self::Replace => "a learner takes the place of a voter, and a new server joins",
            Self::Prioritise => "a member gets another priority",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(id) => write!(f, "S{id}"),
            Self::Leader => f.write_str("the leader"),
            Self::Newest => f.write_str("the newest server"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.at, self.action)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask { client, draw } => write!(f, "client {client} asks (draw {draw})"),
            Self::Weather { network, span } => write!(f, "for {span:?} the network is {network:?}"),
            Self::CutOneWay { from, to, span } => {
                write!(f, "for {span:?} S{to} does not hear S{from}")
            }
            Self::Divide { partition, span } => {
                write!(f, "for {span:?} the cluster is divided: {partition:?}")
            }
            Self::Crash { target, crash, span } => {
                write!(f, "{target} crashes ({crash:?}), starts after {span:?}")
            }
            Self::FailWrite { target, span } => {
                write!(f, "the next sync of {target} fails, it starts after {span:?}")
            }
            Self::SlowDisk { target, latency, span } => {
                write!(f, "for {span:?} the disk of {target} is slow: {latency:?}")
            }
            Self::StickDisk { target, span } => {
                write!(f, "for {span:?} the disk of {target} is stuck")
            }
            Self::Pause { target, span } => write!(f, "for {span:?} {target} stands still"),
            Self::PauseAll { span } => write!(f, "for {span:?} all servers stand still"),
            Self::CutOff { target, span } => write!(f, "for {span:?} {target} is cut off"),
            Self::Deafen { target, span } => write!(f, "for {span:?} {target} hears nobody"),
            Self::ReadEverywhere => f.write_str("every server is asked for a read"),
            Self::ClockRate { target, rate_ppm, span } => {
                write!(f, "for {span:?} the clock of {target} runs at {rate_ppm} ppm")
            }
            Self::ClockJump { target, by_micros } => {
                write!(f, "the clock of {target} jumps by {by_micros} µs")
            }
            Self::FailFiles { target, span } => {
                write!(f, "for {span:?} {target} cannot read or write snapshot files")
            }
            Self::Change { churn, draw } => write!(f, "membership: {churn} (draw {draw})"),
            Self::Transfer { draw } => write!(f, "the leader is to hand over (draw {draw})"),
            Self::TakeSnapshot { target } => write!(f, "{target} is asked for a snapshot"),
            Self::Hint { target } => {
                write!(f, "{target} is told that the connection to its leader died")
            }
            Self::Stale { draw } => write!(f, "a message of the past comes again (draw {draw})"),
            Self::Misroute { draw } => {
                write!(f, "a message of the past comes to another server (draw {draw})")
            }
            Self::Stranger { draw } => {
                write!(f, "a message of the past comes as from a stranger (draw {draw})")
            }
        }
    }
}
