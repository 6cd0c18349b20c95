//! What a dialer decides: where to dial, what to say first, when to try again, and what is worth a line in the log.

use std::io;
use std::string::{String, ToString};
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::Bytes;

use super::backoff::Backoff;
use super::closed::Closed;
use super::peer::{Peer, Signals};
use super::peers::Peers;
use crate::host::frame;
use crate::host::handshake::{Answer, HANDSHAKE_BYTES_MAX, Hello};

/// The attempts to reach one peer.
///
/// ```text
///   address, connect, hello ──► answer ──► connected ──► closed: wait, and connect again, or end
///         └───────────────────────┴──────────────────────► ▲
/// ```
#[derive(Debug)]
pub struct Dialing<'p, S> {
    peers: &'p Peers<S>,
    peer: &'p Peer<S>,
    backoff: Backoff,
    /// How often it failed since the last success: each time the next address is tried.
    failures: usize,
    address: String,
    /// Since when the connection stands, if it does.
    connected: Option<Instant>,
    /// A peer that is down for long fails the same way each time: that is one line in the log.
    last_failure: String,
}

impl<'p, S: Signals> Dialing<'p, S> {
    /// For this one of the peers.
    pub fn new(peers: &'p Peers<S>, peer: &'p Peer<S>) -> Self {
        let (min, max) = (peers.config.reconnect_backoff_min, peers.config.reconnect_backoff_max);
        Self {
            peers,
            peer,
            backoff: Backoff::new(min, max),
            failures: 0,
            address: String::new(),
            connected: None,
            last_failure: String::new(),
        }
    }

    /// Where to dial now.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] while nobody knows.
    pub fn address(&mut self) -> Result<&str, Closed> {
        let mut addresses = self.peers.addresses(self.peer.id());
        if addresses.is_empty() {
            self.address.clear();
            let unknown = "its address is unknown: name it in the member's label";
            return Err(io::Error::new(io::ErrorKind::NotFound, unknown).into());
        }
        self.address = addresses.swap_remove(self.failures % addresses.len());
        Ok(&self.address)
    }

    /// The first frame to write on a connection.
    ///
    /// # Errors
    ///
    /// Never: a hello is short.
    pub fn hello(&self) -> Result<Vec<u8>, Closed> {
        let mut bytes = Vec::new();
        let Peers { identity, address, .. } = self.peers;
        let hello = Hello::new(identity, self.peer.id(), address);
        frame::encode(&mut bytes, HANDSHAKE_BYTES_MAX, |out| hello.encode(out))?;
        Ok(bytes)
    }

    /// Takes the answer to the hello: the peer has let us in, if we want it to.
    ///
    /// # Errors
    ///
    /// It has refused us, or it is not the one that the cluster knows.
    pub fn conclude(&mut self, answer: &[u8]) -> Result<(), Closed> {
        let welcome = Answer::conclude(answer)?;
        self.peer.meet(welcome.incarnation);
        self.peer.check()?;
        tracing::info!(peer = %self.peer.id(), address = self.address, "connected");
        self.peers.counters.count_connected();
        self.connected = Some(Instant::now());
        self.failures = 0;
        self.last_failure.clear();
        Ok(())
    }

    /// Takes what a peer sends to its dialer after the handshake: nothing but signs of life.
    ///
    /// # Errors
    ///
    /// [`Closed::Unexpected`] if it is anything else.
    pub fn receive(payload: &Bytes) -> Result<(), Closed> {
        if payload.is_empty() { Ok(()) } else { Err(Closed::Unexpected) }
    }

    /// The connection, or the attempt to make one, has ended; what waits for the peer is dropped. Returns how long to wait before the
    /// next, unless the peer shows up; or `None` if there is to be none, and the dialer ends.
    pub fn on_closed(&mut self, closed: &Closed) -> Option<Duration> {
        self.peer.queue().clear(0);
        self.peer.meet(None);
        match self.connected.take() {
            Some(since) => self.backoff.connected_for(since.elapsed()),
            None => {
                self.failures = self.failures.wrapping_add(1);
                self.peers.counters.count_connect_failed();
            }
        }
        closed.count(&self.peers.counters);
        self.warn_once(closed);
        if closed.is_stop() || self.peers.forget(self.peer) {
            return None;
        }
        Some(self.backoff.next_wait())
    }

