//! What the tasks of a transport share.

use std::ops::Deref;
use std::sync::OnceLock;

use crate::host::tasks::Notify;
use crate::host::tcp;
use crate::host::transport::Running;

pub(super) type Peer = tcp::Peer<Signals>;

/// What the tasks of a started transport share. Each task drops it last, after its sockets.
pub(super) struct Shared<R> {
    pub(super) tcp: tcp::Shared<Signals>,
    pub(super) runtime: R,
    /// Left here when the transport stops, so that it is dropped with the last task.
    pub(super) running: OnceLock<Running>,
}

impl<R> Deref for Shared<R> {
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
