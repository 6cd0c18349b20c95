//! The paper, section by section: a file for each, a test for each sentence.
//!
//! `cargo test -p raft-core --test paper section_5_2` runs one section.

#[path = "../pump/mod.rs"]
mod pump;
#[path = "../server/mod.rs"]
mod server;

mod figure_8;
mod section_5_1_basics;
mod section_5_2_election;
mod section_5_3_replication;
mod section_5_4_safety;
mod section_6_membership;
mod section_7_install_snapshot;
mod section_7_pacing;
mod section_7_snapshots;
