//! A journal that lives as long as the process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use bytes::Bytes;

use super::replay::Replay;
use super::{Journal, JournalError};
use crate::host::identity::Incarnation;
use crate::output::{Restored, Write};

/// Keeps writes in memory: for tests, and for those who accept to lose a node with its process.
///
/// A clone is another handle to the same journal, so a test restarts a node by starting it anew with a clone. Recovering is
/// then what a crash is to a file: what was appended but not synced is gone, and handles that were recovered before are cut
/// off, as a dead process would be.
///
/// # Example
///
/// ```
/// use raft_core::host::{Journal, MemoryJournal};
/// use raft_core::{HardState, Term, Write, WriteId};
///
/// let disk = MemoryJournal::new();
/// let hard_state = HardState { current_term: Term::new(1), voted_for: None };
///
/// let mut before = disk.clone();
/// before.recover()?;
/// before.append(&Write {
///     id: WriteId::new(1),
///     hard_state: Some(hard_state),
///     ..Write::default()
/// })?;
/// before.sync()?;
///
/// let mut after = disk.clone();
/// assert_eq!(after.recover()?.hard_state, hard_state);
/// assert!(before.sync().is_err());
/// # Ok::<(), raft_core::host::JournalError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryJournal {
    shared: Arc<Mutex<Shared>>,
    incarnation: Incarnation,
    /// The recovery that this handle owes its right to write to; 0 before it was recovered.
    life: u64,
}

#[derive(Debug, Default)]
struct Shared {
    durable: Replay,
    pending: Vec<Write<Bytes>>,
    /// How often the journal was recovered.
    lives: u64,
    syncs: u64,
    failed: Option<JournalError>,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self { shared: Arc::default(), incarnation: super::draw_incarnation(), life: 0 }
    }

    /// How often [`Journal::sync`] has succeeded, over all handles.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Makes the journal fail from now on, on every handle, until it is recovered again: a broken disk, and its replacement.
    pub fn fail(&self) {
        self.lock().failed = Some(JournalError::Injected);
    }

    /// A panic elsewhere leaves nothing half done here, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_to_write(&self) -> Result<MutexGuard<'_, Shared>, JournalError> {
        let shared = self.lock();
        if self.life == 0 || self.life != shared.lives {
            return Err(JournalError::NotRecovered);
        }
        match &shared.failed {
            Some(error) => Err(error.clone()),
            None => Ok(shared),
        }
    }
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new()
    }
}

impl Journal for MemoryJournal {
    fn recover(&mut self) -> Result<Restored<Bytes>, JournalError> {
        let (life, durable) = {
            let mut shared = self.lock();
            shared.lives += 1;
            shared.failed = None;
            shared.pending.clear();
            (shared.lives, shared.durable.clone().into_restored())
        };
        self.life = life;
        Ok(durable.expect("nothing is deleted but what was compacted"))
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn blocks(&self) -> bool {
        false
    }

    fn append(&mut self, write: &Write<Bytes>) -> Result<(), JournalError> {
        self.lock_to_write()?.pending.push(write.clone());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        let mut shared = self.lock_to_write()?;
        let Shared { durable, pending, failed, .. } = &mut *shared;
        for write in pending.drain(..) {
            if let Err(what) = durable.follow(write) {
                return Err(failed.insert(JournalError::Inconsistent { what }).clone());
            }
        }
        shared.syncs += 1;
        Ok(())
    }
}
