//! What the tasks of a transport share.

use std::ops::Deref;
use std::sync::OnceLock;

use raft_core::host::{Running, tcp};

use crate::wait::Notify;

pub(super) type Peer = tcp::Peer<Signals>;

/// What the tasks of a started transport share. Each task drops it last, after its sockets.
pub(super) struct Shared {
    pub(super) tcp: tcp::Shared<Signals>,
    /// Left here when the transport stops, so that it is dropped with the last task.
    pub(super) running: OnceLock<Running>,
}

impl Deref for Shared {
    type Target = tcp::Shared<Signals>;

    fn deref(&self) -> &tcp::Shared<Signals> {
        &self.tcp
    }
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
