//! What the threads of a transport share.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use raft_core::NodeId;
use raft_core::host::tcp::{self, Config, Counters, Guard};
use raft_core::host::{MessageInbox, Running};

use super::sockets::Sockets;
use crate::wait::Signal;

pub(super) type Peers = tcp::Peers<Signals>;
pub(super) type Peer = tcp::Peer<Signals>;

/// What the threads of a started transport share. Each thread holds it until its last socket is
/// closed.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) me: NodeId,
    pub(super) config: Config,
    pub(super) counters: Counters,
    pub(super) guard: Guard,
    pub(super) inbox: MessageInbox,
    pub(super) peers: Peers,
    pub(super) incoming: Arc<Sockets>,
    /// The sockets whose handshake has not ended. After that a dialer ends its connection itself,
    /// because it may have messages left to send.
    pub(super) outgoing: Arc<Sockets>,
    /// Dropped with the last thread.
    pub(super) running: Mutex<Option<Running>>,
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
