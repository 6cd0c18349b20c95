//! Numbers that one thread writes and any thread reads.
//!
//! They order nothing between threads, so they are not among the atomics of `host::sync`, whose
//! every access a scheduler of tests may interleave.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One number.
#[derive(Default, Debug)]
pub(in crate::host) struct Cell(AtomicU64);

impl Cell {
    /// Adds to the number, from any thread.
    pub(in crate::host) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// Adds to the number, at a fifth of the cost of [`add`](Self::add). At most one thread at a
    /// time may write to this cell.
    pub(in crate::host) fn add_alone(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    pub(in crate::host) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub(in crate::host) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
