//! A client's connection to a server, sans-IO: it says what to do next, and neither reads nor
//! waits.
//!
//! The runtime has the sockets and a loop that does what [`Connection::step`] returns, by awaiting
//! or by blocking:
//!
//! | [`Step`] | then |
//! |---|---|
//! | `Read`, `Write`: the client | [`input`](Connection::input), [`output`](Connection::output) |
//! | `Ask` the node | [`on_answer`](Connection::on_answer) |
//! | `Link`: the leader | [`on_link`](Connection::on_link) |
//! | `Pause` | |
//! | `End` | close both |

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use raft_core::host::{
    Backup, BackupError, Handle, Leadership, LeadershipWatch, NodeStatus, Pending, ProposeError,
    ReadError, Stopped,
};
use raft_core::{NodeId, Term};

use super::Server;
use super::backup::{self, BackupStream, Chunk};
use super::batch::{Batch, LEADER_WAIT_MAX, Outcome, RETRY_PAUSE};
use super::forwarder::Forwarder;
use super::limits::CONNECTIONS_MAX;
use super::local::{read_outcomes, write_outcome};
use super::operation::{Begun, Operating, Operation};
use super::pipeline::{OUTPUT_BYTES_MAX, Pipeline, Work};
use super::resp::{Frame, encode, error};
use super::sessions::Session;
use super::store::Store;

pub use super::forwarder::LinkStep;

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    server: Arc<Server>,
    watch: LeadershipWatch,
    pipeline: Pipeline,
    /// What an operator asked, while the node is asked for its status.
    operation: Option<Operation>,
    /// What to ask the node for the operator, once the status is known.
    operating: Option<Operating>,
    /// The backup that an operator takes.
    backup: Option<BackupStream>,
    /// The batch in progress.
    task: Option<Task>,
    /// The connection to the leader, if a batch was forwarded.
    forwarder: Option<Forwarder>,
}

/// What to do before the next step.
#[derive(Debug)]
pub enum Step {
    /// Read from the client, and append it to [`Connection::input`]. A client that says no more is
    /// to be closed.
    Read,
    /// Write all of [`Connection::output`] to the client, and empty it.
    Write,
    /// Wait for this, and hand the answer to [`Connection::on_answer`].
    Ask(Question),
    /// Do this until then, and hand what came of it to [`Connection::on_link`]: an error if it
    /// takes longer.
    Link(LinkStep, Instant),
    /// Wait for this, for so long at most. What it brings does not matter.
    Pause(Pending<Leadership, Stopped>, Duration),
    /// Close what is open.
    End,
}

/// What the node was asked. It may have been refused at once.
#[derive(Debug)]
pub enum Question {
    /// To write, in this order.
    Writes(Vec<Pending<Frame, ProposeError>>),
    /// To read.
    Reads(Pending<Vec<Frame>, ReadError>),
    /// What it knows about itself.
    Status(Pending<NodeStatus, ReadError>),
    /// To do what an operator asked.
    Operating(Operating),
    /// For a backup.
    Backup(Pending<Backup, BackupError>),
    /// For the next piece of a backup.
    Chunk(oneshot::Receiver<Chunk>),
}

/// What the node answered.
#[derive(Debug)]
pub enum Answer {
    /// What became of a batch.
    Outcomes(Vec<Outcome>),
    /// What it knows about itself.
    Status(Box<Result<NodeStatus, ReadError>>),
    /// What an operator is told.
    Operated(Frame),
    /// A backup, to be handed out.
    Backup(Box<Result<Backup, BackupError>>),
    /// A piece of a backup.
    Chunk(Result<Chunk, oneshot::RecvError>),
}

/// A batch on its way to the leader, which may be this server.
#[derive(Debug)]
struct Task {
    batch: Batch,
    phase: Phase,
    /// When to give up.
    deadline: Instant,
    /// What was known of the leader at the last attempt.
    known: Leadership,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Bring it to the leader.
    Attempt,
    /// It is being forwarded.
    Forward,
    /// No server took the batch. Wait a little.
    Pause,
}

