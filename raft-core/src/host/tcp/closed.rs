//! Why connections end.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::string::String;

use super::counters::Counters;
use super::warnings::Cause;
use crate::codec::DecodeError;
use crate::host::wire::frame::FrameError;
use crate::host::wire::handshake::{self, HandshakeError, Refusal};
use crate::types::NodeId;

/// Why a connection was closed, or never came about. The text is for the log.
#[derive(Debug)]
#[non_exhaustive]
pub enum Closed {
    /// This transport is stopping.
    Stopped,
    /// The other side closed the connection.
    Ended,
    /// The other side closed the connection within a frame.
    Cut,
    /// The network failed.
    Io(io::Error),
    /// TLS found that the other side is not the one that is expected, or what arrived is not TLS.
    Tls {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The other side sent or took nothing for too long.
    Idle,
    /// The bytes that arrived were not a frame.
    Frame(FrameError),
    /// The frame that arrived was not a message.
    Decode(DecodeError),
    /// Messages arrived where only the handshake and empty frames may.
    Unexpected,
    /// A message that this connection must not carry.
    Misaddressed {
        /// The sender that the message names.
        from: NodeId,
        /// The receiver that the message names.
        to: NodeId,
    },
    /// The peer came back on a new connection.
    Replaced,
    /// The peer is no longer a member, and no message waits for it.
    Left,
    /// The peer has the id of a member, but another store: it has lost the member's memory.
    OtherStore {
        /// The id.
        node: NodeId,
    },
    /// This node did not let the dialer in.
    Refused(Refusal),
    /// The acceptor did not let this node in.
    Handshake(HandshakeError),
}

impl Closed {
    /// Whether this transport is stopping.
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Stopped)
    }

    /// Whether a connection ends like this when the other side's process ends: it was closed, and
    /// not lost.
    pub(super) fn is_like_the_end_of_a_process(&self) -> bool {
        match self {
            Self::Ended | Self::Cut => true,
            Self::Io(error) => matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
            ),
            Self::Stopped
            | Self::Tls { .. }
            | Self::Idle
            | Self::Frame(_)
            | Self::Decode(_)
            | Self::Unexpected
            | Self::Misaddressed { .. }
            | Self::Replaced
            | Self::Left
            | Self::OtherStore { .. }
            | Self::Refused(_)
            | Self::Handshake(_) => false,
        }
    }

    /// Whether no process listens at the other side any more, though its host answers.
    pub(super) fn is_nobody_there(&self) -> bool {
        // A process that is being stopped may close its listener last, and with it the connections
        // that wait to be accepted.
        let refused = |error: &io::Error| error.kind() == ErrorKind::ConnectionRefused;
        self.is_like_the_end_of_a_process() || matches!(self, Self::Io(error) if refused(error))
    }

    /// Whether a node has lost its memory, or has another cluster's, so that an operator should
    /// act.
    pub(super) fn is_other_store(&self) -> bool {
        match self {
            Self::OtherStore { .. } => true,
            Self::Refused(refusal) | Self::Handshake(HandshakeError::Refused(refusal)) => {
                matches!(refusal, Refusal::OtherStore { .. } | Refusal::OtherHistory { .. })
            }
            Self::Stopped
            | Self::Ended
            | Self::Cut
            | Self::Io(_)
            | Self::Tls { .. }
            | Self::Idle
            | Self::Frame(_)
            | Self::Decode(_)
            | Self::Unexpected
            | Self::Misaddressed { .. }
            | Self::Replaced
            | Self::Left
            | Self::Handshake(HandshakeError::NotAnAnswer) => false,
        }
    }

    /// What went wrong, for the log.
    pub(super) fn cause(&self) -> Cause {
        if self.is_other_store() {
            return Cause::OtherStore;
        }
        match self {
            Self::Stopped | Self::Ended | Self::Replaced | Self::Left => Cause::Expected,
            Self::Cut => Cause::Cut,
            Self::Io(_) => Cause::Io,
            Self::Tls { .. } => Cause::Tls,
            Self::Idle => Cause::Idle,
            Self::Frame(_) => Cause::Frame,
            Self::Decode(_) => Cause::Decode,
            Self::Unexpected => Cause::Unexpected,
            Self::Misaddressed { .. } => Cause::Misaddressed,
            Self::OtherStore { .. } => Cause::OtherStore,
            Self::Refused(_) => Cause::Refused,
            Self::Handshake(_) => Cause::Handshake,
        }
    }

    /// Counts and logs the end of an incoming connection. `peer` is the node that was let in, if
    /// any.
    pub fn report(&self, counters: &Counters, peer: Option<NodeId>, address: SocketAddr) {
        self.count(counters);
        let cause = self.cause();
        let node = counters.node();
        let peers = peer.map(NodeId::get);
        if cause == Cause::Expected && peer.is_some() {
            tracing::info!(node, peer = peers, %address, reason = %self, "incoming connection closed");
            return;
        }
        match counters.may_warn(cause, peer) {
            None => {
                tracing::debug!(node, peer = peers, %address, reason = %self, "incoming connection closed");
            }
            Some(left_out) if cause == Cause::Expected => {
                tracing::info!(node, %address, reason = %self, left_out, "incoming connection closed");
            }
            Some(left_out) => {
                tracing::warn!(node, peer = peers, %address, reason = %self, left_out, "incoming connection closed");
            }
        }
    }

    /// Counts the reason.
    pub(super) fn count(&self, counters: &Counters) {
        let cells = counters.cells();
        match self {
            Self::Cut | Self::Frame(_) | Self::Decode(_) | Self::Unexpected => {
                cells.closed_damaged.add(1);
            }
            Self::Misaddressed { .. } => cells.closed_misaddressed.add(1),
            Self::Tls { .. } => cells.closed_tls.add(1),
            Self::Idle => cells.closed_idle.add(1),
            Self::Replaced => cells.closed_replaced.add(1),
            Self::Refused(_) => cells.refused.add(1),
            // The dialer counts the failed attempt. The other reasons are normal in networks.
            Self::OtherStore { .. } | Self::Handshake(_) => {}
            Self::Stopped | Self::Ended | Self::Io(_) | Self::Left => {}
        }
        if self.is_other_store() {
            cells.refused_other_store.add(1);
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("this node is stopping"),
            Self::Ended => f.write_str("the other side closed the connection"),
            Self::Cut => f.write_str("the other side closed the connection within a frame"),
            Self::Io(error) => error.fmt(f),
            Self::Tls { reason } => write!(f, "TLS: {reason}"),
            Self::Idle => f.write_str("the other side is silent"),
            Self::Frame(error) => error.fmt(f),
            Self::Decode(error) => write!(f, "frame holds no message: {error}"),
            Self::Unexpected => f.write_str("frame holds a message where none may come"),
            Self::Misaddressed { from, to } => {
                write!(
                    f,
                    "message from node {from} to node {to} does not belong to this connection"
                )
            }
            Self::Replaced => f.write_str("the peer came back on a new connection"),
            Self::Left => f.write_str("the peer is no member of the cluster any more"),
            Self::OtherStore { node } => handshake::other_store(f, *node),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Handshake(error) => error.fmt(f),
        }
    }
}

