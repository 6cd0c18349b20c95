//! A network inside one process, with faults. An adapter's `channel::Network` is made of it.
//!
//! A message that arrives at once goes from the sender's loop straight into the receiver's inbox. A
//! delayed message waits here until the adapter's task delivers it. The task sleeps as
//! [`LateDelivery::turn`] says.

use std::boxed::Box;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::Bytes;

use super::faults::{Delivery, FaultModel, Faults, Traffic};
use crate::codec;
use crate::host::clock::Next;
use crate::host::identity::Identity;
use crate::host::tasks::LoopBody;
use crate::host::transport::{MessageInbox, PeerInbox, Transport};
use crate::membership::Membership;
use crate::message::Message;
use crate::types::NodeId;

/// The most messages that may be delayed at once. More are dropped.
const LATE_MAX: usize = 1 << 16;

/// How often a node that is refused introduces itself again.
const INTRODUCTION_INTERVAL: Duration = Duration::from_secs(1);

/// An in-process network. A clone is the same network.
#[derive(Clone)]
pub struct InProcessNetwork {
    owner: Arc<Owner>,
}

/// A node's end of a [`InProcessNetwork`].
pub struct Endpoint {
    node: NodeId,
    network: InProcessNetwork,
    /// The number of this endpoint's registration. A later endpoint of the same node has another.
    registered: Option<u64>,
    /// The buffer in which messages are encoded to be counted.
    encoded: Vec<u8>,
}

/// Delivers delayed messages. For the adapter's task.
pub struct LateDelivery {
    shared: Arc<SharedNetwork>,
}

/// Closes the network when the last clone is dropped.
struct Owner {
    shared: Arc<SharedNetwork>,
}

struct SharedNetwork {
    state: Mutex<NetworkState>,
    wake: Box<dyn Fn() + Send + Sync>,
}

struct NetworkState {
    fault_model: FaultModel,
    endpoints: BTreeMap<NodeId, Registered>,
    registrations: u64,
    late: BinaryHeap<Late>,
    /// Numbers delayed messages, so that messages for the same moment keep their order.
    lates: u64,
    closed: bool,
}

struct Registered {
    number: u64,
    identity: Identity,
    inbox: MessageInbox,
    /// The links from the peers that have sent something.
    links: BTreeMap<NodeId, Link>,
}

/// The last verdict on whether a node and a peer that sends to it let each other in.
struct Link {
    /// The sender's registration and the generations of both inboxes at the verdict. If one of them
    /// has changed, the verdict may have changed.
    made_at: (u64, u64, u64),
    introduced: Instant,
    /// `None` if one of the two refuses the other.
    inbox: Option<Arc<PeerInbox>>,
}

struct Late {
    at: Instant,
    number: u64,
    message: Message<Bytes>,
}

impl InProcessNetwork {
    /// A perfect network without nodes, and the part that delivers delayed messages. `wake` must
    /// make the adapter's task call [`LateDelivery::turn`]. It is called from any thread and must
    /// not block.
    pub fn new(seed: u64, wake: impl Fn() + Send + Sync + 'static) -> (Self, LateDelivery) {
        let state = NetworkState {
            fault_model: FaultModel::new(seed),
            endpoints: BTreeMap::new(),
            registrations: 0,
            late: BinaryHeap::new(),
            lates: 0,
            closed: false,
        };
        let shared = Arc::new(SharedNetwork { state: Mutex::new(state), wake: Box::new(wake) });
        let late = LateDelivery { shared: Arc::clone(&shared) };
        (Self { owner: Arc::new(Owner { shared }) }, late)
    }

    /// The transport of this node. If a node starts again, its new endpoint takes the place of the
    /// old one.
    pub fn endpoint(&self, node: NodeId) -> Endpoint {
        Endpoint { node, network: self.clone(), registered: None, encoded: Vec::new() }
    }

