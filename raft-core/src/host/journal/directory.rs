//! The directory of a journal: it is there after any crash once it was made, and says whether a
//! restore into it is complete.

use std::io;
use std::path::Path;
use std::vec::Vec;

use super::disk::JournalDisk;

/// The file that lies in a directory while a backup is restored into it. No journal opens beside
/// it.
pub(super) const UNFINISHED: &str = "restoring";

/// Whether a restore into this directory was begun and not completed.
pub(super) fn is_unfinished(directory: &Path) -> bool {
    directory.join(UNFINISHED).exists()
}

/// Creates a directory and its parents, so that all of them survive a crash.
///
/// The name of each is made durable before the next is created in it. So after an interrupted start
/// at most the last directory that exists is not durable, and its name is made durable first.
pub(super) fn create_directory(disk: &mut dyn JournalDisk, directory: &Path) -> io::Result<()> {
    let named = || directory.ancestors().filter(|path| !path.as_os_str().is_empty());
    let missing: Vec<_> = named().take_while(|path| !path.exists()).collect();
    if let Some(made_before) = named().nth(missing.len()) {
        let synced = sync_name(disk, made_before);
        synced.or_else(|error| if is_not_ours(&error) { Ok(()) } else { Err(error) })?;
    }
    missing.iter().rev().try_for_each(|path| {
        disk.create_directory(path)?;
        sync_name(disk, path)
    })
}

/// Makes the name of a directory durable.
fn sync_name(disk: &mut dyn JournalDisk, directory: &Path) -> io::Result<()> {
    match directory.parent() {
        None => Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => disk.sync_directory(Path::new(".")),
        Some(parent) => disk.sync_directory(parent),
    }
}

/// Whether this error means that this process cannot have created anything in the directory.
fn is_not_ours(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::Unsupported
    )
}
