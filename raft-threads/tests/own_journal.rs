//! The journal of the example `threads_redb` keeps the contract of journals.

use raft_core::host::contract;
use raft_threads::Journal;

#[path = "../examples/threads_redb/journal.rs"]
mod journal;

use journal::RedbJournal;

#[test]
fn the_journal_of_the_example_keeps_its_contract() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.redb");
    contract::journal(|| RedbJournal::open(&path).unwrap());
    let mut journal = RedbJournal::open(&directory.path().join("snapshots.redb")).unwrap();
    contract::snapshots(&*journal.snapshots().unwrap());
}
