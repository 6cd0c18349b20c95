//! State machines with commands and replies of their own types.

use std::any;
use std::boxed::Box;
use std::cell::Cell;
use std::fmt;
use std::format;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::vec::Vec;

use bytes::Bytes;

use super::format::{Format, FormatError, Postcard};
use crate::host::error::ProposeError;
use crate::host::node::{Handle, Pending};
use crate::host::state_machine::{Capture, NotUnderstood, StateMachine};
use crate::types::Index;

/// A state machine whose commands and snapshots are values, not bytes. A node runs it as
/// [`Typed`], which encodes and decodes them.
///
/// # Example
///
/// A service, complete. With [`Sessions`](super::Sessions) and a [`Client`](super::Client) each
/// command takes effect exactly once, too.
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use std::collections::BTreeMap;
///
/// use raft_core::Index;
/// use raft_core::host::TypedStateMachine;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Counters(BTreeMap<String, u64>);
///
/// #[derive(Serialize, Deserialize)]
/// enum Command {
///     Add { name: String, by: u64 },
/// }
///
/// impl TypedStateMachine for Counters {
///     type Command = Command;
///     type Reply = u64;
///     type Snapshot = Self;
///
///     fn apply(&mut self, _index: Index, Command::Add { name, by }: Command) -> u64 {
///         let counter = self.0.entry(name).or_default();
///         *counter += by;
///         *counter
///     }
///
///     fn snapshot(&self) -> Option<Self> {
///         Some(self.clone())
///     }
///
///     fn restore(&mut self, snapshot: Self) {
///         *self = snapshot;
///     }
/// }
/// # }
/// ```
pub trait TypedStateMachine: Send + 'static {
    /// What changes the state.
    type Command: Send + 'static;
    /// The reply to the proposer of a command.
    type Reply: Send + 'static;
    /// The state at one moment, as it is encoded in snapshots.
    type Snapshot: Send + 'static;

    /// Applies a committed command, as [`StateMachine::apply`] does: the result must follow from
    /// the commands alone.
    fn apply(&mut self, index: Index, command: Self::Command) -> Self::Reply;

    /// The state as all commands so far have made it; none if this state machine takes no
    /// snapshots, and so the log is never compacted. Called between two commands, so it should be
    /// quick. The value is encoded on another thread.
    fn snapshot(&self) -> Option<Self::Snapshot>;

    /// Replaces the state by the state of a snapshot.
    fn restore(&mut self, snapshot: Self::Snapshot);

    /// A digest of the state: see [`StateMachine::digest`].
    fn digest(&self) -> Option<u64> {
        None
    }

    /// As [`StateMachine::version_in_force`].
    fn version_in_force(&mut self, version: u32) {
        let _ = version;
    }

    /// As [`StateMachine::applies_in_batches`].
    fn applies_in_batches(&self) -> bool {
        false
    }

    /// As [`StateMachine::end_batch`].
    fn end_batch(&mut self, last: Index) {
        let _ = last;
    }

    /// As [`StateMachine::caught_up`].
    fn caught_up(&mut self) {}

    /// Whether applying a command, or serving a read, may block: see [`StateMachine::blocks`].
    fn blocks(&self) -> Option<bool> {
        None
    }
}

/// Runs a [`TypedStateMachine`] on a node, in the format `F`. Dereferences to the state machine, so
/// that a read sees it: `node.read(|counters| counters.total())`.
///
/// A command that does not decode, because a newer version of the program proposed it, stops the
/// node before that command: see [`StateMachine::understands`].
///
/// # Example
///
/// ```
/// # #[cfg(feature = "serde")] {
/// # use raft_core::Index;
/// use raft_core::host::{Handle, ProposeError, Typed, TypedStateMachine};
/// # struct Total(u64);
/// # impl TypedStateMachine for Total {
/// #     type Command = u64;
/// #     type Reply = u64;
/// #     type Snapshot = u64;
/// #     fn apply(&mut self, _: Index, by: u64) -> u64 { self.0 += by; self.0 }
/// #     fn snapshot(&self) -> Option<u64> { Some(self.0) }
/// #     fn restore(&mut self, total: u64) { self.0 = total; }
/// # }
///
/// // A node of any adapter dereferences to its handle. `Total` adds numbers.
/// async fn add(node: &Handle<Typed<Total>>) -> Result<u64, ProposeError> {
///     node.propose_command(&7).await
/// }
/// # }
/// ```
pub struct Typed<S: TypedStateMachine, F = Postcard> {
    machine: S,
    /// The command that `understands` has decoded, with its bytes, for the `apply` that follows.
    decoded: Cell<Option<(Bytes, S::Command)>>,
    format: PhantomData<fn() -> F>,
}

