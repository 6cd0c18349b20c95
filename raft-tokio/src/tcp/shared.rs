//! What the tasks of a transport share.

use raft_core::NodeId;
use raft_core::host::MessageInbox;
use raft_core::host::tcp::{self, Config, Counters, Guard};
use tokio::sync::Notify;

pub(super) type Peers = tcp::Peers<Signals>;
pub(super) type Peer = tcp::Peer<Signals>;

/// What the tasks of a started transport share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) me: NodeId,
    pub(super) config: Config,
    pub(super) counters: Counters,
    pub(super) guard: Guard,
    pub(super) inbox: MessageInbox,
    pub(super) peers: Peers,
}

/// Wakes the task of a dialer.
#[derive(Default, Debug)]
pub(super) struct Signals {
    pub(super) ready: Notify,
    pub(super) retry: Notify,
}

impl tcp::Signals for Signals {
    fn ready(&self) {
        self.ready.notify_one();
    }

    fn retry(&self) {
        self.retry.notify_one();
    }
}
