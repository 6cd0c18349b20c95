//! A network inside one process, with faults, for tests of your own cluster.

use std::ops::Deref;
use std::sync::Arc;
use std::thread;

use raft_core::NodeId;
use raft_core::host::{Endpoint, InProcessNetwork};

use crate::wait::{self, Signal};

/// Connects nodes of one process. A clone is the same network. Its faults, cuts and counts are
/// those of [`InProcessNetwork`].
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use raft_threads::{Faults, NodeId, channel};
///
/// let network = channel::Network::new(42);
/// let transport = network.endpoint(NodeId::new(1));
/// let delay_max = Duration::from_millis(2);
/// network.set_faults(Faults { drop: 0.01, delay_max, ..Faults::default() });
/// network.isolate(NodeId::new(1));
/// network.heal();
/// assert_eq!(network.traffic().sent, 0);
/// ```
#[derive(Clone, Debug)]
pub struct Network {
    hub: InProcessNetwork,
}

impl Network {
    /// A perfect network without nodes. `seed` decides which messages its faults affect. The
    /// network has one thread, which delivers delayed messages and ends with the last clone and
    /// endpoint.
    ///
    /// # Panics
    ///
    /// If the operating system gives no thread.
    pub fn new(seed: u64) -> Self {
        let signal = Arc::new(Signal::default());
        let waker = Arc::clone(&signal);
        let (hub, late) = InProcessNetwork::new(seed, move || waker.wake());
        thread::Builder::new()
            .name("raft-network".into())
            .spawn(move || wait::run(&signal, || late.turn()))
            .expect("the operating system gives a thread");
        Self { hub }
    }

    /// The transport of this node. If a node starts again, its new transport takes the place of the
    /// old one.
    pub fn endpoint(&self, node: NodeId) -> Endpoint {
        self.hub.endpoint(node)
    }
}

impl Deref for Network {
    type Target = InProcessNetwork;

    fn deref(&self) -> &InProcessNetwork {
        &self.hub
    }
}
