//! What the firmware and the bridge to its serial line have in common: frames, reports, and the
//! limits of their cluster.
#![cfg_attr(not(test), no_std)]

pub mod limits;
pub mod line;
pub mod report;
pub mod sum;
