//! What carries messages to the other nodes, and where it delivers messages that arrive.

use std::boxed::Box;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::string::String;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::identity::{Identity, Introduction};
use super::known_peers::KnownPeers;
use crate::host::wire::handshake::Refusal;
use crate::membership::Membership;
use crate::message::Message;
use crate::types::{LogId, NodeId};

/// Carries messages between nodes. A transport may lose, repeat and reorder messages; Raft copes.
///
/// A transport must not deliver messages from a peer that the host has not [let
/// in](MessageInbox::admit). So it carries each node's [`Introduction`] to its peer before the
/// first message.
///
/// A transport that can tell the end of a peer's process from a broken network also [says
/// so](MessageInbox::suspect).
///
/// A transport that wraps another one passes every call on, including the methods that have a body
/// here.
pub trait Transport: Send + 'static {
    /// Begins to receive for this node. The host calls it once, before anything is sent.
    ///
    /// The transport hands what arrives to `inbox`, from any thread.
    ///
    /// # Errors
    ///
    /// The transport cannot receive, for example because its address is taken. The node does not
    /// start then.
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()>;

    /// Takes a message to [`Message::to`]. Never blocks: if a queue is full or a peer is out of
    /// reach, the transport drops the message and counts it.
    fn send(&mut self, message: Message<Bytes>);

    /// Called once after the sends of a turn, so that the transport may gather messages and wake
    /// its writers once for all of them.
    fn flush(&mut self) {}

    /// The length of the longest message that the transport carries, in bytes ([`Message::size`]),
    /// whatever else the message holds. The transport may drop a longer message each time it is
    /// sent, so that nothing behind that message ever commits. Therefore a node whose
    /// [`Config`](crate::Config) allows longer messages does not start, and a node refuses a peer
    /// whose configuration allows longer messages ([`Refusal::LongMessages`]).
    fn message_bytes_max(&self) -> usize {
        usize::MAX
    }

    /// Where the other nodes reach this node, as far as the transport knows it. Of the transport's
    /// own node, only an address that the application has named: what the node finds by itself may
    /// hold on its own host alone. The answer goes to clients that look for the leader, and a
    /// leader notes its own address in the configuration.
    fn address(&self, node: NodeId) -> Option<String> {
        let _ = node;
        None
    }

    /// Tells the transport who the members are now (§6), as far as this node knows; none, if the
    /// node has yet to learn of a configuration. The host calls it once the transport has started
    /// and whenever the members change. A transport that opens connections opens those to new
    /// members. It closes those to removed members once the messages that wait for them are sent.
    /// It also takes note of the members' [labels](super::Label).
    ///
    /// Messages may also come from other servers and go to them: a server whose configuration is
    /// behind hears servers that it does not know, and answers.
    fn members(&mut self, membership: &Membership) {
        let _ = membership;
    }

    /// Begins to stop. The host calls it once at most, and drops the transport right after. Never
    /// blocks.
    ///
    /// Keep `running` until the last socket is closed, because the shutdown of a node is over only
    /// when `running` has been dropped. The address is free again by then. A transport that is
    /// dropped without this call must stop as well.
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
    /// The token, and the other end, which notices when the token has been dropped.
    pub fn new() -> (Self, RunningEnd) {
        let (sender, dropped) = oneshot::channel();
        (Self { _sender: sender }, RunningEnd { dropped })
    }
}

/// Notices the drop of a [`Running`].
#[derive(Debug)]
pub struct RunningEnd {
    /// It returns an error once the token is dropped, because nothing is ever sent.
    dropped: oneshot::Receiver<()>,
}

impl RunningEnd {
    /// Blocks this thread until the token is dropped, or for `timeout` at most. Returns whether the
    /// token is dropped.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        match self.dropped.recv_timeout(timeout) {
            Ok(()) | Err(oneshot::RecvTimeoutError::Disconnected) => true,
            Err(oneshot::RecvTimeoutError::Timeout) => false,
        }
    }
}

