//! How far a long run is, for the programs of the workbench. The examples of raft-core, which is
//! published without them, have the code.

#[path = "../../../raft-core/examples/simulate/progress.rs"]
mod progress;

pub use progress::{Progress, print, say};
