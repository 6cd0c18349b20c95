//! Something that a node finds, in a sentence that says what to do.

use std::fmt;
use std::string::{String, ToString};
use std::time::Duration;
use std::vec::Vec;

use super::reasons::{end_text, refusal_text};
use crate::host::timeouts::Timeouts;
use crate::host::wire::handshake::Refusal;
use crate::host::worker_kind::WorkerStatus;
use crate::reason::{RefusedVote, SteppedDown};
use crate::types::{Index, NodeId};

/// Something that stands in the way of a leader, a commit or an answer, or that an operator should
/// correct before it does, as one node knows it. From
/// [`NodeStatus::findings`](super::NodeStatus::findings).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Finding {
    /// A thread of this node has been at one unit of work for too long.
    Stuck(WorkerStatus),
    /// This node neither votes nor stands for election, because its store is empty and a peer says
    /// that the node is not the member that it believes to be.
    ToldNotToVote,
    /// This node refuses a peer for what the peer says of itself.
    RefusesPeer {
        /// The peer.
        peer: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// This node knows no configuration: it waits to be added to a cluster.
    NoCluster,
    /// The configuration of the cluster does not name this node.
    NotAMember,
    /// The vote of this node for itself is not durable yet, and it counts only then.
    OwnVoteNotDurable,
    /// This node asks for votes, and too few voters answer to elect it (§5.2).
    NoQuorumAnswers {
        /// The voters that have not answered.
        silent: Vec<NodeId>,
    },
    /// This node asks for votes, and these voters refuse theirs. By which rule is among their own
    /// findings.
    VotesRefused {
        /// The voters that refused.
        by: Vec<NodeId>,
    },
    /// This node knows no leader, and does not ask for votes now.
    NoLeader,
    /// The last vote or pre-vote that this node refused. Only while it knows no leader.
    RefusedVote(RefusedVote),
    /// How this node last stopped leading or standing for election. Only while it knows no leader.
    SteppedDown(SteppedDown),
    /// The disk of this leader is late.
    DiskSilent {
        /// How long it has not answered.
        silent_for: Duration,
        /// When this leader gives up its leadership.
        patience: Duration,
    },
    /// This leader has not heard from a quorum for longer than a heartbeat interval.
    QuorumSilent {
        /// The voters that it has not heard from for so long.
        silent: Vec<NodeId>,
        /// How long there has been no word of a quorum.
        silent_for: Duration,
    },
    /// Entries wait until a quorum holds them durably (§5.3).
    CommitWaits {
        /// The first of them.
        from: Index,
        /// The last of them.
        to: Index,
        /// The voters that have not acknowledged the first one, this leader perhaps among them.
        lacking: Vec<NodeId>,
    },
    /// Until the change of membership is complete, majorities of the old and of the new voters must
    /// agree (§6).
    JointConfiguration,
    /// This leader hands over, and accepts no commands meanwhile (thesis 3.10).
    HandsOver {
        /// The server that is to lead.
        to: NodeId,
    },
    /// The state of another server differs from this server's after the same entry.
    StateDiffers {
        /// The other server.
        peer: NodeId,
        /// The last entry that both states include.
        index: Index,
    },
    /// A connected member is configured with other timeouts than this node. It stops nothing by
    /// itself, and makes elections needless, slow or split.
    TimeoutsDiffer {
        /// The member.
        peer: NodeId,
        /// The timeouts of this node.
        ours: Timeouts,
        /// The timeouts of the member.
        theirs: Timeouts,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stuck(worker) => write!(f, "a thread of this node hangs ({worker})"),
            Self::ToldNotToVote => f.write_str(
                "its store is empty, and a peer says that this node is not the member that it believes to be, so it does \
                 not vote: remove the member, and add this node again",
            ),
            Self::RefusesPeer { peer, refusal } => write!(f, "it refuses server {peer}: {refusal}"),
            Self::NoCluster => f.write_str("it belongs to no cluster yet: add it at a member"),
            Self::NotAMember => f.write_str(
                "the configuration of the cluster does not name it: stop it, or add it again with an empty store",
            ),
            Self::OwnVoteNotDurable => {
                f.write_str("its vote for itself is not on its disk yet: look at the disk")
            }
            Self::NoQuorumAnswers { silent } => write!(
                f,
                "too few voters answer to elect it, {} silent: see whether they run, and whether the network reaches them",
                are(silent)
            ),
            Self::VotesRefused { by } => write!(
                f,
                "{} its request for votes: each of them knows by which rule",
                refuse(by)
            ),
            Self::NoLeader => {
                f.write_str("it knows no leader, and does not ask for votes now")
            }
            Self::RefusedVote(RefusedVote { candidate, term, reason }) => write!(
                f,
                "it refused server {candidate} its vote in term {term}: {}",
                refusal_text(*reason)
            ),
            Self::SteppedDown(SteppedDown { role, term, reason }) => {
                write!(f, "it was {role} in term {term} until {}", end_text(*reason))
            }
            Self::DiskSilent { silent_for, patience } => write!(
                f,
                "its disk has not answered for {silent_for:?}, and at {patience:?} it gives up leadership: look at the disk"
            ),
            Self::QuorumSilent { silent, silent_for } => write!(
                f,
                "it has had no word of a quorum for {silent_for:?}, {} silent: see whether they run, and whether the \
                 network reaches them",
                are(silent)
            ),
            Self::CommitWaits { from, to, lacking } => write!(
                f,
                "{} for a quorum, and {} not written entry {from}: if that lasts, look at those disks and at the network",
                wait(*from, *to),
                have(lacking)
            ),
            Self::JointConfiguration => f.write_str(
                "a change of members is under way, and needs majorities of the old and of the new voters",
            ),
            Self::HandsOver { to } => {
                write!(f, "it hands leadership over to server {to}, and accepts no commands meanwhile")
            }
            Self::StateDiffers { peer, index } => write!(
                f,
                "its state differs from that of server {peer} after entry {index}: see the guide on operation, states that \
                 differ"
            ),
            Self::TimeoutsDiffer { peer, ours, theirs } => {
                timeouts_differ(f, *peer, ours, theirs)
            }
        }
    }
}

