//! The contract of a store for snapshots.

use std::io::{Read, Seek, SeekFrom};
use std::vec::Vec;

use crate::host::snapshot::SnapshotStore;
use crate::types::{Index, LogId, Term};

/// Checks a store, which must be empty.
///
/// # Panics
///
/// If the store breaks its contract.
pub fn snapshots(store: &dyn SnapshotStore) {
    assert_eq!(list(store), [], "a new store is empty");
    let [first, second] = [3, 9].map(|index| LogId::new(Term::new(2), Index::new(index)));

    let mut writer = store.create(first, false).expect("there is room");
    writer.write(b"unfinished").expect("there is room");
    assert_eq!(list(store), [], "a snapshot exists once it is finished");
    assert!(store.open(first).is_err(), "a snapshot can be opened once it is finished");
    drop(writer);
    assert_eq!(list(store), [], "a snapshot that is not finished leaves nothing");

    // One is taken while another one is received.
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut taken = store.create(first, false).expect("there is room");
    let mut received = store.create(second, true).expect("there is room");
    for piece in large.chunks(70_000) {
        taken.write(piece).expect("there is room");
    }
    received.write(b"sent by ").expect("there is room");
    received.write(b"the leader").expect("there is room");
    received.finish().expect("there is room");
    assert_eq!(list(store), [second], "each of the two is finished for itself");
    taken.finish().expect("there is room");
    assert_eq!(list(store), [first, second], "finished snapshots exist");

    let mut reader = store.open(first).expect("it exists");
    let mut read = Vec::new();
    reader.read_to_end(&mut read).expect("it can be read");
    assert!(read == large, "a snapshot is read as it was written");
    let mut part = [0; 8];
    reader.seek(SeekFrom::Start(4000)).expect("it can be read from any place");
    reader.read_exact(&mut part).expect("it can be read from any place");
    assert_eq!(part, large[4000..4008], "a snapshot is read from any place");

    let mut again = store.create(first, false).expect("there is room");
    again.write(b"again").expect("there is room");
    again.finish().expect("there is room");
    assert_eq!(contents(store, first), b"again", "a snapshot replaces one of the same entry");

    let mut open = store.open(second).expect("it exists");
    store.remove(second).expect("it exists");
    assert_eq!(list(store), [first], "a removed snapshot is gone");
    assert!(store.open(second).is_err(), "a removed snapshot cannot be opened");
    let mut read = Vec::new();
    open.read_to_end(&mut read).expect("a snapshot stays readable while it is open");
    assert_eq!(read, b"sent by the leader", "a snapshot stays readable while it is open");

    // The kind's earlier snapshot was never finished: the process ended meanwhile, say.
    let abandoned = store.create(second, true).expect("there is room");
    let mut next = store.create(second, true).expect("there is room");
    next.write(b"next").expect("there is room");
    next.finish().expect("there is room");
    drop(abandoned);
    assert_eq!(contents(store, second), b"next", "an abandoned snapshot changes nothing");
}

fn list(store: &dyn SnapshotStore) -> Vec<LogId> {
    let mut list = store.list().expect("the store works");
    list.sort_unstable();
    list
}

fn contents(store: &dyn SnapshotStore, last: LogId) -> Vec<u8> {
    let mut contents = Vec::new();
    let mut reader = store.open(last).expect("it exists");
    reader.read_to_end(&mut contents).expect("it can be read");
    contents
}
