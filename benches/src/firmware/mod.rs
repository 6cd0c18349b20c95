//! A firmware node in a cluster of servers: the emulated board, and the bridge between its serial line and their network.
//!
//! The firmware itself is in `raft-core/examples/firmware`.

mod board;
mod bridge;
mod noise;

// Both ends of the line are compiled from the same files. The firmware's package cannot be a dependency: it is a workspace of its
// own, for its own target, inside a member of this one.
#[path = "../../../raft-core/examples/firmware/src/limits.rs"]
pub mod limits;
#[path = "../../../raft-core/examples/firmware/src/line.rs"]
pub mod line;
#[path = "../../../raft-core/examples/firmware/src/report.rs"]
pub mod report;
#[path = "../../../raft-core/examples/firmware/src/sum.rs"]
mod sum;

pub use board::{Board, Image, Unavailable};
pub use bridge::{Bridge, Counts};
