//! Every change that the file journal makes on a disk goes through this trait, so that tests can
//! replace the disk by one that fails.

use std::boxed::Box;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// Changes files. Reading is not part of it, because content that cannot be read stops a journal
/// before it has promised anything.
pub(super) trait JournalDisk: Send {
    /// Another handle to the same disk.
    fn another(&self) -> Box<dyn JournalDisk>;

    /// Creates a directory if it does not exist. Its parent must exist.
    fn create_directory(&mut self, path: &Path) -> io::Result<()>;

    /// Creates an empty file, in place of any file that was there.
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;

    /// Opens an existing file, to be written from `offset` on.
    fn open(&mut self, path: &Path, offset: u64) -> io::Result<Box<dyn SegmentFile>>;

    /// Cuts a file off at `length`, durably.
    fn cut(&mut self, path: &Path, length: u64) -> io::Result<()>;

    /// Gives a file another name in the same directory.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. The name may come back after a crash, unless the directory is synced.
    fn remove(&mut self, path: &Path) -> io::Result<()>;

    /// Opens a directory, so that syncing it needs nothing more that could be refused.
    fn open_directory(&mut self, path: &Path) -> io::Result<Box<dyn Directory>>;

    /// Makes the names in a directory durable.
    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        self.open_directory(path)?.sync()
    }
}

/// A directory that was opened.
pub(super) trait Directory {
    /// Makes the names in it durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file that is written from front to back.
pub(super) trait SegmentFile: Send {
    /// Writes all of `bytes` behind what was written before.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes all that was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// The operating system's disk.
#[derive(Debug)]
pub(super) struct OsDisk;

impl JournalDisk for OsDisk {
    fn another(&self) -> Box<dyn JournalDisk> {
        Box::new(Self)
    }

    fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            created => created,
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(File::create(path)?))
    }

    fn open(&mut self, path: &Path, offset: u64) -> io::Result<Box<dyn SegmentFile>> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }

    fn cut(&mut self, path: &Path, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn open_directory(&mut self, path: &Path) -> io::Result<Box<dyn Directory>> {
        OsDirectory::open(path)
    }
}

impl SegmentFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The operating system's directory. If a directory cannot be opened, its names are as durable as
/// its file system makes them.
struct OsDirectory(#[cfg(unix)] File);

impl OsDirectory {
    #[cfg(unix)]
    fn open(path: &Path) -> io::Result<Box<dyn Directory>> {
        Ok(Box::new(Self(File::open(path)?)))
    }

    #[cfg(not(unix))]
    fn open(_path: &Path) -> io::Result<Box<dyn Directory>> {
        Ok(Box::new(Self()))
    }
}

impl Directory for OsDirectory {
    #[cfg(unix)]
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    #[cfg(not(unix))]
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
