//! Journals: what was durable is there after a restart, or the journal refuses to start and says what to do.
#![cfg(feature = "std")]

use bytes::Bytes;
use raft_core::host::{Journal, JournalError, MemoryJournal};
use raft_core::{Entry, HardState, Index, Payload, Term, Write, WriteId};

/// A write with entries of term 1 that hold these commands, from `index`.
fn write(index: u64, commands: &[&[u8]]) -> Write<Bytes> {
    let entry = |(index, command): (u64, &&[u8])| Entry {
        term: Term::new(1),
        index: Index::new(index),
        payload: Payload::Command(Bytes::copy_from_slice(command)),
    };
    Write {
        id: WriteId::new(index),
        hard_state: Some(HardState { current_term: Term::new(1), voted_for: None }),
        truncate_from: None,
        entries: (index..).zip(commands).map(entry).collect(),
    }
}

mod memory {
    use super::*;

    #[test]
    fn a_restart_finds_what_was_synced_and_nothing_else() {
        let disk = MemoryJournal::new();
        let mut journal = disk.clone();
        journal.recover().unwrap();
        journal.append(&write(1, &[b"kept"])).unwrap();
        journal.sync().unwrap();
        journal.append(&write(2, &[b"lost"])).unwrap();

        let restored = disk.clone().recover().unwrap();
        assert_eq!(restored.entries, write(1, &[b"kept"]).entries.into_vec());
        assert_eq!(disk.syncs(), 1);
    }

    #[test]
    fn a_failure_is_final_until_the_restart() {
        let disk = MemoryJournal::new();
        let mut journal = disk.clone();
        journal.recover().unwrap();
        disk.fail();
        for _ in 0..2 {
            assert!(matches!(journal.append(&write(1, &[b"a"])), Err(JournalError::Injected)));
            assert!(matches!(journal.sync(), Err(JournalError::Injected)));
        }
        assert_eq!(disk.clone().recover().unwrap().entries, []);
    }

    #[test]
    fn only_the_newest_life_may_write() {
        let mut journal = MemoryJournal::new();
        assert!(matches!(journal.append(&write(1, &[b"a"])), Err(JournalError::NotRecovered)));
        journal.recover().unwrap();
        let mut next = journal.clone();
        next.recover().unwrap();
        assert!(matches!(journal.sync(), Err(JournalError::NotRecovered)));
        assert_eq!(next.incarnation(), journal.incarnation());
        assert_ne!(MemoryJournal::new().incarnation(), journal.incarnation());
    }

    #[test]
    fn a_write_that_cannot_follow_is_refused() {
        let mut journal = MemoryJournal::new();
        journal.recover().unwrap();
        journal.append(&write(2, &[b"gap"])).unwrap();
        assert!(matches!(journal.sync(), Err(JournalError::Inconsistent { .. })));
    }
}
