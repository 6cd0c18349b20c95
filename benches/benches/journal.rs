//! What a durable write costs, and how long a journal takes to be recovered.
//!
//! The file journal appends and syncs one entry at a time. Beside it the same number of bytes is
//! written and fdatasynced without a journal, into a file that grows and into one that is long
//! enough: what the disk allows. All take turns.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::host::{ClusterId, FileJournal, Journal};
use raft_core::{Entry, HardState, Index, NodeId, Payload, Term, Write, WriteId};

/// How many syncs are timed.
const SYNCS: u64 = 2000;

/// What a frame of the journal takes besides the command, roughly.
const FRAME_BYTES: usize = 60;

/// The entries of the journal that is recovered: 1 GiB of commands in all.
const RECOVERED_ENTRIES: u64 = 256 << 10;
const RECOVERED_COMMAND_BYTES: usize = 4 << 10;
const ENTRIES_PER_SYNC: u64 = 256;

fn main() {
    println!("microseconds from a write to its durability     p50     p99   p99.9");
    for bytes in [16, 4 << 10] {
        print_syncs(bytes);
    }
    print_recovery();
}

fn print_syncs(command_bytes: usize) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let bytes = vec![7; command_bytes + FRAME_BYTES];
    let mut growing = file(directory.path(), "growing");
    let mut long_enough = file(directory.path(), "long enough");
    long_enough.write_all(&vec![0; bytes.len() * SYNCS as usize]).expect("room on the disk");
    long_enough.sync_all().expect("a disk that works");
    long_enough.seek(SeekFrom::Start(0)).expect("a file");
    let mut journal = open(&directory.path().join("journal"));
    journal.recover().expect("a new journal");

    let mut times = [const { Vec::new() }; 3];
    for index in 1..=SYNCS {
        let write = write(index, 1, command_bytes);
        times[0].push(timed(|| {
            journal.append(&write).expect("a journal that works");
            journal.sync().expect("a disk that works");
        }));
        for (file, times) in [&mut growing, &mut long_enough].into_iter().zip(&mut times[1..]) {
            times.push(timed(|| {
                file.write_all(&bytes).expect("room on the disk");
                file.sync_data().expect("a disk that works");
            }));
        }
    }
    let names = ["journal", "a file that grows", "a file that is long enough"];
    for (name, mut times) in names.into_iter().zip(times) {
        times.sort_unstable();
        let [p50, p99, p999] = [500, 990, 999]
            .map(|per_mille| times[(times.len() - 1) * per_mille / 1000].as_nanos() as f64 / 1e3);
        println!("{command_bytes:>5} bytes, {name:<30}{p50:>10.0}{p99:>8.0}{p999:>8.0}");
    }
}

fn print_recovery() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut journal = open(directory.path());
    journal.recover().expect("a new journal");
    for first in (1..=RECOVERED_ENTRIES).step_by(ENTRIES_PER_SYNC as usize) {
        let write = write(first, ENTRIES_PER_SYNC, RECOVERED_COMMAND_BYTES);
        journal.append(&write).expect("a journal that works");
        journal.sync().expect("room on the disk");
    }
    drop(journal);
    let mut entries = 0;
    let took = timed(|| {
        entries = open(directory.path()).recover().expect("what was written").entries.len();
    });
    let mib = (entries * RECOVERED_COMMAND_BYTES) >> 20;
    println!("recovery of {mib} MiB in {entries} entries: {:.2} s", took.as_secs_f64());
}

fn open(directory: &Path) -> FileJournal {
    FileJournal::open(directory, ClusterId::new(7), NodeId::new(1)).expect("a directory")
}

fn file(directory: &Path, name: &str) -> File {
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).open(directory.join(name)).expect("a directory")
}

fn write(first: u64, entries: u64, command_bytes: usize) -> Write<Bytes> {
    let command = Bytes::from(vec![7; command_bytes]);
    let term = Term::new(1);
    let entry = |index| {
        let payload = Payload::Command(command.clone());
        Entry { term, index: Index::new(index), payload }
    };
    Write {
        id: WriteId::new(first),
        hard_state: Some(HardState { current_term: term, ..HardState::default() }),
        entries: (first..first + entries).map(entry).collect(),
        ..Write::default()
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