    /// Changes how bad the network is, for messages sent from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().fault_model.set_faults(faults);
    }

    /// Lets no message pass from one node to the other any more, in this direction. Messages that
    /// are on their way are lost.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.lock().fault_model.cut(from, to);
    }

    /// Undoes [`InProcessNetwork::cut`].
    pub fn mend(&self, from: NodeId, to: NodeId) {
        self.lock().fault_model.mend(from, to);
    }

    /// Lets no message pass to or from this node any more.
    pub fn isolate(&self, node: NodeId) {
        self.lock().fault_model.isolate(node);
    }

    /// Undoes [`InProcessNetwork::isolate`].
    pub fn rejoin(&self, node: NodeId) {
        self.lock().fault_model.rejoin(node);
    }

    /// Undoes every cut and every isolation; [`Faults`] stay.
    pub fn heal(&self) {
        self.lock().fault_model.heal();
    }

    /// What the network has carried so far.
    pub fn traffic(&self) -> Traffic {
        self.lock().fault_model.traffic()
    }

    fn lock(&self) -> MutexGuard<'_, NetworkState> {
        self.owner.shared.lock()
    }
}

impl LateDelivery {
    /// Delivers the messages that are due, and says when to call again.
    pub fn turn(&self) -> Next {
        loop {
            let mut state = self.shared.lock();
            if state.closed {
                return Next::Stop;
            }
            let due = state.late.peek().map(|late| late.at);
            if due.is_none_or(|at| at > Instant::now()) {
                return Next::Wait(due);
            }
            let Some(Late { message, .. }) = state.late.pop() else { return Next::Wait(None) };
            state.deliver(message);
        }
    }
}

impl LoopBody for LateDelivery {
    fn turn(&mut self) -> Next {
        Self::turn(self)
    }
}

