//! What holds in every section: the gate, the laws of time, limits, any input, liveness, exact
//! spans, and the wire format.
//!
//! `cargo test -p raft-core --test laws gate` runs one file.

#[path = "../pump/mod.rs"]
mod pump;
#[path = "../server/mod.rs"]
mod server;

#[cfg(feature = "sim")]
mod adaptive_hours;
mod adaptive_timeouts;
mod any_input;
#[cfg(feature = "codec")]
mod codec;
mod election_exactness;
mod election_liveness;
mod gate;
mod limits;
#[cfg(feature = "sim")]
mod limits_in_time;
mod reasons;
mod slow_disks;
mod time;
mod timeouts_page;
