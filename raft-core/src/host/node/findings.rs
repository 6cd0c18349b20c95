//! Why nothing moves: what this node itself knows of it, in sentences that say what to do.
//!
//! Nothing is guessed. What only another server knows, as the rule by which it refused a vote, is
//! among the findings of that server.

use std::vec::Vec;

use bytes::Bytes;
use rand_core::Rng;

use super::finding::Finding;
use super::status::NodeStatus;
use crate::host::known_peers::KnownPeers;
use crate::membership::Suffrage;
use crate::quorum::MemberSet;
use crate::raft::Raft;
use crate::state::roles::RoleState;
use crate::status::PeerStatus;
use crate::types::NodeId;

/// What this node finds, what weighs most first. `status` is that of the same moment, and `peers`
/// are those that the node has met.
pub(super) fn findings<R: Rng>(
    raft: &Raft<Bytes, R>,
    status: &NodeStatus,
    peers: &KnownPeers,
) -> Vec<Finding> {
    let mut found: Vec<_> = status.stuck.iter().cloned().map(Finding::Stuck).collect();
    if status.told_not_to_vote {
        found.push(Finding::ToldNotToVote);
    }
    let refused = status.refused_peers.iter().cloned();
    found.extend(refused.map(|(peer, refusal)| Finding::RefusesPeer { peer, refusal }));
    if status.raft.membership.members().is_empty() {
        found.push(Finding::NoCluster);
    } else if status.raft.membership.suffrage(status.raft.id).is_none() {
        found.push(Finding::NotAMember);
    }
    if matches!(raft.role, RoleState::Leader(_)) {
        of_leader(raft, status, &mut found);
    } else if status.raft.leader.is_none() {
        without_leader(raft, status, &mut found);
    }
    let differences = status.state_differences.iter();
    found.extend(
        differences.map(|other| Finding::StateDiffers { peer: other.peer, index: other.index }),
    );
    if let Some(ours) = peers.timeouts() {
        let others = peers.other_timeouts().into_iter();
        found.extend(others.map(|(peer, theirs)| Finding::TimeoutsDiffer { peer, ours, theirs }));
    }
    found
}

/// What this node knows of there being no leader.
fn without_leader<R: Rng>(raft: &Raft<Bytes, R>, status: &NodeStatus, found: &mut Vec<Finding>) {
    match raft.answers_to_requests() {
        Some(answers) => {
            if answers.waits_for_disk {
                found.push(Finding::OwnVoteNotDurable);
            }
            if !answers.quorum_answered {
                found.push(Finding::NoQuorumAnswers { silent: answers.silent });
            }
            if !answers.refused.is_empty() {
                found.push(Finding::VotesRefused { by: answers.refused });
            }
        }
        None if status.raft.membership.suffrage(status.raft.id).is_some() => {
            found.push(Finding::NoLeader);
        }
        None => {}
    }
    found.extend(status.raft.refused_vote.map(Finding::RefusedVote));
    found.extend(status.raft.stepped_down.map(Finding::SteppedDown));
}

/// What this leader knows of there being no commits.
fn of_leader<R: Rng>(raft: &Raft<Bytes, R>, status: &NodeStatus, found: &mut Vec<Finding>) {
    let RoleState::Leader(leader) = &raft.role else { return };
    let (server, now) = (&raft.server, status.raft.now);
    let heartbeat = server.config.heartbeat_interval;
    let disk_silent =
        server.durable.silent_since().map(|since| now.saturating_duration_since(since));
    if let Some(silent_for) = disk_silent.filter(|span| *span > heartbeat) {
        let patience = server.config.disk_patience();
        found.push(Finding::DiskSilent { silent_for, patience });
    }
    let silent_for = now.saturating_duration_since(server.quorum_heard_at(leader));
    if silent_for > heartbeat.saturating_mul(2) {
        let silent = |peer: &&PeerStatus| {
            now.saturating_duration_since(peer.heard_at) > heartbeat.saturating_mul(2)
        };
        let voters = status.raft.peers.iter().filter(|peer| is_voter(status, peer.id));
        let silent = voters.filter(silent).map(|peer| peer.id).collect();
        found.push(Finding::QuorumSilent { silent, silent_for });
    }
    if let Some(waits) = commit_waits(raft, status) {
        found.push(waits);
        if status.raft.membership.is_joint() {
            found.push(Finding::JointConfiguration);
        }
    }
    found.extend(leader.transfer.as_ref().map(|transfer| Finding::HandsOver { to: transfer.to }));
}

