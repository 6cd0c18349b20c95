//! Leadership: a watch over role, term and leader, and a guard for a node that leads.

use std::boxed::Box;
use std::fmt;
use std::mem;
use std::sync::{Arc, PoisonError};
use std::vec::Vec;

use super::pending::Pending;
use crate::host::error::Stopped;
use crate::host::sync::{Mutex, MutexGuard};
use crate::host::threads::lifecycle::Lifecycle;
use crate::role::Role;
use crate::types::{NodeId, Term};

/// What a node knows of its cluster's leader.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Leadership {
    /// The role of this node.
    pub role: Role,
    /// The node's current term.
    pub term: Term,
    /// The leader of that term, if known.
    pub leader: Option<NodeId>,
    /// Where the other nodes reach the leader, if this node knows it: the address in the leader's
    /// [`Label`](crate::host::Label), or else the one that the transport knows. Where clients reach
    /// it, the [note](crate::host::Label::note) of the label may say.
    pub leader_address: Option<Arc<str>>,
}

/// Watches a node's [`Leadership`]. Cheap to clone. It does not keep the node running.
///
/// # Example
///
/// ```
/// # use raft_core::host::{LeadershipWatch, Stopped};
/// fn follow(watch: &LeadershipWatch) -> Result<(), Stopped> {
///     let mut now = watch.current();
///     loop {
///         println!("term {}: led by {:?} at {:?}", now.term, now.leader, now.leader_address);
///         now = watch.changed_from(now).wait()?; // or `.await?`
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct LeadershipWatch {
    state: Arc<LeadershipState>,
}

/// Says whether a node still leads in the term in which it began to lead.
///
/// The node says what it knows itself: a leader that was cut off learns only after an election
/// timeout that it was replaced. If two nodes that both believe to lead would do harm, hand
/// [`term`](Lead::term) on as a fencing token, and let the resource refuse lower terms.
#[derive(Clone, Debug)]
pub struct Lead {
    term: Term,
    state: Arc<LeadershipState>,
}

/// What the node's loop knows of the leader, for all who watch it.
pub(super) struct LeadershipState {
    published: Mutex<Published>,
    lifecycle: Arc<Lifecycle>,
}

#[derive(Default)]
struct Published {
    leadership: Leadership,
    waiting: Vec<Waiter>,
    closed: bool,
}

struct Waiter {
    until: Until,
    answer: WaiterAnswer,
}

/// How a waiting client gets its answer.
enum WaiterAnswer {
    Leadership(oneshot::Sender<Result<Leadership, Stopped>>),
    Lead(oneshot::Sender<Result<Lead, Stopped>>),
}

/// What a client waits for.
type Until = Box<dyn Fn(&Leadership) -> bool + Send>;

impl LeadershipWatch {
    pub(super) fn new(state: Arc<LeadershipState>) -> Self {
        Self { state }
    }

    /// What the node knows now. A node that has stopped follows no leader.
    pub fn current(&self) -> Leadership {
        self.state.lock().leadership.clone()
    }

    /// Resolves when what the node knows differs from `known`, at once if it already does.
    ///
    /// # Errors
    ///
    /// The node has stopped.
    pub fn changed_from(&self, known: Leadership) -> Pending<Leadership, Stopped> {
        let (answer, receiver) = oneshot::channel();
        self.state.wait_until(Box::new(move |now| *now != known), WaiterAnswer::Leadership(answer));
        Pending::new(receiver, Arc::clone(&self.state.lifecycle))
    }
}

impl Lead {
    /// The term in which this node leads. It is a fencing token, because no other node leads in
    /// that term, and all later leaders have higher terms.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whether the node still leads in that term, as far as it knows.
    pub fn is_leading(&self) -> bool {
        leads_in(self.term, &self.state.lock().leadership)
    }

    /// Resolves once the node no longer leads in that term, with what the node knew first after
    /// that.
    ///
    /// # Errors
    ///
    /// The node has stopped, so it no longer leads.
    pub fn lost(&self) -> Pending<Leadership, Stopped> {
        let term = self.term;
        let (answer, receiver) = oneshot::channel();
        self.state.wait_until(
            Box::new(move |now| !leads_in(term, now)),
            WaiterAnswer::Leadership(answer),
        );
        Pending::new(receiver, Arc::clone(&self.state.lifecycle))
    }
}

impl LeadershipState {
    pub(super) fn new(lifecycle: Arc<Lifecycle>) -> Self {
        Self { published: Mutex::default(), lifecycle }
    }

