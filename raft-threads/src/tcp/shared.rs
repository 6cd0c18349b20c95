//! What the threads of a transport share.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use raft_core::host::{Running, tcp};

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
    pub(super) running: Mutex<Option<Running>>,
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
    pub(super) signal: Signal,
}

impl tcp::Signals for Signals {
    fn ready(&self) {
        self.signal.wake();
    }

    fn retry(&self) {
        self.retry.store(true, Relaxed);
        self.signal.wake();
    }
}

pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(run).map(drop)
}
