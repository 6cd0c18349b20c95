//! Another node, as a transport sees it: what waits for it, and whether it is to be dialed at all.

use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Config;
use super::closed::Closed;
use super::counters::Counters;
use super::queue::SendQueue;
use crate::host::identity::StoreId;
use crate::message::Message;
use crate::types::NodeId;

/// How an adapter wakes the task or thread that dials a peer. Called from anywhere; neither may
/// block, and neither may be lost.
pub trait Signals: Default + fmt::Debug + Send + Sync + 'static {
    /// Messages wait to be sent.
    fn ready(&self);

    /// The peer has shown up, or has another address: dial it now if it is out of reach.
    fn retry(&self);
}

/// A peer: everyone whom this node dials has one.
#[derive(Debug)]
pub struct Peer<S> {
    id: NodeId,
    queue: SendQueue,
    signals: S,
    /// How long one who is no member is dialed after the last message for it.
    grace: Duration,
    standing: Mutex<Standing>,
}

#[derive(Debug)]
struct Standing {
    /// Whether it is dialed whether or not there are messages for it.
    stays: bool,
    /// When a message for it was taken last, or when it ceased to be a member.
    used: Instant,
    /// Its store as the cluster knows it.
    known: Option<StoreId>,
    /// Its store as it said itself on the present connection.
    met: Option<StoreId>,
}

impl<S: Signals> Peer<S> {
    pub(super) fn new(id: NodeId, config: &Config, counters: &Counters) -> Self {
        let standing = Standing { stays: false, used: Instant::now(), known: None, met: None };
        Self {
            id,
            queue: SendQueue::new(config, counters.clone()),
            signals: S::default(),
            grace: config.idle_timeout,
            standing: Mutex::new(standing),
        }
    }

    /// Which node it is.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// What waits for it.
    pub fn queue(&self) -> &SendQueue {
        &self.queue
    }

    /// What wakes its dialer.
    pub fn signals(&self) -> &S {
        &self.signals
    }

    /// Whether the connection to it is to stay; to be asked whenever it is time for a
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

    /// Takes note of what the configuration says of it.
    pub(super) fn update_membership(&self, stays: bool, known: Option<StoreId>) {
        let mut standing = self.lock();
        if standing.stays && !stays {
            standing.used = Instant::now();
        }
        (standing.stays, standing.known) = (stays, known);
    }

    /// It has said which store it has; nothing, on an old connection that has ended.
    pub(super) fn set_connected_store(&self, met: Option<StoreId>) {
        self.lock().met = met;
    }

    /// Whether nobody needs it any more.
    pub(super) fn has_left(&self) -> bool {
        matches!(self.check(), Err(Closed::Left))
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().expect("nothing panics while it holds this lock")
    }
}
