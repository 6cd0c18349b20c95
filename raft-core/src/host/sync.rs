//! What the threads of a node share memory with: the types of `std`.
//!
//! In the library's own tests under `--cfg raft_shuttle` the types are those of `shuttle`, which
//! runs one thread at a time and chooses after each step which thread goes on. These tests are in
//! `node/interleavings/`.

#[cfg(not(all(test, raft_shuttle)))]
pub(in crate::host) use std::{
    sync::{Condvar, Mutex, MutexGuard, atomic, mpsc},
    thread, thread_local,
};

#[cfg(all(test, raft_shuttle))]
pub(in crate::host) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard, atomic, mpsc},
    thread, thread_local,
};
