//! The messages of one accepted connection.

use bytes::Bytes;

use super::closed::Closed;
use super::counters::Counters;
use super::registry::Ticket;
use crate::codec;
use crate::host::transport::PeerInbox;
use crate::types::NodeId;

/// Payloads of at least this many bytes are kept as they arrived. Shorter payloads are copied once
/// for all their commands. Otherwise a command from a short payload would hold on to the buffer
/// that it was read into, tens of KiB, for as long as it is in the log.
const SHARED_BYTES_MIN: usize = 32 * 1024;

/// Turns the frames of one peer into messages for this node.
#[derive(Debug)]
pub struct Incoming {
    me: NodeId,
    inbox: PeerInbox,
    counters: Counters,
    ticket: Option<Ticket>,
}

impl Incoming {
    /// For messages from the peer of `inbox` to `me`.
    pub fn new(me: NodeId, inbox: PeerInbox, counters: Counters) -> Self {
        Self { me, inbox, counters, ticket: None }
    }

    /// The same for a peer that [was let in](super::Peers::judge) with this ticket.
    pub(super) fn with_ticket(self, ticket: Ticket) -> Self {
        Self { ticket: Some(ticket), ..self }
    }

    /// The peer.
    pub fn peer(&self) -> NodeId {
        self.inbox.peer()
    }

    /// Whether to keep the connection, as its [ticket](Ticket::check) says.
    ///
    /// # Errors
    ///
    /// Close the connection for this reason.
    pub fn check(&self) -> Result<(), Closed> {
        self.ticket.as_ref().map_or(Ok(()), Ticket::check)
    }

    /// Delivers the message in a frame. An empty frame holds none.
    ///
    /// # Errors
    ///
    /// The peer may not use this connection any more.
    pub fn receive(&self, payload: &Bytes) -> Result<(), Closed> {
        if payload.is_empty() {
            return Ok(());
        }
        let mut owned = None;
        let command = |command: &[u8]| {
            let owned = owned.get_or_insert_with(|| own(payload));
            let start = command.as_ptr() as usize - payload.as_ptr() as usize;
            owned.slice(start..start + command.len())
        };
        let cells = self.counters.cells();
        let message = match codec::decode_message(payload, command) {
            Ok(message) => message,
            Err(error) if error.is_from_newer() => {
                tracing::debug!(node = self.me.get(), peer = self.inbox.peer().get(), %error, "message dropped");
                cells.dropped_from_newer.add(1);
                return Ok(());
            }
            Err(error) => return Err(Closed::Decode(error)),
        };
        let (from, to) = (message.from, message.to);
        if from != self.inbox.peer() || to != self.me {
            return Err(Closed::Misaddressed { from, to });
        }
        cells.messages_received.add(1);
        cells.bytes_received.add(payload.len());
        self.inbox.deliver(message).map_err(Closed::Refused)
    }
}

fn own(payload: &Bytes) -> Bytes {
    if payload.len() < SHARED_BYTES_MIN { Bytes::copy_from_slice(payload) } else { payload.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::{Entry, Payload};
    use crate::host::identity::{Introduction, StoreId};
    use crate::host::transport::MessageInbox;
    use crate::message::{AppendEntries, Body, Message};
    use crate::types::{Index, LogId, Round, Session, Term};
    use std::sync::{Arc, Mutex};
    use std::vec;
    use std::vec::Vec;

    fn append(from: u64, to: u64, commands: &[Bytes]) -> Message<Bytes> {
        let entry = |(index, command): (u64, &Bytes)| {
            let payload = Payload::Command(command.clone());
            Entry { term: Term::new(1), index: Index::new(index), payload }
        };
        let body = Body::AppendEntries(AppendEntries {
            session: Session::new(1),
            round: Round::new(1),
            prev_log: LogId::ZERO,
            entries: (1..).zip(commands).map(entry).collect(),
            leader_commit: Index::ZERO,
            rank: None,
            election_timeout_micros: None,
            takes_proposals: false,
        });
        Message { from: NodeId::new(from), to: NodeId::new(to), term: Term::new(1), body }
    }

    fn receive(payload: &Bytes) -> (Result<(), Closed>, Vec<Message<Bytes>>, Counters) {
        let delivered = Arc::new(Mutex::new(Vec::new()));
        let counters = Counters::default();
        let sink = delivered.clone();
        let inbox = MessageInbox::new(move |message| sink.lock().unwrap().push(message));
        let peer = Introduction::new(NodeId::new(2), StoreId::new(2));
        let inbox = inbox.admit(peer).unwrap();
        let result = Incoming::new(NodeId::new(1), inbox, counters.clone()).receive(payload);
        let delivered = std::mem::take(&mut *delivered.lock().unwrap());
        (result, delivered, counters)
    }

    fn payload(message: &Message<Bytes>) -> Bytes {
        let mut payload = Vec::new();
        codec::encode_message(message, &mut payload);
        payload.into()
    }

    #[test]
    fn commands_arrive_whether_copied_or_shared() {
        let empty = Bytes::new();
        for long in [Bytes::from_static(b"long"), vec![7; SHARED_BYTES_MIN].into()] {
            let message = append(2, 1, &[Bytes::from_static(b"short"), empty.clone(), long]);
            let (result, delivered, counters) = receive(&payload(&message));
            assert!(result.is_ok());
            assert_eq!(delivered, [message]);
            assert_eq!(counters.read().messages_received, 1);
        }
    }

    #[test]
    fn short_commands_do_not_hold_on_to_the_buffer_they_were_read_into() {
        let payload = payload(&append(2, 1, &[Bytes::from_static(b"short")]));
        let (_, delivered, _) = receive(&payload);
        assert_eq!(delivered.len(), 1);
        assert!(payload.is_unique());
    }

    #[test]
    fn an_empty_frame_is_a_sign_of_life() {
        let (result, delivered, _) = receive(&Bytes::new());
        assert!(result.is_ok() && delivered.is_empty());
    }

    #[test]
    fn messages_of_others_or_for_others_end_the_connection() {
        for (from, to) in [(3, 1), (2, 3)] {
            let (result, delivered, _) = receive(&payload(&append(from, to, &[])));
            assert!(matches!(result, Err(Closed::Misaddressed { .. })));
            assert!(delivered.is_empty());
        }
    }

    #[test]
    fn what_only_a_newer_node_understands_is_dropped_alone() {
        let (result, delivered, counters) =
            receive(&Bytes::from_static(b"\x85\x02\x01\x07\x17\x80"));
        assert!(result.is_ok() && delivered.is_empty());
        assert_eq!(counters.read().dropped_from_newer, 1);
    }

    #[test]
    fn garbage_ends_the_connection() {
        let (result, delivered, _) = receive(&Bytes::from_static(b"garbage"));
        assert!(matches!(result, Err(Closed::Decode(_))));
        assert!(delivered.is_empty());
    }
}
