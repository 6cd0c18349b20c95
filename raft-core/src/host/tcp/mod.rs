//! What every TCP transport needs besides its sockets: limits, queues, counters, and the rules on
//! which peers may be connected.
//!
//! Two connections join a pair of nodes, one for each direction. A node that has messages for a
//! peer dials it, and the acceptor only reads. After the [handshake](crate::host::handshake), both
//! sides send an empty frame now and then, so that each notices within [`Config::idle_timeout`] if
//! the other is gone without a word. After a network failure TCP would keep such a connection open
//! for minutes; here it is closed and dialed anew. The dialer's frames hold one message each.
//!
//! ```text
//! send(message) ─► SendQueue ─► dialer ══ frames ══► acceptor ─► Incoming ─► MessageInbox
//!                  bounded      ▲  └ reconnects:     which peers to let in:
//!                               │    Dialing         Peers::judge
//!                               └── empty frames ───
//! ```
//!
//! If a peer's host closes a connection, it is dialed again at once. This tells a [process that is
//! gone](Dialing) from an unstable network.
//!
//! [`Peers`] decides which nodes are dialed and which are let in as the configuration of the
//! cluster changes. Its page also says what becomes of a node that has lost its memory.
//!
//! A thread of its own looks up the name of a peer, because the system's lookup blocks and may
//! hang. All addresses of the name are tried. Warnings that repeat themselves are counted together:
//! a few of each cause are logged in a minute as warnings, the rest for debugging.
//!
//! Plain TCP neither encrypts nor authenticates. With the feature `tls` a transport does both: see
//! `host::tls`. What the other side has proved then limits for whom it may [speak](Speaker).
//!
//! [`asynchronous`] is a whole transport for runtimes with tasks, and an adapter adds its sockets
//! and timers. Nothing else here does I/O: an adapter with threads adds sockets and waiting.

use std::format;
use std::io;
use std::string::String;
use std::time::{Duration, Instant};
use std::vec::Vec;

use crate::host::wire::frame;
use crate::host::wire::label::ADDRESS_BYTES_MAX;
use crate::membership::LABEL_BYTES_MAX;
use crate::quorum::MEMBERS_MAX;

mod admission;
pub mod asynchronous;
mod backoff;
mod closed;
mod counters;
mod dialing;
mod incoming;
mod listening;
mod names;
mod peer;
mod peers;
mod queue;
mod reading;
mod registry;
mod route;
#[cfg_attr(feature = "tls", path = "security_tls.rs")]
mod security;
mod speaker;
mod undialed;
mod warnings;
mod writing;

pub use backoff::Backoff;
pub use closed::Closed;
pub use counters::{Counters, Counts};
pub use dialing::Dialing;
pub use incoming::Incoming;
pub use listening::{Listening, Shared, Starting};
pub use names::{Found, Lookup, Resolver};
pub use peer::{Peer, Signals};
pub use peers::Peers;
pub use queue::SendQueue;
pub use reading::Reading;
pub use registry::Ticket;
pub use route::Route;
pub use security::{Cipher, Guard, Security};
pub use speaker::Speaker;
pub use undialed::Undialed;
pub use writing::Writing;

/// The empty frame by which a node says that it is alive.
pub fn keepalive() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(frame::HEADER_BYTES);
    frame::encode(&mut bytes, 0, |_| ()).expect("nothing is not too long");
    bytes
}

/// How long to wait if the system gives no more sockets for connections that are accepted. Peers
/// that dial meanwhile wait in the system's queue.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The longest attempt to connect, however patient the configuration is: what a clock can show.
const ATTEMPT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The end of an attempt that begins now.
fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(ATTEMPT_MAX)
}

