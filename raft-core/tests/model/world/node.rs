//! One server with its disk: the real core, and what the world can do to it.
//!
//! A turn is atomic: one input, a tick, and all outputs. Little is lost by that: a message which is
//! sent need not arrive, a write which is handed out need not land, so a crash within a turn is a
//! crash after it.

use std::convert::Infallible;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use raft_core::{
    AppendResult, Body, Config, Entry, HardState, Index, Instant, Message, NodeId, Output, Payload,
    Raft, Restored, Role, Term, Write, WriteId,
};
use rand_core::TryRng;

/// A client's command: its number.
pub(crate) type Command = [u8; 1];
pub(crate) type LogEntry = Entry<Command>;

const HEARTBEAT: Duration = Duration::from_micros(500);
const ELECTION_TIMEOUT_MIN: Duration = Duration::from_micros(1000);
/// By then every timer is due that was armed now.
const LONG_ENOUGH: Duration = Duration::from_micros(2024);
/// What a draw leaves of the spread: every timeout is the longest, so that a leader can be thought
/// dead before it fires.
const LONGEST: u64 = 1023;

/// Draws the same in each life, and something else in the next, so that answers to an earlier
/// life's pre-votes do not fit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Dice {
    life: u8,
}

impl TryRng for Dice {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((u32::from(self.life) << 16) + LONGEST as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.try_next_u32().map(u64::from)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(self.life);
        Ok(())
    }
}

/// A message with its digest, made once.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) digest: u64,
    pub(crate) message: Message<Command>,
}

impl PartialEq for Envelope {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// What can happen to a server.
#[derive(Clone, PartialEq)]
pub(crate) enum Input {
    /// The election timer fires.
    Timeout,
    /// A leader's heartbeat timer fires.
    Heartbeat,
    /// So much time passes that the leader counts as dead, but not so much that the election timer
    /// fires.
    Silence,
    /// A message arrives. It stays in the network, and may arrive again.
    Deliver(Arc<Envelope>),
    /// The oldest write that the disk was asked for is durable.
    Persist,
    /// A client's command comes.
    Propose(u8),
    /// The server crashes, and starts again from its disk, on which so many of the unfinished
    /// writes landed all the same.
    Crash { landed: usize },
}

impl Input {
    fn digest(&self) -> u64 {
        match self {
            Self::Timeout => 1,
            Self::Heartbeat => 2,
            Self::Silence => 3,
            Self::Persist => 4,
            Self::Deliver(envelope) => envelope.digest,
            Self::Propose(number) => 0x100 + u64::from(*number),
            Self::Crash { landed } => 0x200 + *landed as u64,
        }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("election timeout"),
            Self::Heartbeat => f.write_str("heartbeat timeout"),
            Self::Silence => f.write_str("hears nothing for a while"),
            Self::Deliver(envelope) => {
                let Message { from, term, body, .. } = &envelope.message;
                write!(f, "hears {from} in term {term}: {body:?}")
            }
            Self::Persist => f.write_str("a write lands"),
            Self::Propose(number) => write!(f, "is given command {number}"),
            Self::Crash { landed } => {
                write!(f, "crashes; {landed} of its writes on their way have landed")
            }
        }
    }
}

/// What follows from an input.
pub(crate) struct Outcome {
    pub(crate) node: Arc<Node>,
    pub(crate) sent: Vec<Arc<Envelope>>,
    pub(crate) fault: Option<Fault>,
}

impl Outcome {
    pub(crate) fn changes_nothing(&self, node: &Node) -> bool {
        self.node.digest == node.digest && self.sent.is_empty() && self.fault.is_none()
    }
}

/// What no server may do, seen in one turn of one server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Fault {
    /// It said what it could forget.
    Promise,
    /// It applied what is not committed or durable here, or out of order.
    Apply,
    /// A leader removed or replaced an entry of its own.
    AppendOnly,
    /// It saw what no correct cluster can bring about.
    Impossible,
}

