//! What happened, in plain words.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::Duration;

use raft_core::host::recorder::{Input, RecordedCommand, Replay};
use raft_core::{
    Body, NodeId, Output, RefusedVote, Restored, Role, StepDown, SteppedDown, Term, VoteRefusal,
};

use crate::Tells;

/// Tells what happens, as it happens.
pub(crate) struct Story {
    /// When the first server started, in microseconds since 1970.
    begin: u64,
    now: u64,
    tells: Tells,
    servers: BTreeMap<NodeId, Told>,
    last: String,
    /// The lines, if they are kept instead of printed, each with its microseconds.
    kept: Option<Vec<(u64, String)>>,
}

/// What was told of a server.
#[derive(Default)]
struct Told {
    refused: Option<RefusedVote>,
    stepped_down: Option<SteppedDown>,
    leader: Option<NodeId>,
    voters: Vec<NodeId>,
    /// When its leader was last heard, in microseconds since 1970.
    heard: Option<(NodeId, u64)>,
    /// What it was asked for last, by each candidate.
    asked: BTreeMap<NodeId, &'static str>,
}

impl Story {
    pub(crate) fn new(begin: u64, tells: Tells) -> Self {
        let (servers, last) = (BTreeMap::new(), String::new());
        Self { begin, now: begin, tells, servers, last, kept: None }
    }

    /// Keeps what is told from now on, instead of printing it.
    pub(crate) fn keep(&mut self) {
        self.kept = Some(Vec::new());
    }

    /// What was kept since the last call.
    pub(crate) fn take_kept(&mut self) -> Vec<(u64, String)> {
        self.kept.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// From the first to the last thing that happened.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_micros(self.now.saturating_sub(self.begin))
    }

    /// When the last input came, and what was told last.
    pub(crate) fn last(&self) -> String {
        let (time, last) = (self.time(), &self.last);
        format!("{} after the first start (the story's last line: {last})", time.trim())
    }

    fn time(&self) -> String {
        let micros = self.now.saturating_sub(self.begin);
        format!("{:4}.{:06} s", micros / 1_000_000, micros % 1_000_000)
    }

    fn tell(&mut self, text: &str) {
        text.clone_into(&mut self.last);
        self.show(text);
    }

    /// Tells this beside the story.
    fn show(&mut self, text: &str) {
        if let Some(kept) = &mut self.kept {
            kept.push((self.now.saturating_sub(self.begin), text.to_owned()));
        } else if self.tells >= Tells::Story {
            // A reader that has read enough closes the pipe.
            let _ = writeln!(io::stdout().lock(), "{}  {text}", self.time());
        }
    }

    pub(crate) fn started(&mut self, replay: &Replay, restored: &Restored<RecordedCommand>) {
        self.now = self.now.max(replay.wall_micros());
        let node = replay.recording().node;
        self.servers.insert(node, Told::default());
        let last = restored.entries.last().map_or(restored.base, raft_core::Entry::id);
        let term = restored.hard_state.current_term;
        if *restored == Restored::default() {
            self.tell(&format!("server {node} starts with an empty disk"));
        } else {
            self.tell(&format!("server {node} starts in term {term}, its log ends with {last}"));
        }
    }

    pub(crate) fn ended(&mut self, node: NodeId) {
        self.tell(&format!("here ends the recording of this life of server {node}"));
    }

    pub(crate) fn told(
        &mut self,
        replay: &Replay,
        input: &Input<RecordedCommand>,
        outputs: &[Output<RecordedCommand>],
    ) {
        self.now = self.now.max(replay.wall_micros());
        let node = replay.recording().node;
        if self.tells == Tells::Inputs {
            self.show(&format!("server {node} <- {input:?}"));
            outputs.iter().for_each(|output| self.show(&format!("server {node} -> {output:?}")));
        }
        if let Input::Step(message) = input {
            let told = self.servers.entry(node).or_default();
            match &message.body {
                Body::AppendEntries(_) | Body::InstallSnapshot(_) => {
                    told.heard = Some((message.from, replay.wall_micros()));
                }
                Body::RequestVote(_) => drop(told.asked.insert(message.from, "vote")),
                Body::RequestPreVote(_) => drop(told.asked.insert(message.from, "pre-vote")),
                _ => {}
            }
        }
        match input {
            Input::SuspectLeader(leader) => {
                self.tell(&format!(
                    "server {node} hears that the process of server {leader} is gone"
                ));
            }
            Input::TransferLeadership(_) => {
                self.tell(&format!("server {node} is asked to hand leadership over"));
            }
            Input::SnapshotTaken(index) => {
                self.tell(&format!("server {node} has a snapshot of the entries up to {index}"));
            }
            Input::SnapshotFailed => self.tell(&format!("server {node} cannot take its snapshot")),
            _ => {}
        }
        outputs.iter().for_each(|output| self.output(node, output));
        if matches!(input, Input::Tick(_)) || matches!(input, Input::Step(_)) {
            self.reasons(replay);
        }
    }

