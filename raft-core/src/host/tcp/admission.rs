//! What an acceptor decides: whom to let in.

use std::collections::BTreeSet;
use std::vec::Vec;

use bytes::Bytes;

use super::closed::Closed;
use super::reading::Reading;
use super::registry::{Registry, Ticket};
use crate::host::frame;
use crate::host::handshake::{Answer, HANDSHAKE_BYTES_MAX, Hello, Refusal};
use crate::host::identity::Identity;
use crate::types::NodeId;

/// Judges those who dial.
#[derive(Debug)]
pub struct Admission {
    identity: Identity,
    peers: BTreeSet<NodeId>,
    registry: Registry,
}

impl Admission {
    /// Lets these peers in, each once at a time.
    pub fn new(identity: Identity, peers: impl IntoIterator<Item = NodeId>) -> Self {
        Self { identity, peers: peers.into_iter().collect(), registry: Registry::default() }
    }

    /// Judges the first frame of a connection, or why there is none. The answer, if one is due, is appended to `answer`: write it
    /// in any case. Whoever is let in stays connected for as long as the ticket lives.
    ///
    /// # Errors
    ///
    /// The connection is to be closed, after the answer.
    pub fn judge(
        &self,
        first: Result<Bytes, Closed>,
        reading: &Reading,
        answer: &mut Vec<u8>,
    ) -> Result<(NodeId, Ticket), Closed> {
        let judged = match first {
            // Whoever says more before it is welcome does not speak this protocol.
            Ok(_) if reading.is_mid_frame() => Err(Refusal::NotAHello),
            Ok(payload) => self.enter(&payload),
            Err(Closed::Frame(_)) => Err(Refusal::NotAHello),
            Err(closed) => return Err(closed),
        };
        let verdict = match &judged {
            Ok((version, ..)) => Answer::Welcome { version: *version },
            Err(refusal) => Answer::Refused(*refusal),
        };
        frame::encode(answer, HANDSHAKE_BYTES_MAX, |out| verdict.encode(out))?;
        let (_, peer, ticket) = judged.map_err(Closed::Refused)?;
        Ok((peer, ticket))
    }

    fn enter(&self, payload: &[u8]) -> Result<(u16, NodeId, Ticket), Refusal> {
        let hello = Hello::decode(payload)?;
        let version = hello.check(&self.identity, |node| self.peers.contains(&node))?;
        let ticket = self.registry.enter(hello.from, hello.incarnation)?;
        Ok((version, hello.from, ticket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::handshake::HandshakeError;
    use crate::host::identity::{ClusterId, Incarnation};

    fn identity(node: u64) -> Identity {
        let (cluster, incarnation) = (ClusterId::new(7), Incarnation::new(node));
        Identity { cluster, node: NodeId::new(node), incarnation }
    }

    fn hello(from: u64) -> Bytes {
        let mut payload = Vec::new();
        Hello::new(&identity(from), NodeId::new(1)).encode(&mut payload);
        payload.into()
    }

    fn answer(frame: &[u8]) -> Result<u16, HandshakeError> {
        let mut reading = Reading::new(HANDSHAKE_BYTES_MAX);
        reading.space().extend_from_slice(frame);
        Answer::conclude(&reading.next_payload().unwrap().unwrap())
    }

    #[test]
    fn a_peer_is_let_in_and_a_stranger_told_why_not() {
        let admission = Admission::new(identity(1), [NodeId::new(2)]);
        let reading = Reading::new(HANDSHAKE_BYTES_MAX);
        let mut out = Vec::new();
        let (peer, _ticket) = admission.judge(Ok(hello(2)), &reading, &mut out).unwrap();
        assert_eq!(peer, NodeId::new(2));
        assert!(answer(&out).is_ok());

        out.clear();
        let closed = admission.judge(Ok(hello(3)), &reading, &mut out).unwrap_err();
        assert!(matches!(closed, Closed::Refused(Refusal::UnknownPeer)));
        assert_eq!(answer(&out), Err(HandshakeError::Refused(Refusal::UnknownPeer)));
    }

    #[test]
    fn who_says_too_much_is_refused_and_who_left_gets_no_answer() {
        let admission = Admission::new(identity(1), [NodeId::new(2)]);
        let mut reading = Reading::new(HANDSHAKE_BYTES_MAX);
        let mut out = Vec::new();
        let closed = admission.judge(Err(Closed::Ended), &reading, &mut out).unwrap_err();
        assert!(matches!(closed, Closed::Ended) && out.is_empty());

        reading.space().extend_from_slice(b"more");
        let closed = admission.judge(Ok(hello(2)), &reading, &mut out).unwrap_err();
        assert!(matches!(closed, Closed::Refused(Refusal::NotAHello)) && !out.is_empty());
    }
}
