//! A client's connection to a server, without its sockets and without waiting: it says what to do next.
//!
//! What is left to a runtime is a loop that does what [`Conversation::step`] says, by awaiting or by blocking:
//!
//! | [`Step`] | then |
//! |---|---|
//! | `Read`, `Write`: the client's socket | [`input`](Conversation::input), [`output`](Conversation::output) |
//! | `Ask` the node | [`on_answer`](Conversation::on_answer) |
//! | `Link`: a socket to the leader | [`on_link`](Conversation::on_link) |
//! | `Pause` | |
//! | `End` | close both |

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use raft_core::host::{
    Handle, Leadership, LeadershipWatch, NodeStatus, Pending, ProposeError, ReadError, Stopped,
};
use raft_core::{NodeId, Term};

use super::Server;
use super::limits::CONNECTIONS_MAX;
use super::local::{read_outcomes, write_outcome};
use super::once::Writer;
use super::operation::{Begun, Operating, Operation};
use super::resp::{Frame, encode, error};
use super::run::{LEADER_WAIT_MAX, Outcome, RETRY_PAUSE, Run};
use super::session::{OUTPUT_BYTES_MAX, Session, Work};
use super::store::Store;
use super::uplink::Uplink;

pub use super::uplink::LinkStep;

/// A client's connection.
#[derive(Debug)]
pub struct Conversation {
    server: Arc<Server>,
    watch: LeadershipWatch,
    session: Session,
    /// What an operator asked; it begins with what the node knows about itself.
    operation: Option<Operation>,
    /// What is to be asked for it then.
    operating: Option<Operating>,
    /// What is being worked on.
    task: Option<Task>,
    /// To the leader, once something was forwarded.
    uplink: Option<Uplink>,
}

/// What to do before the next step.
#[derive(Debug)]
pub enum Step {
    /// Read from the client, and append it to [`Conversation::input`]. A client that says no more is to be closed.
    Read,
    /// Write all of [`Conversation::output`] to the client, and empty it.
    Write,
    /// Wait for this, and hand the answer to [`Conversation::on_answer`].
    Ask(Question),
    /// Do this until then, and hand what came of it to [`Conversation::on_link`]: an error if it takes longer.
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
}

/// What the node answered.
#[derive(Debug)]
pub enum Answer {
    /// What became of a run.
    Outcomes(Vec<Outcome>),
    /// What it knows about itself.
    Status(Box<Result<NodeStatus, ReadError>>),
    /// What an operator is told.
    Operated(Frame),
}

/// A run on its way to the leader, wherever that is.
#[derive(Debug)]
struct Task {
    run: Run,
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
    /// Nobody took it. Wait a little.
    Pause,
}

impl Conversation {
    /// Lets a client in; if it would be one too many, gives what to tell it before its socket is closed.
    ///
    /// # Errors
    ///
    /// As many are open as the server takes.
    pub fn admit(server: &Arc<Server>) -> Result<Self, Bytes> {
        let writer = server.writers.take().ok_or_else(|| {
            let mut out = BytesMut::new();
            let text = format!("ERR this server has its {CONNECTIONS_MAX} connections already");
            encode(&mut out, &error(text));
            out.freeze()
        })?;
        Ok(Self::new(server.clone(), writer))
    }

    /// A connection on which nothing was said. While it lasts, its writes are this writer's.
    fn new(server: Arc<Server>, writer: Writer) -> Self {
        let session = Session::new(writer).with_commands_version(server.commands_version);
        let watch = server.node.leadership();
        Self { server, watch, session, operation: None, operating: None, task: None, uplink: None }
    }

    /// Where what the client says is appended.
    pub fn input(&mut self) -> &mut BytesMut {
        self.session.input()
    }

    /// What the client is told.
    pub fn output(&mut self) -> &mut BytesMut {
        self.session.output()
    }

    /// Where what the leader says is appended.
    pub fn link_input(&mut self) -> &mut BytesMut {
        self.uplink.as_mut().expect("asked for at a step of the link").input()
    }

    /// What the leader is told.
    pub fn link_output(&mut self) -> &mut BytesMut {
        self.uplink.as_mut().expect("asked for at a step of the link").output()
    }

