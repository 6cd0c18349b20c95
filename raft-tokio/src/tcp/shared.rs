//! What the tasks of a transport share.

use std::pin::pin;

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

impl Signals {
    /// The attempt that begins now is what an earlier signal to retry asked for.
    pub(super) fn attempt_begins(&self) {
        // This takes the signal, if there is one, and does not wait.
        pin!(self.retry.notified()).enable();
    }
}

impl tcp::Signals for Signals {
    fn ready(&self) {
        self.ready.notify_one();
    }

    fn retry(&self) {
        self.retry.notify_one();
    }
}