impl<S: TypedStateMachine> Typed<S> {
    /// In the format [`Postcard`].
    pub fn new(machine: S) -> Self {
        Self::with_format(machine)
    }
}

impl<S: TypedStateMachine, F> Typed<S, F> {
    /// In the format `F`.
    pub fn with_format(machine: S) -> Self {
        Self { machine, decoded: Cell::new(None), format: PhantomData }
    }
}

impl<S, F> StateMachine for Typed<S, F>
where
    S: TypedStateMachine,
    F: Format<S::Command> + Format<S::Snapshot>,
{
    type Reply = S::Reply;

    /// # Panics
    ///
    /// If the command does not decode: the other servers apply it, so it must not be skipped. A
    /// node asks `understands` before.
    fn apply(&mut self, index: Index, bytes: Bytes) -> S::Reply {
        let command = match self.decoded.take() {
            // The bytes are kept, so equal addresses mean the same command.
            Some((decoded, command)) if is_same_slice(&decoded, &bytes) => command,
            _ => decode::<S, F>(&bytes).unwrap_or_else(|error| panic!("{error}")),
        };
        self.machine.apply(index, command)
    }

    fn understands(&self, bytes: &Bytes) -> Result<(), NotUnderstood> {
        let command = decode::<S, F>(bytes)?;
        self.decoded.set(Some((bytes.clone(), command)));
        Ok(())
    }

    fn snapshot(&self) -> Option<Capture> {
        let snapshot = self.machine.snapshot()?;
        Some(Box::new(move |out| {
            let mut bytes = Vec::new();
            F::encode(&snapshot, &mut bytes).map_err(io::Error::other)?;
            out.write_all(&bytes)
        }))
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        let snapshot = <F as Format<S::Snapshot>>::decode(&bytes).map_err(|error| {
            let (bytes, name) = (bytes.len(), any::type_name::<S::Snapshot>());
            NotUnderstood::new(format!("{bytes} bytes are no snapshot of type {name}: {error}"))
        })?;
        self.machine.restore(snapshot);
        Ok(())
    }

    fn digest(&self) -> Option<u64> {
        self.machine.digest()
    }

    fn version_in_force(&mut self, version: u32) {
        self.machine.version_in_force(version);
    }

    fn applies_in_batches(&self) -> bool {
        self.machine.applies_in_batches()
    }

    fn end_batch(&mut self, last: Index) {
        self.machine.end_batch(last);
    }

    fn caught_up(&mut self) {
        self.machine.caught_up();
    }

    fn blocks(&self) -> Option<bool> {
        self.machine.blocks()
    }
}

impl<S, F> Handle<Typed<S, F>>
where
    S: TypedStateMachine,
    F: Format<S::Command> + Format<S::Snapshot>,
{
    /// Replicates a command, as [`Handle::propose`] does with the bytes of one.
    ///
    /// # Errors
    ///
    /// As [`Handle::propose`], and [`ProposeError::NotEncodable`].
    pub fn propose_command(&self, command: &S::Command) -> Pending<S::Reply, ProposeError> {
        match encode::<S, F>(command) {
            Ok(bytes) => self.propose(bytes),
            Err(error) => {
                self.refused(ProposeError::NotEncodable { message: error.message().clone() })
            }
        }
    }
}

/// The bytes of a command, as they stand in the log.
pub(super) fn encode<S, F>(command: &S::Command) -> Result<Bytes, FormatError>
where
    S: TypedStateMachine,
    F: Format<S::Command>,
{
    let mut bytes = Vec::new();
    F::encode(command, &mut bytes)?;
    Ok(bytes.into())
}

fn decode<S, F>(bytes: &Bytes) -> Result<S::Command, NotUnderstood>
where
    S: TypedStateMachine,
    F: Format<S::Command>,
{
    F::decode(bytes).map_err(|error| {
        let (bytes, name) = (bytes.len(), any::type_name::<S::Command>());
        NotUnderstood::new(format!("{bytes} bytes are no command of type {name}: {error}"))
    })
}

fn is_same_slice(one: &Bytes, other: &Bytes) -> bool {
    one.as_ptr() == other.as_ptr() && one.len() == other.len()
}

impl<S: TypedStateMachine + Default, F> Default for Typed<S, F> {
    fn default() -> Self {
        Self::with_format(S::default())
    }
}

impl<S: TypedStateMachine, F> Deref for Typed<S, F> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.machine
    }
}

impl<S: TypedStateMachine + fmt::Debug, F> fmt::Debug for Typed<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Typed").field(&self.machine).finish()
    }
}