impl Transport for Endpoint {
    fn members(&mut self, membership: &Membership) {
        self.introduce(membership);
    }

    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        let own = self.node;
        let node = identity.node;
        if own != node {
            let error = std::format!("the endpoint of node {own} was given to node {node}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let mut state = self.network.lock();
        state.unlink(node);
        state.registrations += 1;
        let number = state.registrations;
        state
            .endpoints
            .insert(node, Registered { number, identity, inbox, links: BTreeMap::new() });
        self.registered = Some(number);
        Ok(())
    }

    fn send(&mut self, message: Message<Bytes>) {
        self.encoded.clear();
        codec::encode_message(&message, &mut self.encoded);
        let bytes = self.encoded.len() as u64;
        let shared = &self.network.owner.shared;
        let mut state = shared.lock();
        let delivery = state.fault_model.decide(message.from, message.to, bytes, Instant::now);
        match delivery {
            Delivery::Lost => {}
            Delivery::Now => {
                let inbox = state.inbox_of(&message);
                // The receiver's lock is taken after this one is released. Otherwise all nodes
                // would wait for each other.
                drop(state);
                if let Some(inbox) = inbox {
                    deliver(&inbox, message);
                }
            }
            Delivery::Later(first, second) => {
                if let Some(second) = second {
                    state.delay(second, message.clone());
                }
                state.delay(first, message);
                drop(state);
                (shared.wake)();
            }
        }
    }
}

impl Endpoint {
    /// Introduces this node to the members that it can reach, as a transport that opens connections
    /// does.
    fn introduce(&self, membership: &Membership) {
        let mut state = self.network.lock();
        for member in membership.members() {
            let (own, other) = (self.node, member.id);
            let open = |from, to| state.fault_model.is_open(from, to);
            if own != other && open(own, other) && open(other, own) {
                state.link(own, other);
            }
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        let current = state.endpoints.get(&self.node).map(|registered| registered.number);
        if current.is_some() && current == self.registered {
            state.endpoints.remove(&self.node);
            state.unlink(self.node);
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        (self.shared.wake)();
    }
}

impl SharedNetwork {
    fn lock(&self) -> MutexGuard<'_, NetworkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NetworkState {
    /// The receiver's inbox for a message. The message is lost if the receiver is not there, or if
    /// one of the two refuses the other.
    fn inbox_of(&mut self, message: &Message<Bytes>) -> Option<Arc<PeerInbox>> {
        let inbox = self.link(message.from, message.to);
        if inbox.is_none() {
            self.fault_model.lost();
        }
        inbox
    }

    /// The receiver's inbox for messages from this sender, after both have introduced themselves to
    /// each other.
    fn link(&mut self, from: NodeId, to: NodeId) -> Option<Arc<PeerInbox>> {
        let (sender, receiver) = (self.endpoints.get(&from)?, self.endpoints.get(&to)?);
        if let Some(link) = receiver.links.get(&from) {
            let made_at = (sender.number, sender.inbox.generation(), receiver.inbox.generation());
            let is_due = link.inbox.is_none() && link.introduced.elapsed() >= INTRODUCTION_INTERVAL;
            if link.made_at == made_at && !is_due {
                return link.inbox.clone();
            }
        }
        self.connect(from, to)
    }

    /// Introduces the two to each other.
    fn connect(&mut self, from: NodeId, to: NodeId) -> Option<Arc<PeerInbox>> {
        let sender = self.endpoints.get(&from)?;
        let (number, identity, sender) = (sender.number, sender.identity, sender.inbox.clone());
        let receiver = self.endpoints.get_mut(&to)?;
        // The sender's side of an earlier connection ends before the next begins.
        let before = receiver.links.remove(&from);
        let was_refused = before.is_some_and(|link| link.inbox.is_none());
        let made_at = (number, sender.generation(), receiver.inbox.generation());
        let met = sender.meet(&receiver.inbox.introduce(&receiver.identity, from, None), "");
        let admitted = receiver.inbox.admit(sender.introduce(&identity, to, None));
        if let Err(refusal) = &admitted {
            sender.refused_by(to, *refusal);
        }
        if let Err(refusal) = &met {
            receiver.inbox.refused_by(from, *refusal);
        }
        let refusal = met.err().or(admitted.as_ref().err().copied());
        if let Some(reason) = refusal {
            if !was_refused {
                tracing::warn!(node = from.get(), peer = to.get(), %reason, "not connected");
            }
        }
        let inbox = if refusal.is_none() { admitted.ok().map(Arc::new) } else { None };
        receiver
            .links
            .insert(from, Link { made_at, introduced: Instant::now(), inbox: inbox.clone() });
        inbox
    }

    /// Ends the links from a node that is gone.
    fn unlink(&mut self, node: NodeId) {
        for endpoint in self.endpoints.values_mut() {
            endpoint.links.remove(&node);
        }
    }

    fn delay(&mut self, at: Instant, message: Message<Bytes>) {
        if self.late.len() == LATE_MAX {
            return self.fault_model.lost();
        }
        self.lates += 1;
        self.late.push(Late { at, number: self.lates, message });
    }

    fn deliver(&mut self, message: Message<Bytes>) {
        if !self.fault_model.is_open(message.from, message.to) {
            return self.fault_model.lost();
        }
        if let Some(inbox) = self.inbox_of(&message) {
            deliver(&inbox, message);
        }
    }
}

/// Delivers a message. It is lost if the receiver refuses the sender by now.
fn deliver(inbox: &PeerInbox, message: Message<Bytes>) {
    let (from, to) = (message.from, message.to);
    if let Err(reason) = inbox.deliver(message) {
        tracing::debug!(node = to.get(), peer = from.get(), %reason, "message dropped");
    }
}

impl fmt::Debug for InProcessNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessNetwork")
            .field("fault_model", &self.lock().fault_model)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("node", &self.node).finish_non_exhaustive()
    }
}

impl fmt::Debug for LateDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LateDelivery")
    }
}

/// The earliest message is the greatest, because the heap returns the greatest first.
impl Ord for Late {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Late {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Late {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Late {}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{self, Receiver};
    use std::time::Duration;

    use super::*;
    use crate::host::{ClusterId, StoreId};
    use crate::message::{Body, RequestPreVote};
    use crate::types::{LogId, Term};

    const A: NodeId = NodeId::new(1);
    const B: NodeId = NodeId::new(2);

    fn message(campaign: u64) -> Message<Bytes> {
        let request = RequestPreVote { last_log: LogId::ZERO, campaign };
        Message { from: A, to: B, term: Term::new(1), body: Body::RequestPreVote(request) }
    }

