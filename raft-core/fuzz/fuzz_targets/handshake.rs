//! Dialers and acceptors that say anything: see [`raft_core_fuzz::handshake`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: raft_core_fuzz::handshake::Input| {
    raft_core_fuzz::handshake::run(&input);
});
