//! The inputs that reach a node between two turns of its loop.
//!
//! Requests and messages are bounded in number and in bytes. If the inbox is full, a request is
//! refused and a message is dropped. The reports of the node's own workers are never refused. Of
//! durable writes and of applied entries the inbox keeps only the newest number, because a report
//! covers all before it. Of snapshots there are only as many reports as the node asked for.
//!
//! The loop is woken once for all inputs that arrive before it looks: the first input calls the
//! wake hook, and later inputs find that it was called.

use std::boxed::Box;
use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;
use std::vec::Vec;

use bytes::Bytes;

use super::status::NodeStatus;
use crate::change::Change;
use crate::host::error::{
    BackupError, ChangeError, ProposeError, ReadError, SnapshotError, StopReason, TransferError,
};
use crate::host::snapshot::{Backup, Report};
use crate::host::state_machine::StateMachine;
use crate::host::sync::atomic::{AtomicU64, Ordering};
use crate::host::sync::{Mutex, MutexGuard};
use crate::host::threads::panics::answer;
use crate::membership::Membership;
use crate::message::Message;
use crate::quorum::MEMBERS_MAX;
use crate::types::{Index, LogId, NodeId, WriteId};

/// The most nodes that the inbox keeps as suspects. A node beyond this is no member, so it cannot
/// lead.
const SUSPECTS_MAX: usize = MEMBERS_MAX;

/// The most requests, and the most messages, that one turn of the loop takes.
pub(super) const INPUTS_PER_TURN_MAX: usize = 4096;

/// Sends the reply to the proposer of a command.
pub(super) type Reply<S> = oneshot::Sender<Result<<S as StateMachine>::Reply, ProposeError>>;

/// A read: it gets the state machine or the reason why there is none, and answers its client
/// itself.
pub(super) type Read<S> = Box<dyn FnOnce(Result<&S, ReadError>) + Send>;

/// What a client wants of the state machine once its state is fresh enough.
pub(super) enum Query<S: StateMachine> {
    Read(Read<S>),
    Backup(BackupReply),
}

/// How old the state may be that a read sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Freshness {
    /// It includes all that was acknowledged before the read was asked for.
    Linearizable,
    /// It includes all that was acknowledged so long before.
    AtMost(Duration),
    /// Any.
    Local,
}

/// Sends the answer to the client that asked for a change of membership, a transfer or a snapshot.
pub(super) type ChangeReply = oneshot::Sender<Result<Membership, ChangeError>>;
pub(super) type TransferReply = oneshot::Sender<Result<NodeId, TransferError>>;
pub(super) type SnapshotReply = oneshot::Sender<Result<LogId, SnapshotError>>;

pub(super) type BackupReply = oneshot::Sender<Result<Backup, BackupError>>;

/// What an application asks of its node.
pub(super) enum NodeRequest<S: StateMachine> {
    Propose(ProposeRequest<S>),
    Read { query: Query<S>, freshness: Freshness },
    Status(oneshot::Sender<Result<NodeStatus, ReadError>>),
    Change { changes: Vec<Change>, reply: ChangeReply },
    Transfer { to: Option<NodeId>, reply: TransferReply },
    TakeSnapshot(SnapshotReply),
}

/// A command, and the sender for its reply.
pub(super) struct ProposeRequest<S: StateMachine> {
    pub(super) command: Bytes,
    pub(super) reply: Reply<S>,
    /// Whether a node that does not lead forwards the command to its leader.
    pub(super) forwards: bool,
}

/// The inputs since the last turn.
pub(super) struct Arrived<S: StateMachine> {
    pub(super) requests: VecDeque<NodeRequest<S>>,
    pub(super) messages: VecDeque<Message<Bytes>>,
    /// The nodes whose processes seem to be gone, each once. The loop takes them after all
    /// messages, because what a leader said before its end counts first.
    pub(super) suspects: Vec<NodeId>,
    /// The newest write that is durable.
    pub(super) persisted: Option<WriteId>,
    /// The last entry that has been applied.
    pub(super) applied: Option<Index>,
    /// What became of pieces of snapshots.
    pub(super) snapshots: VecDeque<Report>,
    /// Why the node is to stop, if it is.
    pub(super) stop: Option<StopReason>,
}

/// How many inputs may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most requests, and the most messages.
    pub(super) inputs_max: usize,
    /// The most bytes of requests, and the most bytes of messages. A single input that is larger
    /// passes if nothing else waits.
    pub(super) bytes_max: usize,
}

/// The queues between a node's loop and all other threads.
pub(super) struct Inbox<S: StateMachine> {
    limits: Limits,
    wake: Box<dyn Fn() + Send + Sync>,
    queues: Mutex<Queues<S>>,
    messages_dropped: AtomicU64,
    requests_refused: AtomicU64,
}