impl Connection {
    /// A connection for a new client.
    ///
    /// # Errors
    ///
    /// The server has [`CONNECTIONS_MAX`] connections already. The error is the reply to send
    /// before the socket is closed.
    pub fn admit(server: &Arc<Server>) -> Result<Self, Bytes> {
        let session = server.sessions.take().ok_or_else(|| {
            let mut out = BytesMut::new();
            let text = format!("ERR this server has its {CONNECTIONS_MAX} connections already");
            encode(&mut out, &error(text));
            out.freeze()
        })?;
        Ok(Self::new(server.clone(), session))
    }

    /// A new connection, whose writes belong to this session.
    fn new(server: Arc<Server>, session: Session) -> Self {
        let pipeline = Pipeline::new(session);
        let watch = server.node.leadership();
        Self {
            server,
            watch,
            pipeline,
            operation: None,
            operating: None,
            backup: None,
            task: None,
            forwarder: None,
        }
    }

    /// Where what the client says is appended.
    pub fn input(&mut self) -> &mut BytesMut {
        self.pipeline.input()
    }

    /// What the client is told.
    pub fn output(&mut self) -> &mut BytesMut {
        self.pipeline.output()
    }

    /// Where what the leader says is appended.
    pub fn link_input(&mut self) -> &mut BytesMut {
        self.forwarder.as_mut().expect("asked for at a step of the link").input()
    }

    /// What the leader is told.
    pub fn link_output(&mut self) -> &mut BytesMut {
        self.forwarder.as_mut().expect("asked for at a step of the link").output()
    }

    /// What to do next.
    pub fn step(&mut self) -> Step {
        loop {
            if self.pipeline.output().len() >= OUTPUT_BYTES_MAX {
                return Step::Write;
            }
            if let Some(operating) = self.operating.take() {
                return Step::Ask(Question::Operating(operating));
            }
            let Some(task) = &mut self.task else {
                self.pipeline.take_commands_up_to(self.server.commands_version());
                match self.pipeline.next_work() {
                    Some(Work::Info) => {
                        return Step::Ask(Question::Status(self.server.node.status()));
                    }
                    Some(Work::Operate(Operation::Backup { local })) => {
                        let node = &self.server.node;
                        let backup = if local { node.backup_local() } else { node.backup() };
                        return Step::Ask(Question::Backup(backup));
                    }
                    Some(Work::Operate(Operation::BackupNext)) => match &self.backup {
                        Some(stream) => return Step::Ask(Question::Chunk(stream.next())),
                        None => self.pipeline.answer([backup::no_backup()]),
                    },
                    Some(Work::Operate(operation)) => {
                        self.operation = Some(operation);
                        return Step::Ask(Question::Status(self.server.node.status()));
                    }
                    Some(Work::Batch(batch)) => self.task = Some(Task::new(batch)),
                    None if !self.pipeline.output().is_empty() => return Step::Write,
                    None if self.pipeline.is_closing() => return Step::End,
                    None => return Step::Read,
                }
                continue;
            };
            match (task.phase, &self.forwarder) {
                (Phase::Forward, Some(forwarder)) => {
                    return Step::Link(forwarder.step(), forwarder.deadline());
                }
                (Phase::Attempt | Phase::Forward, _) => {
                    if let Some(question) = self.attempt() {
                        return Step::Ask(question);
                    }
                }
                (Phase::Pause, _) if self.server.node.stop_reason().is_some() => return Step::End,
                (Phase::Pause, _) => {
                    task.phase = Phase::Attempt;
                    return Step::Pause(self.watch.changed_from(task.known.clone()), RETRY_PAUSE);
                }
            }
        }
    }

