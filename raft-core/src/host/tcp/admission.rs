//! Admission: which dialers an acceptor lets in.

use std::net::SocketAddr;
use std::string::{String, ToString};
use std::vec::Vec;

use bytes::Bytes;

use super::closed::Closed;
use super::peer::Signals;
use super::peers::Peers;
use super::reading::Reading;
use super::registry::Ticket;
use super::speaker::Speaker;
use crate::host::identity::Introduction;
use crate::host::transport::PeerInbox;
use crate::host::wire::frame;
use crate::host::wire::handshake::{Answer, HANDSHAKE_BYTES_MAX, Hello, Refusal, Welcome};
use crate::types::NodeId;

impl<S: Signals> Peers<S> {
    /// Judges the first frame of a connection from `source`, or the reason why there is none.
    /// Appends the answer, if one is due, to `answer`: write it in any case. A peer that is let in
    /// stays connected for as long as the ticket lives.
    ///
    /// # Errors
    ///
    /// Close the connection after the answer.
    pub fn judge(
        &self,
        first: Result<Bytes, Closed>,
        reading: &Reading,
        source: SocketAddr,
        answer: &mut Vec<u8>,
    ) -> Result<(PeerInbox, Ticket), Closed> {
        self.judge_speaker(&Speaker::default(), first, reading, source, answer)
    }

    /// Like [`judge`](Self::judge), if the dialer has proved for which nodes it may speak.
    ///
    /// # Errors
    ///
    /// Close the connection after the answer.
    pub fn judge_speaker(
        &self,
        speaker: &Speaker,
        first: Result<Bytes, Closed>,
        reading: &Reading,
        source: SocketAddr,
        answer: &mut Vec<u8>,
    ) -> Result<(PeerInbox, Ticket), Closed> {
        let judged = match first {
            // A dialer that sends more before it is welcome does not speak this protocol.
            Ok(_) if reading.is_mid_frame() => Err(Refusal::NotAHello),
            Ok(payload) => self.enter(speaker, &payload, source),
            Err(Closed::Frame(_)) => Err(Refusal::NotAHello),
            Err(closed) => return Err(closed),
        };
        let verdict = match &judged {
            Ok((version, peer, _)) => {
                let introduction = self.inbox.introduce(&self.identity, peer.peer(), None);
                let Introduction { store, past, knows_you, named_at, timeouts, .. } = introduction;
                let version = *version;
                let store_id = Some(store);
                Answer::Welcome(Welcome { version, store_id, past, knows_you, named_at, timeouts })
            }
            Err(refusal) => Answer::Refused(*refusal),
        };
        frame::encode(answer, HANDSHAKE_BYTES_MAX, |out| verdict.encode(out))?;
        let (_, peer, ticket) = judged.map_err(Closed::Refused)?;
        Ok((peer, ticket))
    }

    fn enter(
        &self,
        speaker: &Speaker,
        payload: &[u8],
        source: SocketAddr,
    ) -> Result<(u16, PeerInbox, Ticket), Refusal> {
        let hello = Hello::decode(payload)?;
        speaker.check(hello.from).map_err(|missing| {
            let node = self.identity.node.get();
            tracing::debug!(node, peer = hello.from.get(), missing, "not the node that it says");
            Refusal::Certificate { node: hello.from }
        })?;
        let said = address(hello.address.clone(), source);
        let is_behind = self.inbox.is_behind(hello.named_at);
        let store = |node| if is_behind { None } else { self.store(node) };
        let version = hello.check(&self.identity, store).inspect_err(|refusal| {
            if matches!(refusal, Refusal::OtherStore { .. }) {
                // The host refuses the dialer for the same reason, and takes note.
                let _ = self.inbox.admit(hello.introduction(said.clone()));
            }
        })?;
        let peer = hello.from;
        let store_id = hello.store_id;
        if !self.is_expected(peer)
            && self.unknown_peers_besides(peer) >= self.config.unknown_peers_max
        {
            return Err(Refusal::UnknownPeer);
        }
        let ticket = self.registry.enter(peer, store_id, said.clone())?;
        let peer_inbox = self.inbox.admit(hello.introduction(said))?;
        Ok((version, peer_inbox, ticket))
    }

    /// How many other peers that are no members are connected.
    fn unknown_peers_besides(&self, peer: NodeId) -> usize {
        let connected = self.registry.stores().into_iter();
        connected.filter(|(id, _)| *id != peer && !self.is_expected(*id)).count()
    }
}

