//! Writes the lines of a scenario, and plays each at once.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::host::recorder::RecordedCommand;
use raft_core::sim::SimRaft;
use raft_core::sim::scenario::{Stage, describe};
use raft_core::{
    Body, Config, HardState, LogId, Message, NodeId, Output, Raft, Restored, Role, Status, Term,
};

use super::names::{Names, hears, is_about_votes, list, quoted};
use super::panics::caught;
use super::turns::{Recorded, Step, Told, Turn};
/// More sentences than anyone reads.
const SENTENCES_MAX: usize = 20_000;

/// Why the scenario ends.
pub(super) enum End {
    /// Its last line does not hold.
    Failed(String),
    /// There is no scenario of this recording.
    None(String),
}

pub(super) struct Writer {
    stage: Stage,
    names: Names,
    pub(super) lines: Vec<String>,
    /// What has no words, and how often it came.
    pub(super) left_out: BTreeMap<&'static str, u64>,
    /// What the recorded servers did and those of the scenario do not.
    pub(super) differs: Vec<String>,
    sentences: usize,
    /// Where the recording of a server's life ends that may go on with another.
    ended: BTreeMap<NodeId, usize>,
    started: BTreeSet<NodeId>,
    /// Servers that were told to miss their leaders, and have not heard them since.
    missed: BTreeSet<NodeId>,
    abstaining: BTreeSet<NodeId>,
}

impl Writer {
    /// The lines with which the cluster begins.
    pub(super) fn new(
        recorded: &Recorded,
        all: &[NodeId],
        voters: &[NodeId],
    ) -> Result<Self, String> {
        let mut writer = Self {
            stage: Stage::default(),
            names: Names::default(),
            lines: Vec::new(),
            left_out: BTreeMap::new(),
            differs: Vec::new(),
            sentences: 0,
            ended: BTreeMap::new(),
            started: BTreeSet::new(),
            missed: BTreeSet::new(),
            abstaining: BTreeSet::new(),
        };
        let config = recorded.steps.iter().find_map(|step| match step {
            Step::Started { config, .. } => Some(config),
            Step::Turned(_) | Step::Ended(_) => None,
        });
        let config = config.ok_or("no server starts on these recordings")?;
        let snapshots = recorded.sends_snapshots();
        let begun = writer.begin(config, all, voters, snapshots);
        begun.map_err(|(End::Failed(error) | End::None(error))| error)?;
        Ok(writer)
    }

    fn begin(
        &mut self,
        config: &Config,
        all: &[NodeId],
        voters: &[NodeId],
        snapshots: bool,
    ) -> Result<(), End> {
        let settings = [
            (!config.pre_vote, "pre-vote off"),
            (!config.check_quorum, "check-quorum off"),
            (config.lease.is_some(), "leases on"),
            // Commands are short here, so that a log would never be compacted otherwise.
            (snapshots, "no log behind snapshots"),
        ];
        for (_, setting) in settings.iter().filter(|(holds, _)| *holds) {
            self.say(setting)?;
        }
        if voters != all {
            self.say(&format!("voters {}", list(voters)))?;
        }
        self.say(&format!("servers {}", list(all)))?;
        all.iter().try_for_each(|id| self.say(&format!("hold {id}'s disk")))
    }

    /// Writes a sentence and plays it.
    pub(super) fn say(&mut self, text: &str) -> Result<(), End> {
        self.sentences += 1;
        if self.sentences > SENTENCES_MAX {
            return Err(End::None(format!(
                "the scenario is longer than {SENTENCES_MAX} sentences: end it sooner with --until"
            )));
        }
        self.lines.push(text.into());
        let played = caught(|| self.stage.say(text).map_err(|failure| failure.reason));
        played.map_err(|error| End::Failed(format!("{text}: {error}")))
    }

    /// Writes a line for people.
    pub(super) fn comment(&mut self, text: &str) {
        self.lines.extend([String::new(), format!("# {text}")]);
    }

    fn leave_out(&mut self, what: &'static str) {
        *self.left_out.entry(what).or_default() += 1;
    }

    fn raft(&self, id: NodeId) -> Option<&SimRaft<Vec<u8>>> {
        self.stage.hosts().get(&id)?.raft()
    }

    /// What a server of the scenario says of itself, if it runs.
    pub(super) fn status(&self, id: NodeId) -> Option<Status> {
        self.raft(id).map(Raft::status)
    }

