//! Peers without a thread that dials them, because the system gave none.
//!
//! A limit on threads may be reached for a moment only, and no other thread would ever dial the
//! peer. So the transport tries again with the next messages, after waits that double up to
//! [`Config::reconnect_backoff_max`].

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use raft_core::host::tcp::{Backoff, Config, Counters};

use super::shared::Peer;

/// The peers that wait for a thread.
#[derive(Debug)]
pub(super) struct Undialed {
    peers: Vec<Arc<Peer>>,
    backoff: Backoff,
    retry_at: Instant,
}

impl Undialed {
    pub(super) fn new(config: &Config) -> Self {
        Self { peers: Vec::new(), backoff: backoff(config), retry_at: Instant::now() }
    }

    /// Starts dialers for these peers, and for the waiting peers if it is time to try again.
    pub(super) fn dial(
        &mut self,
        peers: impl IntoIterator<Item = Arc<Peer>>,
        config: &Config,
        counters: &Counters,
        spawn: impl Fn(Arc<Peer>) -> io::Result<()>,
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

    use raft_core::NodeId;
    use raft_core::host::tcp::Peers;
    use raft_core::host::{ClusterId, Identity, MessageInbox, StoreId};

    use super::*;

    /// The system has no thread for a while: each peer is dialed in the end, once, and not as fast
    /// as messages come.
    #[test]
    fn a_peer_for_which_there_was_no_thread_is_dialed_later() {
        let config = Config {
            reconnect_backoff_min: Duration::from_millis(20),
            reconnect_backoff_max: Duration::from_millis(20),
            ..Config::default()
        };
        let node = NodeId::new(1);
        let counters = Counters::default();
        let identity = Identity { cluster: ClusterId::new(1), node, store_id: StoreId::new(1) };
        let listed = [2, 3].map(|id| (NodeId::new(id), "127.0.0.1:1".to_owned())).into();
        let inbox = MessageInbox::new(drop);
        let listening = ([127, 0, 0, 1], 1).into();
        let (_peers, to_dial) = Peers::new(identity, inbox, listening, listed, &config, &counters);
        assert_eq!(to_dial.len(), 2);

        let attempts = Cell::new(0);
        let dialed = RefCell::new(Vec::new());
        let has_threads = Cell::new(false);
        let spawn = |peer: Arc<Peer>| {
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
