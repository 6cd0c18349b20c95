//! Logs why this node stopped leading, why it refused a vote, and why it is not elected: each
//! reason once, however often a server asks again.
//!
//! - The end of a leadership or a candidacy: one line for each.
//! - A refused vote: one line for each candidate and reason, until the candidate leads.
//! - Votes that the node asks for in vain: one line for each cause after [`ATTEMPTS_MIN`] attempts,
//!   until the node knows a leader. A cause is which voters refuse and which do not answer.

use std::string::{String, ToString};
use std::vec::Vec;

use bytes::Bytes;
use rand_core::Rng;

use crate::quorum::MEMBERS_MAX;
use crate::raft::Raft;
use crate::reason::{InVain, RefusedVote, StepDown, SteppedDown, VoteRefusal};
use crate::role::Role;
use crate::time::Instant;
use crate::types::NodeId;

/// After how many attempts in a row the node logs why it is not elected.
const ATTEMPTS_MIN: u32 = 10;

/// The most causes that the node logs while it knows no leader.
const CAUSES_MAX: usize = 8;

/// The most refusals that the node remembers: a few reasons for each member.
const REFUSALS_MAX: usize = 4 * MEMBERS_MAX;

/// What the node has logged already.
#[derive(Default)]
pub(super) struct Reasons {
    stepped_down: Option<SteppedDown>,
    newest_refusal: Option<RefusedVote>,
    refusals: Vec<(NodeId, VoteRefusal)>,
    /// How many attempts to be elected the node has made since it last knew a leader.
    attempts: u32,
    causes: Vec<InVain>,
}

impl Reasons {
    /// Looks whether an attempt to be elected ends at this moment without success. Called before
    /// each tick.
    pub(super) fn before_tick<R: Rng>(&mut self, raft: &Raft<Bytes, R>, now: Instant) {
        if let Some(cause) = raft.asked_in_vain(now).and_then(|cause| self.new_cause(cause)) {
            log_cause(raft.id(), self.attempts, &cause);
        }
    }

    /// Looks for new reasons. Called at the end of each turn.
    pub(super) fn after_turn<R: Rng>(&mut self, raft: &Raft<Bytes, R>) {
        if let Some(leader) = raft.leader() {
            self.leader_is(leader);
        }
        if let Some(ended) = self.new_end(raft.server.reasons.stepped_down) {
            log_end(raft.id(), ended);
        }
        if let Some(refused) = self.new_refusal(raft.server.reasons.refused_vote) {
            log_refusal(raft.id(), refused);
        }
    }

    fn leader_is(&mut self, leader: NodeId) {
        self.attempts = 0;
        self.causes.clear();
        self.refusals.retain(|(candidate, _)| *candidate != leader);
    }

    fn new_end(&mut self, last: Option<SteppedDown>) -> Option<SteppedDown> {
        if last == self.stepped_down {
            return None;
        }
        self.stepped_down = last;
        last
    }

    fn new_refusal(&mut self, last: Option<RefusedVote>) -> Option<RefusedVote> {
        if last == self.newest_refusal {
            return None;
        }
        self.newest_refusal = last;
        let refused = last?;
        let refusal = (refused.candidate, refused.reason);
        if self.refusals.contains(&refusal) {
            return None;
        }
        if self.refusals.len() >= REFUSALS_MAX {
            self.refusals.remove(0);
        }
        self.refusals.push(refusal);
        Some(refused)
    }

    fn new_cause(&mut self, cause: InVain) -> Option<InVain> {
        self.attempts = self.attempts.saturating_add(1);
        let is_told = self.causes.contains(&cause) || self.causes.len() >= CAUSES_MAX;
        if self.attempts < ATTEMPTS_MIN || is_told {
            return None;
        }
        self.causes.push(cause.clone());
        Some(cause)
    }
}

fn log_end(node: NodeId, ended: SteppedDown) {
    let SteppedDown { role, term, reason } = ended;
    let node = node.get();
    let term = term.get();
    let why = end_text(reason);
    let is_fault = matches!(reason, StepDown::NoQuorum | StepDown::DiskSilent | StepDown::Abstains);
    match role {
        Role::Leader if is_fault => tracing::warn!(node, term, why, "this node no longer leads"),
        Role::Leader => tracing::info!(node, term, why, "this node no longer leads"),
        Role::Candidate | Role::PreCandidate => {
            tracing::info!(node, term, why, "this node no longer stands for election");
        }
        Role::Follower => {}
    }
}