/// A server, its disk, and what is derived from them.
pub(crate) struct Node {
    raft: Raft<Command, Dice>,
    now: Instant,
    /// What is durable.
    disk: Restored<Command>,
    /// Writes land late.
    slow_disk: bool,
    /// Writes handed to the disk and not answered for.
    queue: Vec<Write<Command>>,
    /// The last entry given to the state machine, in this life.
    applied: Index,
    life: u8,
    /// Heartbeats sent in this term of leadership.
    pub(crate) beats: u8,
    /// Pre-votes asked for in this life.
    pub(crate) pre_votes: u8,
    pub(crate) digest: u64,
    pub(crate) role: Role,
    pub(crate) term: Term,
    pub(crate) commit_index: Index,
    /// The log in memory: what the disk would hold if it finished its work.
    pub(crate) log: Vec<LogEntry>,
    /// Nothing has happened to it yet.
    pub(crate) pristine: bool,
}

impl Node {
    pub(crate) fn new(id: u64, servers: u64, pre_vote: bool, slow_disk: bool) -> Self {
        let config = Config {
            election_timeout_min: ELECTION_TIMEOUT_MIN,
            election_timeout_max: LONG_ENOUGH,
            heartbeat_interval: HEARTBEAT,
            // Longer memories only tell more states apart.
            disk_timeout: ELECTION_TIMEOUT_MIN,
            // Any server may stand next: the timers are choices of the model.
            rank_slot: None,
            pre_vote,
            // Both only take behaviour away: a voter that is true to a leader is one that the
            // request does not reach, and a leader that steps down is one that crashes and loses
            // nothing.
            check_quorum: false,
            // One entry in a message: the finest steps.
            append_bytes_max: 1,
            command_bytes_max: 1,
            ..Config::new(NodeId::new(id), (1..=servers).map(NodeId::new))
        };
        let mut node = Self::start(config, Restored::default(), slow_disk, 0);
        node.pristine = true;
        node
    }

    fn start(config: Config, disk: Restored<Command>, slow_disk: bool, life: u8) -> Self {
        let raft = Raft::new(config, disk.clone(), Dice { life }).expect("what a server wrote");
        let mut node = Self {
            raft,
            now: Instant::ZERO,
            disk,
            slow_disk,
            queue: Vec::new(),
            applied: Index::ZERO,
            life,
            beats: 0,
            pre_votes: 0,
            digest: 0,
            role: Role::Follower,
            term: Term::ZERO,
            commit_index: Index::ZERO,
            log: Vec::new(),
            pristine: false,
        };
        let (mut sent, mut fault) = (Vec::new(), None);
        node.turn(&mut sent, &mut fault);
        node.derive();
        node
    }

    /// How many writes the disk has yet to answer for.
    pub(crate) fn unfinished(&self) -> usize {
        self.queue.len()
    }

    /// Whether no crash takes this entry back.
    pub(crate) fn holds_durably(&self, entry: &LogEntry) -> bool {
        self.disk.entries.contains(entry)
    }

    /// Whether this server has heard its leader lately.
    pub(crate) fn hears_leader(&self) -> bool {
        let follows = self.role == Role::Follower && self.raft.leader().is_some();
        follows && self.raft.next_deadline() > Some(self.now + ELECTION_TIMEOUT_MIN + HEARTBEAT)
    }

    /// Whether this is a reply to a question which this server will never ask in the reply's term
    /// again.
    pub(crate) fn is_past_heeding(&self, reply: &Message<Command>) -> bool {
        let may_yet_heed = match reply.body {
            Body::RequestPreVoteReply(_) => self.role == Role::PreCandidate,
            Body::RequestVoteReply(_) => self.role == Role::Candidate,
            // A candidate may come to lead.
            Body::AppendEntriesReply(_) => matches!(self.role, Role::Candidate | Role::Leader),
            Body::RequestPreVote(_) | Body::RequestVote(_) | Body::AppendEntries(_) | _ => {
                return false;
            }
        };
        let durable = self.disk.hard_state.current_term;
        reply.term < durable || (reply.term == durable && !may_yet_heed)
    }

