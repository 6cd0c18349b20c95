//! What a dialer decides: where to dial, what to say first, when to try again, and what to log.
//!
//! The dialer also tells a process that has ended from an unstable network. Both close connections.
//! So the dialer dials a closed connection again at once, and the answer decides: a live process
//! welcomes its peer, and the host of an ended process refuses. If neither happens, the dialer
//! knows nothing, and the election timeout decides.
//!
//! ```text
//! connected ──► closed, reset ──► dialed again ─┬─► welcome                     unstable network
//!                                               ├─► refused, closed or reset    process gone
//!                                               └─► no answer, or refused us    unknown
//! ```
//!
//! If a peer has a name, [`names`](super::Resolver) looks it up and a [`Route`] tries its
//! addresses. This is an adapter's attempt:
//!
//! ```text
//! look_up ─► wait for it, lookup_patience at most ─► route ─► each next_address ─┐
//!     conclude ◄─ answer ◄─ hello ◄──────────────────────────────────────────────┘
//! ```
//!
//! A process that has ended is not [heard](super::Incoming) any more either. So the suspicion waits
//! until the peer's own connection to this node has ended.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::string::{String, ToString};
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::Bytes;

use super::backoff::Backoff;
use super::closed::Closed;
use super::deadline;
use super::names::{Found, Lookup, Names};
use super::peer::{Peer, Signals};
use super::peers::Peers;
use super::route::Route;
use crate::host::transport::MessageInbox;
use crate::host::wire::frame;
use crate::host::wire::handshake::{Answer, HANDSHAKE_BYTES_MAX, HandshakeError, Hello};

/// How many reasons why one peer is out of reach the log tells apart.
const REASONS_MAX: usize = 8;

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
    /// The inbox that is told of a process that is gone.
    inbox: &'p MessageInbox,
    backoff: Backoff,
    /// The failures since the last success. Each failure moves on to the next address.
    failures: usize,
    address: String,
    /// How often this address has failed since then.
    turn: usize,
    names: Names,
    /// The end of the present attempt to connect.
    deadline: Instant,
    /// The address with which the present attempt speaks, and the address at which the peer last
    /// welcomed this node.
    speaking: Option<SocketAddr>,
    reached: Option<SocketAddr>,
    /// Since when the connection exists, if it does.
    connected: Option<Instant>,
    /// Whether the last connection was closed, so that the next attempt shows why.
    in_doubt: bool,
    /// The reasons that were logged. A peer that is down for long fails in the same few ways, and
    /// each is one line in the log.
    reasons: Vec<String>,
}

impl<'p, S: Signals> Dialing<'p, S> {
    /// A dialer for this peer. It [tells](MessageInbox::suspect) `inbox` if the peer's process is
    /// gone.
    pub fn new(peers: &'p Peers<S>, peer: &'p Peer<S>, inbox: &'p MessageInbox) -> Self {
        let (min, max) = (peers.config.reconnect_backoff_min, peers.config.reconnect_backoff_max);
        Self {
            peers,
            peer,
            inbox,
            backoff: Backoff::new(min, max),
            failures: 0,
            address: String::new(),
            turn: 0,
            names: Names::new(peers.config.resolver.clone()),
            deadline: Instant::now(),
            speaking: None,
            reached: None,
            connected: None,
            in_doubt: false,
            reasons: Vec::new(),
        }
    }

    /// Begins an attempt to connect: where to dial now.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] while nobody knows.
    pub fn look_up(&mut self) -> Result<Lookup, Closed> {
        self.deadline = deadline(self.peers.config.connect_timeout);
        self.address()?;
        match self.reached {
            // The question is which process answers there, and a name service must not delay the
            // answer.
            Some(reached) if self.in_doubt => Ok(Lookup::found(Ok([reached].into()))),
            Some(_) | None => Ok(self.names.look_up(&self.address)),
        }
    }

    /// How long to wait for the lookup. The time is shorter if the addresses that the name had last
    /// can be tried.
    pub fn lookup_patience(&self) -> Duration {
        let patience = self.peers.config.connect_timeout;
        if self.names.last(&self.address).is_empty() { patience } else { patience / 2 }
    }

