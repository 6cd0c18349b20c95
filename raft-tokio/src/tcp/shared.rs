//! What the tasks of a transport share.

use raft_core::host::tcp;
use tokio::sync::Notify;

pub(super) type Peer = tcp::Peer<Signals>;
pub(super) type Shared = tcp::Shared<Signals>;

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