    fn warn_once(&mut self, closed: &Closed) {
        let (peer, address, reason) = (self.peer.id(), &self.address, closed.to_string());
        if matches!(closed, Closed::Stopped | Closed::Left) {
            tracing::info!(%peer, address, reason, "not connected");
        } else if reason == self.last_failure && !self.peers.counters.may_warn_of(closed) {
            tracing::debug!(%peer, address, reason, "not connected");
        } else {
            tracing::warn!(%peer, address, reason, "not connected");
            self.last_failure = reason;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::peers::tests::{Woken, label, membership, peers};
    use super::*;
    use crate::host::handshake::Welcome;
    use crate::host::identity::Incarnation;
    use crate::membership::Membership;
    use crate::types::NodeId;

    const TWO: NodeId = NodeId::new(2);

    /// Node 1, whose only peer is the second, of this store and listed as well.
    fn two(store: Option<u64>) -> (Peers<Woken>, Arc<Peer<Woken>>) {
        let peers = peers(&[2]);
        peers.members(&membership(&[(2, label(Some("labelled:1"), store))]));
        let two = peers.peer(TWO);
        (peers, two)
    }

    fn welcome(store: u64) -> Vec<u8> {
        let (version, incarnation) = (crate::codec::VERSION, Some(Incarnation::new(store)));
        let mut payload = Vec::new();
        Answer::Welcome(Welcome { version, incarnation }).encode(&mut payload);
        payload
    }

    #[test]
    fn attempts_that_fail_are_counted_and_wait_longer_each_time_and_try_each_address() {
        let (peers, two) = two(None);
        let mut dialing = Dialing::new(&peers, &two);
        let mut waits = Vec::new();
        for address in ["labelled:1", "listed-2:1"].into_iter().cycle().take(20) {
            assert_eq!(dialing.address().unwrap(), address);
            waits.push(dialing.on_closed(&Closed::Ended).unwrap());
        }
        assert!(waits[0] <= peers.config.reconnect_backoff_min);
        assert!(waits[19] >= peers.config.reconnect_backoff_max / 2);
        let counts = peers.counters.read();
        assert_eq!((counts.connect_failed, counts.connected), (20, 0));
    }

    #[test]
    fn a_connection_that_ends_is_no_failed_attempt() {
        let (peers, two) = two(None);
        let mut dialing = Dialing::new(&peers, &two);
        dialing.conclude(&welcome(2)).unwrap();
        dialing.on_closed(&Closed::Idle);
        let counts = peers.counters.read();
        assert_eq!((counts.connected, counts.connect_failed, counts.closed_idle), (1, 0, 1));
    }

    #[test]
    fn a_member_with_another_store_is_not_connected() {
        let (peers, two) = two(Some(7));
        let mut dialing = Dialing::new(&peers, &two);
        let closed = dialing.conclude(&welcome(8)).unwrap_err();
        assert!(matches!(closed, Closed::OtherStore { node: TWO }), "{closed}");
        dialing.on_closed(&closed);
        let counts = peers.counters.read();
        assert_eq!((counts.connected, counts.refused_other_store), (0, 1));
        dialing.conclude(&welcome(7)).unwrap();
    }

    #[test]
    fn the_dialer_of_one_who_left_ends() {
        let (peers, two) = two(None);
        let mut dialing = Dialing::new(&peers, &two);
        assert!(dialing.on_closed(&Closed::Ended).is_some());
        peers.members(&Membership::of_voters([NodeId::new(1)]));
        assert!(dialing.on_closed(&Closed::Left).is_none());
    }

    #[test]
    fn a_peer_says_nothing_to_its_dialer() {
        assert!(Dialing::<Woken>::receive(&Bytes::new()).is_ok());
        let spoke = Dialing::<Woken>::receive(&Bytes::from_static(b"x"));
        assert!(matches!(spoke, Err(Closed::Unexpected)));
    }
}
