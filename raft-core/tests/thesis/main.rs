//! What the thesis adds to the paper, section by section.
//!
//! `cargo test -p raft-core --test thesis section_6_4` runs one section.

#[path = "../pump/mod.rs"]
mod pump;
#[path = "../server/mod.rs"]
mod server;

mod elections;
mod section_3_10_transfer;
mod section_4_2_removal;
mod section_6_2_forward;
mod section_6_4_lease;
mod section_6_4_read_index;