    /// The addresses to try: those that were found, or else those that the name had last. `None`
    /// stands for a lookup that took too long.
    ///
    /// # Errors
    ///
    /// There are no addresses.
    pub fn route(&mut self, found: Option<Found>) -> Result<Route, Closed> {
        let slow = || {
            let text = "looking up its name takes longer than connect_timeout: check the name service, or use numbers";
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        };
        let addresses = match found.unwrap_or_else(slow) {
            Ok(addresses) if addresses.is_empty() => {
                let text = "its name has no address: check the name, or use numbers";
                return Err(io::Error::new(io::ErrorKind::NotFound, text).into());
            }
            Ok(addresses) => addresses,
            Err(error) => match self.names.last(&self.address) {
                last if last.is_empty() => return Err(error.into()),
                last => last,
            },
        };
        Ok(Route::new(addresses, self.reached, self.turn, self.deadline))
    }

    /// Where to dial now: a name or number with a port.
    fn address(&mut self) -> Result<&str, Closed> {
        let mut addresses = self.peers.addresses(self.peer.id());
        if addresses.is_empty() {
            self.address.clear();
            let unknown = "its address is unknown: name it in the member's label";
            return Err(io::Error::new(io::ErrorKind::NotFound, unknown).into());
        }
        // Another process matters only at the address of the last connection.
        self.in_doubt &= addresses.contains(&self.address);
        if !self.in_doubt {
            self.turn = self.failures / addresses.len();
            self.address = addresses.swap_remove(self.failures % addresses.len());
        }
        Ok(&self.address)
    }

    /// The first frame to write on a connection to this address.
    ///
    /// # Errors
    ///
    /// None, because a hello is short.
    pub fn hello(&mut self, address: SocketAddr) -> Result<Vec<u8>, Closed> {
        self.speaking = Some(address);
        let mut bytes = Vec::new();
        let (Peers { identity, address, .. }, to) = (self.peers, self.peer.id());
        let hello = Hello::of(identity, to, self.inbox.introduce(identity, to, Some(address)));
        frame::encode(&mut bytes, HANDSHAKE_BYTES_MAX, |out| hello.encode(out))?;
        Ok(bytes)
    }

    /// Takes the answer to the hello, and completes the connection if both sides agree.
    ///
    /// # Errors
    ///
    /// The peer has refused this node, or it is not the node that the cluster knows.
    pub fn conclude(&mut self, answer: &[u8]) -> Result<(), Closed> {
        let welcome = Answer::conclude(answer).inspect_err(|error| {
            if let HandshakeError::Refused(refusal) = error {
                self.inbox.refused_by(self.peer.id(), *refusal);
            }
        })?;
        let is_judged = !self.inbox.is_behind(welcome.named_at);
        self.peer.set_connected_store(welcome.store_id.filter(|_| is_judged));
        let met = welcome.introduction(self.peer.id());
        let verdict = met.map_or(Ok(()), |met| self.inbox.meet(&met, &self.address));
        self.peer.check()?;
        verdict.map_err(Closed::Refused)?;
        let node = self.peers.identity.node.get();
        tracing::info!(node, peer = self.peer.id().get(), address = self.address, "connected");
        self.peers.counters.count_connected();
        self.connected = Some(Instant::now());
        self.in_doubt = false;
        self.reached = self.speaking;
        self.peers.registry.trust(self.peer.id());
        self.failures = 0;
        self.reasons.clear();
        Ok(())
    }

    /// Takes what a peer sends to its dialer after the handshake, which must be empty frames.
    ///
    /// # Errors
    ///
    /// [`Closed::Unexpected`] if the frame is not empty.
    pub fn receive(payload: &Bytes) -> Result<(), Closed> {
        if payload.is_empty() { Ok(()) } else { Err(Closed::Unexpected) }
    }

    /// To be called when the connection, or the attempt to make one, has ended. Drops the messages
    /// that wait for the peer. Returns how long to wait before the next attempt, unless the peer
    /// dials this node first. Zero means at once, without a timer that would make it longer. `None`
    /// means that there is no next attempt, and the dialer ends.
    pub fn on_closed(&mut self, closed: &Closed) -> Option<Duration> {
        self.peer.queue().clear(0);
        self.peer.set_connected_store(None);
        let at_once = match self.connected.take() {
            Some(since) => self.on_lost(since.elapsed(), closed),
            None => {
                self.on_failed(closed);
                false
            }
        };
        closed.count(&self.peers.counters);
        self.warn_once(closed);
        if closed.is_stop() || self.peers.forget(self.peer) {
            return None;
        }
        Some(if at_once { Duration::ZERO } else { self.backoff.next_wait() })
    }

    /// Whether to dial again at once, because the process that closed the connection may be gone.
    fn on_lost(&mut self, lifetime: Duration, closed: &Closed) -> bool {
        let lasted = self.backoff.connected_for(lifetime);
        self.in_doubt = closed.is_like_the_end_of_a_process();
        self.in_doubt && lasted
    }

