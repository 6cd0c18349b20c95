//! Another node as a transport sees it: the messages that wait for it, and whether it is dialed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Config;
use super::closed::Closed;
use super::counters::Counters;
use super::queue::SendQueue;
use crate::host::identity::StoreId;
use crate::message::Message;
use crate::types::NodeId;

/// How an adapter wakes the task or thread that dials a peer. The methods are called from any
/// thread. They must not block, and a signal must not be lost.
pub trait Signals: Default + fmt::Debug + Send + Sync + 'static {
    /// Messages wait to be sent.
    fn ready(&self);

    /// The peer has shown up, or has another address: dial it now if it is out of reach.
    fn retry(&self);
}

/// A peer. Every node that this node dials has one.
#[derive(Debug)]
pub struct Peer<S> {
    id: NodeId,
    queue: Arc<SendQueue>,
    signals: S,
    /// How long a node that is no member is dialed after the last message for it.
    grace: Duration,
    standing: Mutex<Standing>,
}

#[derive(Debug)]
struct Standing {
    /// Whether the peer is dialed also if no messages wait for it.
    stays: bool,
    /// When the last message for the peer was taken, or when the peer ceased to be a member.
    used: Instant,
    /// The peer's store as the cluster knows it.
    known: Option<StoreId>,
    /// The peer's store as the peer said on the present connection.
    met: Option<StoreId>,
}

impl<S: Signals> Peer<S> {
    pub(super) fn new(id: NodeId, config: &Config, counters: &Counters) -> Self {
        let standing = Standing { stays: false, used: Instant::now(), known: None, met: None };
        Self {
            id,
            queue: Arc::new(SendQueue::new(config, counters.clone())),
            signals: S::default(),
            grace: config.idle_timeout,
            standing: Mutex::new(standing),
        }
    }

    /// The peer's node id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The messages that wait for the peer.
    pub fn queue(&self) -> &Arc<SendQueue> {
        &self.queue
    }

    /// The signals that wake the peer's dialer.
    pub fn signals(&self) -> &S {
        &self.signals
    }

    /// Whether to keep the connection to the peer. Ask whenever it is time for a
    /// [`keepalive`](super::keepalive).
    ///
    /// # Errors
    ///
    /// [`Closed::Left`] or [`Closed::OtherStore`].
    pub fn check(&self) -> Result<(), Closed> {
        let standing = self.lock();
        if !standing.stays && standing.used.elapsed() >= self.grace && self.queue.is_empty() {
            return Err(Closed::Left);
        }
        match (standing.known, standing.met) {
            (Some(known), Some(met)) if known != met => Err(Closed::OtherStore { node: self.id }),
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }

    pub(super) fn push(&self, message: Message<Bytes>) {
        self.lock().used = Instant::now();
        self.queue.push(message);
    }

    pub(super) fn flush(&self) {
        if self.queue.flush() {
            self.signals.ready();
        }
    }

    /// Takes what the configuration says of the peer: whether it stays, and its store if that is
    /// known.
    pub(super) fn update_membership(&self, stays: bool, known: Option<StoreId>) {
        let mut standing = self.lock();
        if standing.stays && !stays {
            standing.used = Instant::now();
        }
        (standing.stays, standing.known) = (stays, known);
    }

    /// Sets the store that the peer has said on the present connection; `None` when the connection
    /// has ended.
    pub(super) fn set_connected_store(&self, met: Option<StoreId>) {
        self.lock().met = met;
    }

    /// Whether the peer is no longer needed.
    pub(super) fn has_left(&self) -> bool {
        matches!(self.check(), Err(Closed::Left))
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().expect("nothing panics while it holds this lock")
    }
}
