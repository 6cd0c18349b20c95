//! What the threads of a transport share.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
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
    /// Dropped with the last thread.
    pub(super) running: OnceLock<Running>,
}

impl Deref for Shared {
    type Target = tcp::Shared<Signals>;

    fn deref(&self) -> &tcp::Shared<Signals> {
        &self.tcp
    }
}

/// Sends what waits for a peer, or wakes the thread of its dialer.
#[derive(Default, Debug)]
pub(super) struct Signals {
    /// Whether the dialer was told to dial again since it last looked.
    pub(super) retry: AtomicBool,
    /// The connection on which to send messages, if there is one.
    link: Mutex<Option<Arc<Link>>>,
    pub(super) signal: Signal,
}

impl Signals {
    /// Lets the loop write on this connection, too, or on none. To be called before the first
    /// messages are taken on a new connection, and at its end.
    pub(super) fn set_link(&self, link: Option<Arc<Link>>) {
        *self.lock() = link;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        self.link.lock().expect("nothing panics while it holds this lock")
    }
}

impl tcp::Signals for Signals {
    fn ready(&self) {
        // A dialer without a connection takes the messages when it has one.
        if self.lock().as_ref().is_some_and(|link| !link.send_at_once()) {
            self.signal.wake();
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
