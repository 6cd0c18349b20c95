//! A network inside one process, with faults, for tests of your own cluster.

use std::ops::Deref;

use raft_core::NodeId;
use raft_core::host::tasks::{self, Notify};
use raft_core::host::{Endpoint, InProcessNetwork};

use crate::timer::Timer;

/// Connects nodes of one process. A clone is the same network. Its faults, cuts and counts are
/// those of [`InProcessNetwork`].
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use raft_tokio::{Faults, NodeId, channel};
///
/// # #[tokio::main]
/// # async fn main() {
/// let network = channel::Network::new(42);
/// let transport = network.endpoint(NodeId::new(1));
/// let delay_max = Duration::from_millis(2);
/// network.set_faults(Faults { drop: 0.01, delay_max, ..Faults::default() });
/// network.isolate(NodeId::new(1));
/// network.heal();
/// assert_eq!(network.traffic().sent, 0);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Network {
    hub: InProcessNetwork,
}

impl Network {
    /// A perfect network without nodes. `seed` decides which messages its faults affect.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O and time enabled. The runtime delivers delayed messages.
    pub fn new(seed: u64) -> Self {
        let (woken, wake) = Notify::with_hook();
        let (hub, late) = InProcessNetwork::new(seed, wake);
        // Without a timer there is no delay, and delayed messages are lost.
        if let Ok(timer) = Timer::new() {
            tokio::spawn(tasks::run(late, woken, timer));
        }
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
