//! What a node counts, in one table: the fields of [`Totals`], the cells behind them, and the names
//! under which a monitoring system finds them.

use super::cells::Cell;
use super::family::{Counter, Family};

macro_rules! totals {
    ($($family:literal, $label:literal, $help:literal {
        $($(#[$doc:meta])* $name:ident = $value:literal,)+
    })+) => {
        /// What a node has counted since it started. The numbers only grow; a restart begins at
        /// zero.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        #[non_exhaustive]
        pub struct Totals {
            $($($(#[$doc])* pub $name: u64,)+)+
        }

        #[derive(Default, Debug)]
        pub(in crate::host) struct TotalCells {
            $($(pub(in crate::host) $name: Cell,)+)+
        }

        impl TotalCells {
            pub(super) fn read(&self) -> Totals {
                Totals { $($($name: self.$name.get(),)+)+ }
            }
        }

        #[allow(dead_code, reason = "read by the exporter, which is a feature")]
        pub(super) const TOTALS: &[Family<Totals>] = &[$(Family {
            name: $family,
            label: $label,
            help: $help,
            counters: &[$(Counter { value: $value, read: |totals| totals.$name }),+],
        }),+];
    };
}

totals! {
    "proposals_accepted", "", "Commands that this node appended to its log as the leader" {
        /// Commands of this node's clients that the node appended to its log as the leader.
        proposals_accepted = "",
    }
    "proposals_refused", "reason", "Commands that this node refused" {
        /// Commands refused because this node does not lead.
        proposals_refused_not_leader = "not_leader",
        /// Commands refused because they are too long.
        proposals_refused_too_large = "too_large",
        /// Commands refused because the log is full.
        proposals_refused_log_full = "log_full",
        /// Commands refused because too many bytes wait to be committed.
        proposals_refused_uncommitted = "too_many_uncommitted",
        /// Commands refused because too many wait: in the inbox, for the end of a transfer of
        /// leadership, or for the answer of the leader.
        proposals_refused_busy = "busy",
    }
    "proposals_forwarded", "", "Commands that this node forwarded to its leader" {
        /// Commands that this node forwarded to its leader.
        proposals_forwarded = "",
    }
    "forwards_received", "outcome", "Commands that followers forwarded to this node" {
        /// Commands that followers forwarded to this node and that it appended.
        forwards_taken = "taken",
        /// Commands that followers forwarded to this node and that it refused.
        forwards_refused = "refused",
    }
    "entries_committed", "", "Committed entries handed to the state machine" {
        /// Entries that were committed and handed to the state machine. After a restart the entries
        /// behind the last snapshot count again.
        entries_committed = "",
    }
    "entries_applied", "", "Entries that the state machine has passed" {
        /// Entries that the state machine has passed, those without a command included.
        entries_applied = "",
    }
    "pre_votes_started", "", "Rounds of pre-votes that this node began" {
        /// Rounds of pre-votes that this node began (thesis 9.6).
        pre_votes_started = "",
    }
    "elections_started", "", "Terms in which this node stood for election" {
        /// Terms in which this node stood for election (§5.2).
        elections_started = "",
    }
    "elections_won", "", "Terms in which this node was elected" {
        /// Elections that this node won: its leaderships.
        elections_won = "",
    }
    "elections_lost", "", "Elections that this node did not win" {
        /// Elections in which this node stood and that it did not win.
        elections_lost = "",
    }
    "step_downs", "reason", "Leaderships of this node that ended" {
        /// Leaderships that ended because a message of a higher term came.
        step_downs_higher_term = "higher_term",
        /// Leaderships that ended because leadership was handed over.
        step_downs_handed_over = "handed_over",
        /// Leaderships that ended because no quorum answered.
        step_downs_no_quorum = "no_quorum",
        /// Leaderships that ended because the disk of this node did not answer.
        step_downs_disk_silent = "disk_silent",
        /// Leaderships that ended because this node has no vote any more.
        step_downs_not_a_member = "not_a_member",
        /// Leaderships that ended because this node must not vote: its store is another one.
        step_downs_abstains = "abstains",
        /// Leaderships that ended for any other reason. Raft allows none.
        step_downs_other = "other",
    }
    "snapshots_taken", "", "Snapshots of its own state that this node made durable" {
        /// Snapshots of its own state that this node made durable.
        snapshots_taken = "",
    }
    "snapshots_failed", "", "Snapshots of its own state that this node could not take" {
        /// Snapshots of its own state that this node could not take.
        snapshots_failed = "",
    }
    "snapshots_sent", "", "Snapshots whose last piece this node sent to a peer" {
        /// Snapshots whose last piece this node sent to a peer. A piece that is lost is sent again,
        /// and counts again.
        snapshots_sent = "",
    }
    "snapshots_installed", "", "Snapshots from a leader that replaced the state of this node" {
        /// Snapshots from a leader that the state machine has restored.
        snapshots_installed = "",
    }
    "reads", "kind", "Reads that clients asked of this node" {
        /// Linearizable reads.
        reads_linearizable = "linearizable",
        /// Reads of a state of at most some age.
        reads_stale = "stale",
        /// Reads of whatever state this node has.
        reads_local = "local",
    }
    "reads_refused", "reason", "Reads that this node refused" {
        /// Reads refused because this node knows no leader.
        reads_refused_no_leader = "no_leader",
        /// Reads refused because too many wait to be served.
        reads_refused_busy = "busy",
    }
    "reads_lost", "", "Reads that a change of leader ended before they were confirmed" {
        /// Reads that a change of leader ended before they were confirmed.
        reads_lost = "",
    }
    "requests_refused", "", "Requests of any kind that found the inbox of this node full" {
        /// Requests of any kind that found the inbox full.
        requests_refused = "",
    }
    "messages_dropped", "reason", "Messages from peers that this node dropped or ignored" {
        /// Messages that found the inbox full.
        messages_dropped_inbox_full = "inbox_full",
        /// Messages for another node.
        messages_dropped_misrouted = "misrouted",
        /// Messages from a node that is not heard.
        messages_dropped_unknown_sender = "unknown_sender",
        /// Messages that contradict themselves or this leader's log.
        messages_dropped_malformed = "malformed",
        /// Messages of an earlier term. A few belong to every change of leader.
        messages_dropped_stale_term = "stale_term",
        /// Replies that later ones made irrelevant.
        messages_dropped_stale_reply = "stale_reply",
        /// Forwarded commands that came again, or too late to be taken.
        messages_dropped_stale_forward = "stale_forward",
    }
    "votes_refused_for_leader", "", "Vote requests not heard because a leader lives" {
        /// Vote requests that this node did not hear because it knows that a leader lives.
        votes_refused_for_leader = "",
    }
    "protocol_violations", "", "Messages that no correct cluster sends: alert on the first" {
        /// Messages that no correct cluster can bring about. If this grows, some server has lost
        /// what it had promised to keep.
        protocol_violations = "",
    }
    "api_misuse", "", "Reports of the host that the core had not asked for: a bug" {
        /// Reports of the host that the core had not asked for: a bug of the host.
        api_misuse = "",
    }
    "client_panics", "", "Panics of code that waited for an answer of this node" {
        /// Panics of code that waited for an answer: a waker, or the drop of a reply.
        client_panics = "",
    }
}