    fn on_failed(&mut self, closed: &Closed) {
        self.failures = self.failures.wrapping_add(1);
        self.reached = None;
        self.peers.counters.count_connect_failed();
        if mem::take(&mut self.in_doubt) && closed.is_nobody_there() {
            self.peers.counters.cells().suspected.add(1);
            self.peers.registry.suspect(self.peer.id(), self.inbox);
        }
    }

    fn warn_once(&mut self, closed: &Closed) {
        let node = self.peers.identity.node.get();
        let peer = self.peer.id();
        let address = &self.address;
        let reason = closed.to_string();
        if matches!(closed, Closed::Stopped | Closed::Left) {
            tracing::info!(node, peer = peer.get(), address, reason, "not connected");
            return;
        }
        let was_told = self.reasons.contains(&reason) && !closed.is_other_store();
        let left_out =
            if was_told { None } else { self.peers.counters.may_warn(closed.cause(), Some(peer)) };
        match left_out {
            None => tracing::debug!(node, peer = peer.get(), address, reason, "not connected"),
            Some(left_out) => {
                tracing::warn!(node, peer = peer.get(), address, reason, left_out, "not connected");
                self.reasons.truncate(REASONS_MAX - 1);
                self.reasons.insert(0, reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::{self, BrokenPipe, ConnectionRefused, ConnectionReset, TimedOut};
    use std::sync::{Arc, Mutex};
    use std::thread;

    use super::super::names::Resolver;
    use super::super::peers::tests::{Woken, label, membership, peers};
    use super::*;
    use crate::host::identity::{Past, StoreId};
    use crate::host::wire::handshake::Welcome;
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

    /// An inbox, and the suspicions that it hears of.
    fn inbox() -> (MessageInbox, Arc<Mutex<Vec<NodeId>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let suspects = Arc::clone(&heard);
        let inbox = MessageInbox::new(|_| ());
        (inbox.with_suspicions(move |node| suspects.lock().unwrap().push(node)), heard)
    }

    fn io(kind: ErrorKind) -> Closed {
        io::Error::from(kind).into()
    }

    /// What is suspected when a connection, which was made if this says so, ends in the first of
    /// these ways, and each attempt to dial again in the next.
    fn suspects(connected: bool, ends: &[Closed]) -> usize {
        let (peers, two) = two(None);
        let (inbox, heard) = inbox();
        let mut dialing = Dialing::new(&peers, &two, &inbox);
        dialing.address().unwrap();
        if connected {
            dialing.conclude(&welcome(2)).unwrap();
        }
        for closed in ends {
            dialing.on_closed(closed);
            dialing.address().unwrap();
        }
        let heard = heard.lock().unwrap();
        assert!(heard.iter().all(|node| *node == TWO));
        assert_eq!(peers.counters.read().suspected, heard.len() as u64);
        heard.len()
    }

    fn welcome(store: u64) -> Vec<u8> {
        let version = crate::codec::VERSION;
        let store_id = Some(StoreId::new(store));
        let mut payload = Vec::new();
        Answer::Welcome(Welcome {
            version,
            store_id,
            past: Past::Unknown,
            knows_you: None,
            named_at: None,
            timeouts: None,
        })
        .encode(&mut payload);
        payload
    }

    #[test]
    fn attempts_that_fail_are_counted_and_wait_longer_each_time_and_try_each_address() {
        let (peers, two) = two(None);
        let (inbox, _) = inbox();
        let mut dialing = Dialing::new(&peers, &two, &inbox);
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
    fn a_timeout_beyond_what_a_clock_can_show_is_a_long_one() {
        let (mut peers, two) = two(None);
        peers.config.connect_timeout = Duration::MAX;
        let (inbox, _) = inbox();
        let mut dialing = Dialing::new(&peers, &two, &inbox);
        drop(dialing.look_up().unwrap());
        assert!(dialing.deadline > Instant::now() + super::super::ATTEMPT_MAX / 2);
    }

    #[test]
    fn a_connection_that_ends_is_no_failed_attempt() {
        let (peers, two) = two(None);
        let (inbox, _) = inbox();
        let mut dialing = Dialing::new(&peers, &two, &inbox);
        dialing.conclude(&welcome(2)).unwrap();
        dialing.on_closed(&Closed::Idle);
        let counts = peers.counters.read();
        assert_eq!((counts.connected, counts.connect_failed, counts.closed_idle), (1, 0, 1));
    }

    #[test]
    fn a_member_with_another_store_is_not_connected() {
        let (peers, two) = two(Some(7));
        let (inbox, _) = inbox();
        let mut dialing = Dialing::new(&peers, &two, &inbox);
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
        let (inbox, _) = inbox();
        let mut dialing = Dialing::new(&peers, &two, &inbox);
        assert!(dialing.on_closed(&Closed::Ended).is_some());
        peers.members(&Membership::of_voters([NodeId::new(1)]));
        assert!(dialing.on_closed(&Closed::Left).is_none());
    }

    #[test]
    fn a_connection_that_was_closed_and_is_refused_is_the_end_of_a_process() {
        for broken in [Closed::Ended, Closed::Cut, io(ConnectionReset), io(BrokenPipe)] {
            assert_eq!(suspects(true, &[broken, io(ConnectionRefused)]), 1);
        }
        // Its host had yet to close the listener.
        for before_the_welcome in [Closed::Ended, io(ConnectionReset), io(BrokenPipe)] {
            assert_eq!(suspects(true, &[Closed::Ended, before_the_welcome]), 1);
        }
        let again_and_again = [Closed::Ended, io(ConnectionRefused), io(ConnectionRefused)];
        assert_eq!(suspects(true, &again_and_again), 1, "once");
    }

    #[test]
    fn what_a_network_does_raises_no_suspicion() {
        let late = [Closed::Ended, io(TimedOut), io(ConnectionRefused)];
        assert_eq!(suspects(true, &late), 0, "a host that answers late has been away");
        assert_eq!(suspects(true, &[Closed::Idle, io(ConnectionRefused)]), 0, "it was silent");
        assert_eq!(suspects(true, &[Closed::Ended, Closed::Idle]), 0, "it takes the connection");
        assert_eq!(suspects(true, &[Closed::Ended, Closed::OtherStore { node: TWO }]), 0);
        assert_eq!(suspects(false, &[io(ConnectionRefused), io(ConnectionRefused)]), 0);
        assert_eq!(
            suspects(true, &[Closed::Ended, Closed::Stopped]),
            0,
            "it is this node that ends"
        );
    }

    #[test]
    fn a_peer_that_is_welcome_again_is_not_suspected() {
        let (peers, two) = two(None);
        let (inbox, heard) = inbox();
        let mut dialing = Dialing::new(&peers, &two, &inbox);
        for _ in 0..3 {
            dialing.address().unwrap();
            dialing.conclude(&welcome(2)).unwrap();
            dialing.on_closed(&io(ConnectionReset));
        }
        dialing.address().unwrap();
        dialing.conclude(&welcome(2)).unwrap();
        dialing.on_closed(&Closed::Idle);
        dialing.address().unwrap();
        dialing.on_closed(&io(ConnectionRefused));
        assert_eq!(*heard.lock().unwrap(), []);
    }

    #[test]
    fn only_a_connection_that_lasted_is_dialed_again_without_a_wait() {
        let lasting = Duration::from_millis(1);
        let (mut peers, two) = two(None);
        peers.config.reconnect_backoff_min = lasting;
        for (lifetime_min, broken, at_once) in [
            (lasting, Closed::Ended, true),
            (lasting, Closed::Idle, false),
            (Duration::from_secs(60), Closed::Ended, false),
        ] {
            peers.config.reconnect_backoff_max = lifetime_min;
            let (inbox, _) = inbox();
            let mut dialing = Dialing::new(&peers, &two, &inbox);
            dialing.conclude(&welcome(2)).unwrap();
            thread::sleep(lasting);
            assert_eq!(dialing.on_closed(&broken) == Some(Duration::ZERO), at_once);
            assert!(dialing.on_closed(&io(ConnectionRefused)) > Some(Duration::ZERO), "once");
        }
    }

    #[test]
    fn who_answers_counts_where_it_was_connected() {
        let (peers, two) = two(None);
        let (inbox, heard) = inbox();
        let mut dialing = Dialing::new(&peers, &two, &inbox);
        assert_eq!(dialing.address().unwrap(), "labelled:1");
        dialing.on_closed(&io(ConnectionRefused));
        assert_eq!(dialing.address().unwrap(), "listed-2:1");
        dialing.conclude(&welcome(2)).unwrap();
        dialing.on_closed(&Closed::Ended);
        assert_eq!(dialing.address().unwrap(), "listed-2:1", "and not where nobody ever answered");
        dialing.on_closed(&io(ConnectionRefused));
        assert_eq!(*heard.lock().unwrap(), [TWO]);

        let mut dialing = Dialing::new(&peers, &two, &inbox);
        dialing.address().unwrap();
        dialing.conclude(&welcome(2)).unwrap();
        dialing.on_closed(&Closed::Ended);
        peers.members(&membership(&[(2, label(Some("elsewhere:1"), None))]));
        assert_eq!(dialing.address().unwrap(), "elsewhere:1");
        dialing.on_closed(&io(ConnectionRefused));
        assert_eq!(*heard.lock().unwrap(), [TWO], "not again");
    }

    fn route(dialing: &mut Dialing<'_, Woken>) -> Vec<SocketAddr> {
        let lookup = dialing.look_up().unwrap();
        let found = lookup.wait(dialing.lookup_patience());
        let mut route = dialing.route(found).unwrap();
        std::iter::from_fn(|| route.next_address().map(|(address, _)| address)).collect()
    }

    fn addresses(of: &[&str]) -> Vec<SocketAddr> {
        of.iter().map(|address| address.parse().unwrap()).collect()
    }

    /// The first address of a name is silent; the second is tried in the same attempt, and is the
    /// first one the next time.
    #[test]
    fn all_addresses_of_a_name_are_tried_and_the_one_that_answered_comes_first() {
        let (mut peers, two) = two(None);
        let both = ["10.0.0.1:1", "10.0.0.2:1"];
        peers.config.resolver = Resolver::new(move |_| Ok(addresses(&both)));
        let (inbox, _) = inbox();
        let mut dialing = Dialing::new(&peers, &two, &inbox);
        assert_eq!(route(&mut dialing), addresses(&both));
        dialing.hello(addresses(&both)[1]).unwrap();
        dialing.conclude(&welcome(2)).unwrap();
        dialing.on_closed(&Closed::Idle);
        assert_eq!(route(&mut dialing), addresses(&["10.0.0.2:1", "10.0.0.1:1"]));
        dialing.on_closed(&io(TimedOut));
        route(&mut dialing);
        dialing.on_closed(&io(TimedOut));
        assert_eq!(route(&mut dialing), addresses(&["10.0.0.2:1", "10.0.0.1:1"]), "in turn");
    }

    /// Whether its process is gone is asked where it was connected, and no name service is asked
    /// before.
    #[test]
    fn in_doubt_only_the_address_where_it_was_connected_counts() {
        let (mut peers, two) = two(None);
        let lookups = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&lookups);
        peers.config.resolver = Resolver::new(move |_| {
            *counted.lock().unwrap() += 1;
            Ok(addresses(&["10.0.0.1:1", "10.0.0.2:1"]))
        });
        let (inbox, heard) = inbox();
        let mut dialing = Dialing::new(&peers, &two, &inbox);
        route(&mut dialing);
        dialing.hello(addresses(&["10.0.0.2:1"])[0]).unwrap();
        dialing.conclude(&welcome(2)).unwrap();
        dialing.on_closed(&Closed::Ended);
        assert_eq!(route(&mut dialing), addresses(&["10.0.0.2:1"]));
        assert_eq!(*lookups.lock().unwrap(), 1);
        dialing.on_closed(&io(ConnectionRefused));
        assert_eq!(*heard.lock().unwrap(), [TWO]);
        assert_eq!(route(&mut dialing).len(), 2);
    }

    /// A name service that went away costs nobody its peers.
    #[test]
    fn a_name_that_cannot_be_looked_up_any_more_has_the_addresses_that_it_had() {
        let (mut peers, two) = two(None);
        let answers = Arc::new(Mutex::new(std::vec![addresses(&["10.0.0.1:1"])]));
        let left = Arc::clone(&answers);
        peers.config.resolver = Resolver::new(move |_| {
            left.lock().unwrap().pop().ok_or_else(|| io::Error::other("no name service"))
        });
        let (inbox, _) = inbox();
        let mut dialing = Dialing::new(&peers, &two, &inbox);
        for _ in 0..3 {
            assert_eq!(route(&mut dialing), addresses(&["10.0.0.1:1"]));
        }
        let mut other = Dialing::new(&peers, &two, &inbox);
        let found = other.look_up().unwrap().wait(other.lookup_patience());
        let closed = other.route(found).unwrap_err().to_string();
        assert!(closed.contains("no name service"), "{closed}");
        assert!(other.route(None).unwrap_err().to_string().contains("connect_timeout"));
        assert!(other.route(Some(Ok(Vec::new()))).unwrap_err().to_string().contains("no address"));
    }

    #[test]
    fn a_peer_says_nothing_to_its_dialer() {
        assert!(Dialing::<Woken>::receive(&Bytes::new()).is_ok());
        let spoke = Dialing::<Woken>::receive(&Bytes::from_static(b"x"));
        assert!(matches!(spoke, Err(Closed::Unexpected)));
    }
}
