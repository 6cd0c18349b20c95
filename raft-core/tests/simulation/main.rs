//! The simulator: a short search, the strings of a cluster, and a broken history for each property.
//!
//! `cargo test -p raft-core --features sim --test simulation search` runs one file.

#[path = "../../examples/simulate/linear/mod.rs"]
mod linear;

#[cfg(feature = "serde")]
mod hosted;
mod search;
mod strings;
mod violations;
