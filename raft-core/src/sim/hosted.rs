//! The state machine that a node runs, in the simulator (feature `std`).

use alloc::vec::Vec;
use core::fmt::{self, Debug};
use core::ops::Deref;

use bytes::Bytes;

use super::state_machine::{Request, StateMachine, Workload};
use crate::host;
use crate::types::Index;

/// The most bytes of a snapshot that travel in one piece. Simulated limits allow no more.
const CHUNK_BYTES_MAX: usize = 16;

/// A state machine of [`host`], and what simulated clients ask of it.
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use raft_core::{Index, host};
/// use raft_core::sim::{Hosted, HostedWorkload, Request, Simulation, Swarm};
///
/// struct Total(u64);
///
/// impl host::StateMachine for Total {
///     // as on a node
/// #   type Reply = u64;
/// #   fn apply(&mut self, _: Index, command: Bytes) -> u64 {
/// #       self.0 += u64::from(command[0]);
/// #       self.0
/// #   }
/// #   fn snapshot(&self) -> Option<host::Capture> {
/// #       let total = self.0;
/// #       Some(Box::new(move |out| out.write_all(&total.to_le_bytes())))
/// #   }
/// #   fn restore(&mut self, snapshot: &mut dyn std::io::Read) -> std::io::Result<()> {
/// #       let mut total = [0; 8];
/// #       snapshot.read_exact(&mut total)?;
/// #       self.0 = u64::from_le_bytes(total);
/// #       Ok(())
/// #   }
/// }
///
/// struct Adders;
///
/// impl HostedWorkload for Adders {
///     type Machine = Total;
///     type Query = ();
///
///     fn machine() -> Total {
///         Total(0)
///     }
///
///     fn query(total: &Total, (): &()) -> u64 {
///         total.0
///     }
///
///     fn request(_client: u64, draw: u64) -> Request<Bytes, ()> {
///         match draw % 4 {
///             0 => Request::Query(()),
///             _ => Request::Command(vec![draw as u8].into()),
///         }
///     }
/// }
///
/// for seed in 0..3 {
///     Simulation::<Hosted<Adders>>::new(&Swarm::draw(seed).plan()).run()?;
/// }
/// # Ok::<(), Box<raft_core::sim::Failure>>(())
/// ```
pub trait HostedWorkload: 'static {
    /// What a node runs.
    type Machine: host::StateMachine<Reply: Clone + Debug>;
    /// What asks for a part of the state, and changes nothing.
    type Query: Clone + Debug;

    /// The state machine with which a cluster begins.
    fn machine() -> Self::Machine;

    /// Answers a linearizable read.
    fn query(
        machine: &Self::Machine,
        query: &Self::Query,
    ) -> <Self::Machine as host::StateMachine>::Reply;

    /// What a client asks for: see [`Workload::request`]. Simulated limits allow commands of 32
    /// bytes at most.
    fn request(client: u64, draw: u64) -> Request<Bytes, Self::Query>;
}

/// Runs the state machine of a [`HostedWorkload`] on simulated servers. Dereferences to the state
/// machine.
///
/// A command or a snapshot that the state machine does not understand is a panic, because no
/// simulated server runs another version.
pub struct Hosted<W: HostedWorkload> {
    machine: W::Machine,
}

impl<W: HostedWorkload> Debug for Hosted<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted").finish_non_exhaustive()
    }
}

impl<W: HostedWorkload> Default for Hosted<W> {
    fn default() -> Self {
        Self { machine: W::machine() }
    }
}

impl<W: HostedWorkload> Deref for Hosted<W> {
    type Target = W::Machine;

    fn deref(&self) -> &W::Machine {
        &self.machine
    }
}

impl<W: HostedWorkload> StateMachine for Hosted<W> {
    type Command = Bytes;
    type Query = W::Query;
    type Reply = <W::Machine as host::StateMachine>::Reply;

    fn apply(&mut self, index: Index, command: &Bytes) -> Self::Reply {
        if let Err(error) = host::StateMachine::understands(&self.machine, command) {
            panic!("the state machine does not understand the command at index {index}: {error}");
        }
        host::StateMachine::apply(&mut self.machine, index, command.clone())
    }

    fn query(&self, query: &W::Query) -> Self::Reply {
        W::query(&self.machine, query)
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(capture) = host::StateMachine::snapshot(&self.machine) {
            if let Err(error) = capture(&mut bytes) {
                panic!("the state machine does not write its snapshot: {error}");
            }
        }
        bytes
    }

    fn restore(&mut self, snapshot: &[u8]) {
        self.machine = W::machine();
        if snapshot.is_empty() {
            return;
        }
        if let Err(error) = host::StateMachine::restore(&mut self.machine, &mut &*snapshot) {
            panic!("the state machine does not restore its snapshot: {error}");
        }
    }

    fn chunk(snapshot: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&snapshot[..snapshot.len().min(CHUNK_BYTES_MAX)])
    }
}

impl<W: HostedWorkload> Workload for Hosted<W> {
    fn request(client: u64, draw: u64) -> Request<Bytes, W::Query> {
        W::request(client, draw)
    }
}
