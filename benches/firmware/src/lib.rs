//! A firmware node in a cluster of servers: the emulated board, and the bridge between its serial
//! line and their network.
//!
//! The firmware itself is in `raft-core/examples/firmware`.

mod board;
mod bridge;
mod noise;

pub use board::{Board, Image, Unavailable};
pub use bridge::{Bridge, Counts};
pub use firmware_line::{limits, report};
