//! What was broken, and the story that led there.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::trace::Record;
use crate::time::Instant;

/// A property that no run may break.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Property {
    /// "At most one leader can be elected in a given term", and no server votes twice in one
    /// (Figure 3, §5.2).
    ElectionSafety,
    /// "A leader never overwrites or deletes entries in its log" (Figure 3, §5.3).
    LeaderAppendOnly,
    /// "If two logs contain an entry with the same index and term, then the logs are identical in
    /// all entries up through the given index" (Figure 3, §5.3).
    LogMatching,
    /// "If a log entry is committed in a given term, then that entry will be present in the logs of
    /// the leaders for all higher-numbered terms" (Figure 3, §5.4); and on the disks of a majority.
    LeaderCompleteness,
    /// "If a server has applied a log entry at a given index to its state machine, no other server
    /// will ever apply a different log entry for the same index" (Figure 3, §5.4.3); and entries
    /// are applied in order, from the disk.
    StateMachineSafety,
    /// In force is the newest configuration in a server's log (§6).
    MembersByLog,
    /// A snapshot is the state after the committed entry with which it ends, and the members at
    /// that entry (§7).
    SnapshotContent,
    /// No message promises what its sender could forget: the promise is on the sender's disk when
    /// the message leaves.
    Durability,
    /// Term, commit index and applied index only grow in the life of a process.
    Monotonicity,
    /// Every queue keeps within its limit.
    BoundedMemory,
    /// The laws of time: no deadline is left behind by a tick, and a tick too many changes nothing.
    LawsOfTime,
    /// A read sees all that was committed when it was asked for (§8).
    FreshReads,
    /// A forwarded command is appended once, and the answer names its own entry.
    Forwarding,
    /// No server receives a message that no correct cluster would send.
    NoImpossibleInput,
    /// A cluster without faults elects and commits within the stated bound.
    Progress,
    /// The clients' histories are linearizable. The simulator records them, and the caller checks
    /// them.
    Linearizability,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ElectionSafety => "Election Safety",
            Self::LeaderAppendOnly => "Leader Append-Only",
            Self::LogMatching => "Log Matching",
            Self::LeaderCompleteness => "Leader Completeness",
            Self::StateMachineSafety => "State Machine Safety",
            Self::MembersByLog => "members by the log",
            Self::SnapshotContent => "snapshot content",
            Self::Durability => "nothing said that could be forgotten",
            Self::Monotonicity => "terms and indexes only grow",
            Self::BoundedMemory => "bounded memory",
            Self::LawsOfTime => "the laws of time",
            Self::FreshReads => "fresh reads",
            Self::Forwarding => "forwarded once",
            Self::NoImpossibleInput => "nothing impossible comes in",
            Self::Progress => "progress",
            Self::Linearizability => "linearizability",
        })
    }
}

/// What was broken, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Violation {
    /// The property.
    pub property: Property,
    /// What was seen, in a sentence.
    pub detail: String,
}

impl Violation {
    /// A violation of this property.
    pub fn new(property: Property, detail: impl Into<String>) -> Self {
        Self { property, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.detail)
    }
}

impl core::error::Error for Violation {}

/// The result of a check. The violation is boxed, so that the path without one stays fast.
pub type Verdict = Result<(), Box<Violation>>;

/// Fails with this property unless the condition holds.
macro_rules! hold {
    ($condition:expr, $property:ident, $($detail:tt)+) => {
        if !$condition {
            return Err($crate::sim::violation::broken(
                $crate::sim::Property::$property,
                alloc::format!($($detail)+),
            ));
        }
    };
}
pub(super) use hold;

#[cold]
pub(super) fn broken(property: Property, detail: String) -> Box<Violation> {
    Box::new(Violation::new(property, detail))
}

/// A run that broke a property, and where. The same seed and plan break it again.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The seed of the cluster.
    pub seed: u64,
    /// When, in virtual time.
    pub at: Instant,
    /// How many events had happened.
    pub event: u64,
    /// What was broken.
    pub violation: Violation,
    /// What happened last, oldest first.
    pub recent: Vec<Record>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, at, event, violation, recent } = self;
        writeln!(f, "seed {seed}, at {at}, event {event}: {violation}")?;
        writeln!(f, "the last events:")?;
        recent.iter().try_for_each(|record| writeln!(f, "  {record}"))
    }
}

impl core::error::Error for Failure {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.violation)
    }
}