    fn campaign(message: &Message<Bytes>) -> u64 {
        let Body::RequestPreVote(request) = &message.body else { panic!("{message:?}") };
        request.campaign
    }

    fn identity(node: NodeId) -> Identity {
        Identity { cluster: ClusterId::new(1), node, store_id: StoreId::new(1) }
    }

    fn start(network: &InProcessNetwork, node: NodeId) -> (Endpoint, Receiver<Message<Bytes>>) {
        let (sender, arrived) = mpsc::channel();
        let mut endpoint = network.endpoint(node);
        let inbox = MessageInbox::new(move |message| drop(sender.send(message)));
        endpoint.start(identity(node), inbox).unwrap();
        (endpoint, arrived)
    }

    /// Does what an adapter's task does, until everything has arrived.
    fn deliver_all(late: &LateDelivery) {
        while let Next::Wait(Some(at)) = late.turn() {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
        }
    }

    #[test]
    fn what_is_not_late_arrives_within_the_send() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let wake = move || {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let (network, _late) = InProcessNetwork::new(1, wake);
        let ((mut a, _), (_b, arrived)) = (start(&network, A), start(&network, B));
        for number in 0..3 {
            a.send(message(number));
        }
        assert_eq!(
            arrived.try_iter().map(|message| campaign(&message)).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        assert_eq!(wakes.load(Ordering::Relaxed), 0);
        let traffic = network.traffic();
        assert_eq!((traffic.sent, traffic.dropped), (3, 0));
        assert!(traffic.bytes_sent > 0);
    }

    #[test]
    fn what_is_late_arrives_later_in_order() {
        let (network, late) = InProcessNetwork::new(1, || {});
        let ((mut a, _), (_b, arrived)) = (start(&network, A), start(&network, B));
        let delay = Duration::from_millis(3);
        network.set_faults(Faults { delay_min: delay, delay_max: delay * 2, ..Faults::default() });
        let sent_at = Instant::now();
        for number in 0..20 {
            a.send(message(number));
        }
        assert!(arrived.try_recv().is_err());
        deliver_all(&late);
        assert!(sent_at.elapsed() >= delay);
        let numbers: Vec<_> = arrived.try_iter().map(|message| campaign(&message)).collect();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn a_cut_loses_what_is_on_its_way() {
        let (network, late) = InProcessNetwork::new(1, || {});
        let ((mut a, _), (_b, arrived)) = (start(&network, A), start(&network, B));
        let delay = Duration::from_millis(1);
        network.set_faults(Faults { delay_min: delay, delay_max: delay, ..Faults::default() });
        a.send(message(1));
        network.cut(A, B);
        deliver_all(&late);
        assert!(arrived.try_recv().is_err());
        assert_eq!(network.traffic().dropped, 1);
    }

    #[test]
    fn a_later_life_takes_the_place_of_an_earlier_one_and_keeps_it() {
        let (network, _late) = InProcessNetwork::new(1, || {});
        let ((mut a, _), (first, before)) = (start(&network, A), start(&network, B));
        let (second, after) = start(&network, B);
        drop(first);
        a.send(message(7));
        assert_eq!(campaign(&after.try_recv().unwrap()), 7);
        assert!(before.try_recv().is_err());
        drop(second);
        a.send(message(8));
        assert_eq!(network.traffic().dropped, 1, "nobody is there");
    }

    #[test]
    fn an_endpoint_serves_no_other_node() {
        let (network, _late) = InProcessNetwork::new(1, || {});
        let error = network.endpoint(A).start(identity(B), MessageInbox::new(drop)).unwrap_err();
        assert_eq!(error.to_string(), "the endpoint of node 1 was given to node 2");
    }

    #[test]
    fn the_task_ends_with_the_network_and_its_endpoints() {
        let (network, late) = InProcessNetwork::new(1, || {});
        let (endpoint, _arrived) = start(&network, A);
        drop(network);
        assert_eq!(late.turn(), Next::Wait(None));
        drop(endpoint);
        assert_eq!(late.turn(), Next::Stop);
    }
}
