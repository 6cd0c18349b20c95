//! The contract of a transport.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};
use std::vec;

use bytes::Bytes;

use crate::entries::{Entry, Payload};
use crate::host::identity::{ClusterId, Identity, StoreId};
use crate::host::transport::{MessageInbox, Running, Transport};
use crate::membership::Membership;
use crate::message::{AppendEntries, Body, Message, RequestVote};
use crate::types::{Index, LogId, NodeId, Round, Session, Term};

/// After which something that a transport owes is given up. None takes that long if all is well.
const DEADLINE: Duration = Duration::from_secs(20);

/// The longest message that is sent, in bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Checks a transport. `make` makes the transports of nodes 1 and 2, which must reach each other,
/// and of node 1 once more, when the first was stopped.
///
/// # Panics
///
/// If the transport breaks its contract.
pub fn transport<T: Transport>(mut make: impl FnMut(NodeId) -> T) {
    let [one, two] = [1, 2].map(NodeId::new);
    let (mut first, mut second) = (Side::start(one, make(one)), Side::start(two, make(two)));
    first.reaches(&mut second);
    second.reaches(&mut first);

    // A transport drops what it cannot deliver, and never blocks for it.
    let started = Instant::now();
    for term in 0..10_000 {
        first.transport.send(vote(one, NodeId::new(99), term));
    }
    first.transport.flush();
    assert!(started.elapsed() < DEADLINE, "sending never blocks");

    first.stop("a transport that was asked to stop leaves nothing");
    second.transport.send(vote(two, one, 8));
    second.transport.flush();
    let mut first = Side::start(one, make(one));
    let again = vote(two, one, 9);
    second.send_until_it_arrives(&mut first, &again, "a peer that comes back is reached again");
    first.stop("a transport that was asked to stop leaves nothing");
    second.stop("a transport that was asked to stop leaves nothing");
}

/// A transport and what it received.
struct Side<T> {
    id: NodeId,
    transport: T,
    received: Receiver<Message<Bytes>>,
}

impl<T: Transport> Side<T> {
    fn start(id: NodeId, mut transport: T) -> Self {
        let (sender, received) = mpsc::channel();
        let inbox = MessageInbox::new(move |message| drop(sender.send(message)));
        let (cluster, store_id) = (ClusterId::new(1), StoreId::new(id.get()));
        let identity = Identity { cluster, node: id, store_id };
        transport.start(identity, inbox).expect("the transport starts");
        transport.members(&Membership::of_voters([1, 2].map(NodeId::new)));
        Self { id, transport, received }
    }

    fn reaches(&mut self, to: &mut Self) {
        let vote = vote(self.id, to.id, 7);
        self.send_until_it_arrives(to, &vote, "a message arrives as it was sent");
        let bytes = self.transport.message_bytes_max().min(MESSAGE_BYTES_MAX);
        let long = append(self.id, to.id, bytes.saturating_sub(Entry::<Bytes>::OVERHEAD_BYTES));
        self.send_until_it_arrives(to, &long, "a message of the longest length arrives");
    }

    /// What is sent before a connection stands may be lost.
    fn send_until_it_arrives(&mut self, to: &mut Self, message: &Message<Bytes>, law: &str) {
        let started = Instant::now();
        loop {
            self.transport.send(message.clone());
            self.transport.flush();
            // Earlier messages may come late, or again.
            while let Ok(arrived) = to.received.try_recv() {
                assert_eq!(arrived.to, to.id, "a message arrives at the node that it is for");
                if arrived == *message {
                    return;
                }
            }
            assert!(started.elapsed() < DEADLINE, "{law}: not within {DEADLINE:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn stop(mut self, law: &str) {
        let (running, end) = Running::new();
        self.transport.stop(running);
        drop(self.transport);
        assert!(end.wait_timeout(DEADLINE), "{law}: not within {DEADLINE:?}");
    }
}

fn vote(from: NodeId, to: NodeId, term: u64) -> Message<Bytes> {
    let body = Body::RequestVote(RequestVote { last_log: LogId::ZERO, transfer: false });
    Message { from, to, term: Term::new(term), body }
}

fn append(from: NodeId, to: NodeId, bytes: usize) -> Message<Bytes> {
    let command = Payload::Command(Bytes::from(vec![7; bytes]));
    let entry = Entry { term: Term::new(1), index: Index::new(1), payload: command };
    let body = Body::AppendEntries(AppendEntries {
        session: Session::new(1),
        round: Round::new(1),
        prev_log: LogId::ZERO,
        entries: vec![entry].into(),
        leader_commit: Index::ZERO,
        rank: None,
        election_timeout_micros: None,
        takes_proposals: true,
    });
    Message { from, to, term: Term::new(1), body }
}