    pub(super) fn step(&mut self, step: &Step) -> Result<(), End> {
        match step {
            Step::Started { node, config: _, restored } => self.started(*node, restored),
            Step::Ended(node) => {
                self.ended.insert(*node, self.lines.len());
                Ok(())
            }
            Step::Turned(turn) => self.turned(turn),
        }
    }

    /// A life begins. The first of each server began with the scenario.
    fn started(&mut self, id: NodeId, restored: &Restored<RecordedCommand>) -> Result<(), End> {
        let is_empty = *restored == Restored::default();
        if self.started.insert(id) {
            if !is_empty {
                return Err(End::None(format!(
                    "server {id} begins with what its disk holds, for which scenarios have no words"
                )));
            }
            return Ok(());
        }
        let kept = self.kept(id, restored);
        // It was told nothing since its life ended, so it can be killed there.
        let behind = self.ended.remove(&id).map(|at| self.lines.split_off(at)).unwrap_or_default();
        let shift = self.lines.len();
        let writes = if kept == 1 { "write" } else { "writes" };
        match kept {
            0 => self.say(&format!("crash {id}"))?,
            kept => self.say(&format!("crash {id} keeping {kept} {writes}"))?,
        }
        self.lines.extend(behind);
        self.ended.values_mut().filter(|at| **at >= shift).for_each(|at| *at += 1);
        if is_empty {
            self.say(&format!("wipe {id}"))?;
        }
        self.say(&format!("restart {id}"))?;
        self.missed.remove(&id);
        self.abstaining.remove(&id);
        self.say(&format!("hold {id}'s disk"))
    }

    /// How many of the writes that wait have to be on a disk for a server to start with this.
    fn kept(&mut self, id: NodeId, restored: &Restored<RecordedCommand>) -> usize {
        if *restored == Restored::default() {
            return 0;
        }
        let Some(host) = self.stage.hosts().get(&id) else { return 0 };
        let wanted = (vote(&restored.hard_state), last(restored));
        let mut disk = host.stored().clone();
        let mut writes = host.writes();
        for kept in 0..=host.writes().len() {
            if (vote(&disk.hard_state), last(&disk)) == wanted {
                return kept;
            }
            if let Some(write) = writes.next() {
                disk.replay(write.clone());
            }
        }
        let all = host.writes().len();
        self.differs.push(format!(
            "server {id} starts again in term {} with a log that ends at {}, and its disk in the scenario holds another",
            wanted.0.0, wanted.1
        ));
        all
    }

    /// The sentences of a turn; several are taken in together.
    fn turned(&mut self, turn: &Turn) -> Result<(), End> {
        let id = turn.node;
        if self.raft(id).is_none() {
            return Ok(());
        }
        let campaigns = self.stage.campaign_of(id);
        let mut sentences: Vec<String> = Vec::new();
        for told in &turn.told {
            if let Some(sentence) = self.told(id, told, turn)? {
                add(&mut sentences, sentence);
            }
        }
        let together = sentences.len() > 1;
        if together {
            self.say(&format!("{id}'s loop pauses"))?;
        }
        sentences.iter().try_for_each(|sentence| self.say(sentence))?;
        if together {
            self.say(&format!("{id}'s loop goes on"))?;
        }
        self.followed(turn, campaigns)
    }

    fn told(&mut self, id: NodeId, told: &Told, turn: &Turn) -> Result<Option<String>, End> {
        let leads = self.raft(id).is_some_and(|raft| raft.role() == Role::Leader);
        Ok(match told {
            Told::Heard { message, changed } => {
                let bound = turn.bound_against == Some(message.from);
                let is_bound = bound && !changed && !grants(turn, message.from);
                self.heard(message, *changed, is_bound)?
            }
            Told::Proposed(command) if leads => {
                let command = self.names.command(command);
                Some(format!("{id} proposes {}", quoted(&[command])))
            }
            Told::Changes(changes) if leads => match self.names.changes(changes) {
                Some(words) => Some(format!("{id} changes members {words}")),
                None => {
                    self.leave_out("changes of members that have no word");
                    None
                }
            },
            Told::HandsOver(to) if leads => Some(match to {
                Some(to) => format!("{id} transfers to {to}"),
                None => format!("{id} hands over"),
            }),
            Told::Proposed(_) | Told::Changes(_) | Told::HandsOver(_) => {
                self.leave_out("requests to a server that does not lead in the scenario");
                None
            }
            Told::Persisted(waiting) => self.persisted(id, *waiting),
            Told::Suspects(leader) => Some(format!("{id} suspects {leader}")),
            Told::Abstains(true) => self.abstaining.insert(id).then(|| format!("{id} abstains")),
            Told::Abstains(false) => {
                self.abstaining.remove(&id).then(|| format!("{id} votes again"))
            }
            Told::SnapshotTaken => {
                let taking = self.stage.hosts()[&id].takes_snapshot();
                taking.then(|| format!("{id}'s snapshot is done"))
            }
        })
    }

