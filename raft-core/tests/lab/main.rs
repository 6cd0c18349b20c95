//! The laboratory of a well-known course, parts 2A to 2D, in virtual time.
//!
//! `cargo test -p raft-core --test lab part_2a` runs one part. `RAFT_SEEDS=1000` runs every
//! scenario with the seeds from 0 to 999, `RAFT_SEED=7` with that one alone.

#[path = "../pump/mod.rs"]
mod pump;

mod part_2a_election;
mod part_2b_agreement;
mod part_2c_persistence;
#[cfg(feature = "sim")]
mod part_2d_snapshots;
