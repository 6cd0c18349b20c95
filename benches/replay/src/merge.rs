//! One order of all that the servers of a cluster recorded: by their clocks, but a message leaves
//! before it comes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use raft_core::host::recorder::{Event, Input, RecordedCommand, Recording, Replay, ReplayError};
use raft_core::sim::{Observer, Violation};
use raft_core::{Body, ClusterIdentity, Message, NodeId, Output, Payload, Raft, Restored, Status};

use rustc_hash::FxHasher;

use crate::cluster::Cluster;
use crate::story::Story;
use crate::{Happening, Moment, Tally, Tells};

/// Is shown what happens to each server, before the rules are checked.
pub(crate) type Follower<'f> = dyn FnMut(&Replay, &Happening<'_>) + 'f;

/// Replays all servers together.
pub(crate) struct Merge {
    servers: Vec<Server>,
    /// The messages that have left, by their digests.
    sent: HashSet<u64, BuildHasherDefault<Digest>>,
    observer: Option<Observer<RecordedCommand>>,
    /// All servers that the observer knows.
    watched: BTreeSet<NodeId>,
    identity: Option<ClusterIdentity>,
    story: Story,
    /// The server that was told something last.
    current: usize,
    /// The earliest server when that was looked for last, and its time then.
    earliest: Option<(u64, usize)>,
    notes: Vec<String>,
    /// Nothing was found that a recording lacks.
    is_whole: bool,
    unsent: BTreeMap<(NodeId, NodeId), u64>,
    tally: Tally,
}

/// A server: its lives, one after another.
struct Server {
    node: NodeId,
    replay: Option<Replay>,
    /// The sender and the digest of the message that is next, if that was looked for.
    next: Option<Option<(NodeId, u64)>>,
    /// The next one is last.
    lives: Vec<Recording>,
    /// Whether something ran here before.
    has_run: bool,
    /// Nothing was told since the last tick.
    ticked: bool,
    /// Whether it abstains, if that is known.
    abstains: Option<bool>,
    /// What this life does is of no account: its store is of another cluster.
    foreign: bool,
    /// The number of its store, when it was last seen.
    store: Option<u64>,
    /// Nothing is missing at the end of its last life.
    is_complete: bool,
}

/// Digests are hashes already.
#[derive(Default)]
struct Digest(u64);

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, digest: u64) {
        self.0 = digest;
    }
}

/// Why a replay ends early.
enum Stop {
    Replay(ReplayError),
    Violation(Box<Violation>),
}

impl From<ReplayError> for Stop {
    fn from(error: ReplayError) -> Self {
        Self::Replay(error)
    }
}

impl From<Box<Violation>> for Stop {
    fn from(violation: Box<Violation>) -> Self {
        Self::Violation(violation)
    }
}

impl Merge {
    pub(crate) fn new(cluster: Cluster, tells: Tells) -> Self {
        let nodes = cluster.nodes();
        let mut observer = Observer::new(nodes.iter().copied());
        observer.tolerate_strangers();
        let lives = cluster.recordings.len();
        let begin = cluster.recordings.iter().map(|recording| recording.run).min();
        let mut servers: Vec<_> = nodes.iter().map(|node| Server::new(*node)).collect();
        for recording in cluster.recordings.into_iter().rev() {
            if let Some(server) = servers.iter_mut().find(|one| one.node == recording.node) {
                server.lives.push(recording);
            }
        }
        let tally = Tally { servers: nodes.len(), lives, ..Tally::default() };
        Self {
            servers,
            sent: HashSet::default(),
            observer: Some(observer),
            watched: nodes,
            identity: None,
            story: Story::new(begin.unwrap_or_default(), tells),
            current: 0,
            earliest: None,
            is_whole: cluster.notes.is_empty(),
            notes: cluster.notes,
            unsent: BTreeMap::new(),
            tally,
        }
    }

    /// Replays everything, and shows it to `follower`. The error says what is wrong, and where.
    pub(crate) fn run(&mut self, follower: &mut Follower<'_>) -> Result<(), String> {
        self.try_run(follower).map_err(|stop| self.words(stop))
    }

    /// Replays everything, and keeps the story with the states at each of its lines, up to so many.
    pub(crate) fn watch(&mut self, moments_max: usize) -> (Vec<Moment>, Option<String>) {
        self.story.keep();
        let mut moments = Vec::new();
        let end = self.try_watch(&mut moments, moments_max);
        (moments, end.err().map(|stop| self.words(stop)))
    }

