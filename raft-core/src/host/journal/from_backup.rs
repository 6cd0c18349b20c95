//! A new cluster from a backup: the way back if a whole cluster is lost, and the way to make a copy
//! of one.
//!
//! Each voter of the new cluster is restored from the same backup. Then a majority of them holds
//! the state before the first of them leads, as after any restart, and no log is empty.
//!
//! ```text
//!   what a restored server finds when it starts
//!   hard state   the term of the backup's last entry, no vote
//!   snapshot     the backup's state, the voters of the new cluster, its identity
//!   log          empty, and begins behind the snapshot
//! ```
//!
//! The invariant: two servers that were restored from different backups, or with different voters,
//! never take each other for members of one cluster. Their snapshots might end at the same entry or
//! claim entries that the other lacks, and no rule of Raft would notice. So the identity of the new
//! cluster is not drawn: it follows from what the voters must agree upon ([`identity`]).

use std::boxed::Box;
use std::error::Error;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::string::ToString;

use super::directory::{UNFINISHED, create_directory};
use super::disk::{JournalDisk, OsDisk};
use super::snapshots::FileSnapshots;
use super::{FileJournal, Journal};
use crate::change::MembershipError;
use crate::host::identity::ClusterId;
use crate::host::snapshot::{
    BackupReadError, BackupReader, BackupSummary, Head, SnapshotStore, StateWriter,
};
use crate::host::storage_error::StorageError;
use crate::identity::ClusterIdentity;
use crate::membership::Membership;
use crate::message::SnapshotMeta;
use crate::output::Write;
use crate::types::{HardState, NodeId, WriteId};

/// What [`FileJournal::restore_from_backup`] restored.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RestoredBackup {
    /// The backup.
    pub backup: BackupSummary,
    /// The voters of the new cluster, and its identity, which is the same on all of them.
    pub membership: Membership,
}

/// Why a backup was not restored. Unless it says otherwise, the directory is as it was.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BackupRestoreError {
    /// The backup cannot be used.
    Backup(BackupReadError),
    /// The backup is of a cluster with the same number. Members of it may still run, or may come
    /// back, and would take the new cluster for their own: choose another number.
    SameCluster {
        /// The number.
        cluster: ClusterId,
    },
    /// The server to be restored is none of the voters named: name the same voters for each of
    /// them.
    NotAVoter {
        /// The server.
        node: NodeId,
    },
    /// There cannot be a cluster of these voters.
    Voters(MembershipError),
    /// The directory is not empty. What is in it may be the last copy of something: choose another
    /// directory, or empty this one.
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory cannot be written, and no server can start there: mend the cause, empty the
    /// directory, and restore again.
    Storage(StorageError),
}

impl FileJournal {
    /// Restores a backup into an empty directory, as the journal of one voter of a **new** cluster.
    /// The directory is created if it is absent.
    ///
    /// Call it for each voter, with the same backup, the same `cluster` and the same `voters`; then
    /// start them all. Learners join the new cluster as they join any.
    ///
    /// The new cluster begins with the state of the backup, and its log goes on at the next index.
    /// It has a number of its own, `cluster`, because members of the old cluster may still run or
    /// come back. Its identity follows from the backup, from `cluster` and from `voters`, so
    /// servers that were restored differently refuse each other. The server starts with no vote
    /// and in the term of the backup's last entry.
    ///
    /// The directory is usable when this returns `Ok`, and durable. A crash before that leaves a
    /// directory in which no journal opens ([`StorageError::RestoreUnfinished`]).
    ///
    /// # Errors
    ///
    /// [`BackupRestoreError`] says what to do.
    ///
    /// # Example
    ///
    /// ```
    /// use raft_core::NodeId;
    /// use raft_core::host::{BackupRestoreError, ClusterId, FileJournal};
    ///
    /// # let temporary = tempfile::tempdir().unwrap();
    /// # let directory = temporary.path().join("node-1");
    /// let file = &b"not a backup"[..]; // or a `File` in a `BufReader`
    /// let (cluster, node) = (ClusterId::new(8), NodeId::new(1));
    /// let voters = [1, 2, 3].map(NodeId::new);
    /// let restored = FileJournal::restore_from_backup(directory, cluster, node, voters, file);
    /// assert!(matches!(restored, Err(BackupRestoreError::Backup(_))));
    /// ```
    pub fn restore_from_backup(
        directory: impl Into<PathBuf>,
        cluster: ClusterId,
        node: NodeId,
        voters: impl IntoIterator<Item = NodeId>,
        backup: impl io::Read,
    ) -> Result<RestoredBackup, BackupRestoreError> {
        let directory = directory.into();
        let voters = Membership::of_voters(voters);
        voters.validate().map_err(BackupRestoreError::Voters)?;
        if voters.member(node).is_none() {
            return Err(BackupRestoreError::NotAVoter { node });
        }
        let reader = BackupReader::open(backup)?;
        let from = reader.head();
        if from.cluster == cluster {
            return Err(BackupRestoreError::SameCluster { cluster });
        }
        let membership = voters
            .clone()
            .identified(Some(identity(from, cluster, &voters)))
            .at_version(from.snapshot.membership.version());
        let snapshot = SnapshotMeta { last: from.snapshot.last, membership };
        let head = Head { cluster, snapshot };
        let made = prepare(&directory)?;
        let backup = write_state(&directory, &head, reader).inspect_err(|_| {
            give_back(&directory, made);
        })?;
        write_journal(&directory, node, &head)?;
        finish(&directory)?;
        let (last, path) = (head.snapshot.last, directory.display());
        tracing::info!(node = node.get(), cluster = cluster.get(), directory = %path, %last, "restored a backup");
        Ok(RestoredBackup { backup, membership: head.snapshot.membership })
    }
}

