//! The commands that a follower forwards, and what a leader keeps of those that it took. The rules
//! are in `forward.rs`.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::checkpoint::stored;
use crate::entries::Entry;
use crate::error::ProposeError;
use crate::message::{Propose, ProposeRefusal, ProposeReply};
use crate::output::ForwardOutcome;
use crate::time::Instant;
use crate::types::{Command, Index, LogId, NodeId, ProposalId, Round, Session, Term};

/// A follower's commands. Their numbers rise by one from each to the next.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Forwards<C> {
    /// The number of the newest command.
    last_id: ProposalId,
    /// The request on its way.
    request: Option<Request<C>>,
    /// The commands that wait for the next request; the newest is `last_id`.
    waiting: VecDeque<C>,
    /// The size of the commands on their way and of those that wait.
    bytes: usize,
    /// What became of commands, and the host has yet to hear.
    answers: VecDeque<(ProposalId, ForwardOutcome<C>)>,
    /// A hint says that the leader is gone, and what waits for it is kept until that is certain.
    leader_suspected: bool,
}

stored! {
    struct Forwards<C> { last_id, request, waiting, bytes, answers, leader_suspected }
}

/// A request to the leader, until it is answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Request<C> {
    propose: Propose<C>,
    first_sent_at: Instant,
    /// None if it is to be sent again.
    sent_at: Option<Instant>,
}

stored! { struct Request<C> { propose, first_sent_at, sent_at } }

/// A follower's newest request that a leader took, and the answer. A request that comes again gets
/// the same answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Taken {
    /// Rises with each request that is taken.
    pub(crate) key: (Round, ProposalId),
    pub(crate) first: Index,
    pub(crate) appended: u32,
    pub(crate) refusal: Option<ProposeRefusal>,
}

stored! { struct Taken { key, first, appended, refusal } }

impl<C> Forwards<C> {
    pub(crate) fn new() -> Self {
        Self {
            last_id: ProposalId::new(0),
            request: None,
            waiting: VecDeque::new(),
            bytes: 0,
            answers: VecDeque::new(),
            leader_suspected: false,
        }
    }

    /// From which number on this life counts. Half of all numbers are left for it.
    pub(crate) fn number_from(&mut self, begin: u64) {
        self.last_id = ProposalId::new(begin >> 1);
    }

    /// Commands that wait here, on their way, or for the host to hear of their answers.
    pub(crate) fn len(&self) -> usize {
        let requested = self.request.as_ref().map_or(0, |request| request.propose.commands.len());
        let waiting = self.waiting.len().saturating_add(self.answers.len());
        waiting.saturating_add(requested)
    }

    pub(crate) fn next_answer(&mut self) -> Option<(ProposalId, ForwardOutcome<C>)> {
        self.answers.pop_front()
    }

    /// Whether the leader has yet to answer for a command.
    pub(crate) fn wait_for_leader(&self) -> bool {
        self.request.is_some() || !self.waiting.is_empty()
    }

    /// The leader is gone. It may have appended what is on its way, and nothing else.
    pub(crate) fn on_leader_lost(&mut self) {
        self.on_no_answer();
        let mut id = self.first_waiting();
        while let Some(command) = self.waiting.pop_front() {
            let refused = ProposeError::NotLeader { leader: None, command };
            self.answers.push_back((id, ForwardOutcome::Refused(refused)));
            id = id.next();
        }
        self.bytes = 0;
        self.leader_suspected = false;
    }

    /// What is on its way may have been appended, or not.
    fn on_no_answer(&mut self) {
        let Some(Request { propose, .. }) = self.request.take() else { return };
        for (_, number) in propose.commands.iter().zip(propose.id.get()..) {
            self.answers.push_back((ProposalId::new(number), ForwardOutcome::Unknown));
        }
    }

    /// A hint says that the leader is gone.
    pub(crate) fn on_leader_suspected(&mut self) {
        self.leader_suspected = true;
    }

    /// The election timer has fired. Returns whether there are commands that wait for the leader to
    /// be heard of again: after a hint the first timer only makes the follower ask whether it is
    /// true.
    pub(crate) fn on_leader_missed(&mut self) -> bool {
        if !core::mem::take(&mut self.leader_suspected) {
            self.on_leader_lost();
        }
        self.wait_for_leader()
    }

    /// The leader is followed, for the first time or again: what was sent before may be lost.
    pub(crate) fn on_leader_followed(&mut self) {
        self.leader_suspected = false;
        if let Some(request) = &mut self.request {
            request.sent_at = None;
        }
    }

    /// Puts its moments elsewhere, for [`Raft::canonical`](crate::Raft::canonical).
    pub(crate) fn move_in_time(&mut self, past: impl Fn(Instant) -> Instant) {
        if let Some(request) = &mut self.request {
            request.sent_at = request.sent_at.map(&past);
            request.first_sent_at = past(request.first_sent_at);
        }
    }

    fn first_waiting(&self) -> ProposalId {
        let waiting = self.waiting.len() as u64;
        ProposalId::new(self.last_id.get().saturating_sub(waiting)).next()
    }
}

