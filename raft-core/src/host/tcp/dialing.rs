//! What a dialer decides: what to say first, when to try again, and what is worth a line in the log.

use std::string::{String, ToString};
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::Bytes;

use super::Config;
use super::backoff::Backoff;
use super::closed::Closed;
use super::counters::Counters;
use crate::host::frame;
use crate::host::handshake::{HANDSHAKE_BYTES_MAX, Hello};
use crate::host::identity::Identity;
use crate::types::NodeId;

/// The attempts to reach one peer.
///
/// ```text
///   connect, hello ──► answer ──► connected ──► closed: wait, and connect again
///         └──────────────┴──────────────────────► ▲
/// ```
#[derive(Debug)]
pub struct Dialing {
    peer: NodeId,
    address: String,
    counters: Counters,
    backoff: Backoff,
    /// Since when the connection stands, if it does.
    connected: Option<Instant>,
    /// A peer that is down for long fails the same way each time: that is one line in the log.
    last_failure: String,
}

impl Dialing {
    /// For this peer, at this address.
    pub fn new(peer: NodeId, address: String, config: &Config, counters: Counters) -> Self {
        let backoff = Backoff::new(config.reconnect_backoff_min, config.reconnect_backoff_max);
        Self { peer, address, counters, backoff, connected: None, last_failure: String::new() }
    }

    /// The first frame to write on a connection.
    ///
    /// # Errors
    ///
    /// Never: a hello is short.
    pub fn hello(&self, identity: &Identity) -> Result<Vec<u8>, Closed> {
        let mut bytes = Vec::new();
        let hello = Hello::new(identity, self.peer);
        frame::encode(&mut bytes, HANDSHAKE_BYTES_MAX, |out| hello.encode(out))?;
        Ok(bytes)
    }

    /// The peer has let us in.
    pub fn on_connected(&mut self) {
        tracing::info!(peer = %self.peer, address = self.address, "connected");
        self.counters.count_connected();
        self.connected = Some(Instant::now());
        self.last_failure.clear();
    }

    /// Takes what a peer sends to its dialer after the handshake: nothing but signs of life.
    ///
    /// # Errors
    ///
    /// [`Closed::Unexpected`] if it is anything else.
    pub fn receive(payload: &Bytes) -> Result<(), Closed> {
        if payload.is_empty() { Ok(()) } else { Err(Closed::Unexpected) }
    }

    /// The connection, or the attempt to make one, has ended. Returns how long to wait before the next, unless the peer shows up.
    pub fn on_closed(&mut self, closed: &Closed) -> Duration {
        match self.connected.take() {
            Some(since) => self.backoff.connected_for(since.elapsed()),
            None => self.counters.count_connect_failed(),
        }
        closed.count(&self.counters);
        self.warn_once(closed);
        self.backoff.next_wait()
    }

    fn warn_once(&mut self, closed: &Closed) {
        let (peer, address, reason) = (self.peer, &self.address, closed.to_string());
        if closed.is_stop() || reason == self.last_failure {
            tracing::debug!(%peer, address, reason, "not connected");
        } else {
            tracing::warn!(%peer, address, reason, "not connected");
            self.last_failure = reason;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_that_fail_are_counted_and_wait_longer_each_time() {
        let (config, counters) = (Config::default(), Counters::default());
        let mut dialing = Dialing::new(NodeId::new(2), "b:1".into(), &config, counters.clone());
        let waits: Vec<_> = (0..20).map(|_| dialing.on_closed(&Closed::Ended)).collect();
        assert!(waits[0] <= config.reconnect_backoff_min);
        assert!(waits[19] >= config.reconnect_backoff_max / 2);
        assert_eq!((counters.read().connect_failed, counters.read().connected), (20, 0));
    }

    #[test]
    fn a_connection_that_ends_is_no_failed_attempt() {
        let counters = Counters::default();
        let mut dialing =
            Dialing::new(NodeId::new(2), "b:1".into(), &Config::default(), counters.clone());
        dialing.on_connected();
        dialing.on_closed(&Closed::Idle);
        let counts = counters.read();
        assert_eq!((counts.connected, counts.connect_failed, counts.closed_idle), (1, 0, 1));
    }

    #[test]
    fn a_peer_says_nothing_to_its_dialer() {
        assert!(Dialing::receive(&Bytes::new()).is_ok());
        let spoke = Dialing::receive(&Bytes::from_static(b"x"));
        assert!(matches!(spoke, Err(Closed::Unexpected)));
    }
}
