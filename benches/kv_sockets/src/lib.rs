//! The sockets of a `kv` server's clients, on each runtime: what a
//! [connection](kv::server::connection) says is to be done, done by awaiting or by blocking.
//!
//! No node is here, so that each adapter's example can use it without a circle between packages.

#[cfg(feature = "smol")]
pub mod smol;
pub mod threads;
#[cfg(feature = "tokio")]
pub mod tokio;
