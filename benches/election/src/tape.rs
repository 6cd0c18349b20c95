//! What the transports of a cluster see of an election, and when: a transport around each node's
//! own.
//!
//! A node's loop hands each message to its transport the moment it has decided to send it. So the
//! first vote request shows when a candidate stood, a new leader's first AppendEntries when it
//! began to lead, and its first word of a commit when its first entry was committed: on the loop's
//! own thread, without a change of thread in between, and the same under every runtime.
//!
//! The same place can cut a node off in silence, and can close its sockets as the end of its
//! process would.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::codec;
use raft_core::host::{Identity, MessageInbox, Running, Transport};
use raft_core::{Body, Index, Message, NodeId, Term};

/// Far more messages than an election takes, so that one that never ends takes no memory.
const COUNTED_MAX: usize = 1 << 12;

/// The transports of one cluster write here.
#[derive(Debug, Default)]
pub struct Tape {
    state: Mutex<State>,
    committed: Condvar,
}

/// The moments of one election.
#[derive(Clone, Debug, Default)]
pub struct Moments {
    /// The first candidate asked for a vote, or a pre-vote.
    pub stood: Option<Instant>,
    /// The first vote was asked for, in this term.
    pub asked: Option<(Instant, Term)>,
    /// Somebody leads a later term.
    pub leads: Option<Leads>,
    /// Word of the new leader has reached a majority, itself included.
    pub known: Option<Instant>,
    /// The new leader has committed its first entry.
    pub committed: Option<Instant>,
    /// Messages sent until then.
    pub messages: u64,
    /// The same in bytes, as they are encoded on a wire, without framing.
    pub bytes: u64,
}

/// A new leader.
#[derive(Clone, Copy, Debug)]
pub struct Leads {
    /// Since when.
    pub at: Instant,
    /// The server.
    pub leader: NodeId,
    /// In which term.
    pub term: Term,
    /// Its first entry, a no-op.
    first: Index,
}

impl Moments {
    /// Whether the first term in which anybody stood came to nothing.
    pub fn is_split(&self) -> bool {
        self.asked.zip(self.leads).is_some_and(|((_, asked), leads)| leads.term > asked)
    }
}

#[derive(Debug, Default)]
struct State {
    /// Messages to and from these are lost.
    away: BTreeSet<NodeId>,
    /// The election of a later term than this is being watched.
    after: Term,
    majority: usize,
    knowing: BTreeSet<NodeId>,
    moments: Moments,
    /// To be counted in bytes when the election is over, and not in the midst of it; at most
    /// [`COUNTED_MAX`].
    sent: Vec<Message<Bytes>>,
}

impl Tape {
    /// A transport that tells this tape what passes, and the plug to pull.
    pub fn around(self: &Arc<Self>, transport: Box<dyn Transport>) -> (Tap, Plug) {
        let socket = Arc::new(Mutex::new(Some(transport)));
        let plug = Plug { socket: Arc::clone(&socket) };
        (Tap { socket, tape: Arc::clone(self) }, plug)
    }

    /// Watches for the election of a term after this one, among so many servers.
    pub fn watch(&self, after: Term, servers: usize) {
        let mut state = self.lock();
        state.after = after;
        state.majority = servers / 2 + 1;
        state.knowing.clear();
        state.moments = Moments::default();
        state.sent.clear();
    }

    /// Lets nothing pass to or from this node any more. Its connections stay.
    pub fn cut_off(&self, node: NodeId) {
        self.lock().away.insert(node);
    }

    /// Undoes [`Tape::cut_off`].
    pub fn rejoin(&self, node: NodeId) {
        self.lock().away.remove(&node);
    }

    /// Waits until the new leader's first entry is committed; `None` if that takes longer than
    /// `patience`.
    pub fn wait(&self, patience: Duration) -> Option<Moments> {
        let waits = |state: &mut State| state.moments.committed.is_none();
        let waited = self.committed.wait_timeout_while(self.lock(), patience, waits);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        let bytes = || state.sent.iter().map(encoded_bytes).sum();
        (!timeout.timed_out()).then(|| Moments { bytes: bytes(), ..state.moments.clone() })
    }