impl Error for Closed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Frame(error) => Some(error),
            Self::Decode(error) => Some(error),
            Self::Refused(refusal) => Some(refusal),
            // Its text is this error's own.
            Self::Handshake(error) => error.source(),
            Self::Stopped
            | Self::Ended
            | Self::Cut
            | Self::Tls { .. }
            | Self::Idle
            | Self::Unexpected
            | Self::Misaddressed { .. }
            | Self::Replaced
            | Self::Left
            | Self::OtherStore { .. } => None,
        }
    }
}

impl From<io::Error> for Closed {
    fn from(error: io::Error) -> Self {
        match tls_reason(&error) {
            Some(reason) => Self::Tls { reason },
            // A session of TLS ended without a farewell, as it does if its process was killed.
            None if error.kind() == ErrorKind::UnexpectedEof => Self::Ended,
            None => Self::Io(error),
        }
    }
}

impl From<FrameError> for Closed {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<DecodeError> for Closed {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<HandshakeError> for Closed {
    fn from(error: HandshakeError) -> Self {
        Self::Handshake(error)
    }
}

#[cfg(feature = "tls")]
use crate::host::tls::reason as tls_reason;

#[cfg(not(feature = "tls"))]
fn tls_reason(_error: &io::Error) -> Option<String> {
    None
}