/// The limits of a TCP transport. The defaults suit the defaults of [`crate::Config`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The longest frame in bytes, sent or received. It must exceed
    /// [`append_bytes_max`](crate::Config::append_bytes_max) and
    /// [`snapshot_chunk_bytes`](crate::Config::snapshot_chunk_bytes) by at least 72 KiB, or the
    /// node does not start. A node refuses a peer that may send longer messages. So to raise those
    /// limits on any node, first raise this one on all nodes.
    pub frame_bytes_max: usize,
    /// The most messages that wait for one peer. More are dropped.
    pub queue_messages_max: usize,
    /// The most bytes of messages that wait for one peer. More are dropped.
    pub queue_bytes_max: usize,
    /// The most incoming connections at a time, including those that have not introduced
    /// themselves. More wait to be accepted.
    pub connections_max: usize,
    /// The most incoming connections at a time from nodes that are no members as far as this node
    /// knows.
    pub unknown_peers_max: usize,
    /// Where other nodes reach this node: a name or number with a port, which this node says to the
    /// nodes that it dials. `None` means the address on which it listens or, if it listens on every
    /// address of the machine, the address from which it dials.
    pub advertise: Option<String>,
    /// How long to wait for a connection, name resolution included. The addresses of a name share
    /// it.
    pub connect_timeout: Duration,
    /// How long to wait for the other side's part of the handshake.
    pub handshake_timeout: Duration,
    /// How long to wait, at most, before the first attempt to connect again. The wait doubles with
    /// each failure in a row.
    pub reconnect_backoff_min: Duration,
    /// The limit of the doubling. Every wait is a random part of it, at least half.
    pub reconnect_backoff_max: Duration,
    /// How often a node says that it is alive.
    pub keepalive_interval: Duration,
    /// How long the other side may be silent, or take nothing, before the connection is closed. At
    /// least twice `keepalive_interval`.
    pub idle_timeout: Duration,
    /// How the names of peers become addresses.
    pub resolver: Resolver,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            frame_bytes_max: 4 << 20,
            queue_messages_max: 4096,
            queue_bytes_max: 32 << 20,
            connections_max: 128,
            unknown_peers_max: 16,
            advertise: None,
            connect_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(1),
            reconnect_backoff_min: Duration::from_millis(20),
            reconnect_backoff_max: Duration::from_secs(1),
            keepalive_interval: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(2),
            resolver: Resolver::of_system(),
        }
    }
}

/// The most bytes that a message takes in a frame besides what
/// [`Message::size`](crate::Message::size) counts: the members, all of whom a snapshot names, and
/// its other fields.
const BESIDES_SIZE_BYTES_MAX: usize = 72 << 10;
const _: () = assert!(BESIDES_SIZE_BYTES_MAX > MEMBERS_MAX * (LABEL_BYTES_MAX + 96) + 1024);

impl Config {
    /// The end of a handshake that begins now, for an adapter that blocks.
    pub fn handshake_deadline(&self) -> Instant {
        deadline(self.handshake_timeout)
    }

    /// The answer of a transport with this configuration to
    /// [`Transport::message_bytes_max`](crate::host::Transport::message_bytes_max).
    pub fn message_bytes_max(&self) -> usize {
        self.frame_bytes_max.saturating_sub(BESIDES_SIZE_BYTES_MAX)
    }

    /// Whether a transport can work with this configuration.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`], with a text that says what would work instead.
    pub fn validate(&self) -> io::Result<()> {
        let invalid = |text| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let limits = [
            ("frame_bytes_max", self.frame_bytes_max as u128),
            ("queue_messages_max", self.queue_messages_max as u128),
            ("queue_bytes_max", self.queue_bytes_max as u128),
            ("connections_max", self.connections_max as u128),
            ("connect_timeout", self.connect_timeout.as_nanos()),
            ("handshake_timeout", self.handshake_timeout.as_nanos()),
            ("reconnect_backoff_min", self.reconnect_backoff_min.as_nanos()),
            ("keepalive_interval", self.keepalive_interval.as_nanos()),
        ];
        if let Some((name, _)) = limits.iter().find(|(_, limit)| *limit == 0) {
            return invalid(format!("{name} must not be zero"));
        }
        if self.advertise.as_ref().is_some_and(|address| address.len() > ADDRESS_BYTES_MAX) {
            return invalid(format!("advertise must have at most {ADDRESS_BYTES_MAX} bytes"));
        }
        let (min, max) = (self.reconnect_backoff_min, self.reconnect_backoff_max);
        if min > max {
            return invalid(format!(
                "reconnect_backoff_min {min:?} must not be above reconnect_backoff_max {max:?}"
            ));
        }
        let (keepalive, idle) = (self.keepalive_interval, self.idle_timeout);
        if keepalive > idle / 2 {
            return invalid(format!(
                "keepalive_interval {keepalive:?} must be at most half of idle_timeout {idle:?}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_cannot_work_are_refused() {
        assert!(Config::default().validate().is_ok());
        let second = Duration::from_secs(1);
        for config in [
            Config { queue_messages_max: 0, ..Config::default() },
            Config { advertise: Some("b".repeat(ADDRESS_BYTES_MAX + 1)), ..Config::default() },
            Config { connect_timeout: Duration::ZERO, ..Config::default() },
            Config { reconnect_backoff_min: second * 2, ..Config::default() },
            Config { keepalive_interval: second, idle_timeout: second, ..Config::default() },
        ] {
            let error = config.validate().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