pub(super) fn end_text(reason: StepDown) -> &'static str {
    match reason {
        StepDown::HigherTerm => {
            "a message of a higher term arrived, because another server stood for election: if this repeats, look at the \
             network between the voters"
        }
        StepDown::OtherLeader => "another server leads this term",
        StepDown::GaveVote => "this node voted for another candidate",
        StepDown::HandedOver => "leadership was handed over",
        StepDown::NoQuorum => {
            "no quorum answered for an election timeout: look at the other voters, and at the network to them"
        }
        StepDown::DiskSilent => {
            "the disk of this node did not answer within disk_timeout: look at the disk"
        }
        StepDown::NotAMember => {
            "this node has no vote in the configuration of the cluster any more"
        }
        StepDown::Abstains => {
            "this node must not vote, because its store is not the one that the cluster knows: add it again as a new member"
        }
    }
}

fn log_refusal(node: NodeId, refused: RefusedVote) {
    let RefusedVote { candidate, term, reason } = refused;
    let node = node.get();
    let candidate = candidate.get();
    let term = term.get();
    let why = refusal_text(reason);
    tracing::info!(
        node,
        candidate,
        term,
        why,
        "this node refuses a vote; it does not log more refusals of the same kind"
    );
}

pub(super) fn refusal_text(reason: VoteRefusal) -> &'static str {
    match reason {
        VoteRefusal::BoundToLeader => {
            "this node hears a leader: a candidate that asks again and again does not hear that leader (look for a link that \
             works one way), or has shorter election timeouts"
        }
        VoteRefusal::ShorterLog => "the log of the candidate is behind the log of this node",
        VoteRefusal::AlreadyVoted => "this node voted for another candidate in that term",
        VoteRefusal::Abstains => {
            "this node votes for no candidate: it knows no cluster yet, or its store is not the one that the cluster knows"
        }
        VoteRefusal::CandidateNotAMember => {
            "the candidate has no vote in the configuration of the cluster: if it was removed, stop it"
        }
        VoteRefusal::OldTerm => "the term of the candidate is over",
    }
}

fn log_cause(node: NodeId, attempts: u32, cause: &InVain) {
    let InVain { granted, refused, silent, .. } = cause;
    let (granted, refused, silent) = (list(granted), list(refused), list(silent));
    let node = node.get();
    let why = cause_text(cause);
    tracing::warn!(
        node,
        attempts,
        granted,
        refused,
        silent,
        why,
        "this node asks for votes in vain"
    );
}

fn cause_text(cause: &InVain) -> &'static str {
    if cause.waits_for_disk {
        "the disk of this node has not yet written its own vote: look at the disk"
    } else if cause.quorum_answered {
        "voters refuse: they hear a leader that this node does not hear (look for a link that works one way, or for election \
         timeouts that differ), hold a longer log, or know that this node was removed; their logs say which"
    } else {
        "too few voters answer: look whether they run, and at the network to them and back"
    }
}