struct Queues<S: StateMachine> {
    arrived: Arrived<S>,
    request_bytes: usize,
    message_bytes: usize,
    /// Whether the loop has been woken and has not looked since.
    woken: bool,
    open: bool,
}

/// Why the inbox does not take a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum InboxRefusal {
    Full,
    Closed,
}

impl<S: StateMachine> Inbox<S> {
    /// An empty inbox whose loop is woken by `wake`. The hook is called from any thread and must
    /// not block.
    pub(super) fn new(limits: Limits, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        let queues = Queues {
            arrived: Arrived::new(),
            request_bytes: 0,
            message_bytes: 0,
            woken: false,
            open: true,
        };
        Self {
            limits,
            wake,
            queues: Mutex::new(queues),
            messages_dropped: AtomicU64::new(0),
            requests_refused: AtomicU64::new(0),
        }
    }

    /// Takes a proposal, or gives its command back.
    pub(super) fn propose(&self, proposal: ProposeRequest<S>) -> Result<(), (InboxRefusal, Bytes)> {
        match self.admit(proposal.command.len()) {
            Ok(queues) => self.push(queues, NodeRequest::Propose(proposal)),
            Err(refusal) => return Err((refusal, proposal.command)),
        }
        Ok(())
    }

    /// Takes a request that carries no command.
    pub(super) fn ask(&self, request: NodeRequest<S>) -> Result<(), InboxRefusal> {
        let queues = self.admit(request.size())?;
        self.push(queues, request);
        Ok(())
    }

    /// Takes a message from another node, or drops it.
    pub(super) fn deliver(&self, message: Message<Bytes>) {
        let bytes = message.size();
        let mut queues = self.lock();
        let waiting = queues.arrived.messages.len();
        if !queues.open || !self.limits.admit(waiting, queues.message_bytes, bytes) {
            drop(queues);
            self.messages_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queues.message_bytes += bytes;
        queues.arrived.messages.push_back(message);
        self.unlock_and_wake(queues);
    }

    /// Takes a hint that this node's process is gone.
    pub(super) fn suspect(&self, node: NodeId) {
        let mut queues = self.lock();
        let suspects = &mut queues.arrived.suspects;
        if suspects.len() < SUSPECTS_MAX && !suspects.contains(&node) {
            suspects.push(node);
        }
        self.unlock_and_wake(queues);
    }

    /// Makes the loop turn, though nothing is queued.
    pub(super) fn wake_up(&self) {
        self.unlock_and_wake(self.lock());
    }

    /// To be called when the journal has made this write, and all writes before it, durable.
    pub(super) fn persisted(&self, id: WriteId) {
        let mut queues = self.lock();
        queues.arrived.persisted = queues.arrived.persisted.max(Some(id));
        self.unlock_and_wake(queues);
    }

    /// To be called when the state machine has applied everything up to this entry. If `urgent`,
    /// the loop is woken; otherwise the loop learns of it when it next turns for another reason.
    pub(super) fn applied(&self, index: Index, urgent: bool) {
        let mut queues = self.lock();
        queues.arrived.applied = queues.arrived.applied.max(Some(index));
        if urgent {
            self.unlock_and_wake(queues);
        }
    }

    /// Takes a report on a snapshot. There are few, because the node asks for only a few at a time.
    pub(super) fn snapshot(&self, report: Report) {
        let mut queues = self.lock();
        queues.arrived.snapshots.push_back(report);
        self.unlock_and_wake(queues);
    }

    /// Asks the node to stop. The first reason stays.
    pub(super) fn stop(&self, reason: StopReason) {
        let mut queues = self.lock();
        queues.arrived.stop.get_or_insert(reason);
        self.unlock_and_wake(queues);
    }

    /// Moves the inputs into `arrived`, whose queues must be empty, within [`INPUTS_PER_TURN_MAX`].
    /// Returns whether more inputs are left.
    pub(super) fn take(&self, arrived: &mut Arrived<S>) -> bool {
        debug_assert!(arrived.requests.is_empty() && arrived.messages.is_empty());
        let mut queues = self.lock();
        let queues = &mut *queues;
        queues.woken = false;
        take_some(&mut queues.arrived.requests, &mut arrived.requests);
        take_some(&mut queues.arrived.messages, &mut arrived.messages);
        queues.request_bytes = queues.arrived.requests.iter().map(NodeRequest::size).sum();
        queues.message_bytes = queues.arrived.messages.iter().map(Message::size).sum();
        arrived.persisted = queues.arrived.persisted.take();
        arrived.applied = queues.arrived.applied.take();
        arrived.snapshots.append(&mut queues.arrived.snapshots);
        arrived.stop = queues.arrived.stop.clone();
        if queues.arrived.messages.is_empty() {
            arrived.suspects.append(&mut queues.arrived.suspects);
        }
        !queues.arrived.requests.is_empty() || !queues.arrived.messages.is_empty()
    }

    /// Whether an input has arrived since the last [`take`](Self::take) of which the loop must
    /// hear.
    pub(super) fn has_arrivals(&self) -> bool {
        self.lock().woken
    }

    /// Refuses all inputs from now on, and returns the inputs that were waiting.
    pub(super) fn close(&self) -> Arrived<S> {
        let mut queues = self.lock();
        queues.open = false;
        std::mem::replace(&mut queues.arrived, Arrived::new())
    }

    /// How many messages found the inbox full or closed.
    pub(super) fn messages_dropped(&self) -> u64 {
        self.messages_dropped.load(Ordering::Relaxed)
    }

    /// How many requests found the inbox full.
    pub(super) fn requests_refused(&self) -> u64 {
        self.requests_refused.load(Ordering::Relaxed)
    }

    /// The queues, if they have room for a request of this size.
    fn admit(&self, bytes: usize) -> Result<MutexGuard<'_, Queues<S>>, InboxRefusal> {
        let queues = self.lock();
        if !queues.open {
            return Err(InboxRefusal::Closed);
        }
        if !self.limits.admit(queues.arrived.requests.len(), queues.request_bytes, bytes) {
            self.requests_refused.fetch_add(1, Ordering::Relaxed);
            return Err(InboxRefusal::Full);
        }
        Ok(queues)
    }

