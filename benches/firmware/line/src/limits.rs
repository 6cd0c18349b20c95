//! The configuration of a cluster with a small member, and what it bounds.
//!
//! All servers of such a cluster run with these limits, since a leader cuts its messages by its
//! own, and a message that is too long for the line would never arrive.
//!
//! What the limits mean for the heap of a member with a 4 KiB log, in bytes; pointers have 4:
//!
//! | what | bound | why |
//! |---|---|---|
//! | entries of the log | 24 x 144 | [`LOG_ENTRIES_MAX`], allocated once, when the server starts |
//! | their commands | 72 x 46 | 8 and the command's bytes: at most 46 commands of 57 bytes |
//! | a message or write in the works | 24 x 8 | [`BATCH_BYTES_MAX`] / 32 entries |
//! | encoding, journal | 528 | one buffer |
//!
//! The log's size counts entries with 32 bytes and their command. So much of it is never reached by
//! commands that are applied, for snapshots come first: `TAIL_BYTES`, `SNAPSHOT_LOG_BYTES` and what
//! is not yet committed make it up.

use core::time::Duration;

use raft_core::{Config, NodeId};

/// Whose snapshots and messages these are: the id of the cluster, as its servers are told.
pub const CLUSTER: u64 = 0xf1;

/// The most bytes in the log, as the core counts them: 32 and the command for each entry.
pub const LOG_BYTES_MAX: usize = 4096;

/// How many terms may begin while the log is full: the entry with which a term begins is never
/// refused by the core, or no leader could lead. A member whose log has reached even this steps
/// aside, see the module `bounds`.
pub const LOG_TERMS_MAX: usize = 16;

/// The most entries in the log.
pub const LOG_ENTRIES_MAX: usize = LOG_BYTES_MAX / 32 + LOG_TERMS_MAX;

/// What is kept behind a snapshot, for members that are a little behind.
const TAIL_BYTES: usize = 512;

/// After so much in the log a snapshot is taken.
const SNAPSHOT_LOG_BYTES: usize = 1536;

/// The most bytes of a snapshot, members and checksums included. One message carries it.
pub const SNAPSHOT_BYTES_MAX: usize = 256;

/// The heap of a member: what `make.sh bounds` finds it to need at most, and the reserve without
/// which it hears nothing.
pub const HEAP_BYTES: usize = 12 * 1024;

/// The longest command.
pub const COMMAND_BYTES_MAX: usize = 64;

/// The most bytes of entries in one message, write or batch for the state machine, counted alike.
pub const BATCH_BYTES_MAX: usize = 256;

/// What one member of the cluster is configured with; its timeouts suit a line of 115,200 baud.
pub fn config(id: NodeId, voters: impl IntoIterator<Item = NodeId>) -> Config {
    Config {
        election_timeout_min: Duration::from_millis(1000),
        election_timeout_max: Duration::from_millis(2000),
        heartbeat_interval: Duration::from_millis(100),
        rank_slot: Some(Duration::from_millis(25)),
        command_bytes_max: COMMAND_BYTES_MAX,
        append_bytes_max: BATCH_BYTES_MAX,
        inflight_appends_max: 4,
        inflight_bytes_max: 4 * BATCH_BYTES_MAX,
        write_bytes_max: BATCH_BYTES_MAX,
        inflight_writes_max: 4,
        apply_bytes_max: BATCH_BYTES_MAX,
        inflight_applies_max: 1,
        log_bytes_max: LOG_BYTES_MAX,
        uncommitted_bytes_max: LOG_BYTES_MAX - TAIL_BYTES - SNAPSHOT_LOG_BYTES,
        snapshot_log_bytes: SNAPSHOT_LOG_BYTES,
        log_tail_bytes: TAIL_BYTES,
        snapshot_chunk_bytes: SNAPSHOT_BYTES_MAX,
        inflight_chunks_max: 1,
        reads_waiting_max: 8,
        ..Config::new(id, voters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_sound() {
        let config = config(NodeId::new(3), [1, 2, 3].map(NodeId::new));
        assert_eq!(config.validate(), Ok(()));
    }
}