impl IntoFuture for RunningEnd {
    type Output = ();
    type IntoFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let _ = self.dropped.await;
        })
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
    /// An inbox that hands each message to `deliver`, which must not block. It lets every peer in
    /// and ignores suspicions. For tests of transports.
    pub fn new(deliver: impl Fn(Message<Bytes>) + Send + Sync + 'static) -> Self {
        Self {
            deliver: Arc::new(deliver),
            suspect: Arc::new(|_| ()),
            news: Arc::new(|| ()),
            peers: Arc::new(KnownPeers::new(None)),
            note: Bytes::new(),
        }
    }

    /// The same inbox, which hands each suspicion to `suspect`. `suspect` must not block either.
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

    /// The same inbox, which judges peers by `peers`, calls `news` when what is known of them has
    /// changed, and introduces its node with `note`.
    pub(super) fn with_peers(
        self,
        peers: Arc<KnownPeers>,
        news: impl Fn() + Send + Sync + 'static,
        note: Bytes,
    ) -> Self {
        Self { peers, news: Arc::new(news), note, ..self }
    }

    /// What the node `me` says to the peer `to` now; `address` is where `me` is reached.
    pub fn introduce(&self, me: &Identity, to: NodeId, address: Option<&str>) -> Introduction {
        let (past, knows_you, named_at) = self.peers.introduce(to);
        let address = address.map(Into::into);
        let node = me.node;
        let store = me.store_id;
        let note = self.note.clone();
        let sends_bytes_max = self.peers.sends_bytes_max();
        let versions = self.peers.versions();
        let timeouts = self.peers.timeouts();
        Introduction {
            node,
            store,
            past,
            knows_you,
            address,
            note,
            sends_bytes_max,
            versions,
            named_at,
            timeouts,
        }
    }

    /// Lets in a peer that introduced itself on a connection that it opened. Its messages go to the
    /// returned [`PeerInbox`].
    ///
    /// # Errors
    ///
    /// Why this node does not talk to that peer. The transport tells the peer so, and delivers
    /// nothing that the peer sends.
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
    /// Why this node does not talk to that peer. The transport closes the connection.
    pub fn meet(&self, peer: &Introduction, address: &str) -> Result<(), Refusal> {
        let verdict = self.peers.admit(peer, Some(address));
        (self.news)();
        verdict
    }

    /// Whether this node lacks the committed entry by which a peer is a member with its store
    /// ([`Introduction::named_at`]). Then this node does not know whose store is whose, and it does
    /// not refuse the peer for its store.
    pub fn is_behind(&self, named_at: Option<LogId>) -> bool {
        self.peers.is_behind(named_at)
    }

    /// To be called when a peer that this node has dialed refuses it.
    pub fn refused_by(&self, peer: NodeId, refusal: Refusal) {
        self.peers.refused_by(peer, refusal);
        (self.news)();
    }

    /// A number that grows whenever what this node says of itself, or which peers it lets in, may
    /// have changed.
    pub(super) fn generation(&self) -> u64 {
        self.peers.generation()
    }

    /// To be called when the transport has reason to believe that the process of `node` is gone,
    /// for example because a connection was reset and the listener refuses. Call it once, when that
    /// happens, and never because a network is slow, silent or unstable.
    ///
    /// If `node` leads, this node asks the others [without waiting for its election
    /// timeout](crate::Raft::suspect_leader). A wrong suspicion costs only a few messages, because
    /// the servers that still hear their leader refuse. Never blocks.
    pub fn suspect(&self, node: NodeId) {
        (self.suspect)(node);
    }
}

/// Where the messages of one peer go, for as long as the node talks to it.
#[derive(Debug)]
pub struct PeerInbox {
    inbox: MessageInbox,
    peer: Introduction,
    /// The generation of the node's knowledge at which the peer was last judged.
    generation: AtomicU64,
}

impl PeerInbox {
    /// The peer.
    pub fn peer(&self) -> NodeId {
        self.peer.node
    }

    /// Hands a message to the node and wakes it. Never blocks: if the inbox is full, the message is
    /// dropped and counted. After the node has stopped, the message is dropped.
    ///
    /// # Errors
    ///
    /// The node does not talk to this peer any more, because it has learned more of its cluster.
    /// The message is dropped, and the transport closes the connection.
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

    fn address(&self, node: NodeId) -> Option<String> {
        (**self).address(node)
    }

    fn members(&mut self, membership: &Membership) {
        (**self).members(membership);
    }

    fn stop(&mut self, running: Running) {
        (**self).stop(running);
    }
}