    fn try_watch(&mut self, moments: &mut Vec<Moment>, moments_max: usize) -> Result<(), Stop> {
        let follower = &mut |_: &Replay, _: &Happening<'_>| {};
        self.resume_all(follower)?;
        while let Some(at) = self.next_server()? {
            let end = self.advance(at, follower);
            for (micros, text) in self.story.take_kept() {
                if moments.len() < moments_max {
                    let server = self.servers[at].node;
                    moments.push(Moment { micros, server, text, states: self.states() });
                }
            }
            end?;
        }
        Ok(())
    }

    /// What each server that runs is like.
    fn states(&self) -> Vec<Status> {
        let rafts = self.servers.iter().filter_map(|server| server.replay.as_ref()?.raft());
        rafts.map(Raft::status).collect()
    }

    fn words(&self, stop: Stop) -> String {
        match stop {
            Stop::Replay(ReplayError::Difference(difference)) => {
                let error = ReplayError::Difference(difference);
                format!("{error}; {}", self.story.last())
            }
            Stop::Replay(error) => error.to_string(),
            Stop::Violation(violation) => {
                let (property, detail) = (violation.property, &violation.detail);
                format!("broken rule: {property}: {detail}; at {}", self.place())
            }
        }
    }

    fn try_run(&mut self, follower: &mut Follower<'_>) -> Result<(), Stop> {
        self.resume_all(follower)?;
        while let Some(at) = self.next_server()? {
            self.advance(at, follower)?;
        }
        Ok(())
    }

    /// Servers whose recording begins in the middle were there from the beginning.
    fn resume_all(&mut self, follower: &mut Follower<'_>) -> Result<(), Stop> {
        for at in 0..self.servers.len() {
            let server = &mut self.servers[at];
            let begins = server.lives.last().map(|life| life.segments[0].first_input);
            if begins > Some(0) {
                self.advance(at, follower)?;
            }
        }
        Ok(())
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut tally = self.tally.clone();
        tally.compared += self
            .servers
            .iter()
            .filter_map(|one| one.replay.as_ref())
            .map(Replay::compared)
            .sum::<u64>();
        tally.recorded = self.story.span();
        tally.observed = self.observer.is_some();
        tally.whole = self.is_whole && self.unsent.is_empty() && self.open_notes().next().is_none();
        tally
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        notes.extend(self.open_notes().cloned());
        for ((from, to), count) in &self.unsent {
            notes.push(format!(
                "server {to} got messages ({count}) that the replay of server {from} did not send: the end of its recording is missing, or it went another way"
            ));
        }
        notes
    }

    /// What the recordings lack that are being replayed.
    fn open_notes(&self) -> impl Iterator<Item = &String> {
        let open = self.servers.iter().filter_map(|server| server.replay.as_ref());
        open.flat_map(Replay::notes)
    }

    /// Where the replay stands.
    pub(crate) fn place(&self) -> String {
        let server = &self.servers[self.current];
        let input = server.replay.as_ref().map_or(0, Replay::input);
        format!("input {input} of server {}, {}", server.node, self.story.last())
    }

    /// The server that is told something next: the earliest by its clock, unless its message has
    /// yet to leave.
    fn next_server(&mut self) -> Result<Option<usize>, Stop> {
        // The earliest one stays so until its clock moves, because no other clock goes back.
        let stays = self.earliest.filter(|(time, at)| self.servers[*at].next_at() == Some(*time));
        if stays.is_none() {
            let times = self.servers.iter().enumerate();
            self.earliest = times.filter_map(|(at, server)| Some((server.next_at()?, at))).min();
        }
        let Some((_, first)) = self.earliest else { return Ok(None) };
        // Follows the senders. Servers that wait for each other wait for what no recording has.
        let mut at = first;
        for _ in 0..self.servers.len() {
            let Some((sender, digest)) = self.message_of(at)? else { return Ok(Some(at)) };
            if self.sent.contains(&digest) {
                return Ok(Some(at));
            }
            let found = self.servers.iter().position(|server| server.node == sender);
            match found.filter(|sender| self.servers[*sender].next_at().is_some()) {
                Some(sender) => at = sender,
                None => break,
            }
        }
        // The clocks decide, because nothing else is known of a message that nobody sent.
        if let Some((from, _)) = self.message_of(first)? {
            let to = self.servers[first].node;
            *self.unsent.entry((from, to)).or_default() += 1;
            // What is missing cannot be told from a broken rule.
            self.observer = None;
        }
        Ok(Some(first))
    }

