//! Where there are no files, no directory can be locked.

use std::io;
use std::path::Path;

use crate::host::storage_error::StorageError;

#[derive(Debug)]
pub(super) struct Lock;

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, StorageError> {
        Err(StorageError::io("lock", directory, io::ErrorKind::Unsupported.into()))
    }
}