    /// Answers all clients that wait for this leadership.
    pub(super) fn publish(self: &Arc<Self>, leadership: Leadership) {
        let mut published = self.lock();
        published.leadership = leadership.clone();
        let waiting = mem::take(&mut published.waiting);
        let (told, waiting): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|waiting| (waiting.until)(&leadership));
        published.waiting = waiting;
        drop(published);
        for Waiter { answer, .. } in told {
            answer.send(leadership.clone(), self);
        }
    }

    /// The leader, as it was published.
    pub(super) fn leader(&self) -> Option<NodeId> {
        self.lock().leadership.leader
    }

    /// Publishes where the leader is reached, if this has changed.
    pub(super) fn publish_address(self: &Arc<Self>, leader_address: Option<Arc<str>>) {
        let before = self.lock().leadership.clone();
        if before.leader_address != leader_address {
            self.publish(Leadership { leader_address, ..before });
        }
    }

    /// To be called when the node has stopped. It no longer leads, and every waiting client learns
    /// that.
    pub(super) fn close(&self) {
        let mut published = self.lock();
        published.closed = true;
        published.leadership =
            Leadership { term: published.leadership.term, ..Leadership::default() };
        // A dropped sender tells its receiver that the node has stopped.
        let waiting = mem::take(&mut published.waiting);
        drop(published);
        drop(waiting);
    }

    /// Resolves when the node leads.
    pub(super) fn wait_to_lead(self: &Arc<Self>) -> Pending<Lead, Stopped> {
        let (answer, receiver) = oneshot::channel();
        self.wait_until(Box::new(|now| now.role == Role::Leader), WaiterAnswer::Lead(answer));
        Pending::new(receiver, Arc::clone(&self.lifecycle))
    }

    fn wait_until(self: &Arc<Self>, until: Until, answer: WaiterAnswer) {
        let mut published = self.lock();
        let now = published.leadership.clone();
        if published.closed {
            // A dropped answer says that the node has stopped.
        } else if until(&now) {
            drop(published);
            answer.send(now, self);
        } else {
            published.waiting.retain(|waiting| !waiting.answer.is_closed());
            published.waiting.push(Waiter { until, answer });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WaiterAnswer {
    /// A client that no longer waits gets no answer.
    fn send(self, leadership: Leadership, state: &Arc<LeadershipState>) {
        match self {
            Self::Leadership(sender) => drop(sender.send(Ok(leadership))),
            Self::Lead(sender) => {
                let lead = Lead { term: leadership.term, state: Arc::clone(state) };
                drop(sender.send(Ok(lead)));
            }
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Leadership(sender) => sender.is_closed(),
            Self::Lead(sender) => sender.is_closed(),
        }
    }
}

impl fmt::Debug for LeadershipState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().leadership.fmt(f)
    }
}

fn leads_in(term: Term, now: &Leadership) -> bool {
    now.role == Role::Leader && now.term == term
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::error::StopReason;

    fn state() -> Arc<LeadershipState> {
        Arc::new(LeadershipState::new(Arc::default()))
    }

    fn leader(term: u64) -> Leadership {
        let leader = Some(NodeId::new(1));
        Leadership { role: Role::Leader, term: Term::new(term), leader, leader_address: None }
    }

    #[test]
    fn a_change_that_came_before_the_question_answers_it() {
        let state = state();
        let watch = LeadershipWatch::new(Arc::clone(&state));
        let before = watch.current();
        state.publish(leader(1));
        assert_eq!(watch.changed_from(before).wait().unwrap(), leader(1));
    }

    #[test]
    fn a_new_address_of_the_leader_is_a_change() {
        let state = state();
        state.publish(leader(1));
        let watch = LeadershipWatch::new(Arc::clone(&state));
        let waits = watch.changed_from(leader(1));
        let lead = state.wait_to_lead().wait().unwrap();
        state.publish_address(None);
        state.publish_address(Some("a:1".into()));
        let moved = Leadership { leader_address: Some("a:1".into()), ..leader(1) };
        assert_eq!(waits.wait().unwrap(), moved);
        assert!(lead.is_leading());
    }

    #[test]
    fn a_lead_is_lost_with_its_term_even_if_the_node_leads_again() {
        let state = state();
        let waits = state.wait_to_lead();
        state.publish(leader(1));
        let lead = waits.wait().unwrap();
        assert!(lead.is_leading());
        let lost = lead.lost();
        state.publish(leader(3));
        assert!(!lead.is_leading());
        assert_eq!(lost.wait().unwrap(), leader(3));
    }

    #[test]
    fn a_stopped_node_leads_no_more_and_nobody_waits_for_it() {
        let lifecycle = Arc::<Lifecycle>::default();
        let state = Arc::new(LeadershipState::new(Arc::clone(&lifecycle)));
        state.publish(leader(1));
        let lead = state.wait_to_lead().wait().unwrap();
        let lost = lead.lost();
        lifecycle.end(StopReason::Shutdown);
        state.close();
        assert!(!lead.is_leading());
        assert!(matches!(lost.wait(), Err(Stopped { reason: StopReason::Shutdown })));
        assert!(state.wait_to_lead().wait().is_err());
    }

    #[test]
    fn those_who_gave_up_waiting_are_forgotten() {
        let state = state();
        for _ in 0..100 {
            drop(state.wait_to_lead());
        }
        assert!(state.lock().waiting.len() <= 1);
    }
}