    /// What follows if this happens.
    pub(crate) fn after(&self, input: &Input) -> Outcome {
        let (mut sent, mut fault) = (Vec::new(), None);
        let mut node = match input {
            Input::Crash { landed } => self.restarted(*landed),
            Input::Timeout
            | Input::Heartbeat
            | Input::Silence
            | Input::Deliver(_)
            | Input::Persist
            | Input::Propose(_) => self.continued(input, &mut sent, &mut fault),
        };
        node.derive();
        if self.leads_on_as(&node) && !node.log.starts_with(&self.log) {
            fault = fault.or(Some(Fault::AppendOnly));
        }
        Outcome { node: Arc::new(node), sent, fault }
    }

    fn leads_on_as(&self, next: &Self) -> bool {
        let leads = self.role == Role::Leader && next.role == Role::Leader;
        leads && (self.term, self.life) == (next.term, next.life)
    }

    fn restarted(&self, landed: usize) -> Self {
        let mut disk = self.disk.clone();
        self.queue.iter().take(landed).for_each(|write| disk.replay(write.clone()));
        Self::start(self.raft.config().clone(), disk, self.slow_disk, self.life + 1)
    }

    fn continued(
        &self,
        input: &Input,
        sent: &mut Vec<Arc<Envelope>>,
        fault: &mut Option<Fault>,
    ) -> Self {
        let mut node = Self {
            raft: self.raft.clone(),
            disk: self.disk.clone(),
            queue: self.queue.clone(),
            log: Vec::new(),
            pristine: false,
            ..*self
        };
        match input {
            Input::Timeout => {
                node.now = node.now + LONG_ENOUGH;
                node.pre_votes += u8::from(self.raft.config().pre_vote);
            }
            Input::Heartbeat => {
                node.now = node.now + HEARTBEAT;
                node.beats += 1;
            }
            Input::Silence => node.now = node.now + ELECTION_TIMEOUT_MIN,
            Input::Deliver(envelope) => node.raft.step(envelope.message.clone()),
            Input::Persist => {
                let write = node.queue.remove(0);
                node.land(write);
            }
            Input::Propose(number) => {
                node.raft.propose([*number]).expect("a leader with room takes commands");
            }
            Input::Crash { .. } => unreachable!("a crash begins another life"),
        }
        node.turn(sent, fault);
        let impossible = |node: &Self| node.raft.status().counters.protocol_violations;
        if impossible(&node) > impossible(self) {
            *fault = fault.or(Some(Fault::Impossible));
        }
        if node.role != Role::Leader || self.role != Role::Leader {
            node.beats = 0;
        }
        node
    }

    /// The host's turn: tick, then do all that is asked.
    fn turn(&mut self, sent: &mut Vec<Arc<Envelope>>, fault: &mut Option<Fault>) {
        self.raft.tick(self.now);
        while let Some(output) = self.raft.poll_outbox() {
            match output {
                Output::Persist(write) if self.slow_disk => self.queue.push(write),
                Output::Persist(write) => self.land(write),
                Output::Send(message) => {
                    if !self.keeps_its_word(&message) {
                        *fault = fault.or(Some(Fault::Promise));
                    }
                    sent.push(Arc::new(Envelope { digest: digest(&message), message }));
                }
                Output::Apply { from, through } => {
                    if from != self.applied.next()
                        || !self.raft.entries(from, through).all(|entry| self.holds_durably(entry))
                    {
                        *fault = fault.or(Some(Fault::Apply));
                    }
                    self.applied = through;
                    self.raft.applied(through);
                }
                Output::RoleChanged { .. } => {}
                Output::ReadReady { .. }
                | Output::ReadLost { .. }
                | Output::Forwarded { .. }
                | _ => {
                    panic!("the model does not ask for this: {output:?}")
                }
            }
        }
        self.role = self.raft.role();
    }

