//! A loop as a task: how it is woken, and how it waits.
//!
//! An adapter to a runtime with tasks supplies an [`Alarm`]. For each node and for each in-process
//! network it makes [a wake-up with its hook](Notify::with_hook), and spawns [`run`].

mod notify;
mod run;
#[cfg(test)]
pub(in crate::host) mod woken;

pub use notify::Notify;
pub use run::{Alarm, LoopBody, run};