    /// The node has answered.
    pub fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Outcomes(outcomes) => self.settle(outcomes),
            Answer::Status(status) => match self.operation.take() {
                None => self.pipeline.answer([self.server.info(*status)]),
                Some(operation) => match self.server.operate(operation, *status) {
                    Begun::Reply(reply) => self.pipeline.answer([reply]),
                    Begun::Operating(operating) => self.operating = Some(operating),
                },
            },
            Answer::Operated(reply) => self.pipeline.answer([reply]),
            Answer::Backup(backup) => {
                let reply = self.begin_backup(*backup);
                self.pipeline.answer([reply]);
            }
            Answer::Chunk(chunk) => {
                let (reply, goes_on) = backup::chunk_reply(chunk);
                if !goes_on {
                    self.backup = None;
                }
                self.pipeline.answer([reply]);
            }
        }
    }

    /// Begins to hand out a backup, in place of one that was not taken to its end.
    fn begin_backup(&mut self, backup: Result<Backup, BackupError>) -> Frame {
        let begun = match backup {
            Ok(backup) => backup,
            Err(why) => return backup::refused(&why),
        };
        let reply = backup::begun(&begun);
        match BackupStream::begin(begun) {
            Ok(stream) => {
                self.backup = Some(stream);
                reply
            }
            Err(e) => error(format!("ERR no thread for the backup: {e}")),
        }
    }

    /// A step of the link is done, or has failed.
    pub fn on_link(&mut self, done: io::Result<()>) {
        let (Some(task), Some(forwarder)) = (&self.task, self.forwarder.take()) else { return };
        if forwarder.may_go_on(&done) && !self.is_overthrown(&forwarder) {
            self.forwarder = Some(forwarder);
            return;
        }
        let (forwarder, outcomes) = forwarder.on_done(done, &task.batch);
        self.forwarder = forwarder;
        if let Some(outcomes) = outcomes {
            self.settle(outcomes);
        }
    }

    /// Begins to bring the batch to the leader; gives what to ask if that is this server's node.
    fn attempt(&mut self) -> Option<Question> {
        let task = self.task.as_mut()?;
        let leadership = self.watch.current();
        let (leader, term) = (leadership.leader, leadership.term);
        task.known = leadership;
        match leader {
            Some(leader) if leader == self.server.id => {
                return Some(ask(&self.server.node, &task.batch));
            }
            Some(leader) if !self.pipeline.is_peer() => {
                self.forwarder = self.forwarder_to((leader, term));
            }
            Some(_) | None => self.forwarder = None,
        }
        let task = self.task.as_mut()?;
        if self.forwarder.is_some() {
            task.phase = Phase::Forward;
        } else {
            let untouched = task.batch.untouched();
            self.settle(untouched);
        }
        None
    }

    /// The open connection to this leader, or a new one; none if its address is unknown.
    fn forwarder_to(&mut self, leader: (NodeId, Term)) -> Option<Forwarder> {
        if let Some(forwarder) =
            self.forwarder.take().filter(|forwarder| forwarder.leads_to(leader))
        {
            return Some(forwarder.probe());
        }
        let address = self.server.client_address(leader.0)?;
        Some(Forwarder::dial(self.server.id, leader, &address))
    }

    /// Whether another server leads than the one that is to answer.
    fn is_overthrown(&self, forwarder: &Forwarder) -> bool {
        let Leadership { leader, term, .. } = self.watch.current();
        leader.is_some_and(|leader| !forwarder.leads_to((leader, term)))
    }

    /// Takes in what an attempt brought.
    fn settle(&mut self, outcomes: Vec<Outcome>) {
        let Some(task) = &mut self.task else { return };
        let replies = task.batch.settle(outcomes);
        task.phase = Phase::Attempt;
        if !replies.is_empty() {
            task.deadline = Instant::now() + LEADER_WAIT_MAX;
            self.pipeline.answer(replies);
        } else if self.pipeline.is_peer() {
            self.pipeline.answer(task.batch.hand_back());
        } else if Instant::now() >= task.deadline {
            self.pipeline.answer(task.batch.give_up());
        } else {
            task.phase = Phase::Pause;
        }
        if task.batch.is_empty() {
            self.task = None;
        }
    }
}

