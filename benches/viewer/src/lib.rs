//! A page in which a cluster of real cores runs in virtual time, forward and back, and in which
//! recordings are replayed.
//!
//! [`Live`] is the cluster: the simulator's, so its observer checks every event. [`Scene`] is what
//! a picture shows of it, and [`Recorded`] replays files. `build.sh` compiles all
//! to WebAssembly and puts it into one file.

// A picture shows some of all that happens.
#![allow(clippy::wildcard_enum_match_arm)]

mod live;
#[cfg(target_family = "wasm")]
mod page;
mod position;
mod recorded;
mod scene;
mod story;
mod words;

pub use live::{Action, LIVE_SPAN_MAX, Live, Setup};
pub use position::Position;
pub use recorded::{MOMENTS_MAX, Recorded, State, Summary, Told};
pub use scene::Scene;
pub use story::Line;