fn timeouts_differ(
    f: &mut fmt::Formatter<'_>,
    peer: NodeId,
    ours: &Timeouts,
    theirs: &Timeouts,
) -> fmt::Result {
    write!(
        f,
        "it is configured with {ours}, and server {peer} with {theirs}; {}: give all servers the same values, and restart \
         one after the other",
        when_timeouts_differ(peer, ours, theirs)
    )
}

/// What comes of it if this server has the timeouts `ours` and the server `peer` has `theirs`.
fn when_timeouts_differ(peer: NodeId, ours: &Timeouts, theirs: &Timeouts) -> String {
    if ours.are_too_short_for(theirs) {
        std::format!(
            "while server {peer} leads, this server stands for election as soon as one heartbeat is late"
        )
    } else if theirs.are_too_short_for(ours) {
        std::format!(
            "while this server leads, server {peer} stands for election as soon as one heartbeat is late"
        )
    } else if theirs.election_timeout_min < ours.election_timeout_min {
        std::format!(
            "when a leader is lost, server {peer} asks for votes while this server still refuses them"
        )
    } else if ours.election_timeout_min < theirs.election_timeout_min {
        std::format!(
            "when a leader is lost, this server asks for votes while server {peer} still refuses them"
        )
    } else {
        "how long the cluster is without a leader depends on which server is lost".to_string()
    }
}

fn wait(from: Index, to: Index) -> String {
    if from == to {
        std::format!("entry {from} waits")
    } else {
        std::format!("entries {from} to {to} wait")
    }
}

fn servers(ids: &[NodeId], one: &str, several: &str) -> String {
    match ids {
        [] => std::format!("no server {one}"),
        [id] => std::format!("server {id} {one}"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(ToString::to_string).collect();
            std::format!("servers {} and {last} {several}", first.join(", "))
        }
    }
}

fn are(ids: &[NodeId]) -> String {
    servers(ids, "is", "are")
}

fn have(ids: &[NodeId]) -> String {
    servers(ids, "has", "have")
}

fn refuse(ids: &[NodeId]) -> String {
    servers(ids, "refuses", "refuse")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn id(number: u64) -> NodeId {
        NodeId::new(number)
    }

    #[test]
    fn what_comes_of_timeouts_that_differ_is_said_for_both_sides() {
        let usual = Timeouts::of(&Config::new(id(1), [1, 2, 3].map(NodeId::new)));
        let slow = Timeouts { heartbeat_interval: usual.heartbeat_interval * 2, ..usual };
        let shorter = usual.election_timeout_min - Duration::from_millis(50);
        let shorter = Timeouts { election_timeout_min: shorter, ..usual };
        let wider = Timeouts { election_timeout_max: usual.election_timeout_max * 2, ..usual };
        for (theirs, seen_here, seen_there) in [
            (slow, "while server 2 leads, this server stands", "while this server leads, server 2"),
            (shorter, "server 2 asks for votes while this", "this server asks for votes while"),
            (wider, "depends on which server is lost", "depends on which server is lost"),
        ] {
            let told = when_timeouts_differ(id(2), &usual, &theirs);
            assert!(told.contains(seen_here), "{told}");
            let told = when_timeouts_differ(id(2), &theirs, &usual);
            assert!(told.contains(seen_there), "{told}");
        }
    }

    #[test]
    fn servers_are_named_in_a_sentence() {
        assert_eq!(are(&[]), "no server is");
        assert_eq!(have(&[id(2)]), "server 2 has");
        assert_eq!(refuse(&[id(1), id(2), id(3)]), "servers 1, 2 and 3 refuse");
        assert_eq!(wait(Index::new(3), Index::new(3)), "entry 3 waits");
        assert_eq!(wait(Index::new(3), Index::new(5)), "entries 3 to 5 wait");
    }
}