    /// As many writes wait at a disk as waited at the recorded one.
    fn persisted(&self, id: NodeId, waiting: usize) -> Option<String> {
        let all = self.stage.hosts()[&id].writes().len();
        match all.saturating_sub(waiting) {
            0 => None,
            1 => Some(format!("{id}'s disk does 1 write")),
            count => Some(format!("{id}'s disk does {count} writes")),
        }
    }

    /// The sentence with which a message is heard; none if it changed nothing.
    fn heard(
        &mut self,
        message: &Message<RecordedCommand>,
        changed: bool,
        is_bound: bool,
    ) -> Result<Option<String>, End> {
        let (from, to) = (message.from, message.to);
        let told = self.names.message(message);
        match &told.body {
            Body::ReadIndex(_) | Body::ReadIndexReply(_) | Body::ProposeReply(_) => {
                return Ok(None);
            }
            Body::Propose(propose) if changed => {
                self.leave_out(
                    "requests that a follower forwarded; the leader is asked in its place",
                );
                let leads = self.raft(to).is_some_and(|raft| raft.role() == Role::Leader);
                let commands = quoted(&propose.commands);
                return Ok(leads.then(|| format!("{to} proposes {commands}")));
            }
            Body::Propose(_) => return Ok(None),
            _ => {}
        }
        let is_append = matches!(told.body, Body::AppendEntries(_));
        if is_about_votes(message) && !is_bound {
            self.be_free(to)?;
        }
        let sentence = hears(&told);
        let is_needed = changed
            || is_about_votes(message)
            || (is_append && self.missed.contains(&to))
            || matches!(&told.body, Body::AppendEntries(append) if !append.entries.is_empty())
            || matches!(told.body, Body::TimeoutNow(_) | Body::InstallSnapshot(_));
        let between = |m: &Message<Vec<u8>>| m.from == from && m.to == to && m.term == told.term;
        let leads = |raft: &Raft<_, _>| raft.role() == Role::Leader && raft.term() == told.term;
        let nothing = !self.stage.in_flight().iter().any(between);
        if is_needed && is_append && nothing && self.raft(from).is_some_and(leads) {
            self.say(&format!("{from} sends heartbeats"))?;
        }
        if is_append {
            self.missed.remove(&to);
        }
        if self.is_in_flight(&told) {
            return Ok(Some(sentence));
        }
        if !is_needed {
            self.leave_out("messages that changed nothing, most of them heartbeats");
            return Ok(None);
        }
        if self.stage.in_flight().iter().any(between) {
            self.leave_out("messages in whose place others of that sender are heard");
            return Ok(Some(format!("{to} hears {from}")));
        }
        self.leave_out("messages that nobody sends in the scenario");
        Ok(None)
    }

    fn is_in_flight(&self, message: &Message<Vec<u8>>) -> bool {
        let wanted = describe(message);
        self.stage.in_flight().iter().any(|other| describe(other) == wanted)
    }

    /// A server that listens to a candidate does not hear its leader any more.
    fn be_free(&mut self, id: NodeId) -> Result<(), End> {
        let Some(raft) = self.raft(id) else { return Ok(()) };
        let bound = raft.role() == Role::Follower && raft.leader().is_some();
        if bound && self.missed.insert(id) {
            self.say(&format!("{id} misses its leader"))?;
        }
        Ok(())
    }