    /// The sender and the digest of the message that comes next here.
    fn message_of(&mut self, at: usize) -> Result<Option<(NodeId, u64)>, Stop> {
        let server = &mut self.servers[at];
        let Some(replay) = &mut server.replay else { return Ok(None) };
        if server.next.is_none() {
            server.next =
                Some(replay.next_message()?.map(|message| (message.from, digest(message))));
        }
        Ok(server.next.flatten())
    }

    fn advance(&mut self, at: usize, follower: &mut Follower<'_>) -> Result<(), Stop> {
        self.current = at;
        let server = &mut self.servers[at];
        server.next = None;
        if server.replay.is_none() {
            server.replay = server.lives.pop().map(Replay::new);
        }
        let Some(replay) = &mut server.replay else { return Ok(()) };
        match replay.advance()? {
            None => {
                follower(replay, &Happening::Ended);
                self.tally.compared += replay.compared();
                self.notes.extend(replay.notes().iter().cloned());
                self.is_whole &= replay.notes().is_empty();
                server.is_complete = replay.is_complete();
                self.story.ended(server.node);
                server.replay = None;
                Ok(())
            }
            Some(Event::Started(restored)) => {
                follower(replay, &Happening::Started(&restored));
                self.started(at, &restored)
            }
            Some(Event::Resumed) => {
                follower(replay, &Happening::Resumed);
                self.resumed(at)
            }
            Some(Event::Told { input, outputs, read }) => {
                let told = Happening::Told { input: &input, outputs: &outputs, read };
                follower(replay, &told);
                self.told(at, &input, outputs)
            }
        }
    }

    fn started(&mut self, at: usize, restored: &Restored<RecordedCommand>) -> Result<(), Stop> {
        let is_member = self.is_member(self.servers[at].node);
        let server = &mut self.servers[at];
        let Some(replay) = &server.replay else { return Ok(()) };
        server.abstains = Some(false);
        let identity = identity_of(restored);
        let store = replay.recording().store;
        // A disk that a server brings with it holds nothing, or what its former life left there.
        let is_wiped = *restored == Restored::default();
        let is_replaced = server.store.is_some_and(|known| known != store) && !is_wiped;
        let differs = identity.is_some() && self.identity.is_some() && identity != self.identity;
        server.foreign = is_replaced || differs;
        if server.foreign {
            let (node, run) = (server.node, replay.recording().run);
            self.notes.push(format!(
                "server {node}: its run {run} began with a store that is not its own, and is not checked"
            ));
            return Ok(());
        }
        server.store = Some(store);
        self.identity = self.identity.or(identity);
        self.story.started(replay, restored);
        if server.has_run && !server.is_complete {
            self.notes.push(format!(
                "server {}: the end of a recording is missing, because its process was killed or the file is damaged: rules are not checked from there on",
                server.node
            ));
            (self.observer, self.is_whole) = (None, false);
        }
        if server.has_run && is_wiped && is_member {
            let (node, run) = (server.node, replay.recording().run);
            self.notes.push(format!(
                "server {node}: its run {run} began with an empty disk while it was a member: what it had promised before is lost"
            ));
        }
        if let Some(observer) = &mut self.observer {
            if !server.has_run {
                observer.on_start(server.node, restored)?;
            } else if is_wiped && is_member {
                observer.on_lost_disk(server.node);
                observer.on_start(server.node, restored)?;
            } else if is_wiped {
                observer.on_wipe(server.node);
                observer.on_start(server.node, restored)?;
            } else {
                observer.on_restart(server.node, restored)?;
            }
        }
        server.has_run = true;
        Ok(())
    }

    /// Whether another server counts this one as a member.
    fn is_member(&self, node: NodeId) -> bool {
        let others = self.servers.iter().filter(|other| other.node != node && !other.foreign);
        let mut rafts = others.filter_map(|other| other.replay.as_ref()?.raft());
        rafts.any(|raft| raft.membership().suffrage(node).is_some())
    }

    fn resumed(&mut self, at: usize) -> Result<(), Stop> {
        let server = &mut self.servers[at];
        let Some(raft) = server.replay.as_ref().and_then(Replay::raft) else { return Ok(()) };
        if let Some(observer) = &mut self.observer {
            observer.on_resume(raft)?;
        }
        (server.has_run, server.abstains) = (true, None);
        Ok(())
    }

