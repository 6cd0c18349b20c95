//! What each server did, turn by turn, as a scenario needs it.

use std::path::Path;

use raft_core::host::recorder::{Input, RecordedCommand, Replay};
use raft_core::{
    Body, Change, Config, Index, LogId, Message, NodeId, Output, RefusedVote, Restored, Role,
    Status, StepDown, Term, VoteRefusal, WriteId,
};
use replay::{Happening, Report, Tells, follow};

/// A step of a recorded cluster.
pub(crate) enum Step {
    Started { node: NodeId, config: Box<Config>, restored: Box<Restored<RecordedCommand>> },
    Turned(Turn),
    Ended(NodeId),
}

/// What a server was told until its outputs were polled, and what it made of that.
pub(crate) struct Turn {
    pub(crate) node: NodeId,
    /// The time of its last tick, in microseconds since the first server started.
    pub(crate) micros: u64,
    pub(crate) told: Vec<Told>,
    pub(crate) outputs: Vec<Output<RecordedCommand>>,
    /// Why it stopped leading, if it did.
    pub(crate) stepped_down: Option<StepDown>,
    /// The candidate that it refused last because it was bound to a leader.
    pub(crate) bound_against: Option<NodeId>,
}

/// What a server was told, as far as a scenario has words for it.
pub(crate) enum Told {
    Heard {
        message: Message<RecordedCommand>,
        /// The server's term, role, leader, vote, log or commit index changed.
        changed: bool,
    },
    Proposed(RecordedCommand),
    /// The disk has done all writes but so many.
    Persisted(usize),
    Suspects(NodeId),
    HandsOver(Option<NodeId>),
    Changes(Vec<Change>),
    Abstains(bool),
    SnapshotTaken,
}

/// What was recorded.
pub(crate) struct Recorded {
    pub(crate) steps: Vec<Step>,
    pub(crate) report: Report,
    /// What the scenario leaves out, and how often.
    pub(crate) reads: u64,
    pub(crate) refused: u64,
    /// What each server was like at the end.
    pub(crate) ends: Vec<(NodeId, Status)>,
}

/// Replays a folder up to so many microseconds, and keeps what a scenario needs.
pub(crate) fn read(dir: &Path, until: u64) -> Result<Recorded, String> {
    let mut reader = Reader { until, ..Reader::default() };
    let report = follow(dir, Tells::Nothing, &mut |replay, happening| {
        reader.take(replay, happening);
    })?;
    if let Some(node) = reader.middle {
        return Err(format!(
            "the recording of server {node} begins in the middle of its run, and a scenario begins where its servers start: \
             record from the start on, with room for all (`RecorderConfig::bytes_max`)"
        ));
    }
    let open: Vec<_> = reader.servers.iter().map(|server| server.node).collect();
    open.into_iter().for_each(|node| reader.flush(node));
    let Reader { steps, reads, refused, ends, .. } = reader;
    Ok(Recorded { steps, report, reads, refused, ends })
}

#[derive(Default)]
struct Reader {
    until: u64,
    begin: Option<u64>,
    servers: Vec<Server>,
    steps: Vec<Step>,
    reads: u64,
    refused: u64,
    middle: Option<NodeId>,
    ends: Vec<(NodeId, Status)>,
}

/// A server whose turn is not complete.
struct Server {
    node: NodeId,
    micros: u64,
    told: Vec<Told>,
    outputs: Vec<Output<RecordedCommand>>,
    writes: Vec<WriteId>,
    seen: Seen,
    stepped_down: Option<StepDown>,
    bound_against: Option<NodeId>,
}

/// What a message can change.
#[derive(Clone, PartialEq, Eq)]
struct Seen(Term, Role, Option<NodeId>, Option<NodeId>, LogId, Index);

impl Seen {
    fn of(status: &Status) -> Self {
        Self(
            status.current_term,
            status.role,
            status.leader,
            status.voted_for,
            status.last_log,
            status.commit_index,
        )
    }
}

impl Reader {
    fn take(&mut self, replay: &Replay, happening: &Happening<'_>) {
        let node = replay.recording().node;
        let wall = replay.wall_micros();
        let begin = *self.begin.get_or_insert(wall);
        let micros = wall.saturating_sub(begin);
        if micros > self.until {
            return;
        }
        match happening {
            Happening::Resumed => self.middle = self.middle.or(Some(node)),
            Happening::Started(restored) => self.started(replay, restored),
            Happening::Ended => {
                self.flush(node);
                self.servers.retain(|server| server.node != node);
                self.steps.push(Step::Ended(node));
            }
            Happening::Told { input, outputs, read } => {
                self.reads += u64::from(read.is_some());
                self.told(replay, micros, input, outputs);
            }
        }
    }

