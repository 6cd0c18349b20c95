//! What happened, in plain words, with the sections of the Raft paper, and of the thesis where the
//! paper says nothing.

use std::collections::BTreeMap;

use raft_core::sim::{Cluster, Record, Registers, What};
use raft_core::{NodeId, RefusedVote, Role, StepDown, SteppedDown, Term, VoteRefusal};
use serde::Serialize;

use crate::position::Position;

/// One line of a story.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Line {
    /// When.
    pub at: Position,
    /// The server; 0 for all.
    pub server: u64,
    /// A class for its colour.
    pub class: &'static str,
    /// What happened.
    pub text: String,
}

/// The lines of a run. After the run has gone back, those that lie ahead are told again.
#[derive(Default)]
pub(crate) struct Story {
    lines: Vec<Line>,
    /// How many are told up to here.
    told: usize,
    seen: BTreeMap<NodeId, Seen>,
}

/// What was told of a server.
#[derive(Default)]
struct Seen {
    stepped_down: Option<SteppedDown>,
    refused: Option<RefusedVote>,
    leader: Option<(Term, NodeId)>,
    commit: u64,
}

impl Story {
    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(crate) fn told(&self) -> usize {
        self.told
    }

    pub(crate) fn rewind(&mut self) {
        self.told = 0;
        self.seen.clear();
    }

    /// What lies ahead will be another story.
    pub(crate) fn forget_ahead(&mut self) {
        self.lines.truncate(self.told);
    }

    pub(crate) fn tell(&mut self, at: Position, server: u64, class: &'static str, text: &str) {
        // The same run tells the same.
        if self.told == self.lines.len() {
            self.lines.push(Line { at, server, class, text: text.to_owned() });
        }
        self.told += 1;
    }

    /// Tells what an event did.
    pub(crate) fn note(&mut self, at: Position, records: &[Record], cluster: &Cluster<Registers>) {
        for record in records {
            if let Some((class, text)) = self.words(record) {
                self.tell(at, record.server.get(), class, &text);
            }
        }
        for id in cluster.ids() {
            let Some(raft) = cluster.raft(*id) else { continue };
            if !records.iter().any(|record| record.server == *id) {
                continue;
            }
            let status = raft.status();
            self.reasons(at, *id, status.refused_vote, status.stepped_down);
            let commit = status.commit_index.get();
            let seen = self.seen.entry(*id).or_default();
            let rose = commit > seen.commit;
            seen.commit = commit;
            if rose && status.role == Role::Leader {
                let text = format!(
                    "S{id} commits through entry {commit}: a majority holds it on disk (§5.3, §5.4.2)."
                );
                self.tell(at, id.get(), "commit", &text);
            }
        }
    }

    fn words(&mut self, record: &Record) -> Option<(&'static str, String)> {
        let id = record.server;
        Some(match record.what {
            What::Became(role, term, leader) => return self.became(id, role, term, leader),
            What::Sent(gist) if gist.kind == "vote" => {
                let (to, term) = (gist.peer, gist.term);
                (
                    "vote",
                    format!(
                        "S{id} gives its vote in term {term} to S{to}: its disk holds that promise by now (§5.2, §5.4.1)."
                    ),
                )
            }
            What::Sent(gist) if gist.kind == "rejected" => {
                let (to, index) = (gist.peer, gist.index);
                (
                    "log",
                    format!(
                        "S{id} refuses S{to}'s entries, because its log does not match at {index} (§5.3)."
                    ),
                )
            }
            What::Crashed(_) => {
                self.seen.remove(&id);
                return None;
            }
            _ => return None,
        })
    }

    fn became(
        &mut self,
        id: NodeId,
        role: Role,
        term: Term,
        leader: Option<NodeId>,
    ) -> Option<(&'static str, String)> {
        let seen = self.seen.entry(id).or_default();
        let followed = leader.map(|leader| (term, leader));
        let is_known = followed.is_some() && followed == seen.leader;
        seen.leader = followed;
        Some(match role {
            Role::Leader => {
                ("leader", format!("S{id} leads term {term}: a majority voted for it (§5.2)."))
            }
            Role::Candidate => (
                "candidate",
                format!("S{id} stands for election in term {term}, and votes for itself (§5.2)."),
            ),
            Role::PreCandidate => (
                "candidate",
                format!(
                    "S{id} has heard no leader for its election timeout. It asks whether it could win, and keeps term {term} (pre-vote, thesis 9.6)."
                ),
            ),
            _ if is_known => return None,
            _ => {
                let leader = leader?;
                ("follower", format!("S{id} follows S{leader} in term {term} (§5.1)."))
            }
        })
    }

    /// Why a vote was refused and a role ended, as the core says.
    fn reasons(
        &mut self,
        at: Position,
        id: NodeId,
        refused: Option<RefusedVote>,
        ended: Option<SteppedDown>,
    ) {
        let seen = self.seen.entry(id).or_default();
        if ended.is_some() && seen.stepped_down != ended {
            seen.stepped_down = ended;
            if let Some(SteppedDown { role, term, reason, .. }) = ended {
                let what = if role == Role::Leader { "leads" } else { "stands" };
                let text =
                    format!("S{id} {what} no more in term {term}, because {}.", step_down(reason));
                self.tell(at, id.get(), "down", &text);
            }
        }
        let seen = self.seen.entry(id).or_default();
        if refused.is_some() && seen.refused != refused {
            seen.refused = refused;
            if let Some(RefusedVote { candidate, term, reason, .. }) = refused {
                let text = format!(
                    "S{id} refuses S{candidate} in term {term}, because {}.",
                    refusal(reason)
                );
                self.tell(at, id.get(), "down", &text);
            }
        }
    }
}

fn step_down(reason: StepDown) -> &'static str {
    match reason {
        StepDown::HigherTerm => "another server is in a higher term (§5.1)",
        StepDown::OtherLeader => "another server leads this term (§5.2)",
        StepDown::GaveVote => "it gave its vote to another server (§5.2)",
        StepDown::HandedOver => "it handed leadership over (thesis 3.10)",
        StepDown::NoQuorum => "it has not heard a majority for an election timeout (thesis 6.2)",
        StepDown::DiskSilent => "its disk has not answered in time",
        StepDown::NotAMember => "it is no member any more (§6)",
        _ => "it must keep its vote to itself",
    }
}

fn refusal(reason: VoteRefusal) -> &'static str {
    match reason {
        VoteRefusal::BoundToLeader => "it hears a leader (thesis 4.2.3)",
        VoteRefusal::ShorterLog => "its own log is more up to date (§5.4.1)",
        VoteRefusal::AlreadyVoted => "it has given its vote in this term to another server (§5.2)",
        VoteRefusal::CandidateNotAMember => "that server is no member (§6)",
        VoteRefusal::OldTerm => "that term is over (§5.1)",
        _ => "it must keep its vote to itself",
    }
}