    fn told(
        &mut self,
        at: usize,
        input: &Input<RecordedCommand>,
        outputs: Vec<Output<RecordedCommand>>,
    ) -> Result<(), Stop> {
        self.tally.inputs += 1;
        let server = &mut self.servers[at];
        let turned = server.ends_turn(input);
        let Some(replay) = &server.replay else { return Ok(()) };
        let Some(raft) = replay.raft() else { return Ok(()) };
        self.story.told(replay, input, &outputs);
        for output in &outputs {
            match output {
                Output::MembershipChanged(membership) if !server.foreign => {
                    self.identity = self.identity.or(membership.identity());
                }
                Output::Send(message) => {
                    self.sent.insert(digest(message));
                    if self.watched.insert(message.to) {
                        // A server without a recording.
                        let to = message.to;
                        self.notes
                            .push(format!("server {to} has no recording: rules are not checked"));
                        (self.observer, self.is_whole) = (None, false);
                    }
                }
                _ => {}
            }
        }
        let Some(observer) = self.observer.as_mut().filter(|_| !server.foreign) else {
            return Ok(());
        };
        if let Input::Persisted(write) = input {
            observer.on_synced(server.node, *write)?;
        }
        for output in &outputs {
            match output {
                Output::Persist(write) => observer.on_write(raft, write)?,
                Output::Send(message) => observer.on_send(message)?,
                Output::Apply { from, through } => {
                    for entry in raft.entries(*from, *through) {
                        observer.on_apply(raft, entry)?;
                    }
                }
                Output::Restore(meta) => observer.on_restore_unseen(server.node, meta)?,
                _ => {}
            }
        }
        if turned {
            observer.after_turn(raft, replay.now())?;
        }
        Ok(())
    }
}

impl Server {
    fn new(node: NodeId) -> Self {
        Self {
            node,
            replay: None,
            next: None,
            lives: Vec::new(),
            has_run: false,
            ticked: false,
            abstains: None,
            foreign: false,
            store: None,
            is_complete: true,
        }
    }

    /// Whether a turn of the loop ends with this input: nothing was told between its tick and the
    /// last poll.
    fn ends_turn(&mut self, input: &Input<RecordedCommand>) -> bool {
        let ticked = self.ticked;
        self.ticked = match input {
            Input::Tick(_) => true,
            Input::Poll(_) | Input::Digest(_) => ticked,
            // The host says so with each configuration that it polls, mostly what the core knows.
            Input::Abstain(abstains) => {
                let known = self.abstains.replace(*abstains);
                ticked && known == Some(*abstains)
            }
            _ => false,
        };
        ticked && matches!(input, Input::PollAll)
    }

    /// When something happens here next, by its own clock; none if nothing does.
    fn next_at(&self) -> Option<u64> {
        let open = self.replay.as_ref().map(Replay::wall_micros);
        open.or_else(|| self.lives.last().map(|recording| recording.run))
    }
}

fn identity_of(restored: &Restored<RecordedCommand>) -> Option<ClusterIdentity> {
    let in_log = restored.entries.iter().rev().find_map(|entry| match &entry.payload {
        Payload::Configuration(membership) => membership.identity(),
        _ => None,
    });
    in_log.or_else(|| restored.snapshot.as_ref()?.membership.identity())
}

/// A number that tells one message from another. The host adds digests of states on the way, which
/// the core neither sets nor reads.
fn digest(message: &Message<RecordedCommand>) -> u64 {
    let mut hasher = FxHasher::default();
    if let Body::AppendEntriesReply(reply) = &message.body {
        let reply = raft_core::AppendEntriesReply { state: None, ..*reply };
        (message.from, message.to, message.term, reply).hash(&mut hasher);
    } else {
        message.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise the observer would not see that turn, nor a configuration that came in it.
    #[test]
    fn a_turn_goes_on_if_the_host_says_of_abstaining_what_the_core_knows() {
        let mut server = Server::new(NodeId::new(1));
        server.abstains = Some(false);
        let mut ends = |inputs: &[Input<RecordedCommand>]| -> bool {
            inputs.iter().fold(false, |_, input| server.ends_turn(input))
        };
        assert!(ends(&[Input::Tick(1), Input::Poll(1), Input::Abstain(false), Input::PollAll]));
        assert!(!ends(&[Input::Tick(1), Input::Poll(1), Input::Abstain(true), Input::PollAll]));
        assert!(ends(&[Input::Tick(1), Input::Poll(1), Input::Abstain(true), Input::PollAll]));
        assert!(!ends(&[Input::Tick(1), Input::Read, Input::PollAll]));
    }
}