    fn started(&mut self, replay: &Replay, restored: &Restored<RecordedCommand>) {
        let Some(raft) = replay.raft() else { return };
        let node = raft.id();
        let (config, restored) = (Box::new(raft.config().clone()), Box::new(restored.clone()));
        self.steps.push(Step::Started { node, config, restored });
        self.servers.retain(|server| server.node != node);
        self.servers.push(Server {
            node,
            micros: 0,
            told: Vec::new(),
            outputs: Vec::new(),
            writes: Vec::new(),
            seen: Seen::of(&raft.status()),
            stepped_down: None,
            bound_against: None,
        });
    }

    fn told(
        &mut self,
        replay: &Replay,
        micros: u64,
        input: &Input<RecordedCommand>,
        outputs: &[Output<RecordedCommand>],
    ) {
        let node = replay.recording().node;
        let found = self.servers.iter_mut().find(|server| server.node == node);
        let (Some(server), Some(raft)) = (found, replay.raft()) else { return };
        server.micros = micros;
        let status = raft.status();
        let seen = Seen::of(&status);
        let before = std::mem::replace(&mut server.seen, seen.clone());
        let told = match input {
            Input::Step(message) => {
                Some(Told::Heard { message: (**message).clone(), changed: seen != before })
            }
            Input::Propose(command) if seen.4 != before.4 => Some(Told::Proposed(command.clone())),
            Input::ChangeMembership(changes) if seen.4 != before.4 => {
                Some(Told::Changes(changes.clone()))
            }
            Input::Propose(_) | Input::ChangeMembership(_) => {
                self.refused += 1;
                None
            }
            Input::Persisted(id) => {
                server.writes.retain(|write| write > id);
                Some(Told::Persisted(server.writes.len()))
            }
            Input::SuspectLeader(leader) if before.2 == Some(*leader) => {
                Some(Told::Suspects(*leader))
            }
            Input::TransferLeadership(to) => Some(Told::HandsOver(*to)),
            Input::Abstain(abstains) => Some(Told::Abstains(*abstains)),
            Input::SnapshotTaken(_) => Some(Told::SnapshotTaken),
            _ => None,
        };
        server.told.extend(told);
        let bound = |refused: &RefusedVote| refused.reason == VoteRefusal::BoundToLeader;
        let refused = status.refused_vote.filter(bound);
        server.bound_against = refused.map(|refused| refused.candidate);
        if before.1 == Role::Leader && seen.1 != Role::Leader {
            server.stepped_down = status.stepped_down.map(|ended| ended.reason);
        }
        for output in outputs {
            if let Output::Persist(write) = output {
                server.writes.push(write.id);
            }
        }
        server.outputs.extend(outputs.iter().cloned());
        self.ends.retain(|(known, _)| *known != node);
        self.ends.push((node, status));
        if matches!(input, Input::Poll(_) | Input::PollAll) {
            self.flush(node);
        }
    }

    /// The turn of a server is complete.
    fn flush(&mut self, node: NodeId) {
        let found = self.servers.iter_mut().find(|server| server.node == node);
        let Some(server) = found else { return };
        if server.told.is_empty() && server.outputs.is_empty() {
            return;
        }
        self.steps.push(Step::Turned(Turn {
            node,
            micros: server.micros,
            told: std::mem::take(&mut server.told),
            outputs: std::mem::take(&mut server.outputs),
            stepped_down: server.stepped_down.take(),
            bound_against: server.bound_against,
        }));
    }
}

impl Recorded {
    /// All servers, and those with which the cluster began.
    pub(crate) fn members(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let (mut all, mut voters) = (Vec::new(), Vec::new());
        for step in &self.steps {
            if let Step::Started { node, config, .. } = step {
                all.push(*node);
                if voters.is_empty() {
                    voters.clone_from(&config.voters);
                }
            }
        }
        all.extend(&voters);
        all.sort();
        all.dedup();
        voters.sort();
        (all, voters)
    }

    /// Whether any server sent a snapshot to another.
    pub(crate) fn sends_snapshots(&self) -> bool {
        let mut outputs = self.steps.iter().filter_map(|step| match step {
            Step::Turned(turn) => Some(&turn.outputs),
            Step::Started { .. } | Step::Ended(_) => None,
        });
        outputs.any(|outputs| {
            outputs.iter().any(|output| match output {
                Output::Send(message) => matches!(message.body, Body::InstallSnapshot(_)),
                _ => false,
            })
        })
    }
}