    /// What to do next.
    pub fn step(&mut self) -> Step {
        loop {
            if self.session.output().len() >= OUTPUT_BYTES_MAX {
                return Step::Write;
            }
            if let Some(operating) = self.operating.take() {
                return Step::Ask(Question::Operating(operating));
            }
            let Some(task) = &mut self.task else {
                match self.session.next_work() {
                    Some(Work::Info) => {
                        return Step::Ask(Question::Status(self.server.node.status()));
                    }
                    Some(Work::Operate(operation)) => {
                        self.operation = Some(operation);
                        return Step::Ask(Question::Status(self.server.node.status()));
                    }
                    Some(Work::Run(run)) => self.task = Some(Task::new(run)),
                    None if !self.session.output().is_empty() => return Step::Write,
                    None if self.session.is_closing() => return Step::End,
                    None => return Step::Read,
                }
                continue;
            };
            match (task.phase, &self.uplink) {
                (Phase::Forward, Some(uplink)) => {
                    return Step::Link(uplink.step(), uplink.deadline());
                }
                (Phase::Attempt | Phase::Forward, _) => {
                    if let Some(question) = self.attempt() {
                        return Step::Ask(question);
                    }
                }
                (Phase::Pause, _) if self.server.node.stop_reason().is_some() => return Step::End,
                (Phase::Pause, _) => {
                    task.phase = Phase::Attempt;
                    return Step::Pause(self.watch.changed_from(task.known), RETRY_PAUSE);
                }
            }
        }
    }

    /// The node has answered.
    pub fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Outcomes(outcomes) => self.settle(outcomes),
            Answer::Status(status) => match self.operation.take() {
                None => self.session.answer([self.server.info(*status)]),
                Some(operation) => match self.server.operate(operation, *status) {
                    Begun::Reply(reply) => self.session.answer([reply]),
                    Begun::Operating(operating) => self.operating = Some(operating),
                },
            },
            Answer::Operated(reply) => self.session.answer([reply]),
        }
    }

    /// A step of the link is done, or has failed.
    pub fn on_link(&mut self, done: io::Result<()>) {
        let (Some(task), Some(uplink)) = (&self.task, self.uplink.take()) else { return };
        if uplink.may_go_on(&done) && !self.is_overthrown(&uplink) {
            self.uplink = Some(uplink);
            return;
        }
        let (uplink, outcomes) = uplink.on_done(done, &task.run);
        self.uplink = uplink;
        if let Some(outcomes) = outcomes {
            self.settle(outcomes);
        }
    }

    /// Begins to bring the run to the leader; gives what to ask if that is this server's node.
    fn attempt(&mut self) -> Option<Question> {
        let task = self.task.as_mut()?;
        let leadership = self.watch.current();
        task.known = leadership;
        match leadership.leader {
            Some(leader) if leader == self.server.id => {
                return Some(ask(&self.server.node, &task.run));
            }
            Some(leader) if !self.session.is_peer() => {
                self.uplink = self.uplink_to((leader, leadership.term));
            }
            Some(_) | None => self.uplink = None,
        }
        let task = self.task.as_mut()?;
        if self.uplink.is_some() {
            task.phase = Phase::Forward;
        } else {
            let untouched = task.run.untouched();
            self.settle(untouched);
        }
        None
    }

    /// The connection that there is, or a new one; none if nobody knows where.
    fn uplink_to(&mut self, leader: (NodeId, Term)) -> Option<Uplink> {
        if let Some(uplink) = self.uplink.take().filter(|uplink| uplink.leads_to(leader)) {
            return Some(uplink.probe());
        }
        let address = self.server.client_address(leader.0)?;
        Some(Uplink::dial(self.server.id, leader, &address))
    }

    /// Whether another leader is known than the one whose answer is waited for.
    fn is_overthrown(&self, uplink: &Uplink) -> bool {
        let Leadership { leader, term, .. } = self.watch.current();
        leader.is_some_and(|leader| !uplink.leads_to((leader, term)))
    }

    /// Takes in what an attempt brought.
    fn settle(&mut self, outcomes: Vec<Outcome>) {
        let Some(task) = &mut self.task else { return };
        let replies = task.run.settle(outcomes);
        task.phase = Phase::Attempt;
        if !replies.is_empty() {
            task.deadline = Instant::now() + LEADER_WAIT_MAX;
            self.session.answer(replies);
        } else if self.session.is_peer() {
            self.session.answer(task.run.hand_back());
        } else if Instant::now() >= task.deadline {
            self.session.answer(task.run.give_up());
        } else {
            task.phase = Phase::Pause;
        }
        if task.run.is_empty() {
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
        }
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
        }
    }
}

impl Task {
    fn new(run: Run) -> Self {
        let deadline = Instant::now() + LEADER_WAIT_MAX;
        Self { run, phase: Phase::Attempt, deadline, known: Leadership::default() }
    }
}

/// Asks a node, which leads. All writes are proposed before the first is waited for: they share a write to the disk
/// and a message to each peer.
fn ask(node: &Handle<Store>, run: &Run) -> Question {
    match run {
        Run::Writes(writes) => {
            let propose = |write: &Bytes| node.propose(write.clone());
            Question::Writes(writes.commands().iter().map(propose).collect())
        }
        Run::Reads(reads) => {
            let reads = reads.clone();
            Question::Reads(node.read(move |store| store.read(&reads)))
        }
    }
}