    /// Whether it may pass.
    fn on_send(&self, message: &Message<Bytes>) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        if !state.is_open(message) {
            return false;
        }
        let news = state.note(now, message);
        drop(state);
        if news {
            self.committed.notify_all();
        }
        true
    }

    /// Whether it may pass.
    fn on_arrival(&self, message: &Message<Bytes>) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        let open = state.is_open(message);
        if open && matches!(message.body, Body::AppendEntries(_)) && message.term > state.after {
            state.knowing.insert(message.to);
            if state.knowing.len() + 1 >= state.majority {
                state.moments.known.get_or_insert(now);
            }
        }
        open
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_open(&self, message: &Message<Bytes>) -> bool {
        !self.away.contains(&message.from) && !self.away.contains(&message.to)
    }

    /// Whether this ends what is watched.
    fn note(&mut self, now: Instant, message: &Message<Bytes>) -> bool {
        let moments = &mut self.moments;
        if moments.committed.is_some() {
            return false;
        }
        let (from, term) = (message.from, message.term);
        let is_later = term > self.after;
        if let Body::RequestPreVote(_) = &message.body {
            moments.stood.get_or_insert(now);
        }
        if let (Body::RequestVote(_), true) = (&message.body, is_later) {
            moments.stood.get_or_insert(now);
            moments.asked.get_or_insert((now, term));
        }
        if let (Body::AppendEntries(append), true) = (&message.body, is_later) {
            let first = append.prev_log.index.next();
            let leads = moments.leads.get_or_insert(Leads { at: now, leader: from, term, first });
            if leads.leader == from && append.leader_commit >= leads.first {
                moments.committed = Some(now);
            }
        }
        if moments.stood.is_some() {
            moments.messages += 1;
            if self.sent.len() < COUNTED_MAX {
                self.sent.push(message.clone());
            }
        }
        moments.committed.is_some()
    }
}

fn encoded_bytes(message: &Message<Bytes>) -> u64 {
    let mut encoded = Vec::new();
    codec::encode_message(message, &mut encoded);
    encoded.len() as u64
}

/// A transport that tells a [`Tape`] what passes.
pub struct Tap {
    socket: Arc<Mutex<Option<Box<dyn Transport>>>>,
    tape: Arc<Tape>,
}

impl Tap {
    fn with(&self, act: impl FnOnce(&mut Box<dyn Transport>)) {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transport) = &mut *socket {
            act(transport);
        }
    }
}

impl Transport for Tap {
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        let tape = Arc::clone(&self.tape);
        let inbox = inbox.filtered(move |message| tape.on_arrival(message));
        let mut started = Ok(());
        self.with(|transport| started = transport.start(identity, inbox));
        started
    }

    fn send(&mut self, message: Message<Bytes>) {
        if self.tape.on_send(&message) {
            self.with(|transport| transport.send(message));
        }
    }

    fn message_bytes_max(&self) -> usize {
        let mut bytes_max = usize::MAX;
        self.with(|transport| bytes_max = transport.message_bytes_max());
        bytes_max
    }

    fn flush(&mut self) {
        self.with(Transport::flush);
    }

    fn stop(&mut self, running: Running) {
        self.with(|transport| transport.stop(running));
    }
}

/// Closes a node's sockets behind its back.
pub struct Plug {
    socket: Arc<Mutex<Option<Box<dyn Transport>>>>,
}

impl Plug {
    /// Closes them, as the operating system does when a process ends: a peer that reads from them
    /// learns at once.
    pub fn pull(&self) {
        let transport = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut transport) = transport {
            let (running, _) = Running::new();
            transport.stop(running);
        }
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl fmt::Debug for Plug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plug")
    }
}
