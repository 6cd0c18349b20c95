//! What firmware needs around [`raft_core`]: the framing of a serial line, a journal in flash, and the board itself.
//!
//! All but `board` builds and is tested on any host; programs that talk to the firmware use the same framing from here.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

#[cfg(target_os = "none")]
pub mod board;
