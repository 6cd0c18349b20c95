//! The configuration of a cluster with a small member, and what it bounds.
//!
//! All servers of such a cluster run with these limits, since a leader cuts its messages by its own, and a message that is too
//! long for the line would never arrive.
//!
//! What the limits mean for the heap of a member with a 4 KiB log, in bytes; pointers have 4:
//!
//! | what | bound | why |
//! |---|---|---|
//! | entries of the log | 24 x 128 | [`LOG_BYTES_MAX`] / 32 entries, each counted with at least 32 bytes |
//! | their commands | 4,096 - 24 per entry | 8 and the command's bytes, allocated once: less than they are counted with |
//! | a message or write in the works | 24 x 16 | [`BATCH_BYTES_MAX`] / 32 entries |
//! | encoding, decoding, journal | 2 x 1,024 | one buffer each |
//!
//! The first two are one budget: an entry is counted with at least what it takes.

use core::time::Duration;

use raft_core::{Config, NodeId};

/// The most bytes in the log, as the core counts them: 32 and the command for each entry.
pub const LOG_BYTES_MAX: usize = 4096;

/// The most entries in it; each term's first one may come on top.
pub const LOG_ENTRIES_MAX: usize = LOG_BYTES_MAX / 32;

/// The longest command.
pub const COMMAND_BYTES_MAX: usize = 64;

/// The most bytes of entries in one message, write or batch for the state machine, counted alike.
pub const BATCH_BYTES_MAX: usize = 512;

/// What one member of the cluster is configured with; its timeouts suit a line of 115,200 baud.
pub fn config(id: NodeId, voters: impl IntoIterator<Item = NodeId>) -> Config {
    Config {
        election_timeout_min: Duration::from_millis(1000),
        election_timeout_max: Duration::from_millis(2000),
        heartbeat_interval: Duration::from_millis(100),
        command_bytes_max: COMMAND_BYTES_MAX,
        append_bytes_max: BATCH_BYTES_MAX,
        inflight_appends_max: 4,
        inflight_bytes_max: 4 * BATCH_BYTES_MAX,
        write_bytes_max: BATCH_BYTES_MAX,
        inflight_writes_max: 4,
        apply_bytes_max: BATCH_BYTES_MAX,
        inflight_applies_max: 1,
        log_bytes_max: LOG_BYTES_MAX,
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
