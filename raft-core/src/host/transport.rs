//! What carries messages to the other nodes, and where it puts those that come in.

use std::boxed::Box;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::vec::Vec;

use bytes::Bytes;

use super::identity::{Identity, Incarnation};
use crate::membership::Membership;
use crate::message::Message;
use crate::types::NodeId;

/// Carries messages between nodes. It may lose, repeat and overtake them; Raft copes.
///
/// One that can tell the end of a peer's process from a broken network also [says so](MessageInbox::suspect).
///
/// One that wraps another passes every call on, those with a body here among them.
pub trait Transport: Send + 'static {
    /// Begins to receive for this node; called once, before anything is sent.
    ///
    /// What arrives goes to `inbox`, from any thread.
    ///
    /// # Errors
    ///
    /// When it cannot receive, such as when its address is taken. The node does not start then.
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()>;

    /// Takes a message to [`Message::to`]. Never blocks: a full queue, or a peer out of reach, drops the message and counts it.
    fn send(&mut self, message: Message<Bytes>);

    /// Everything for now has been sent. Called once after the sends of a turn, so that a transport may gather messages and wake
    /// its writers once for all of them.
    fn flush(&mut self) {}

    /// These are the members now (§6), as far as this node knows; nobody, if it has yet to be told. Called once the transport has
    /// started and whenever they change. A transport that opens connections opens those to new members, closes those to members that
    /// went, once what waits for them is sent, and takes note of their [labels](super::Label).
    ///
    /// Messages may also come from others and go to others: a server whose configuration is behind hears those that it does not
    /// know, and answers.
    fn members(&mut self, membership: &Membership) {
        let _ = membership;
    }

    /// The stores of those who are connected, this node's own among them, so that the leader can record them in their
    /// [labels](super::Label). Nothing, where the transport does not ask for them.
    fn incarnations(&self) -> Vec<(NodeId, Incarnation)> {
        Vec::new()
    }

    /// Begins to stop; called at most once, and the transport is dropped right after. Never blocks.
    ///
    /// Keep `running` until the last socket is closed: a node's shutdown is over only when it has been dropped, so that the
    /// address is free again by then. A transport that is dropped without a call must stop as well.
    fn stop(&mut self, running: Running) {
        drop(running);
    }
}

/// Held by a [`Transport`] that is stopping, until nothing of it is left.
#[derive(Debug)]
pub struct Running {
    /// Only its drop matters: the receiver notices.
    _sender: oneshot::Sender<()>,
}

impl Running {
    /// The token, and a receiver that returns (with an error, for nothing is ever sent) once the token has been dropped.
    pub fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, dropped) = oneshot::channel();
        (Self { _sender: sender }, dropped)
    }
}

/// Where a [`Transport`] delivers. Cheap to clone.
#[derive(Clone)]
pub struct MessageInbox {
    deliver: Arc<dyn Fn(Message<Bytes>) + Send + Sync>,
    suspect: Arc<dyn Fn(NodeId) + Send + Sync>,
}

impl MessageInbox {
    /// An inbox that hands each message to `deliver`, which must not block, and ignores suspicions. For tests of transports, and for
    /// transports that wrap another one.
    pub fn new(deliver: impl Fn(Message<Bytes>) + Send + Sync + 'static) -> Self {
        Self { deliver: Arc::new(deliver), suspect: Arc::new(|_| ()) }
    }

    /// The same inbox, which hands each suspicion to `suspect`. That must not block either.
    #[must_use]
    pub fn with_suspicions(self, suspect: impl Fn(NodeId) + Send + Sync + 'static) -> Self {
        Self { suspect: Arc::new(suspect), ..self }
    }

    /// Hands a message to the node and wakes it. Never blocks: when the inbox is full, the message is dropped and counted; after
    /// the node has stopped, it is dropped.
    pub fn deliver(&self, message: Message<Bytes>) {
        (self.deliver)(message);
    }

    /// The transport has reason to believe that this node's process is gone, such as a connection that was reset and a listener that
    /// refuses. To be said once, when it happens; never because a network is slow, silent or flaps.
    ///
    /// If that node leads, this one asks the others [without waiting for its election timeout](crate::Raft::suspect_leader). That
    /// is all: a suspicion that is wrong costs a few messages, for those who still hear their leader refuse. Never blocks.
    pub fn suspect(&self, node: NodeId) {
        (self.suspect)(node);
    }
}

impl fmt::Debug for MessageInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageInbox")
    }
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        (**self).start(identity, inbox)
    }

    fn send(&mut self, message: Message<Bytes>) {
        (**self).send(message);
    }

    fn flush(&mut self) {
        (**self).flush();
    }

    fn members(&mut self, membership: &Membership) {
        (**self).members(membership);
    }

    fn incarnations(&self) -> Vec<(NodeId, Incarnation)> {
        (**self).incarnations()
    }

    fn stop(&mut self, running: Running) {
        (**self).stop(running);
    }
}
