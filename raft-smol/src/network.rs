//! A network inside one process, with faults, for tests of your own cluster.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use raft_core::NodeId;
use raft_core::host::tasks::{self, Notify};
use raft_core::host::{Endpoint, InProcessNetwork};

use crate::alarm::Alarm;
use crate::executor::Executor;

/// Connects nodes of one process. A clone is the same network. Its faults, cuts and counts are
/// those of [`InProcessNetwork`].
///
/// Nodes on other executors and of other adapters may be in it, too; what is late is delivered by a
/// task on `E`.
///
/// # Example
///
/// ```
/// # #[cfg(feature = "smol")]
/// # {
/// use std::time::Duration;
/// use raft_smol::{Faults, NodeId, channel};
///
/// let network = channel::Network::new(42);
/// let transport = network.endpoint(NodeId::new(1));
/// let delay_max = Duration::from_millis(2);
/// network.set_faults(Faults { drop: 0.01, delay_max, ..Faults::default() });
/// network.isolate(NodeId::new(1));
/// network.heal();
/// assert_eq!(network.traffic().sent, 0);
/// # }
/// ```
pub struct Network<E> {
    hub: InProcessNetwork,
    executor: PhantomData<fn() -> E>,
}

impl<E: Executor> Network<E> {
    /// A perfect network without nodes. `seed` decides which messages its faults affect.
    pub fn new(seed: u64) -> Self {
        let (woken, wake) = Notify::with_hook();
        let (hub, late) = InProcessNetwork::new(seed, wake);
        E::spawn(tasks::run(late, woken, Alarm::new()));
        Self { hub, executor: PhantomData }
    }
}

impl<E> Network<E> {
    /// The transport of this node. If a node starts again, its new transport takes the place of the
    /// old one.
    pub fn endpoint(&self, node: NodeId) -> Endpoint {
        self.hub.endpoint(node)
    }
}

impl<E> Deref for Network<E> {
    type Target = InProcessNetwork;

    fn deref(&self) -> &InProcessNetwork {
        &self.hub
    }
}

impl<E> Clone for Network<E> {
    fn clone(&self) -> Self {
        Self { hub: self.hub.clone(), executor: PhantomData }
    }
}

impl<E> fmt::Debug for Network<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("hub", &self.hub).finish()
    }
}
