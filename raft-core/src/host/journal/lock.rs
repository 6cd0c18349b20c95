//! Keeps two processes from using one directory.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::string::ToString;

use fs4::{FileExt, TryLockError};

use crate::host::storage_error::StorageError;

/// The file whose lock says that the directory is in use. It holds the process id of the user, and
/// stays when the directory is unused.
const LOCK_FILE: &str = "lock";

/// The lock on a directory, until it is dropped or its process ends.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, StorageError> {
        let path = directory.join(LOCK_FILE);
        let io = |error| StorageError::io("lock", &path, error);
        // Opened without truncation, because another process's id must stay readable until this
        // process has the lock.
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match FileExt::try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(io(error)),
            Err(TryLockError::WouldBlock) => {
                let process = fs::read_to_string(&path).ok().and_then(|id| id.parse().ok());
                return Err(StorageError::InUse { directory: directory.to_path_buf(), process });
            }
        }
        // The id is for people. The lock works without it.
        let id = std::process::id().to_string();
        let _ = file.write_all(id.as_bytes()).and_then(|()| file.set_len(id.len() as u64));
        Ok(Self(file))
    }
}

impl Drop for Lock {
    /// Unlocks explicitly. Closing the file would not suffice if this process is just starting
    /// another one, which shares all open files until its program is loaded.
    fn drop(&mut self) {
        let _ = FileExt::unlock(&self.0);
    }
}
