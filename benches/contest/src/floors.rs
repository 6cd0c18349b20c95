//! What nothing on this machine can beat: a round trip on the loopback, and an fdatasync.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};

/// As large as a small write is on the wire, and in a log.
const MESSAGE_BYTES: usize = 64;
const TIMES: u32 = 1_000;

/// What was measured, ascending.
#[derive(Debug)]
pub(crate) struct Floors {
    pub(crate) round_trip: Vec<Duration>,
    /// Into a file that grows.
    pub(crate) append: Vec<Duration>,
    /// Into a file that is allocated.
    pub(crate) overwrite: Vec<Duration>,
}

pub(crate) fn measure(folder: &Path) -> io::Result<Floors> {
    let mut floors = Floors {
        round_trip: round_trips()?,
        append: syncs(folder, false)?,
        overwrite: syncs(folder, true)?,
    };
    for sample in [&mut floors.round_trip, &mut floors.append, &mut floors.overwrite] {
        sample.sort_unstable();
    }
    Ok(floors)
}

fn round_trips() -> io::Result<Vec<Duration>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut here = TcpStream::connect(listener.local_addr()?)?;
    let (mut there, _) = listener.accept()?;
    here.set_nodelay(true)?;
    there.set_nodelay(true)?;
    let echo = thread::spawn(move || {
        let mut message = [0; MESSAGE_BYTES];
        // The other end closes.
        while there.read_exact(&mut message).is_ok() && there.write_all(&message).is_ok() {}
    });
    let mut message = [0; MESSAGE_BYTES];
    let trips = (0..TIMES).map(|_| {
        let begin = Instant::now();
        here.write_all(&message)?;
        here.read_exact(&mut message)?;
        Ok(begin.elapsed())
    });
    let trips = trips.collect();
    drop(here);
    // Its panic was printed.
    let _ = echo.join();
    trips
}

fn syncs(folder: &Path, allocated: bool) -> io::Result<Vec<Duration>> {
    let file: File = tempfile::tempfile_in(folder)?;
    if allocated {
        fallocate(&file, FallocateFlags::empty(), 0, u64::from(TIMES) * MESSAGE_BYTES as u64)?;
        file.sync_all()?;
    }
    let syncs = (0..u64::from(TIMES)).map(|at| {
        let begin = Instant::now();
        file.write_all_at(&[1; MESSAGE_BYTES], at * MESSAGE_BYTES as u64)?;
        file.sync_data()?;
        Ok(begin.elapsed())
    });
    syncs.collect()
}
