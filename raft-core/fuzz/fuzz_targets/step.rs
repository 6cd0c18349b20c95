//! A server under any sequence of inputs: see [`raft_core_fuzz::step`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: raft_core_fuzz::step::Input| raft_core_fuzz::step::run(input));
