//! Messages that wait for one peer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::vec::Vec;

use bytes::Bytes;

use super::Config;
use super::counters::Counters;
use crate::codec;
use crate::host::wire::frame;
use crate::message::Message;

/// How many bytes are gathered for one write to a socket, unless a single message is longer.
const WRITE_BYTES: usize = 256 * 1024;

/// How many bytes a message counts besides its entries towards `queue_bytes_max`.
const MESSAGE_BYTES: usize = 128;

/// A bounded queue of messages for one peer. If the queue is full, it drops a new message and
/// counts it, because Raft sends it again.
#[derive(Debug)]
pub struct SendQueue {
    frame_bytes_max: usize,
    messages_max: usize,
    bytes_max: usize,
    counters: Counters,
    waiting: Mutex<QueuedMessages>,
    /// Whether messages were pushed since the last flush.
    pushed: AtomicBool,
}

#[derive(Default, Debug)]
struct QueuedMessages {
    messages: VecDeque<Message<Bytes>>,
    bytes: usize,
}

impl SendQueue {
    /// An empty queue.
    pub fn new(config: &Config, counters: Counters) -> Self {
        Self {
            frame_bytes_max: config.frame_bytes_max,
            messages_max: config.queue_messages_max,
            bytes_max: config.queue_bytes_max,
            counters,
            waiting: Mutex::default(),
            pushed: AtomicBool::new(false),
        }
    }

    /// Takes a message, or drops it if the queue is full. An empty queue takes any message.
    pub fn push(&self, message: Message<Bytes>) {
        let mut waiting = self.lock();
        let bytes = waiting.bytes.saturating_add(size(&message));
        let fits = waiting.messages.len() < self.messages_max && bytes <= self.bytes_max;
        if fits || waiting.messages.is_empty() {
            waiting.bytes = bytes;
            waiting.messages.push_back(message);
        } else {
            drop(waiting);
            self.counters.cells().dropped_full.add(1);
        }
        self.pushed.store(true, Relaxed);
    }

    /// Whether messages were pushed since the last call. If so, wake the dialer, once for all of
    /// them.
    #[must_use = "those messages wait for the dialer to be woken"]
    pub fn flush(&self) -> bool {
        self.pushed.swap(false, Relaxed)
    }

    /// Moves messages to the end of `out`, as frames, until there are enough for one write. Returns
    /// how many. Messages that are too long for a frame are dropped and counted.
    pub fn take(&self, out: &mut Vec<u8>) -> usize {
        let mut taken = 0;
        while out.len() < WRITE_BYTES {
            let Some(message) = self.pop() else { break };
            let framed = frame::encode(out, self.frame_bytes_max, |payload| {
                codec::encode_message(&message, payload);
            });
            match framed {
                Ok(()) => taken += 1,
                Err(error) => {
                    let too_long = &self.counters.cells().dropped_too_long;
                    // Raft sends the message again and again, so only the first is logged.
                    if too_long.is_zero() {
                        tracing::warn!(node = self.counters.node(), peer = message.to.get(), %error, "message dropped: raise frame_bytes_max");
                    }
                    too_long.add(1);
                }
            }
        }
        taken
    }

    /// Counts the messages that [`SendQueue::take`] returned, once they are written.
    pub fn sent(&self, messages: usize, bytes: usize) {
        self.counters.cells().messages_sent.add(messages);
        self.counters.cells().bytes_sent.add(bytes);
    }

    /// Drops the waiting messages, and counts them together with the `taken` messages that were not
    /// written. The peer is out of reach, and when it is back all these messages are old.
    pub fn clear(&self, taken: usize) {
        let QueuedMessages { messages, bytes: _ } = std::mem::take(&mut *self.lock());
        self.counters.cells().dropped_unreachable.add(messages.len().saturating_add(taken));
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.lock().messages.is_empty()
    }

