//! A state machine that shows what it was given, and can be made slow, stuck or sick.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use raft_core::Index;
use raft_core::host::{Capture, StateMachine};

/// The command at which a [`Log`] panics that was [told to](Probe::poison).
pub const POISON: &str = "poison";

/// Keeps all commands; the reply is how many they are.
#[derive(Debug)]
pub struct Log {
    probe: Arc<Probe>,
    blocks: bool,
    digest: Option<Digest>,
}

/// Makes a digest of a sequence of commands, of the digest of all before the last and the last.
pub type Digest = fn(u32, &[u8]) -> u32;

/// What a snapshot of a [`Log`] says: how many commands there were, and their digest.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// How many.
    pub commands: u32,
    /// Of all of them.
    pub digest: u32,
}

/// What a test sees of the [`Log`] of one node in one life, and how it steers it.
#[derive(Debug, Default)]
pub struct Probe {
    applied: Mutex<Vec<(Index, Bytes)>>,
    /// What the snapshot says from which this life goes on.
    restored: Mutex<Tally>,
    /// How long each command takes, in milliseconds.
    slowness: AtomicU64,
    poisoned: AtomicBool,
    shut: Mutex<bool>,
    /// A command waits at the gate.
    stuck: AtomicBool,
    opened: Condvar,
}

impl Log {
    /// An empty log, and its probe. If it `blocks`, the node measures where to call it, and
    /// otherwise its loop always does.
    pub fn new(blocks: bool) -> (Self, Arc<Probe>) {
        let probe = Arc::new(Probe::default());
        (Self { probe: Arc::clone(&probe), blocks, digest: None }, probe)
    }

    /// One that takes snapshots: of a digest, and not of the commands. So a life that goes on from
    /// one holds only what followed.
    pub fn with_snapshots(digest: Digest) -> (Self, Arc<Probe>) {
        let (log, probe) = Self::new(false);
        (Self { digest: Some(digest), ..log }, probe)
    }

    /// All commands.
    pub fn commands(&self) -> Vec<Bytes> {
        self.probe.commands()
    }
}

impl StateMachine for Log {
    type Reply = usize;

    fn apply(&mut self, index: Index, command: Bytes) -> usize {
        self.probe.pass_gate();
        let sick = self.probe.poisoned.load(Ordering::Relaxed);
        assert!(!sick || command != POISON, "poisoned");
        thread::sleep(Duration::from_millis(self.probe.slowness.load(Ordering::Relaxed)));
        let mut applied = self.probe.applied();
        applied.push((index, command));
        applied.len()
    }

    fn snapshot(&self) -> Option<Capture> {
        let Tally { commands, digest } = self.probe.tally(self.digest?);
        Some(Box::new(move |out| {
            out.write_all(&commands.to_le_bytes())?;
            out.write_all(&digest.to_le_bytes())
        }))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut number = || {
            let mut bytes = [0; 4];
            snapshot.read_exact(&mut bytes).map(|()| u32::from_le_bytes(bytes))
        };
        let tally = Tally { commands: number()?, digest: number()? };
        *self.probe.restored() = tally;
        self.probe.applied().clear();
        Ok(())
    }

    fn blocks(&self) -> Option<bool> {
        if self.blocks { None } else { Some(false) }
    }
}

impl Probe {
    /// What was applied, and where.
    pub fn entries(&self) -> Vec<(Index, Bytes)> {
        self.applied().clone()
    }

    /// What was applied.
    pub fn commands(&self) -> Vec<Bytes> {
        self.applied().iter().map(|(_, command)| command.clone()).collect()
    }

    /// How many commands there were since the first, and their digest.
    pub fn tally(&self, digest: Digest) -> Tally {
        let (applied, before) = (self.applied(), *self.restored());
        let commands = before.commands + applied.len() as u32;
        let all = applied.iter().fold(before.digest, |sum, (_, command)| digest(sum, command));
        Tally { commands, digest: all }
    }

    /// How long each command takes from now on.
    pub fn slow_down(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.slowness.store(millis, Ordering::Relaxed);
    }

    /// Makes it panic at [`POISON`].
    pub fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    /// Lets no command pass until the gate is opened.
    pub fn shut_gate(&self) {
        *self.gate() = true;
    }

    /// Undoes [`Probe::shut_gate`].
    pub fn open_gate(&self) {
        *self.gate() = false;
        self.opened.notify_all();
    }

    /// Whether a command waits at the gate.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    fn pass_gate(&self) {
        let mut shut = self.gate();
        while *shut {
            self.stuck.store(true, Ordering::Relaxed);
            shut = self.opened.wait(shut).unwrap_or_else(PoisonError::into_inner);
        }
        self.stuck.store(false, Ordering::Relaxed);
    }

    fn gate(&self) -> MutexGuard<'_, bool> {
        self.shut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restored(&self) -> MutexGuard<'_, Tally> {
        self.restored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn applied(&self) -> MutexGuard<'_, Vec<(Index, Bytes)>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