    /// What time did to a server, and what that led to.
    fn followed(&mut self, turn: &Turn, campaigns: u64) -> Result<(), End> {
        let id = turn.node;
        for output in &turn.outputs {
            match output {
                Output::Send(message) => self.sent(message, campaigns, turn.micros)?,
                Output::TakeSnapshot(_) => self.take_snapshot(id)?,
                Output::RoleChanged { role: Role::Leader, term, .. } => {
                    self.expect_leader(id, *term)?;
                }
                _ => {}
            }
        }
        let leads = self.raft(id).is_some_and(|raft| raft.role() == Role::Leader);
        if let (true, Some(reason)) = (leads, turn.stepped_down) {
            self.comment(&format!("{} server {id} leads no more: {reason:?}.", at(turn.micros)));
            let span = self.raft(id).map(|raft| raft.config().election_timeout_max);
            let millis = span.unwrap_or_default().as_millis();
            self.say(&format!("time passes {millis}ms for {id}"))?;
        }
        Ok(())
    }

    /// A message that time alone brought about is one that the scenario's server sends once its
    /// timer fires.
    fn sent(
        &mut self,
        message: &Message<RecordedCommand>,
        campaigns: u64,
        micros: u64,
    ) -> Result<(), End> {
        let id = message.from;
        let told = self.names.message(message);
        match &told.body {
            Body::RequestPreVote(_)
                if self.stage.campaign_of(id) == campaigns && !self.is_leader(id) =>
            {
                let at = at(micros);
                self.comment(&format!("{at} server {id} asks whether it could win."));
                self.say(&format!("{id} campaigns"))?;
            }
            Body::RequestVote(_) => {
                let stands = |raft: &Raft<_, _>| raft.term() >= told.term;
                if !self.raft(id).is_some_and(stands) && !self.is_leader(id) {
                    let at = at(micros);
                    self.comment(&format!("{at} server {id} stands in term {}.", told.term));
                    self.say(&format!("{id} campaigns"))?;
                }
            }
            Body::RequestPreVoteReply(reply) if reply.granted && !self.is_in_flight(&told) => {
                self.be_free(id)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn is_leader(&self, id: NodeId) -> bool {
        self.raft(id).is_some_and(|raft| raft.role() == Role::Leader)
    }

    fn take_snapshot(&mut self, id: NodeId) -> Result<(), End> {
        let Some(status) = self.status(id) else { return Ok(()) };
        let is_free = !self.stage.hosts()[&id].takes_snapshot();
        if is_free && status.last_applied > status.snapshot.index {
            return self.say(&format!("{id} starts a snapshot"));
        }
        self.leave_out("snapshots");
        Ok(())
    }

    /// A server that leads where it was recorded leads here.
    pub(super) fn expect_leader(&mut self, id: NodeId, term: Term) -> Result<(), End> {
        let leads = |status: Status| status.role == Role::Leader && status.current_term == term;
        if self.status(id).is_some_and(leads) {
            return self.say(&format!("expect {id} leads term {term}"));
        }
        self.differs
            .push(format!("server {id} leads term {term}, and in the scenario it does not"));
        Ok(())
    }
}

/// Commands that came together are one sentence. What is said twice is heard at once.
fn add(sentences: &mut Vec<String>, sentence: String) {
    // Whatever one server had said is heard by a sentence before.
    let all = sentence.split_once("'s ").map(|(both, _)| both);
    if sentences.iter().any(|said| *said == sentence || Some(said.as_str()) == all) {
        return;
    }
    let last = sentences.last_mut().filter(|last| last.contains(" proposes "));
    match (last, sentence.split_once(" proposes ")) {
        (Some(last), Some((_, commands))) => *last = format!("{last} {commands}"),
        _ => sentences.push(sentence),
    }
}

/// Whether a server gives this candidate its pre-vote in this turn.
fn grants(turn: &Turn, candidate: NodeId) -> bool {
    turn.outputs.iter().any(|output| match output {
        Output::Send(Message { to, body: Body::RequestPreVoteReply(reply), .. }) => {
            *to == candidate && reply.granted
        }
        _ => false,
    })
}

fn vote(hard_state: &HardState) -> (Term, Option<NodeId>) {
    (hard_state.current_term, hard_state.voted_for)
}

fn last<C>(restored: &Restored<C>) -> LogId {
    restored.entries.last().map_or(restored.base, raft_core::Entry::id)
}

/// `1.203 s:`
fn at(micros: u64) -> String {
    format!("{}.{:03} s:", micros / 1_000_000, micros / 1000 % 1000)
}