fn list(ids: &[NodeId]) -> String {
    ids.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::vec;

    use rand_pcg::{Pcg32, rand_core::SeedableRng};

    use super::*;
    use crate::config::Config;
    use crate::message::{Body, Message, RequestPreVoteReply};
    use crate::output::{Output, Restored};
    use crate::types::Term;

    type Server = Raft<Bytes, Pcg32>;

    fn id(number: u64) -> NodeId {
        NodeId::new(number)
    }

    fn server(configure: impl FnOnce(&mut Config)) -> Server {
        let mut config = Config::new(id(1), [1, 2, 3].map(NodeId::new));
        configure(&mut config);
        Raft::new(config, Restored::default(), Pcg32::seed_from_u64(1)).unwrap()
    }

    /// Runs until an attempt is over, while these voters refuse, and returns the cause if it is
    /// new. The disk answers if it `works`.
    fn attempt(
        raft: &mut Server,
        reasons: &mut Reasons,
        refuse: &[u64],
        works: bool,
    ) -> Option<InVain> {
        loop {
            let now = raft.next_deadline().unwrap();
            if let Some(cause) = raft.asked_in_vain(now) {
                let new = reasons.new_cause(cause);
                raft.tick(now);
                return new;
            }
            raft.tick(now);
            while let Some(output) = raft.poll_outbox() {
                if let Output::Persist(write) = &output {
                    if works {
                        raft.persisted(write.id);
                    }
                }
                let Output::Send(message) = output else { continue };
                let Body::RequestPreVote(request) = message.body else { continue };
                if refuse.contains(&message.to.get()) {
                    let reply = RequestPreVoteReply { granted: false, campaign: request.campaign };
                    let body = Body::RequestPreVoteReply(reply);
                    raft.step(Message { from: message.to, to: id(1), term: message.term, body });
                }
            }
        }
    }

    /// The causes told in so many attempts.
    fn causes(
        raft: &mut Server,
        reasons: &mut Reasons,
        attempts: u32,
        refuse: &[u64],
    ) -> Vec<InVain> {
        (0..attempts).filter_map(|_| attempt(raft, reasons, refuse, true)).collect()
    }

    #[test]
    fn a_cause_is_told_once_and_names_the_voters() {
        let mut raft = server(|_| {});
        let mut reasons = Reasons::default();
        assert_eq!(causes(&mut raft, &mut reasons, ATTEMPTS_MIN - 1, &[]), []);
        let told = causes(&mut raft, &mut reasons, 100, &[]);
        let [cause] = told.as_slice() else { panic!("one cause, once: {told:?}") };
        assert_eq!((&cause.silent, &cause.refused), (&vec![id(2), id(3)], &vec![]));
        assert!(!cause.quorum_answered && !cause.waits_for_disk);
        let told = causes(&mut raft, &mut reasons, 100, &[3]);
        let [cause] = told.as_slice() else { panic!("another one: {told:?}") };
        assert_eq!((&cause.silent, &cause.refused), (&vec![id(2)], &vec![id(3)]));
        assert!(cause.quorum_answered);
        reasons.leader_is(id(2));
        assert_eq!(causes(&mut raft, &mut reasons, ATTEMPTS_MIN, &[3]).len(), 1, "anew");
    }

    #[test]
    fn a_disk_that_does_not_write_the_own_vote_is_a_cause() {
        let mut raft = server(|config| config.pre_vote = false);
        let mut reasons = Reasons::default();
        let told: Vec<_> =
            (0..50).filter_map(|_| attempt(&mut raft, &mut reasons, &[], false)).collect();
        let [cause] = told.as_slice() else { panic!("one cause, once: {told:?}") };
        assert!(cause.waits_for_disk);
        assert!(cause_text(cause).contains("disk"));
    }

    #[test]
    fn causes_without_end_are_not_told_without_end() {
        let mut reasons = Reasons { attempts: ATTEMPTS_MIN, ..Reasons::default() };
        let cause = |number| InVain {
            granted: vec![],
            refused: vec![],
            silent: vec![id(number)],
            quorum_answered: false,
            waits_for_disk: false,
        };
        let told = (1..100).filter_map(|number| reasons.new_cause(cause(number)));
        assert_eq!(told.count(), CAUSES_MAX);
    }

    #[test]
    fn a_refusal_is_told_once_for_each_candidate_and_reason() {
        use VoteRefusal::{AlreadyVoted, BoundToLeader};
        let mut reasons = Reasons::default();
        let mut is_told = |candidate, term, reason| {
            let refused = RefusedVote { candidate: id(candidate), term: Term::new(term), reason };
            let told = reasons.new_refusal(Some(refused)).is_some();
            assert_eq!(reasons.new_refusal(Some(refused)), None, "the same one");
            told
        };
        assert!(is_told(2, 1, BoundToLeader));
        assert!((2..50).all(|term| !is_told(2, term, BoundToLeader)), "in later terms, too");
        assert!(is_told(2, 50, AlreadyVoted) && is_told(3, 50, BoundToLeader));
        assert!(!is_told(2, 51, BoundToLeader) && !is_told(2, 52, AlreadyVoted));
        reasons.leader_is(id(2));
        let refused = |candidate| RefusedVote {
            candidate: id(candidate),
            term: Term::new(60),
            reason: BoundToLeader,
        };
        assert!(reasons.new_refusal(Some(refused(2))).is_some(), "anew, since it has led");
        assert!(reasons.new_refusal(Some(refused(3))).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut reasons = Reasons::default();
        for number in 1..1_000 {
            let candidate = id(number);
            let term = Term::new(1);
            let reason = VoteRefusal::CandidateNotAMember;
            reasons.new_refusal(Some(RefusedVote { candidate, term, reason }));
        }
        assert_eq!(reasons.refusals.len(), REFUSALS_MAX);
    }

    #[test]
    fn each_end_is_told_once() {
        let mut reasons = Reasons::default();
        let end = |term| {
            let role = Role::Leader;
            let reason = StepDown::NoQuorum;
            Some(SteppedDown { role, term: Term::new(term), reason })
        };
        assert_eq!(reasons.new_end(None), None);
        assert_eq!(reasons.new_end(end(1)), end(1));
        assert_eq!(reasons.new_end(end(1)), None);
        assert_eq!(reasons.new_end(end(2)), end(2));
    }
}