/// Where a peer is reached that says it listens on `said`. A peer that listens on every address of
/// its machine is reached at the address from which it dials.
fn address(said: String, source: SocketAddr) -> Option<String> {
    match said.parse::<SocketAddr>() {
        Ok(every) if every.ip().is_unspecified() => {
            Some(SocketAddr::new(source.ip(), every.port()).to_string())
        }
        Ok(_) | Err(_) => Some(said).filter(|said| !said.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::peers::tests::{Woken, at, identity, label, membership, peers};
    use super::*;
    use crate::host::identity::StoreId;
    use crate::host::wire::handshake::HandshakeError;

    fn hello(from: u64, address: &str) -> Bytes {
        let mut payload = Vec::new();
        Hello::new(&identity(from), NodeId::new(1), address).encode(&mut payload);
        payload.into()
    }

    fn answer(frame: &[u8]) -> Result<Welcome, HandshakeError> {
        let mut reading = Reading::new(HANDSHAKE_BYTES_MAX);
        reading.space().extend_from_slice(frame);
        Answer::conclude(&reading.next_payload().unwrap().unwrap())
    }

    fn judge(peers: &Peers<Woken>, hello: Bytes) -> (Result<Ticket, Closed>, Vec<u8>) {
        let reading = Reading::new(HANDSHAKE_BYTES_MAX);
        let mut out = Vec::new();
        let judged = peers.judge(Ok(hello), &reading, at("10.0.0.9:5555"), &mut out);
        (judged.map(|(_, ticket)| ticket), out)
    }

    #[test]
    fn everyone_of_the_cluster_is_let_in_but_not_too_many_strangers() {
        let peers = peers(&[2]);
        let (member, out) = judge(&peers, hello(2, ""));
        assert!(member.is_ok());
        assert_eq!(answer(&out).unwrap().store_id, Some(StoreId::new(1)));

        let unknown_peers_max = peers.config.unknown_peers_max as u64;
        let unknown: Vec<_> =
            (0..unknown_peers_max).map(|n| judge(&peers, hello(100 + n, "")).0).collect();
        assert!(unknown.iter().all(Result::is_ok));
        let (refused, out) = judge(&peers, hello(99, ""));
        assert!(matches!(refused, Err(Closed::Refused(Refusal::UnknownPeer))));
        assert_eq!(answer(&out), Err(HandshakeError::Refused(Refusal::UnknownPeer)));
        assert!(judge(&peers, hello(100, "")).0.is_ok(), "one that comes back is the same peer");
        drop(unknown);
        assert!(judge(&peers, hello(99, "")).0.is_ok());
    }

    #[test]
    fn a_dialer_speaks_only_for_the_nodes_that_it_has_proved_to_be() {
        let peers = peers(&[2, 3]);
        let two = Speaker::new(|node| match node.get() {
            2 => Ok(()),
            _ => Err("it is named 2".into()),
        });
        let reading = Reading::new(HANDSHAKE_BYTES_MAX);
        let judge = |from| {
            let mut out = Vec::new();
            let source = at("10.0.0.9:5555");
            let judged = peers.judge_speaker(&two, Ok(hello(from, "")), &reading, source, &mut out);
            (judged.map(drop), out)
        };
        let (refused, out) = judge(3);
        let refusal = Refusal::Certificate { node: NodeId::new(3) };
        assert!(matches!(refused, Err(Closed::Refused(given)) if given == refusal));
        assert_eq!(answer(&out), Err(HandshakeError::Refused(refusal)));
        assert!(judge(2).0.is_ok());
    }

    #[test]
    fn a_member_with_another_store_is_refused_and_told_what_to_do() {
        let peers = peers(&[2]);
        let store = |store| label(None, Some(store));
        let (before, _) = judge(&peers, hello(2, ""));
        peers.members(&membership(&[(1, label(None, None)), (2, store(0xbad))]));
        let before = before.unwrap().check();
        assert!(matches!(before, Err(Closed::Refused(Refusal::OtherStore { .. }))));
        let (refused, out) = judge(&peers, hello(2, ""));
        assert!(matches!(refused, Err(Closed::Refused(Refusal::OtherStore { .. }))));
        let told = answer(&out).unwrap_err().to_string();
        assert!(told.contains("remove node 2 from the cluster and add it again"), "{told}");
        peers.members(&membership(&[(1, label(None, None)), (2, store(2))]));
        assert!(judge(&peers, hello(2, "")).0.is_ok());
    }

    #[test]
    fn a_stranger_is_reached_where_it_says() {
        let peers = peers(&[]);
        let _named = judge(&peers, hello(2, "b:1"));
        let _silent = judge(&peers, hello(3, ""));
        let _everywhere = judge(&peers, hello(4, "0.0.0.0:7000"));
        let addresses = |id| peers.addresses(NodeId::new(id));
        assert_eq!(addresses(2), ["b:1"]);
        assert!(addresses(3).is_empty());
        assert_eq!(addresses(4), ["10.0.0.9:7000"]);
    }

    #[test]
    fn who_says_too_much_is_refused_and_who_left_gets_no_answer() {
        let peers = peers(&[2]);
        let mut reading = Reading::new(HANDSHAKE_BYTES_MAX);
        let mut out = Vec::new();
        let source = at("10.0.0.9:5555");
        let closed = peers.judge(Err(Closed::Ended), &reading, source, &mut out).unwrap_err();
        assert!(matches!(closed, Closed::Ended) && out.is_empty());

        reading.space().extend_from_slice(b"more");
        let closed = peers.judge(Ok(hello(2, "")), &reading, source, &mut out).unwrap_err();
        assert!(matches!(closed, Closed::Refused(Refusal::NotAHello)) && !out.is_empty());
    }
}
