//! What firmware needs around [`raft_core`]: the framing of a serial line, a journal in flash, and
//! the board itself.
//!
//! All but `board` builds and is tested on any host; programs that talk to the firmware use the
//! same framing from here.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

use alloc::rc::Rc;

#[cfg(target_os = "none")]
pub mod board;
pub mod bounds;
pub mod journal;
#[cfg(test)]
mod ram_flash;
pub mod server;
pub mod snapshot;

use firmware_line::sum;
pub use firmware_line::{limits, line, report};

/// A command: its bytes are allocated once, and shared by log, messages and writes.
pub type Command = Rc<[u8]>;

/// A command of these bytes. The one function given to the decoder, of which there is one copy in
/// flash for each that it is given.
pub fn command(bytes: &[u8]) -> Command {
    bytes.into()
}
