//! What the tasks of a transport share.

use std::sync::OnceLock;

use raft_core::NodeId;
use raft_core::host::tcp::{self, Config, Counters, Guard};
use raft_core::host::{MessageInbox, Running};

use crate::wait::Notify;

pub(super) type Peers = tcp::Peers<Signals>;
pub(super) type Peer = tcp::Peer<Signals>;

/// What the tasks of a started transport share. Each task drops it last, after its sockets.
pub(super) struct Shared {
    pub(super) me: NodeId,
    pub(super) config: Config,
    pub(super) counters: Counters,
    pub(super) guard: Guard,
    pub(super) inbox: MessageInbox,
    pub(super) peers: Peers,
    /// Left here when the transport stops, so that it is dropped with the last task.
    pub(super) running: OnceLock<Running>,
}

/// Wakes the task of a dialer.
#[derive(Default, Debug)]
pub(super) struct Signals {
    pub(super) ready: Notify,
    pub(super) retry: Notify,
}

impl tcp::Signals for Signals {
    fn ready(&self) {
        self.ready.notify();
    }

    fn retry(&self) {
        self.retry.notify();
    }
}