    fn push(&self, mut queues: MutexGuard<'_, Queues<S>>, request: NodeRequest<S>) {
        queues.request_bytes += request.size();
        queues.arrived.requests.push_back(request);
        self.unlock_and_wake(queues);
    }

    fn lock(&self) -> MutexGuard<'_, Queues<S>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the loop, unless it was woken since it last looked. The hook runs without the lock.
    fn unlock_and_wake(&self, mut queues: MutexGuard<'_, Queues<S>>) {
        let wake = queues.open && !queues.woken;
        queues.woken = true;
        drop(queues);
        if wake {
            (self.wake)();
        }
    }
}

impl<S: StateMachine> Arrived<S> {
    /// No inputs.
    pub(super) fn new() -> Self {
        Self {
            requests: VecDeque::new(),
            messages: VecDeque::new(),
            suspects: Vec::new(),
            persisted: None,
            applied: None,
            snapshots: VecDeque::new(),
            stop: None,
        }
    }
}

impl<S: StateMachine> NodeRequest<S> {
    fn size(&self) -> usize {
        match self {
            Self::Propose(proposal) => proposal.command.len(),
            Self::Read { .. }
            | Self::Status(_)
            | Self::Change { .. }
            | Self::Transfer { .. }
            | Self::TakeSnapshot(_) => 0,
        }
    }
}

impl<S: StateMachine> Query<S> {
    /// Answers the client that there is nothing to be had.
    pub(super) fn refuse(self, error: ReadError) {
        match self {
            Self::Read(read) => read(Err(error)),
            Self::Backup(reply) => answer(reply, Err(error.into())),
        }
    }
}

impl Limits {
    pub(super) fn admit(self, waiting: usize, waiting_bytes: usize, bytes: usize) -> bool {
        let fits = waiting_bytes.saturating_add(bytes) <= self.bytes_max;
        waiting < self.inputs_max && (fits || waiting == 0)
    }
}