/// The first entry that no quorum holds, if there is one.
fn commit_waits<R: Rng>(raft: &Raft<Bytes, R>, status: &NodeStatus) -> Option<Finding> {
    let (members, status) = (&raft.server.members, &status.raft);
    let from = status.commit_index.next();
    if status.last_log.index < from {
        return None;
    }
    let peers = status.peers.iter().filter(|peer| peer.match_index >= from);
    let mut holders: Vec<_> = peers.map(|peer| peer.id).collect();
    if status.durable_index >= from {
        holders.push(status.id);
    }
    let positions: MemberSet = holders.iter().filter_map(|id| members.position(*id)).collect();
    if members.quorum.is_reached_by(positions) {
        return None;
    }
    let lacking = members.quorum.voters().iter().filter(|at| !positions.contains(*at));
    let lacking = lacking.filter_map(|at| members.id(at)).collect();
    Some(Finding::CommitWaits { from, to: status.last_log.index, lacking })
}

fn is_voter(status: &NodeStatus, id: NodeId) -> bool {
    status.raft.membership.suffrage(id).is_some_and(Suffrage::is_voter)
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::time::Duration;
    use std::vec;

    use rand_pcg::{Pcg32, rand_core::SeedableRng};

    use super::*;
    use crate::config::Config;
    use crate::host::identity::{ClusterId, Identity, Introduction, Past, StoreId};
    use crate::host::timeouts::Timeouts;
    use crate::message::{Body, Message, RequestPreVoteReply, RequestVoteReply};
    use crate::output::{Output, Restored};
    use crate::reason::{RefusedVote, VoteRefusal};
    use crate::role::Role;
    use crate::types::{Index, LogId, Term};

    type Server = Raft<Bytes, Pcg32>;

    fn id(number: u64) -> NodeId {
        NodeId::new(number)
    }

    /// Server 1 of three.
    fn server() -> Server {
        let config = Config::new(id(1), [1, 2, 3].map(NodeId::new));
        Raft::new(config, Restored::default(), Pcg32::seed_from_u64(1)).unwrap()
    }

    fn found(raft: &Server) -> Vec<Finding> {
        found_with(raft, &KnownPeers::new(None))
    }

    fn found_with(raft: &Server, peers: &KnownPeers) -> Vec<Finding> {
        let status = NodeStatus {
            findings: vec![],
            raft: raft.status(),
            wakes_at: None,
            proposals_waiting: 0,
            proposals_parked: 0,
            forwards_waiting: 0,
            changes_waiting: 0,
            takes_snapshot: false,
            refused_peers: vec![],
            told_not_to_vote: false,
            reads_waiting: 0,
            reads_queued: 0,
            stuck: vec![],
            state_differences: vec![],
            states_compared: 0,
            client_panics: 0,
            messages_dropped: 0,
            requests_refused: 0,
        };
        findings(raft, &status, peers)
    }

    /// One deadline passes. These servers answer, and grant what is asked if they `agree`; the disk
    /// answers if it `works`.
    #[allow(clippy::wildcard_enum_match_arm)] // A few of many.
    fn pass(raft: &mut Server, answering: &[u64], agree: bool, works: bool) {
        let now = raft.next_deadline().unwrap();
        raft.tick(now);
        while let Some(output) = raft.poll_outbox() {
            let message = match output {
                Output::Send(message) if answering.contains(&message.to.get()) => message,
                Output::Persist(write) if works => {
                    raft.persisted(write.id);
                    continue;
                }
                _ => continue,
            };
            let body = match message.body {
                Body::RequestPreVote(request) => Body::RequestPreVoteReply(RequestPreVoteReply {
                    granted: agree,
                    campaign: request.campaign,
                }),
                Body::RequestVote(request) => Body::RequestVoteReply(RequestVoteReply {
                    granted: agree,
                    last_log: request.last_log,
                }),
                _ => continue,
            };
            raft.step(Message { from: message.to, to: id(1), term: message.term, body });
        }
    }

    /// Deadlines pass until the server stands for election, at least.
    fn stand(raft: &mut Server, answering: &[u64], agree: bool, works: bool) {
        while raft.role() == Role::Follower {
            pass(raft, answering, agree, works);
        }
    }

    #[test]
    fn a_server_before_its_first_election_knows_no_leader() {
        let found = found(&server());
        assert!(matches!(found.as_slice(), [Finding::NoLeader]), "{found:?}");
    }

    #[test]
    fn too_few_voters_that_answer_are_told_from_voters_that_refuse() {
        let mut raft = server();
        stand(&mut raft, &[], true, true);
        let silent = found(&raft);
        let [Finding::NoQuorumAnswers { silent }] = silent.as_slice() else { panic!("{silent:?}") };
        assert_eq!(silent, &[id(2), id(3)]);

        let mut raft = server();
        stand(&mut raft, &[3], false, true);
        let refused = found(&raft);
        let [Finding::VotesRefused { by }] = refused.as_slice() else { panic!("{refused:?}") };
        assert_eq!(by, &[id(3)]);
    }

    #[test]
    fn an_own_vote_that_is_not_on_the_disk_is_found() {
        let mut raft = server();
        stand(&mut raft, &[2], true, false);
        let found = found(&raft);
        assert!(matches!(found.first(), Some(Finding::OwnVoteNotDurable)), "{found:?}");
    }

    #[test]
    fn a_leader_finds_its_late_disk_and_its_silent_followers() {
        let mut raft = server();
        stand(&mut raft, &[2], true, true);
        assert_eq!(raft.role(), Role::Leader);
        let waits = found(&raft);
        let [Finding::CommitWaits { from, to, lacking }] = waits.as_slice() else {
            panic!("{waits:?}")
        };
        assert_eq!((from, to, lacking), (&Index::new(1), &Index::new(1), &vec![id(2), id(3)]));

        raft.propose(Bytes::from_static(b"x")).unwrap();
        let elected_at = raft.status().now;
        pass(&mut raft, &[], true, false);
        // After 150 ms without a quorum the leader steps down.
        raft.tick(elected_at + Duration::from_millis(140));
        let late = found(&raft);
        let [
            Finding::DiskSilent { silent_for, patience },
            Finding::QuorumSilent { silent, .. },
            Finding::CommitWaits { lacking, .. },
        ] = late.as_slice()
        else {
            panic!("{late:?}")
        };
        assert!(*silent_for > Duration::from_millis(50) && *patience == Duration::from_millis(500));
        assert_eq!((silent, lacking), (&vec![id(2), id(3)], &vec![id(2), id(3)]));
    }

    #[test]
    fn a_refused_vote_is_found_until_there_is_a_leader() {
        let mut raft = server();
        let refused =
            RefusedVote { candidate: id(2), term: Term::new(3), reason: VoteRefusal::ShorterLog };
        raft.server.reasons.refused_vote = Some(refused);
        let found_now = found(&raft);
        assert!(matches!(found_now.last(), Some(Finding::RefusedVote(_))), "{found_now:?}");
        let told = found_now.last().unwrap().to_string();
        assert!(told.starts_with("it refused server 2 its vote in term 3: the log"), "{told}");
        stand(&mut raft, &[2], true, true);
        assert!(!found(&raft).iter().any(|found| matches!(found, Finding::RefusedVote(_))));
    }

    #[test]
    fn timeouts_that_differ_are_found_behind_all_that_weighs_more() {
        let ours = Timeouts::of(&server().server.config);
        let own = Identity { cluster: ClusterId::new(1), node: id(1), store_id: StoreId::new(1) };
        let peers = KnownPeers::new(Some(own)).with_timeouts(ours);
        let raft = server();
        peers.update(Past::Blank, raft.membership(), (LogId::ZERO, false));
        let theirs = Timeouts { election_timeout_min: ours.election_timeout_min / 2, ..ours };
        for (number, timeouts) in [(2, theirs), (3, ours)] {
            let peer = Introduction::new(id(number), StoreId::new(number));
            peers.admit(&Introduction { timeouts: Some(timeouts), ..peer }, None).unwrap();
        }
        let found = found_with(&raft, &peers);
        let [
            Finding::NoLeader,
            differ @ Finding::TimeoutsDiffer { peer, ours: own, theirs: other },
        ] = found.as_slice()
        else {
            panic!("{found:?}")
        };
        assert_eq!((*peer, *own, *other), (id(2), ours, theirs));
        assert_eq!(
            differ.to_string(),
            "it is configured with election timeouts of 150ms to 300ms and heartbeats every 50ms, and \
             server 2 with election timeouts of 75ms to 300ms and heartbeats every 50ms; while this \
             server leads, server 2 stands for election as soon as one heartbeat is late: give all \
             servers the same values, and restart one after the other"
        );
    }
}