/// The identity of the cluster that begins with these voters and that backup: FNV-1a of 128 bits
/// over both. It need not be hard to guess, only different.
fn identity(from: &Head, cluster: ClusterId, voters: &Membership) -> ClusterIdentity {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let last = from.snapshot.last;
    let before = from.snapshot.membership.identity().map_or(0, ClusterIdentity::get);
    let numbers = [from.cluster.get(), last.term.get(), last.index.get(), cluster.get()];
    let numbers = numbers.into_iter().chain(voters.voters().map(NodeId::get));
    let bytes = before.to_le_bytes().into_iter().chain(numbers.flat_map(u64::to_le_bytes));
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    ClusterIdentity::new(hash)
}

/// Makes the directory ready, and marks it as unfinished. Returns whether it was created.
fn prepare(directory: &Path) -> Result<bool, BackupRestoreError> {
    let made = !directory.exists();
    if made {
        create_directory(&mut OsDisk, directory)
            .map_err(|error| StorageError::io("create directory", directory, error))?;
    }
    let mut files =
        fs::read_dir(directory).map_err(|error| StorageError::io("list", directory, error))?;
    if files.next().is_some() {
        return Err(BackupRestoreError::NotEmpty { directory: directory.to_path_buf() });
    }
    let marker = directory.join(UNFINISHED);
    // If another process restores into the same directory, one of the two finds the other's marker.
    let create = || -> io::Result<()> {
        OpenOptions::new().write(true).create_new(true).open(&marker)?.sync_all()?;
        OsDisk.sync_directory(directory)
    };
    create().map_err(|error| StorageError::io("create", &marker, error))?;
    Ok(made)
}

/// Writes the state of the backup as a snapshot, once all of the backup has proved to be whole.
fn write_state<R: io::Read>(
    directory: &Path,
    head: &Head,
    mut reader: BackupReader<R>,
) -> Result<BackupSummary, BackupRestoreError> {
    let snapshots = FileSnapshots::new(directory.to_path_buf(), Box::new(OsDisk));
    let file = snapshots.create(head.snapshot.last, false)?;
    let never = || false;
    let mut writer = StateWriter::begin(file, head.clone(), &never)?;
    if let Err(error) = io::copy(&mut reader, &mut writer) {
        if let Some(error) = reader.take_failure() {
            return Err(error.into());
        }
        let failed = writer.take_failure();
        return Err(failed.unwrap_or_else(|| StorageError::other(error.to_string())).into());
    }
    let summary = reader.finish()?;
    writer.finish()?;
    Ok(summary)
}

/// Writes a journal that begins behind that snapshot.
fn write_journal(directory: &Path, node: NodeId, head: &Head) -> Result<(), StorageError> {
    let disk = Box::new(OsDisk);
    let mut journal = FileJournal::open_on(disk, directory.to_path_buf(), head.cluster, node)?;
    journal.recover()?;
    let current_term = head.snapshot.last.term;
    journal.append(&Write {
        id: WriteId::new(1),
        hard_state: Some(HardState { current_term, ..HardState::default() }),
        snapshot: Some(Box::new(head.snapshot.clone())),
        ..Write::default()
    })?;
    journal.sync()
}

/// Takes the mark away: from here on the journal opens.
fn finish(directory: &Path) -> Result<(), StorageError> {
    let marker = directory.join(UNFINISHED);
    OsDisk
        .remove(&marker)
        .and_then(|()| OsDisk.sync_directory(directory))
        .map_err(|error| StorageError::io("remove", &marker, error))
}

/// Leaves the directory as it was before: empty, or absent. The unfinished snapshot is gone by now.
fn give_back(directory: &Path, made: bool) {
    let _ = OsDisk.remove(&directory.join(UNFINISHED));
    if made {
        let _ = fs::remove_dir(directory);
    }
}

impl From<BackupReadError> for BackupRestoreError {
    fn from(error: BackupReadError) -> Self {
        Self::Backup(error)
    }
}

impl From<StorageError> for BackupRestoreError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl fmt::Display for BackupRestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backup(error) => error.fmt(f),
            Self::SameCluster { cluster } => write!(
                f,
                "restore: the backup is of cluster {cluster} itself: its members may still run or come back, and would take the new \
                 servers for their own; choose another number for the new cluster"
            ),
            Self::NotAVoter { node } => write!(
                f,
                "restore: server {node} is none of the voters; name it among them, and name the same voters for each server that \
                 is restored"
            ),
            Self::Voters(error) => write!(f, "restore: no cluster of these voters: {error}"),
            Self::NotEmpty { directory } => write!(
                f,
                "restore: {} is not empty, and what is in it may be the last copy of something; choose another directory, or empty \
                 this one",
                directory.display()
            ),
            Self::Storage(error) => write!(
                f,
                "restore: no server can start in that directory: {error}; then empty the directory and restore the backup again"
            ),
        }
    }
}

impl Error for BackupRestoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Backup(error) => error.source(),
            Self::Voters(error) => error.source(),
            Self::Storage(error) => error.source(),
            Self::SameCluster { .. } | Self::NotAVoter { .. } | Self::NotEmpty { .. } => None,
        }
    }
}
