//! What carries messages to the other nodes, and where it puts those that come in.

use std::boxed::Box;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::identity::{Identity, Introduction};
use super::known_peers::KnownPeers;
use crate::host::wire::handshake::Refusal;
use crate::membership::Membership;
use crate::message::Message;
use crate::types::NodeId;

/// Carries messages between nodes. It may lose, repeat and overtake them; Raft copes.
///
/// What it must not do is deliver from a peer that the host has not [let in](MessageInbox::admit).
/// So it carries each node's [`Introduction`] to its peer before the first message.
///
/// One that can tell the end of a peer's process from a broken network also [says
/// so](MessageInbox::suspect).
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

    /// Takes a message to [`Message::to`]. Never blocks: a full queue, or a peer out of reach,
    /// drops the message and counts it.
    fn send(&mut self, message: Message<Bytes>);

    /// Everything for now has been sent. Called once after the sends of a turn, so that a transport
    /// may gather messages and wake its writers once for all of them.
    fn flush(&mut self) {}

    /// The longest [`Message::size`] that it carries, in bytes, whatever else the message holds. A
    /// longer message may be dropped each time it is sent, so that nothing behind it ever commits:
    /// a node whose [`Config`](crate::Config) allows longer ones does not start, and refuses a peer
    /// whose configuration allows longer ones ([`Refusal::LongMessages`]).
    fn message_bytes_max(&self) -> usize {
        usize::MAX
    }

    /// These are the members now (§6), as far as this node knows; nobody, if it has yet to be told.
    /// Called once the transport has started and whenever they change. A transport that opens
    /// connections opens those to new members, closes those to members that went, once what waits
    /// for them is sent, and takes note of their [labels](super::Label).
    ///
    /// Messages may also come from others and go to others: a server whose configuration is behind
    /// hears those that it does not know, and answers.
    fn members(&mut self, membership: &Membership) {
        let _ = membership;
    }

    /// Begins to stop; called at most once, and the transport is dropped right after. Never blocks.
    ///
    /// Keep `running` until the last socket is closed: a node's shutdown is over only when it has
    /// been dropped, so that the address is free again by then. A transport that is dropped without
    /// a call must stop as well.
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
    /// The token, and a receiver that returns (with an error, for nothing is ever sent) once the
    /// token has been dropped.
    pub fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, dropped) = oneshot::channel();
        (Self { _sender: sender }, dropped)
    }
}

/// Where a [`Transport`] delivers, once a peer is let in. Cheap to clone.
#[derive(Clone)]
pub struct MessageInbox {
    deliver: Arc<dyn Fn(Message<Bytes>) + Send + Sync>,
    suspect: Arc<dyn Fn(NodeId) + Send + Sync>,
    /// Wakes the node because what it knows of its peers has changed.
    news: Arc<dyn Fn() + Send + Sync>,
    peers: Arc<KnownPeers>,
    /// What the application says of the node.
    note: Bytes,
}

impl MessageInbox {
    /// An inbox that hands each message to `deliver`, which must not block, lets every peer in, and
    /// ignores suspicions. For tests of transports.
    pub fn new(deliver: impl Fn(Message<Bytes>) + Send + Sync + 'static) -> Self {
        Self {
            deliver: Arc::new(deliver),
            suspect: Arc::new(|_| ()),
            news: Arc::new(|| ()),
            peers: Arc::new(KnownPeers::new(None)),
            note: Bytes::new(),
        }
    }

    /// The same inbox, which hands each suspicion to `suspect`. That must not block either.
    #[must_use]
    pub fn with_suspicions(self, suspect: impl Fn(NodeId) + Send + Sync + 'static) -> Self {
        Self { suspect: Arc::new(suspect), ..self }
    }

    /// The same inbox, which hands on only those messages for which `passes` is true. For
    /// transports that wrap another one.
    #[must_use]
    pub fn filtered(
        self,
        passes: impl Fn(&Message<Bytes>) -> bool + Send + Sync + 'static,
    ) -> Self {
        let deliver = self.deliver;
        let filtered = move |message| {
            if passes(&message) {
                deliver(message);
            }
        };
        Self { deliver: Arc::new(filtered), ..self }
    }

