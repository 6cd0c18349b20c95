//! What a dialer and an acceptor say, and whether an acceptor lets a dialer in.

use std::string::String;

use bytes::Bytes;

use super::VERSION_OLDEST;
use super::refusals::Refusal;
use crate::codec;
use crate::host::identity::{ClusterId, Identity, Introduction, Past, StoreId};
use crate::host::timeouts::Timeouts;
use crate::host::versions::Versions;
use crate::types::{LogId, NodeId};

/// What a dialer says first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The oldest version that the dialer speaks.
    pub version_min: u16,
    /// The newest version that the dialer speaks.
    pub version_max: u16,
    /// The dialer's cluster.
    pub cluster: ClusterId,
    /// The dialer.
    pub from: NodeId,
    /// The node that the dialer believes it has reached.
    pub to: NodeId,
    /// The dialer's store.
    pub store_id: StoreId,
    /// Where the dialer is reached; empty if it does not say. At most
    /// [`ADDRESS_BYTES_MAX`](crate::host::ADDRESS_BYTES_MAX).
    pub address: String,
    /// What the dialer's store holds.
    pub past: Past,
    /// Whether the dialer knows the acceptor as a member, if it says.
    pub knows_you: Option<bool>,
    /// What the application says of the dialer. At most
    /// [`SAID_NOTE_BYTES_MAX`](super::SAID_NOTE_BYTES_MAX).
    pub note: Bytes,
    /// The longest [`Message::size`](crate::Message::size) that the dialer sends, in bytes, if it
    /// says.
    pub sends_bytes_max: Option<u64>,
    /// The versions of the application that the dialer understands, if it says.
    pub versions: Option<Versions>,
    /// The committed entry of the dialer's log that names it with its store, if there is one.
    pub named_at: Option<LogId>,
    /// The timeouts that the dialer is configured with, if it says.
    pub timeouts: Option<Timeouts>,
}

impl Hello {
    /// What `me` says to `to`; other nodes reach `me` at `address`. It says nothing of its past.
    pub fn new(me: &Identity, to: NodeId, address: impl Into<String>) -> Self {
        let Identity { cluster, node, store_id } = *me;
        let (version_min, version_max) = (VERSION_OLDEST, codec::VERSION);
        let address = address.into();
        let past = Past::Unknown;
        let knows_you = None;
        let note = Bytes::new();
        Self {
            version_min,
            version_max,
            cluster,
            from: node,
            to,
            store_id,
            address,
            past,
            knows_you,
            note,
            sends_bytes_max: None,
            versions: None,
            named_at: None,
            timeouts: None,
        }
    }

    /// How `me` introduces itself to `to`.
    pub fn of(me: &Identity, to: NodeId, introduction: Introduction) -> Self {
        let Introduction {
            node: _,
            store: _,
            past,
            knows_you,
            address,
            note,
            sends_bytes_max,
            versions,
            named_at,
            timeouts,
        } = introduction;
        let hello = Self::new(me, to, address.unwrap_or_default());
        Self { past, knows_you, note, sends_bytes_max, versions, named_at, timeouts, ..hello }
    }

    /// How the dialer introduces itself; `address` is where it is reached.
    pub fn introduction(&self, address: Option<String>) -> Introduction {
        let Self { from, store_id, past, knows_you, ref note, .. } = *self;
        let Self { sends_bytes_max, versions, named_at, timeouts, .. } = *self;
        let node = from;
        let store = store_id;
        let note = note.clone();
        Introduction {
            node,
            store,
            past,
            knows_you,
            address,
            note,
            sends_bytes_max,
            versions,
            named_at,
            timeouts,
        }
    }

    /// Whether `me` lets the dialer in, and the version to speak. `stores` returns the stores of
    /// the members, as far as the cluster knows them. The caller checks the reasons that need a
    /// comparison with other connections: [`Refusal::Duplicate`] and [`Refusal::UnknownPeer`].
    ///
    /// # Errors
    ///
    /// The reason why the dialer is refused, to be answered and logged.
    pub fn check(
        &self,
        me: &Identity,
        stores: impl Fn(NodeId) -> Option<StoreId>,
    ) -> Result<u16, Refusal> {
        let version = self.version_max.min(codec::VERSION);
        if version < self.version_min || version < VERSION_OLDEST {
            return Err(Refusal::Version { min: VERSION_OLDEST, max: codec::VERSION });
        }
        if self.cluster != me.cluster {
            return Err(Refusal::Cluster { cluster: me.cluster });
        }
        if self.from == me.node {
            return Err(Refusal::Itself { node: me.node });
        }
        if self.to != me.node {
            return Err(Refusal::NotMe { node: me.node });
        }
        if stores(self.from).is_some_and(|known| known != self.store_id) {
            return Err(Refusal::OtherStore { node: self.from });
        }
        Ok(version)
    }
}

/// Messages may follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The version to speak.
    pub version: u16,
    /// The acceptor's store, if it says.
    pub store_id: Option<StoreId>,
    /// What the acceptor's store holds.
    pub past: Past,
    /// Whether the acceptor knows the dialer as a member, if it says.
    pub knows_you: Option<bool>,
    /// The committed entry of the acceptor's log that names it with its store, if there is one.
    pub named_at: Option<LogId>,
    /// The timeouts that the acceptor is configured with, if it says.
    pub timeouts: Option<Timeouts>,
}

impl Welcome {
    /// How the acceptor, the node `node`, introduces itself. `None` if it does not say which store
    /// it has.
    pub fn introduction(&self, node: NodeId) -> Option<Introduction> {
        let Self { version: _, store_id, past, knows_you, named_at, timeouts } = *self;
        let known = Introduction::new(node, store_id?);
        Some(Introduction { past, knows_you, named_at, timeouts, ..known })
    }
}

/// What an acceptor answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Messages may follow.
    Welcome(Welcome),
    /// The connection is about to be closed.
    Refused(Refusal),
}
