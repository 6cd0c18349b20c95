//! What the benches measure: clusters in one thread, of raft-core and of raft-rs alike.
#![forbid(unsafe_code)]

pub mod one_thread;
