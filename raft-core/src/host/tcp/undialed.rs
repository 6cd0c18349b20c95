//! Peers without a thread that dials them, because the system gave none.
//!
//! A limit on threads may be reached for a moment only, and no other thread would ever dial the
//! peer. So the transport tries again with the next messages, after waits that double up to
//! [`Config::reconnect_backoff_max`].

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Instant;
use std::vec::Vec;

use super::{Backoff, Config, Counters, Peer, Signals};

/// The peers that wait for a thread.
#[derive(Debug)]
pub struct Undialed<S> {
    peers: Vec<Arc<Peer<S>>>,
    backoff: Backoff,
    retry_at: Instant,
}

impl<S: Signals> Undialed<S> {
    /// None so far.
    pub fn new(config: &Config) -> Self {
        Self { peers: Vec::new(), backoff: backoff(config), retry_at: Instant::now() }
    }

    /// Starts dialers for these peers, and for the waiting peers if it is time to try again.
    pub fn dial(
        &mut self,
        peers: impl IntoIterator<Item = Arc<Peer<S>>>,
        config: &Config,
        counters: &Counters,
        spawn: impl Fn(Arc<Peer<S>>) -> io::Result<()>,
    ) {
        let waiting = self.peers.len();
        self.peers.extend(peers);
        if self.peers.is_empty() || (self.peers.len() == waiting && Instant::now() < self.retry_at)
        {
            return;
        }
        for peer in mem::take(&mut self.peers) {
            if let Err(error) = spawn(Arc::clone(&peer)) {
                counters.warn_not_dialing(peer.id(), &error);
                self.peers.push(peer);
            }
        }
        if self.peers.is_empty() {
            self.backoff = backoff(config);
        } else {
            self.retry_at = Instant::now() + self.backoff.next_wait();
        }
    }
}

fn backoff(config: &Config) -> Backoff {
    Backoff::new(config.reconnect_backoff_min, config.reconnect_backoff_max)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    use super::super::peers::tests::{Woken, at, identity};
    use super::*;
    use crate::host::tcp::Peers;
    use crate::host::transport::MessageInbox;
    use crate::types::NodeId;

    /// The system has no thread for a while: each peer is dialed in the end, once, and not as fast
    /// as messages come.
    #[test]
    fn a_peer_for_which_there_was_no_thread_is_dialed_later() {
        let config = Config {
            reconnect_backoff_min: Duration::from_millis(20),
            reconnect_backoff_max: Duration::from_millis(20),
            ..Config::default()
        };
        let counters = Counters::default();
        let listed = [2, 3].map(|id| (NodeId::new(id), "127.0.0.1:1".into())).into();
        let (inbox, listening) = (MessageInbox::new(drop), at("127.0.0.1:1"));
        let (_peers, to_dial) =
            Peers::<Woken>::new(identity(1), inbox, listening, listed, &config, &counters);
        assert_eq!(to_dial.len(), 2);

        let attempts = Cell::new(0);
        let dialed = RefCell::new(Vec::new());
        let has_threads = Cell::new(false);
        let spawn = |peer: Arc<Peer<Woken>>| {
            attempts.set(attempts.get() + 1);
            if !has_threads.get() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            dialed.borrow_mut().push(peer.id().get());
            Ok(())
        };
        let mut undialed = Undialed::new(&config);
        let begun = Instant::now();
        undialed.dial(to_dial, &config, &counters, spawn);
        for _ in 0..1000 {
            undialed.dial([], &config, &counters, spawn);
        }
        let rounds = 1 + begun.elapsed().as_millis() / 10;
        assert!(attempts.get() <= 2 * rounds, "{} attempts in {rounds} rounds", attempts.get());
        has_threads.set(true);
        let deadline = Instant::now() + Duration::from_secs(20);
        while dialed.borrow().len() < 2 {
            undialed.dial([], &config, &counters, spawn);
            assert!(Instant::now() < deadline);
        }
        let done = attempts.get();
        undialed.dial([], &config, &counters, spawn);
        assert_eq!((attempts.get(), dialed.borrow().as_slice()), (done, &[2, 3][..]));
    }
}