impl<C: Command> Forwards<C> {
    /// Takes a command, unless its size is too much beside the others.
    pub(crate) fn push(&mut self, command: C, bytes_max: usize) -> Result<ProposalId, C> {
        let bytes = self.bytes.saturating_add(Entry::size_of(&command));
        if bytes > bytes_max && self.wait_for_leader() {
            return Err(command);
        }
        self.bytes = bytes;
        self.last_id = self.last_id.next();
        self.waiting.push_back(command);
        Ok(self.last_id)
    }

    /// The request to send now: all that wait, up to `bytes_max`, once the last request is
    /// answered; or that one again, if there was no answer within `patience`.
    pub(crate) fn next_request(
        &mut self,
        now: Instant,
        patience: Duration,
        (session, round): (Session, Round),
        bytes_max: usize,
    ) -> Option<Propose<C>> {
        if self.request.is_none() {
            let id = self.first_waiting();
            let commands = self.next_commands(bytes_max);
            if commands.is_empty() {
                return None;
            }
            let propose = Propose { round, session, id, commands };
            self.request = Some(Request { propose, first_sent_at: now, sent_at: None });
        }
        let request = self.request.as_mut()?;
        let sent_at = request.sent_at;
        if sent_at.is_some_and(|sent_at| now.saturating_duration_since(sent_at) < patience) {
            return None;
        }
        request.sent_at = Some(now);
        Some(request.propose.clone())
    }

    fn next_commands(&mut self, bytes_max: usize) -> Vec<C> {
        let (mut bytes, mut commands) = (0_usize, Vec::new());
        while let Some(command) = self.waiting.front() {
            bytes = bytes.saturating_add(Entry::size_of(command));
            if bytes > bytes_max && !commands.is_empty() {
                break;
            }
            commands.extend(self.waiting.pop_front());
        }
        commands
    }

    /// Gives up a request that was sent first so long ago, and was not answered.
    pub(crate) fn give_up(&mut self, now: Instant, patience: Duration) {
        let first_sent_at = self.request.as_ref().map(|request| request.first_sent_at);
        if first_sent_at.is_some_and(|at| now.saturating_duration_since(at) >= patience) {
            self.on_no_answer();
            self.count_bytes();
        }
    }

    /// Takes the leader's answer; returns false if it is not to the request on its way.
    /// `handed_out` is the last entry that the state machine was given.
    pub(crate) fn on_reply(
        &mut self,
        reply: ProposeReply,
        leader: NodeId,
        term: Term,
        handed_out: Index,
    ) -> bool {
        if self.request.as_ref().is_none_or(|request| request.propose.id != reply.id) {
            return false;
        }
        let Some(Request { propose, .. }) = self.request.take() else { return false };
        let mut id = propose.id;
        let mut index = reply.first;
        let mut commands = propose.commands.into_iter();
        for _ in commands.by_ref().take(reply.appended as usize) {
            // An entry that was handed out before its proposer was known is answered by nobody.
            let outcome = match index > handed_out {
                true => ForwardOutcome::Appended(LogId::new(term, index)),
                false => ForwardOutcome::Unknown,
            };
            self.answers.push_back((id, outcome));
            (id, index) = (id.next(), index.next());
        }
        let refuses_all = !matches!(reply.refusal, Some(ProposeRefusal::TooLarge(_)) | None);
        let refused = if refuses_all { usize::MAX } else { usize::from(reply.refusal.is_some()) };
        for command in commands.by_ref().take(refused) {
            let refused = refused_by(leader, reply.refusal, command);
            self.answers.push_back((id, ForwardOutcome::Refused(refused)));
            id = id.next();
        }
        // What the leader did not look at goes into the next request.
        for command in commands.rev() {
            self.waiting.push_front(command);
        }
        self.count_bytes();
        true
    }

    fn count_bytes(&mut self) {
        let requested = self.request.iter().flat_map(|request| &request.propose.commands);
        let sizes = requested.chain(&self.waiting).map(Entry::size_of);
        self.bytes = sizes.fold(0, usize::saturating_add);
    }
}

/// Why the leader did not append this command, as if it had been proposed there.
fn refused_by<C: Command>(
    leader: NodeId,
    refusal: Option<ProposeRefusal>,
    command: C,
) -> ProposeError<C> {
    let limit = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    match refusal {
        Some(ProposeRefusal::TooLarge(bytes_max)) => {
            let (bytes, bytes_max) = (command.as_ref().len(), limit(bytes_max));
            ProposeError::TooLarge { bytes, bytes_max, command }
        }
        Some(ProposeRefusal::LogFull(bytes_max)) => {
            ProposeError::LogFull { bytes_max: limit(bytes_max), command }
        }
        Some(ProposeRefusal::TooManyUncommitted(bytes_max)) => {
            ProposeError::TooManyUncommitted { bytes_max: limit(bytes_max), command }
        }
        Some(ProposeRefusal::Transferring(to)) => ProposeError::Transferring { to, command },
        Some(ProposeRefusal::Other(_)) | None => {
            ProposeError::NotLeader { leader: Some(leader), command }
        }
    }
}