    /// The same inbox, which judges peers by what `peers` knows, calls `news` when that has
    /// changed, and introduces its node with that note.
    pub(super) fn with_peers(
        self,
        peers: Arc<KnownPeers>,
        news: impl Fn() + Send + Sync + 'static,
        note: Bytes,
    ) -> Self {
        Self { peers, news: Arc::new(news), note, ..self }
    }

    /// What the node `me`, which is reached at `address`, says to that peer now.
    pub fn introduce(&self, me: &Identity, to: NodeId, address: Option<&str>) -> Introduction {
        let (past, knows_you) = self.peers.introduce(to);
        let address = address.map(Into::into);
        let node = me.node;
        let store = me.store_id;
        let note = self.note.clone();
        let sends_bytes_max = self.peers.sends_bytes_max();
        Introduction { node, store, past, knows_you, address, note, sends_bytes_max }
    }

    /// Lets in a peer that introduced itself, on a connection that it opened: what it sends goes to
    /// the [`PeerInbox`].
    ///
    /// # Errors
    ///
    /// Why this node does not talk to that peer, to be told to the peer. Nothing that it sends may
    /// be delivered.
    pub fn admit(&self, peer: Introduction) -> Result<PeerInbox, Refusal> {
        let generation = AtomicU64::new(self.peers.generation());
        let verdict = self.peers.admit(&peer, None);
        (self.news)();
        verdict.map(|()| PeerInbox { inbox: self.clone(), peer, generation })
    }

    /// Judges a peer that this node has dialed at `address`.
    ///
    /// # Errors
    ///
    /// Why this node does not talk to that peer. The connection is to be closed.
    pub fn meet(&self, peer: &Introduction, address: &str) -> Result<(), Refusal> {
        let verdict = self.peers.admit(peer, Some(address));
        (self.news)();
        verdict
    }

    /// The peer that this node has dialed does not let it in.
    pub fn refused_by(&self, peer: NodeId, refusal: Refusal) {
        self.peers.refused_by(peer, refusal);
        (self.news)();
    }

    /// Grows whenever what this node says of itself, or what it lets in, may have changed.
    pub(super) fn generation(&self) -> u64 {
        self.peers.generation()
    }

    /// The transport has reason to believe that this node's process is gone, such as a connection
    /// that was reset and a listener that refuses. To be said once, when it happens; never because
    /// a network is slow, silent or flaps.
    ///
    /// If that node leads, this one asks the others [without waiting for its election
    /// timeout](crate::Raft::suspect_leader). That is all: a suspicion that is wrong costs a few
    /// messages, for those who still hear their leader refuse. Never blocks.
    pub fn suspect(&self, node: NodeId) {
        (self.suspect)(node);
    }
}

/// Where the messages of one peer go, for as long as the node talks to it.
#[derive(Debug)]
pub struct PeerInbox {
    inbox: MessageInbox,
    peer: Introduction,
    /// At which generation of what the node knows the peer was last judged.
    generation: AtomicU64,
}

impl PeerInbox {
    /// The peer.
    pub fn peer(&self) -> NodeId {
        self.peer.node
    }

    /// Hands a message to the node and wakes it. Never blocks: when the inbox is full, the message
    /// is dropped and counted; after the node has stopped, it is dropped.
    ///
    /// # Errors
    ///
    /// The node does not talk to this peer any more, because it has learned more of its cluster.
    /// The message is dropped, and the connection is to be closed.
    pub fn deliver(&self, message: Message<Bytes>) -> Result<(), Refusal> {
        let generation = self.inbox.generation();
        if self.generation.load(Ordering::Relaxed) != generation {
            self.inbox.peers.judge(&self.peer)?;
            self.generation.store(generation, Ordering::Relaxed);
        }
        (self.inbox.deliver)(message);
        Ok(())
    }
}

impl Drop for PeerInbox {
    fn drop(&mut self) {
        self.inbox.peers.left(&self.peer);
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

    fn message_bytes_max(&self) -> usize {
        (**self).message_bytes_max()
    }

    fn members(&mut self, membership: &Membership) {
        (**self).members(membership);
    }

    fn stop(&mut self, running: Running) {
        (**self).stop(running);
    }
}