    fn pop(&self) -> Option<Message<Bytes>> {
        let mut waiting = self.lock();
        let message = waiting.messages.pop_front()?;
        waiting.bytes = waiting.bytes.saturating_sub(size(&message));
        Some(message)
    }

    fn lock(&self) -> MutexGuard<'_, QueuedMessages> {
        self.waiting.lock().expect("nothing panics while it holds this lock")
    }
}

fn size(message: &Message<Bytes>) -> usize {
    MESSAGE_BYTES.saturating_add(message.size())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::{Entry, Payload};
    use crate::message::{AppendEntries, Body, RequestVote};
    use crate::types::{Index, LogId, NodeId, Round, Session, Term};
    use std::vec;

    fn vote(term: u64) -> Message<Bytes> {
        let body = Body::RequestVote(RequestVote { last_log: LogId::ZERO, transfer: false });
        Message { from: NodeId::new(1), to: NodeId::new(2), term: Term::new(term), body }
    }

    fn append(bytes: usize) -> Message<Bytes> {
        let payload = Payload::Command(vec![0; bytes].into());
        let entry = Entry { term: Term::new(1), index: Index::new(1), payload };
        let body = Body::AppendEntries(AppendEntries {
            session: Session::new(1),
            round: Round::new(1),
            prev_log: LogId::ZERO,
            entries: vec![entry].into(),
            leader_commit: Index::ZERO,
            rank: None,
            election_timeout_micros: None,
            takes_proposals: false,
        });
        Message { body, ..vote(1) }
    }

    fn terms(frames: &[u8]) -> Vec<u64> {
        let mut decoder = frame::Decoder::new(frames.len());
        decoder.space().extend_from_slice(frames);
        let payloads = std::iter::from_fn(|| decoder.next_payload().unwrap());
        let message = |payload: Bytes| codec::decode_message(&payload, <[u8]>::len).unwrap();
        payloads.map(|payload| message(payload).term.get()).collect()
    }

    #[test]
    fn what_waits_is_taken_at_once_and_in_order() {
        let queue = SendQueue::new(&Config::default(), Counters::default());
        (1..=3).for_each(|term| queue.push(vote(term)));
        let mut out = Vec::new();
        assert_eq!(queue.take(&mut out), 3);
        assert_eq!(terms(&out), [1, 2, 3]);
        assert!(queue.is_empty());
        assert!(queue.flush() && !queue.flush(), "one flush for all of them");
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let counters = Counters::default();
        let config = Config { queue_messages_max: 2, ..Config::default() };
        let queue = SendQueue::new(&config, counters.clone());
        (1..=5).for_each(|term| queue.push(vote(term)));
        assert_eq!(counters.read().dropped_full, 3);

        let config = Config { queue_bytes_max: 10_000, ..Config::default() };
        let queue = SendQueue::new(&config, counters.clone());
        (0..3).for_each(|_| queue.push(append(4_000)));
        assert_eq!(counters.read().dropped_full, 4);
        queue.clear(1);
        assert_eq!(counters.read().dropped_unreachable, 3);
        queue.push(append(9_000));
        assert!(!queue.is_empty(), "what was cleared counts no more");
    }

    #[test]
    fn one_write_is_bounded() {
        let queue = SendQueue::new(&Config::default(), Counters::default());
        (0..8).for_each(|_| queue.push(append(WRITE_BYTES / 2)));
        let mut out = Vec::new();
        assert_eq!(queue.take(&mut out), 2);
    }

    #[test]
    fn a_message_too_long_for_a_frame_is_dropped_alone() {
        let counters = Counters::default();
        let config = Config { frame_bytes_max: 1_000, ..Config::default() };
        let queue = SendQueue::new(&config, counters.clone());
        [vote(1), append(1_000), vote(2)].into_iter().for_each(|message| queue.push(message));
        let mut out = Vec::new();
        assert_eq!(queue.take(&mut out), 2);
        assert_eq!(terms(&out), [1, 2]);
        assert_eq!(counters.read().dropped_too_long, 1);
    }
}
