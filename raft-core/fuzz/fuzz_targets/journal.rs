//! A journal that was damaged while nobody looked: see [`raft_core_fuzz::journal`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: raft_core_fuzz::journal::Input| {
    raft_core_fuzz::journal::run(input);
});