impl Question {
    /// Waits for the answer, on any runtime.
    pub async fn answer(self) -> Answer {
        match self {
            Self::Writes(writes) => {
                let mut outcomes = Vec::with_capacity(writes.len());
                for write in writes {
                    outcomes.push(write_outcome(write.await));
                }
                Answer::Outcomes(outcomes)
            }
            Self::Reads(pending) => Answer::Outcomes(read_outcomes(pending.await)),
            Self::Status(pending) => Answer::Status(Box::new(pending.await)),
            Self::Operating(operating) => Answer::Operated(operating.answer().await),
            Self::Backup(backup) => Answer::Backup(Box::new(backup.await)),
            Self::Chunk(chunk) => Answer::Chunk(chunk.await),
        }
    }

    /// Hands the answer to `call`, soon and on any thread, as [`Pending::then`] does.
    ///
    /// # Errors
    ///
    /// The question itself, if a thread has to [`wait`](Self::wait) for the answer.
    pub fn then(self, call: impl FnOnce(Answer) + Send + 'static) -> Result<(), Self> {
        match self {
            Self::Writes(mut writes) if writes.len() == 1 => {
                let one = move |answer| call(Answer::Outcomes(vec![write_outcome(answer)]));
                writes.remove(0).then(one);
            }
            Self::Writes(writes) => {
                let gathering = Arc::new(Mutex::new(Some(Gathering::new(writes.len(), call))));
                for (at, write) in writes.into_iter().enumerate() {
                    let gathering = Arc::clone(&gathering);
                    write.then(move |answer| gather(&gathering, at, write_outcome(answer)));
                }
            }
            Self::Reads(reads) => {
                reads.then(|answer| call(Answer::Outcomes(read_outcomes(answer))));
            }
            Self::Status(_) | Self::Operating(_) | Self::Backup(_) | Self::Chunk(_) => {
                return Err(self);
            }
        }
        Ok(())
    }

    /// Waits for the answer, on this thread.
    pub fn wait(self) -> Answer {
        match self {
            Self::Writes(writes) => {
                let waited = writes.into_iter().map(Pending::wait);
                Answer::Outcomes(waited.map(write_outcome).collect())
            }
            Self::Reads(reads) => Answer::Outcomes(read_outcomes(reads.wait())),
            Self::Status(status) => Answer::Status(Box::new(status.wait())),
            Self::Operating(operating) => Answer::Operated(operating.wait()),
            Self::Backup(backup) => Answer::Backup(Box::new(backup.wait())),
            Self::Chunk(chunk) => Answer::Chunk(chunk.recv()),
        }
    }
}

/// The outcomes of a batch, until all are there.
struct Gathering<F> {
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
    call: F,
}

impl<F> Gathering<F> {
    fn new(outcomes: usize, call: F) -> Self {
        Self { outcomes: (0..outcomes).map(|_| None).collect(), missing: outcomes, call }
    }
}

/// Takes the outcome of one write of a batch. Passes all on if it is the last.
fn gather<F: FnOnce(Answer)>(gathering: &Mutex<Option<Gathering<F>>>, at: usize, outcome: Outcome) {
    let mut place = gathering.lock().expect("nothing panics while it holds this lock");
    let Some(gathered) = &mut *place else { return };
    gathered.outcomes[at] = Some(outcome);
    gathered.missing -= 1;
    if gathered.missing > 0 {
        return;
    }
    let whole = place.take();
    drop(place);
    if let Some(Gathering { outcomes, call, .. }) = whole {
        call(Answer::Outcomes(outcomes.into_iter().flatten().collect()));
    }
}

impl Task {
    fn new(batch: Batch) -> Self {
        let deadline = Instant::now() + LEADER_WAIT_MAX;
        Self { batch, phase: Phase::Attempt, deadline, known: Leadership::default() }
    }
}

/// Asks the node of this server, which leads. Proposes all writes before waiting for the first, so
/// that they share a write to the disk and a message to each peer.
fn ask(node: &Handle<Store>, batch: &Batch) -> Question {
    match batch {
        Batch::Writes(writes) => {
            let propose = |write: &Bytes| node.propose(write.clone());
            Question::Writes(writes.commands().iter().map(propose).collect())
        }
        Batch::Reads(reads) => {
            let reads = reads.clone();
            Question::Reads(node.read(move |store| store.read(&reads)))
        }
    }
}
