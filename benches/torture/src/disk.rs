//! A disk for each server that can be filled and freed.
//!
//! With root it is a file system in memory, filled to the last byte (ENOSPC). Without, the limit on
//! the size of the server's files is set to what its journal has reached (EFBIG), which is lifted
//! by a restart.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use kv::demo::cluster::Failure;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// How large such a file system is. It takes as much memory as is written to it.
const DISK_BYTES: u64 = 256 << 20;
/// How the names of our file systems begin; a process id follows.
const PREFIX: &str = "raft-torture-";
/// What takes the room on a full disk.
const BALLAST: &str = "ballast";

/// Where a server has its journal.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    mounted: bool,
}

impl Disk {
    /// A folder, on a file system of its own if `own`.
    pub fn create(folder: PathBuf, own: bool) -> Result<Self, Failure> {
        let cannot = |e: String| Failure(format!("no disk in {}: {e}", folder.display()));
        fs::create_dir_all(&folder).map_err(|e| cannot(e.to_string()))?;
        if own {
            let (size, name) = (format!("size={DISK_BYTES}"), format!("{PREFIX}{}", process::id()));
            let mount = Command::new("mount")
                .args(["-t", "tmpfs", "-o", &size, &name])
                .arg(&folder)
                .output()
                .map_err(|e| cannot(e.to_string()))?;
            if !mount.status.success() {
                return Err(cannot(String::from_utf8_lossy(&mount.stderr).trim().to_owned()));
            }
        }
        Ok(Self { folder, mounted: own })
    }

    /// Where the journal is.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Leaves no room for another byte of this process, which writes its journal here and nothing
    /// else but a log of `log_bytes`.
    pub fn fill(&self, process: Pid, log_bytes: u64) -> Result<(), Failure> {
        let filled =
            if self.mounted { self.take_the_room() } else { self.limit(process, log_bytes) };
        filled.map_err(|e| Failure(format!("{} cannot be filled: {e}", self.folder.display())))
    }

    /// Makes room again. A limit ends with its process.
    pub fn free(&self) -> Result<(), Failure> {
        match fs::remove_file(self.folder.join(BALLAST)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Failure(format!("{} cannot be freed: {e}", self.folder.display())))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A file that grows until nothing is left; the server may take some of the last bytes
    /// meanwhile, or give some back.
    fn take_the_room(&self) -> io::Result<()> {
        let ballast = File::create(self.folder.join(BALLAST))?;
        let mut length = 0;
        loop {
            let disk = statvfs(&self.folder)?;
            let room = disk.f_bfree * disk.f_frsize;
            if room == 0 {
                return Ok(());
            }
            match fallocate(&ballast, FallocateFlags::empty(), length, room) {
                Ok(()) => length += room,
                Err(rustix::io::Errno::NOSPC) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn limit(&self, process: Pid, log_bytes: u64) -> io::Result<()> {
        let longest = longest_file(&self.data())?.max(log_bytes);
        let maximum = getrlimit(Resource::Fsize).maximum;
        prlimit(Some(process), Resource::Fsize, Rlimit { current: Some(longest), maximum })?;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            unmount(&self.folder);
        }
    }
}

/// Removes the file systems that processes left which were killed.
pub fn remove_stale() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for mount in mounts.lines() {
        let mut fields = mount.split(' ');
        let owner = fields.next().and_then(|name| name.strip_prefix(PREFIX));
        let gone = owner.is_some_and(|process| !Path::new("/proc").join(process).exists());
        if let (true, Some(folder)) = (gone, fields.next()) {
            unmount(Path::new(folder));
        }
    }
}

fn unmount(folder: &Path) {
    // Lazily, because a process may still use it. A disk that is gone is unmounted.
    let _ = Command::new("umount").arg("--lazy").arg(folder).output();
}

fn longest_file(folder: &Path) -> io::Result<u64> {
    let lengths = fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len()));
    Ok(lengths.collect::<io::Result<Vec<_>>>()?.into_iter().max().unwrap_or(0))
}
