//! The host: drivers on plain threads, journals, snapshot files, and what operators read.
//!
//! `cargo test -p raft-core --features std --test host journal` runs one part.
#![cfg(feature = "std")]
// Outside of `#[test]` functions clippy does not know that these are tests.
#![allow(clippy::unwrap_used)]

mod apply;
mod backups;
mod by_hand;
#[cfg(feature = "contract")]
mod contract;
mod field_bugs;
mod hangs;
mod identity;
mod journal;
mod metrics;
mod node;
mod operation;
mod own_disk;
mod pauses;
mod reads;
mod recorder;
#[cfg(feature = "serde")]
mod serialized;
#[cfg(feature = "serde")]
mod services;
mod snapshots;
mod states;
mod texts;
mod unknown;
mod versions;
