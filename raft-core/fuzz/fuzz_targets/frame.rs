//! Frames out of streams that are cut and damaged anywhere: see [`raft_core_fuzz::frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: raft_core_fuzz::frame::Input| raft_core_fuzz::frame::run(
    &input
));
