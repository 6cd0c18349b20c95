//! The application's state machine, which is what Raft replicates (§2, Figure 1).

use std::boxed::Box;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::Index;

/// The state at one moment, yet to be written out. See [`StateMachine::snapshot`].
pub type Capture = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send>;

/// A deterministic machine that every node feeds with the same commands in the same order.
///
/// A slow `apply` delays replies and reads, and hardly a heartbeat:
/// [`blocks`](StateMachine::blocks) says by how much, and on which thread the calls come.
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use raft_core::Index;
/// use raft_core::host::StateMachine;
///
/// /// Counts the bytes that the cluster has agreed upon.
/// struct Total(u64);
///
/// impl StateMachine for Total {
///     type Reply = u64;
///
///     fn apply(&mut self, _index: Index, command: Bytes) -> u64 {
///         self.0 += command.len() as u64;
///         self.0
///     }
/// }
/// ```
pub trait StateMachine: Send + 'static {
    /// The reply to the proposer of a command.
    type Reply: Send + 'static;

    /// Applies a committed command and returns the reply to its proposer.
    ///
    /// The node calls it once for each command in the life of the process, by rising index. Indexes
    /// are missing where Raft keeps entries of its own. After a restart the node begins with the
    /// entries that follow the last snapshot, or with the first command if there is no snapshot, so
    /// the state need not be stored.
    ///
    /// The result must follow from the commands alone: no clock, no randomness, no reading of the
    /// environment. Otherwise the states of the servers diverge.
    ///
    /// A panic stops the node, because a state machine that has applied half a command cannot be
    /// trusted. After a restart the same command comes again, and panics again: the
    /// [guide](crate::guide::operation#a-command-that-panics) has the way out.
    fn apply(&mut self, index: Index, command: Bytes) -> Self::Reply;

    /// Whether this version of the program knows what the command means. Asked before each
    /// [`apply`](StateMachine::apply) of the same command; by default every command is understood.
    ///
    /// While a cluster is upgraded, server by server, a newer leader may commit a command that an
    /// older server does not know. The older server must not skip it, because the states would
    /// differ for good, and need not panic. If it returns [`NotUnderstood`] here, its node stops
    /// *before* that command with [`StopReason::CommandNotUnderstood`], which names the index and
    /// the text. It goes on there when a newer version is started on the same data. A leader hands
    /// over first. See the [guide](crate::guide::upgrade).
    ///
    /// The answer must follow from the command and the version of the program alone, not from the
    /// state.
    ///
    /// # Errors
    ///
    /// The command means nothing to this version: the node stops. A command that is understood and
    /// wrong is no error here, for every server applies it alike: `apply` answers its proposer.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use raft_core::Index;
    /// use raft_core::host::{NotUnderstood, StateMachine};
    ///
    /// struct Total(u64);
    ///
    /// impl StateMachine for Total {
    ///     // type Reply and fn apply as above; the first byte of a command is its kind
    /// #   type Reply = u64;
    /// #   fn apply(&mut self, _: Index, command: Bytes) -> u64 {
    /// #       self.0 += command.len() as u64;
    /// #       self.0
    /// #   }
    ///
    ///     fn understands(&self, command: &Bytes) -> Result<(), NotUnderstood> {
    ///         match command.first() {
    ///             Some(0 | 1) => Ok(()),
    ///             kind => {
    ///                 let what = format!("a command of kind {kind:?}; version 1.2 knows 0 and 1");
    ///                 Err(NotUnderstood::new(what))
    ///             }
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// [`StopReason::CommandNotUnderstood`]: super::StopReason::CommandNotUnderstood
    fn understands(&self, command: &Bytes) -> Result<(), NotUnderstood> {
        let _ = command;
        Ok(())
    }

    /// The state as all commands so far have made it, in a form that
    /// [`restore`](StateMachine::restore) reads; none if this state machine takes no snapshots, and
    /// so the log is never compacted.
    ///
    /// Called between two commands, so it should be quick: capture the state (a clone of what is
    /// cheap to clone, a persistent map, a fork of what changes) and write it out in what is
    /// returned. That runs on another thread while commands are applied, and may take as long as it
    /// likes. What it cannot write (an error, a panic) is taken again later.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use raft_core::Index;
    /// use std::io::{self, Read, Write};
    ///
    /// use raft_core::host::{Capture, StateMachine};
    ///
    /// struct Total(u64);
    ///
    /// impl StateMachine for Total {
    ///     # type Reply = u64;
    ///     # fn apply(&mut self, _: Index, command: Bytes) -> u64 {
    ///     #     self.0 += command.len() as u64;
    ///     #     self.0
    ///     # }
    ///     // type Reply and fn apply as above
    ///     fn snapshot(&self) -> Option<Capture> {
    ///         let total = self.0;
    ///         Some(Box::new(move |out| out.write_all(&total.to_le_bytes())))
    ///     }
    ///
    ///     fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
    ///         let mut total = [0; 8];
    ///         snapshot.read_exact(&mut total)?;
    ///         self.0 = u64::from_le_bytes(total);
    ///         Ok(())
    ///     }
    /// }
    /// ```
    fn snapshot(&self) -> Option<Capture> {
        None
    }

    /// Replaces the state by the state of a snapshot, which this or another node took.
    ///
    /// The node calls it when it starts, and when it is so far behind that its leader sends it a
    /// snapshot instead of the log.
    ///
    /// # Errors
    ///
    /// The snapshot cannot be read or understood: the node does not start, or stops, and does not
    /// use what was restored by then. For a snapshot of a newer version of the program, return
    /// [`NotUnderstood`], which `?` makes an [`io::Error`]. What is on disk is whole then, and a
    /// newer version goes on with it.
    fn restore(&mut self, snapshot: &mut dyn io::Read) -> io::Result<()> {
        let _ = snapshot;
        Err(io::Error::new(io::ErrorKind::Unsupported, "this state machine restores no snapshots"))
    }

    /// A digest of the state, by which servers notice that their states differ. `None`, the
    /// default, if states are not compared.
    ///
    /// The node calls it after every entry whose index is a multiple of
    /// [`DIGEST_INTERVAL`](super::DIGEST_INTERVAL) and after the last entry of each batch, between
    /// two commands. So it must be quick: keep the digest up to date with each command (a sum of
    /// hashes of what is stored, say), and return it here. A panic stops the node, as a panic of
    /// `apply` does.
    ///
    /// The digest must follow from the commands alone, as the state does. It must be equal whether
    /// the state was made by commands or [restored](StateMachine::restore), and equal between
    /// versions of the program that run in one cluster. So use no hash that changes with the
    /// platform or the standard library. If a version computes the digest in another way, its state
    /// is reported as different.
    ///
    /// A difference is logged on both servers and shown in
    /// [`NodeStatus::state_differences`](super::NodeStatus::state_differences). It stops no server,
    /// because no server knows which state is right. See the
    /// [guide](crate::guide::operation#states-that-differ).
    fn digest(&self) -> Option<u64> {
        None
    }

    /// The last command that the state includes when the node starts, for a state machine that
    /// keeps its state on a disk of its own. The node gives it neither that command again nor any
    /// before it, and no snapshot of them. By default nothing is included: the state begins empty.
    ///
    /// Such a state machine must write each command's effect together with its index, in one step
    /// that a crash leaves whole or undone, and must be durable up to the index that it names here.
    /// It may be behind what it had applied before a crash; the rest comes again.
    ///
    /// The node asks once, before it restores or applies anything.
    fn applied_index(&self) -> Index {
        Index::ZERO
    }

    /// A [version of the application](crate::guide::upgrade) is in force from here on. All servers
    /// are told between the same two commands, so a command may mean something else afterwards.
    /// Also called after each start and each [restore](StateMachine::restore), with the version
    /// that is in force there, unless it is 0.
    ///
    /// What the state machine writes into snapshots must be understood by this version.
    fn version_in_force(&mut self, version: u32) {
        let _ = version;
    }

    /// Whether several commands may become durable together, for a state machine with a
    /// transactional store of its own. The node asks once. By default each command stands alone.
    ///
    /// With `true` the node calls [`end_batch`](StateMachine::end_batch) after the commands that
    /// are ready together, and answers their proposers after that, so that no reply leaves before
    /// its effect is durable. Reads and snapshots come between two batches. A batch has at least
    /// one command, and no more than the node applies at a time
    /// ([`Config::apply_bytes_max`](crate::Config::apply_bytes_max)).
    fn applies_in_batches(&self) -> bool {
        false
    }

    /// Ends a batch whose last command has this index: commits the transaction that the first
    /// [`apply`](StateMachine::apply) of the batch began. Called only if the state machine
    /// [applies in batches](StateMachine::applies_in_batches).
    ///
    /// A node that stops may drop the state machine within a batch. The commands of that batch come
    /// again, as [`applied_index`](StateMachine::applied_index) says at the next start. A panic,
    /// for instance because the store fails, stops the node, and nobody is told that a command of
    /// the batch was applied.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use raft_core::Index;
    /// use raft_core::host::StateMachine;
    ///
    /// # #[derive(Default)] struct Transaction;
    /// # impl Transaction { fn put(&mut self, _: Bytes) {} fn commit(self, _: Index) {} }
    /// # struct Store;
    /// # impl Store { fn begin(&self) -> Transaction { Transaction } }
    /// struct Stored {
    ///     store: Store, // of your choice
    ///     batch: Option<Transaction>,
    ///     durable: Index, // as the store says when it is opened
    /// }
    ///
    /// impl StateMachine for Stored {
    ///     type Reply = ();
    ///
    ///     fn apply(&mut self, _index: Index, command: Bytes) {
    ///         self.batch.get_or_insert_with(|| self.store.begin()).put(command);
    ///     }
    ///
    ///     fn applies_in_batches(&self) -> bool {
    ///         true
    ///     }
    ///
    ///     fn end_batch(&mut self, last: Index) {
    ///         if let Some(batch) = self.batch.take() {
    ///             batch.commit(last); // with the index, in one step
    ///             self.durable = last;
    ///         }
    ///     }
    ///
    ///     fn applied_index(&self) -> Index {
    ///         self.durable
    ///     }
    /// }
    /// ```
    fn end_batch(&mut self, last: Index) {
        let _ = last;
    }

    /// Called once, before the first command that this server's log did not hold when the node
    /// started. The commands before it may have been applied in an earlier life of the process,
    /// too, so a state machine that notifies somebody of what it applies begins here.
    ///
    /// A crash may come between a command and its notification, and a new command may stand where a
    /// lost one stood in the log. So notifications are a convenience and not a record: what must
    /// not be missed is read from the state.
    fn caught_up(&mut self) {}

    /// Whether applying a command, or serving a read, may block or take long. The node asks once.
    ///
    /// With `None`, the default, the node measures it. While a turn's commands take less than a
    /// fiftieth of [`Config::heartbeat_interval`](crate::Config::heartbeat_interval) on average,
    /// the node's loop applies them itself, which saves two changes of thread. Otherwise a thread
    /// of the state machine's own applies them. If the loop has been applying for half of the
    /// heartbeat interval, that thread takes the loop's part meanwhile: it hears, answers and
    /// sends. So a slow command delays a heartbeat by half of the interval at most. On an executor
    /// with a single thread the state machine's thread always does the work.
    ///
    /// With `Some(true)`, the state machine always has its thread. Choose this if it calls the
    /// runtime of the node, because runtimes refuse calls such as tokio's `block_on` or
    /// `blocking_send` from their own tasks, of which the loop is one.
    ///
    /// With `Some(false)`, the loop always does the work, and the state machine has no thread.
    /// Choose this only if it never blocks, because nothing watches the loop then: a command that
    /// takes longer than an election timeout costs leadership. A [restore](StateMachine::restore)
    /// happens in the loop, too.
    fn blocks(&self) -> Option<bool> {
        None
    }
}

/// Nothing to agree upon but who leads: for [elections](super::Lead) without commands. A command is
/// taken and does nothing.
impl StateMachine for () {
    type Reply = ();

    fn apply(&mut self, _index: Index, _command: Bytes) {}

    fn snapshot(&self) -> Option<Capture> {
        Some(Box::new(|_| Ok(())))
    }

    fn restore(&mut self, _snapshot: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }

    fn blocks(&self) -> Option<bool> {
        Some(false)
    }
}

/// A command, or a snapshot, that this version of a state machine does not understand. See
/// [`StateMachine::understands`] and
/// [`StateMachine::restore`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotUnderstood {
    message: Arc<str>,
}

impl NotUnderstood {
    /// An error with a text for operators: what the program does not know, and which version of the
    /// program this is.
    pub fn new(message: impl Into<Arc<str>>) -> Self {
        Self { message: message.into() }
    }

    /// The text.
    pub fn message(&self) -> &Arc<str> {
        &self.message
    }

    /// The error that [`StateMachine::restore`] returned, if it is
    /// this one.
    pub(super) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for NotUnderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for NotUnderstood {}

/// Lets `restore` return it with `?`.
impl From<NotUnderstood> for io::Error {
    fn from(error: NotUnderstood) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}
