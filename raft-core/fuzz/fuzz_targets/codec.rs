//! Any bytes are a message or an error, and a write or an error: see [`raft_core_fuzz::codec`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raft_core_fuzz::codec::run(bytes));
