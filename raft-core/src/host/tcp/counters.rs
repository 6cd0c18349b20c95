//! What a TCP transport counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What a transport has counted since it was made.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)+
        }

        #[derive(Default, Debug)]
        pub(super) struct Cells {
            $(pub(super) $name: Cell,)+
        }

        impl Cells {
            fn read(&self) -> Counts {
                Counts { $($name: self.$name.0.load(Relaxed),)+ }
            }
        }
    };
}

counters! {
    /// Messages written to a connection. They may still be lost.
    messages_sent,
    /// Bytes written to connections, keepalives and handshakes excluded.
    bytes_sent,
    /// Messages received and handed to the node.
    messages_received,
    /// Bytes of those.
    bytes_received,
    /// Messages dropped because the peer's queue was full.
    dropped_full,
    /// Messages dropped because the peer could not be reached, or its connection broke.
    dropped_unreachable,
    /// Messages dropped because they are longer than `frame_bytes_max`.
    dropped_too_long,
    /// Messages dropped because they are for a node that is not among the peers.
    dropped_unknown_peer,
    /// Messages received and dropped because only a newer version understands them.
    dropped_from_newer,
    /// Connections made to peers.
    connected,
    /// Attempts to connect that failed, refusals included.
    connect_failed,
    /// Connections accepted from peers.
    accepted,
    /// Incoming connections refused in the handshake.
    refused,
    /// Connections closed because what came was damaged, too long, cut, or meant nothing.
    closed_damaged,
    /// Connections closed because a message was not from the peer, or not for this node.
    closed_misaddressed,
    /// Connections closed because the other side was silent or took nothing for `idle_timeout`.
    closed_idle,
    /// Incoming connections closed because the peer came back on a new one.
    closed_replaced,
}

/// A handle to the counters of a transport, which stays readable when the transport has moved into a node. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub struct Counters(Arc<Cells>);

impl Counters {
    /// The counts as they are.
    pub fn read(&self) -> Counts {
        self.0.read()
    }

    /// Counts a connection that a peer accepted.
    pub fn count_connected(&self) {
        self.0.connected.add(1);
    }

    /// Counts a connection accepted from a peer.
    pub fn count_accepted(&self) {
        self.0.accepted.add(1);
    }

    /// Counts an attempt to connect that failed.
    pub fn count_connect_failed(&self) {
        self.0.connect_failed.add(1);
    }

    /// Counts a message for nobody.
    pub fn count_unknown_peer(&self) {
        self.0.dropped_unknown_peer.add(1);
    }

    pub(super) fn cells(&self) -> &Cells {
        &self.0
    }
}

#[derive(Default, Debug)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.load(Relaxed) == 0
    }
}