    fn output(&mut self, node: NodeId, output: &Output<RecordedCommand>) {
        match output {
            Output::RoleChanged { role, term, leader } => self.role(node, *role, *term, *leader),
            Output::MembershipChanged(membership) => {
                let told = self.servers.entry(node).or_default();
                let voters: Vec<_> = membership.voters().collect();
                if told.voters != voters {
                    let list: Vec<_> = voters.iter().map(NodeId::to_string).collect();
                    told.voters = voters;
                    self.tell(&format!("server {node} goes by the voters {}", list.join(", ")));
                }
            }
            Output::Persist(write) => {
                if let Some(from) = write.truncate_from {
                    self.tell(&format!(
                        "server {node} removes the entries from {from} on: its leader has others, or none"
                    ));
                }
            }
            Output::Restore(snapshot) => {
                let last = snapshot.last;
                self.tell(&format!(
                    "server {node} takes the snapshot {last} in place of its state"
                ));
            }
            Output::Send(message) => {
                let to = message.to;
                let (granted, kind) = match &message.body {
                    Body::RequestVoteReply(reply) => (reply.granted, "vote"),
                    Body::RequestPreVoteReply(reply) => (reply.granted, "pre-vote"),
                    _ => return,
                };
                let term = message.term;
                if granted {
                    self.tell(&format!(
                        "server {node} gives server {to} its {kind} in term {term}"
                    ));
                }
            }
            _ => {}
        }
    }

    fn role(&mut self, node: NodeId, role: Role, term: Term, leader: Option<NodeId>) {
        let known = self.servers.entry(node).or_default();
        let was = std::mem::replace(&mut known.leader, leader);
        let silent = known.heard.filter(|(of, _)| Some(*of) == was);
        let silence = silent.map(|(of, at)| {
            format!(", because it has not heard leader {of} for {}", ms(self.now, at))
        });
        let silence = silence.unwrap_or_default();
        let text = match (role, leader) {
            (Role::Leader, _) => format!("server {node} leads term {term}"),
            (Role::Candidate, _) => format!("server {node} stands for election in term {term}"),
            (Role::PreCandidate, _) => {
                format!(
                    "server {node} asks in term {term} whether it could win an election{silence}"
                )
            }
            (Role::Follower, Some(leader)) => {
                format!("server {node} follows leader {leader} in term {term}")
            }
            (Role::Follower, None) => format!("server {node} knows no leader in term {term}"),
            (role, _) => format!("server {node} is {role} in term {term}"),
        };
        self.tell(&text);
    }

    /// Why votes were refused and roles ended, as the core says.
    fn reasons(&mut self, replay: &Replay) {
        let Some(raft) = replay.raft() else { return };
        let node = raft.id();
        let (refused, ended) = (replay.refused_vote(), replay.stepped_down());
        let told = self.servers.entry(node).or_default();
        let (heard, leader) = (told.heard, raft.leader());
        if ended.is_some() && told.stepped_down != ended {
            told.stepped_down = ended;
            if let Some(SteppedDown { role, term, reason, .. }) = ended {
                let role = if role == Role::Leader { "leads no more" } else { "stands no more" };
                let why = step_down(reason);
                self.tell(&format!("server {node} {role} in term {term}, because {why}"));
            }
        }
        let told = self.servers.entry(node).or_default();
        if refused.is_some() && told.refused != refused {
            told.refused = refused;
            if let Some(RefusedVote { candidate, term, reason, .. }) = refused {
                let why = match (reason, heard, leader) {
                    (VoteRefusal::BoundToLeader, Some((of, at)), _) => {
                        format!("it had heard leader {of} {} before", ms(self.now, at))
                    }
                    (VoteRefusal::BoundToLeader, None, Some(leader)) => {
                        format!("it is bound to leader {leader}")
                    }
                    (reason, _, _) => refusal(reason).to_owned(),
                };
                let asked = told.asked.get(&candidate).copied().unwrap_or("vote");
                self.tell(&format!(
                    "server {node} refuses server {candidate}'s {asked} in term {term}, because {why}"
                ));
            }
        }
    }
}

fn ms(now: u64, then: u64) -> String {
    format!("{:.1} ms", now.saturating_sub(then) as f64 / 1000.0)
}

fn step_down(reason: StepDown) -> &'static str {
    match reason {
        StepDown::HigherTerm => "another server is in a higher term",
        StepDown::OtherLeader => "another server leads this term",
        StepDown::GaveVote => "it gave its vote to another server",
        StepDown::HandedOver => "it handed leadership over",
        StepDown::NoQuorum => "it has not heard a majority for an election timeout",
        StepDown::DiskSilent => "its disk has not answered in time",
        StepDown::NotAMember => "it is no member any more",
        StepDown::Abstains => "it must keep its vote to itself",
        _ => "of a reason that this program does not know",
    }
}

fn refusal(reason: VoteRefusal) -> &'static str {
    match reason {
        VoteRefusal::BoundToLeader => "it is bound to a leader",
        VoteRefusal::ShorterLog => "its own log is more up to date",
        VoteRefusal::AlreadyVoted => "it has given its vote in this term to another server",
        VoteRefusal::Abstains => "it must keep its vote to itself",
        VoteRefusal::CandidateNotAMember => "that server is no member",
        VoteRefusal::OldTerm => "that term is over",
        _ => "of a reason that this program does not know",
    }
}
