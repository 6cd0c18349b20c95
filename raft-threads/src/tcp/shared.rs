//! What the threads of a transport share.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use raft_core::host::{Running, tcp};

use super::link::Link;
use super::sockets::Sockets;
use crate::wait::Signal;

pub(super) type Peer = tcp::Peer<Signals>;

/// What the threads of a started transport share. Each thread holds it until its last socket is
/// closed.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) tcp: tcp::Shared<Signals>,
    pub(super) incoming: Arc<Sockets>,
    /// The sockets whose handshake has not ended. After that a dialer ends its connection itself,
    /// because it may have messages left to send.
    pub(super) outgoing: Arc<Sockets>,
    /// The outgoing connections on which messages are sent.
    pub(super) links: Mutex<Vec<Arc<Link>>>,
    /// Dropped with the last thread.
    pub(super) running: Mutex<Option<Running>>,
}

impl Shared {
    /// The loop writes on this connection, too, until it [leaves](Self::leave).
    pub(super) fn enter(&self, link: &Arc<Link>) {
        link.peer().signals().set_connected(true);
        self.lock_links().push(Arc::clone(link));
    }

    pub(super) fn leave(&self, link: &Arc<Link>) {
        link.peer().signals().set_connected(false);
        self.lock_links().retain(|one| !Arc::ptr_eq(one, link));
    }

    /// Sends the messages that were queued, or wakes the threads that do.
    pub(super) fn flush(&self) {
        self.lock_links().iter().for_each(|link| link.flush());
        self.peers.flush();
    }

    fn lock_links(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.links.lock().expect("nothing panics while it holds this lock")
    }
}

impl Deref for Shared {
    type Target = tcp::Shared<Signals>;

    fn deref(&self) -> &tcp::Shared<Signals> {
        &self.tcp
    }
}

/// Wakes the thread of a dialer.
#[derive(Default, Debug)]
pub(super) struct Signals {
    /// Whether the dialer was told to dial again since it last looked.
    pub(super) retry: AtomicBool,
    /// Whether the dialer has a connection on which to send messages.
    connected: AtomicBool,
    pub(super) signal: Signal,
}

impl Signals {
    pub(super) fn wake(&self) {
        self.signal.wake();
    }

    /// To be called before the first messages are taken on a new connection, and at its end.
    pub(super) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, SeqCst);
    }
}

impl tcp::Signals for Signals {
    fn ready(&self) {
        // A dialer without a connection takes the messages when it has one.
        if self.connected.load(SeqCst) {
            self.wake();
        }
    }

    fn retry(&self) {
        self.retry.store(true, Relaxed);
        self.signal.wake();
    }
}

pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(run).map(drop)
}
