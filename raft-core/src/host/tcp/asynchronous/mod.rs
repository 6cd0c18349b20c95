//! A TCP transport of tasks: all of it but what only a runtime has.
//!
//! One task dials one peer, and dials again when the connection is lost. Another task accepts
//! connections, and spawns a task for each. A [`Runtime`] supplies sockets, sleep and spawn, and an
//! adapter gives [`Transport`] its name.
//!
//! ```text
//! send ─► SendQueue ─► dialer ══ frames ══► task of the connection ─► inbox
//!                      dialer ◄═ keepalives ═ task of the connection ◄─ acceptor
//! ```
//!
//! The task of a connection alone owns the socket, and waits for everything at once: for bytes, for
//! the next keepalive, and a dialer for messages and for the stop. A turn serves all that is ready,
//! so that no source starves another one. While the task writes, it does not read. That cannot
//! block two nodes, because a write that stalls for
//! [`Config::idle_timeout`](super::Config::idle_timeout) ends the connection.
//!
//! TLS is a [`Cipher`](super::Cipher) between the frames and the socket, so no stream wraps a
//! stream.
//!
//! [`Transport::stop`](crate::host::Transport::stop) ends all tasks. An acceptor's tasks end where
//! they wait. A dialer sends what waits first, because the last messages of a node may hand over
//! its leadership.

mod acceptor;
mod connection;
mod dialer;
mod runtime;
mod shared;
mod stop;
mod transport;
mod wait;

pub use runtime::{Runtime, Socket};
pub use transport::Transport;