    fn land(&mut self, write: Write<Command>) {
        let id = write.id;
        self.disk.replay(write);
        self.raft.persisted(id);
    }

    /// Whether a crash right after this message is sent would take back nothing that it says.
    fn keeps_its_word(&self, message: &Message<Command>) -> bool {
        let HardState { current_term, voted_for, .. } = self.disk.hard_state;
        let knows_term = current_term >= message.term;
        match &message.body {
            Body::RequestPreVote(_) | Body::RequestVote(_) => true,
            Body::RequestPreVoteReply(_) => knows_term,
            Body::RequestVoteReply(reply) => {
                knows_term && (!reply.granted || voted_for == Some(message.to))
            }
            Body::AppendEntries(_) => knows_term && voted_for == Some(message.from),
            Body::AppendEntriesReply(reply) => match reply.result {
                AppendResult::Matched(index) => {
                    let in_memory = self.log_in_memory();
                    let up_to = |log: &[LogEntry]| {
                        log.iter().filter(|entry| entry.index <= index).map(Entry::id).collect()
                    };
                    let (held, claimed): (Vec<_>, Vec<_>) =
                        (up_to(&self.disk.entries), up_to(&in_memory));
                    knows_term
                        && held == claimed
                        && held.last().map_or(Index::ZERO, |last| last.index) == index
                }
                AppendResult::Rejected { .. } => knows_term,
            },
            // Not in the model: snapshots, transfer of leadership, forwarded reads and commands.
            Body::InstallSnapshot(_)
            | Body::InstallSnapshotReply(_)
            | Body::TimeoutNow(_)
            | Body::ReadIndex(_)
            | Body::ReadIndexReply(_)
            | Body::Propose(_)
            | Body::ProposeReply(_)
            | _ => panic!("the model does not ask for this: {message:?}"),
        }
    }

    /// All writes are handed out in the turn in which they arise, so the log is the sum of the disk
    /// and its queue.
    fn log_in_memory(&self) -> Vec<LogEntry> {
        let mut restored = self.disk.clone();
        self.queue.iter().for_each(|write| restored.replay(write.clone()));
        restored.entries
    }

    fn derive(&mut self) {
        let status = self.raft.status();
        self.role = status.role;
        self.term = status.current_term;
        self.commit_index = status.commit_index;
        self.log = self.log_in_memory();
        let last = self.log.last().map_or(Index::ZERO, |entry| entry.index);
        assert_eq!(last, status.last_log.index, "not all was handed to the disk");

        let mut hasher = DefaultHasher::new();
        self.raft.canonical().hash(&mut hasher);
        self.disk.hash(&mut hasher);
        for (write, position) in self.queue.iter().zip(1..) {
            Write { id: WriteId::new(position), ..write.clone() }.hash(&mut hasher);
        }
        (self.life, self.applied, self.beats, self.pre_votes, self.pristine).hash(&mut hasher);
        self.digest = hasher.finish();
    }
}

pub(crate) fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Whether an entry holds a client's command.
pub(crate) fn is_command(entry: &LogEntry) -> bool {
    matches!(entry.payload, Payload::Command(_))
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = |log: &[LogEntry]| log.iter().map(|e| e.term.get()).collect::<Vec<_>>();
        write!(
            f,
            "{:?} of term {}, log {:?}, committed {}; on disk {} {:?}, {} writes on their way",
            self.role,
            self.term,
            terms(&self.log),
            self.commit_index,
            self.disk.hard_state.current_term,
            terms(&self.disk.entries),
            self.queue.len()
        )
    }
}

/// How an input is remembered together with the server that it happened to.
pub(crate) fn transition_key(node: &Node, input: &Input) -> (u64, u64) {
    (node.digest, input.digest())
}