/// Moves all of `from`, or its first [`INPUTS_PER_TURN_MAX`], into the empty `into`. The buffers
/// change places, so that neither is ever allocated anew.
fn take_some<T>(from: &mut VecDeque<T>, into: &mut VecDeque<T>) {
    if from.len() <= INPUTS_PER_TURN_MAX {
        std::mem::swap(from, into);
    } else {
        into.extend(from.drain(..INPUTS_PER_TURN_MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::message::{Body, RequestVoteReply};
    use crate::types::{LogId, NodeId, Term};

    struct Nothing;

    impl StateMachine for Nothing {
        type Reply = ();

        fn apply(&mut self, _index: Index, _command: Bytes) {}
    }

    fn inbox(limits: Limits) -> (Inbox<Nothing>, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let wake = move || {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        (Inbox::new(limits, Box::new(wake)), wakes)
    }

    fn propose(inbox: &Inbox<Nothing>, bytes: usize) -> Result<(), (InboxRefusal, Bytes)> {
        let command = Bytes::from(vec![7; bytes]);
        let reply = oneshot::channel().0;
        inbox.propose(ProposeRequest { command, reply, forwards: false })
    }

    fn message() -> Message<Bytes> {
        let last_log = LogId::ZERO;
        Message {
            from: NodeId::new(2),
            to: NodeId::new(1),
            term: Term::new(1),
            body: Body::RequestVoteReply(RequestVoteReply { granted: true, last_log }),
        }
    }

    const LIMITS: Limits = Limits { inputs_max: 3, bytes_max: 10 };

    #[test]
    fn the_loop_is_woken_once_for_all_that_came_before_it_looked() {
        let (inbox, wakes) = inbox(LIMITS);
        propose(&inbox, 1).unwrap();
        inbox.deliver(message());
        inbox.persisted(WriteId::new(1));
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        assert!(!inbox.take(&mut Arrived::new()));
        inbox.applied(Index::new(1), false);
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        inbox.applied(Index::new(2), true);
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_request_too_many_comes_back_with_its_command() {
        let (inbox, _) = inbox(LIMITS);
        for _ in 0..3 {
            propose(&inbox, 1).unwrap();
        }
        assert_eq!(propose(&inbox, 2), Err((InboxRefusal::Full, Bytes::from_static(&[7, 7]))));
        assert_eq!(inbox.requests_refused(), 1);
        let mut arrived = Arrived::new();
        inbox.take(&mut arrived);
        assert_eq!(arrived.requests.len(), 3);
        propose(&inbox, 1).unwrap();
    }

    #[test]
    fn bytes_are_bounded_but_what_is_large_passes_alone() {
        let (inbox, _) = inbox(LIMITS);
        propose(&inbox, 11).unwrap();
        assert_eq!(propose(&inbox, 1).unwrap_err().0, InboxRefusal::Full);
        inbox.take(&mut Arrived::new());
        propose(&inbox, 5).unwrap();
        propose(&inbox, 5).unwrap();
        assert_eq!(propose(&inbox, 1).unwrap_err().0, InboxRefusal::Full);
    }

    #[test]
    fn messages_too_many_are_dropped_and_reports_never() {
        let (inbox, _) = inbox(LIMITS);
        for number in 1..=9 {
            inbox.deliver(message());
            inbox.persisted(WriteId::new(number));
            inbox.applied(Index::new(number), true);
        }
        assert_eq!(inbox.messages_dropped(), 6);
        let mut arrived = Arrived::new();
        inbox.take(&mut arrived);
        assert_eq!(arrived.messages.len(), 3);
        assert_eq!(arrived.persisted, Some(WriteId::new(9)));
        assert_eq!(arrived.applied, Some(Index::new(9)));
    }

    #[test]
    fn suspects_are_few_and_come_behind_all_messages() {
        let limits = Limits { inputs_max: INPUTS_PER_TURN_MAX + 1, bytes_max: usize::MAX };
        let (inbox, wakes) = inbox(limits);
        (0..1000).for_each(|node| inbox.suspect(NodeId::new(node / 2 + 1)));
        (0..=INPUTS_PER_TURN_MAX).for_each(|_| inbox.deliver(message()));
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        let mut arrived = Arrived::new();
        assert!(inbox.take(&mut arrived));
        assert_eq!(arrived.suspects, [], "a message is left");
        arrived.messages.clear();
        assert!(!inbox.take(&mut arrived));
        assert_eq!((arrived.messages.len(), arrived.suspects.len()), (1, SUSPECTS_MAX));
        assert_eq!(arrived.suspects[1], NodeId::new(2), "each once");
        arrived = Arrived::new();
        inbox.take(&mut arrived);
        assert_eq!(arrived.suspects, [], "and never again");
    }

    #[test]
    fn a_turn_takes_no_more_than_its_share() {
        let limits = Limits { inputs_max: INPUTS_PER_TURN_MAX + 5, bytes_max: usize::MAX };
        let (inbox, _) = inbox(limits);
        for _ in 0..INPUTS_PER_TURN_MAX + 5 {
            propose(&inbox, 0).unwrap();
        }
        let mut arrived = Arrived::new();
        assert!(inbox.take(&mut arrived));
        assert_eq!(arrived.requests.drain(..).count(), INPUTS_PER_TURN_MAX);
        assert!(!inbox.take(&mut arrived));
        assert_eq!(arrived.requests.len(), 5);
    }

    #[test]
    fn a_closed_inbox_takes_nothing_and_wakes_nobody() {
        let (inbox, wakes) = inbox(LIMITS);
        propose(&inbox, 1).unwrap();
        let left = inbox.close();
        assert_eq!(left.requests.iter().map(NodeRequest::size).collect::<Vec<_>>(), [1]);
        inbox.take(&mut Arrived::new());
        assert_eq!(propose(&inbox, 1).unwrap_err().0, InboxRefusal::Closed);
        inbox.deliver(message());
        inbox.stop(StopReason::Shutdown);
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
    }
}
