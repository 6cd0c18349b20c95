//! What a run was made of.

use core::fmt;
use core::ops::AddAssign;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident: $title:literal,)*) => {
        /// How often things happened. Counts of several runs add up.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl AddAssign for Counts {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl fmt::Display for Counts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "  {:>13}  {}", self.$name, $title)?;)*
                Ok(())
            }
        }
    };
}

counts! {
    /// Events: arrivals, syncs, timers, steps of the plan.
    events: "events",
    /// Messages sent, lost or not.
    messages: "messages sent",
    /// Messages that ask for an answer.
    requests: "... of them requests",
    /// What the messages would be on the wire, in bytes.
    bytes: "... bytes of all",
    /// Elections won.
    elections: "elections won",
    /// Times when a healthy cluster was watched for a while.
    calm_watches: "clusters watched in the calm",
    /// Elections won during that time, although no fault had struck.
    needless_elections: "... needless elections in it",
    /// Entries that were committed.
    commits: "entries committed",
    /// Syncs of disks.
    syncs: "disk syncs",
    /// Operations of clients that began.
    operations: "client operations begun",
    /// Operations that were answered.
    answers: "... of them answered",
    /// Operations that were lost for certain.
    lost_operations: "... of them lost for certain",
    /// Reads that a follower accepted.
    follower_reads: "... reads asked of followers",
    /// Commands that a follower forwarded to its leader.
    forwards: "... commands forwarded",
    /// Restarts.
    restarts: "restarts",
    /// Snapshots taken.
    snapshots: "snapshots taken",
    /// Snapshots of a leader that replaced a follower's state machine.
    restores: "snapshots installed",
    /// Servers that joined, with an empty disk and an id of their own.
    joiners: "new servers started",
    /// Changes of membership that a leader accepted, of one member.
    changes: "membership changes begun",
    /// The same, of several members at once.
    replacements: "... of several members at once",
    /// Changes of membership that were refused.
    changes_refused: "membership changes refused",
    /// Changes of membership that were complete: committed, and not joint.
    changes_complete: "membership changes complete",
    /// Servers that were switched off for good after they had been removed.
    retired: "removed servers retired",
    /// Transfers of leadership that were begun on request.
    transfers: "leadership transfers asked for",
    /// Messages that the network lost.
    lost: "fault: message lost",
    /// Messages that arrived twice.
    duplicated: "fault: message duplicated",
    /// Messages held back, so that others overtook them.
    held: "fault: message held back",
    /// Messages that a cut or a division stopped.
    stopped: "fault: message stopped by a cut",
    /// Times when the network got worse for a while.
    weather: "fault: network gets worse",
    /// One-way cuts.
    one_way_cuts: "fault: one-way cut",
    /// Divisions of the cluster.
    partitions: "fault: partition",
    /// Crashes that kept all that was given to the file.
    crashes_keep: "fault: crash that keeps writes",
    /// Crashes that lost all that was not synced.
    crashes_lose: "fault: crash that loses writes",
    /// Crashes that tore a write.
    crashes_tear: "fault: crash that tears writes",
    /// Unsynced writes that a crash took away.
    writes_lost: "... unsynced writes taken away",
    /// Syncs that failed, and stopped their server.
    failed_writes: "fault: failed write",
    /// Snapshot files that could not be written or read.
    failed_files: "fault: failed snapshot file",
    /// Disks that were slow for a while.
    slow_disks: "fault: slow disk",
    /// Disks that said nothing for a while.
    stuck_disks: "fault: stuck disk",
    /// Servers that stood still for a while.
    pauses: "fault: paused server",
    /// Times when all servers stood still at once.
    host_pauses: "fault: all servers paused at once",
    /// Servers that neither heard nor were heard for a while.
    cut_off: "fault: server cut off",
    /// Servers that received no message for a while, while their own messages arrived.
    deafened: "fault: deaf server",
    /// Clocks that went fast or slow for a while.
    clock_rates: "fault: clock fast or slow",
    /// Clocks that jumped.
    clock_jumps: "fault: clock jumps",
    /// Hints that a connection died, although it did not.
    hints: "fault: spurious connection hint",
    /// Hints that a connection died, because its server did.
    true_hints: "... true connection hints",
    /// Old messages that arrived again.
    stale: "fault: stale message",
    /// Messages that arrived at a server they were not for.
    misrouted: "fault: misrouted message",
    /// Messages of a server that is no member.
    strangers: "fault: message of a stranger",
}
