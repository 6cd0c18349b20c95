//! raft-rs under the same trial: a thread for each server, channels between them, timeouts as near
//! to ours as its ticks allow.
//!
//! raft-rs counts ticks, so how finely its timeouts are drawn and how late it notices one is the
//! host's choice: a tick of a millisecond, as fine as it can be driven without burning the
//! processor, and one of a tenth of the smallest timeout, as its documentation has it.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use election::Timing;
use raft::eraftpb::{ConfState, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

/// Longer than any election that ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between looks at a cluster that is to settle.
const LOOK_INTERVAL: Duration = Duration::from_micros(500);

/// How raft-rs is driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    /// With a tick of a millisecond.
    FineTick,
    /// With a tick of a tenth of the smallest timeout.
    UsualTick,
}

impl Peer {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::FineTick, Self::UsualTick];

    /// As benches and reports call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FineTick => "raft-rs, tick of 1 ms",
            Self::UsualTick => "raft-rs, usual tick",
        }
    }

    fn tick(self, timing: Timing) -> Duration {
        match self {
            Self::FineTick => Duration::from_millis(1),
            Self::UsualTick => timing.min / 10,
        }
    }
}

/// A cluster of raft-rs in which the leader is silenced again and again.
pub(crate) struct RaftRs {
    shared: Arc<Shared>,
    inboxes: Vec<Sender<Message>>,
    threads: Vec<JoinHandle<()>>,
    heartbeat: Duration,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    committed: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    away: BTreeSet<u64>,
    /// The election of a later term than this is being watched.
    after: u64,
    committed: Option<Instant>,
    /// By server: its term, and the leader that it knows.
    known: Vec<(u64, u64)>,
}

struct Server {
    node: RawNode<MemStorage>,
    inbox: Receiver<Message>,
    peers: Vec<Sender<Message>>,
    shared: Arc<Shared>,
    tick: Duration,
}

impl RaftRs {
    /// Starts all servers.
    pub(crate) fn start(servers: usize, timing: Timing, peer: Peer) -> Self {
        let shared = Arc::<Shared>::default();
        shared.lock().known = vec![(0, 0); servers];
        let (inboxes, receivers): (Vec<_>, Vec<_>) = (0..servers).map(|_| mpsc::channel()).unzip();
        let tick = peer.tick(timing);
        let start = |(position, inbox)| {
            let server = Server {
                node: node(position, servers, timing, tick),
                inbox,
                peers: inboxes.clone(),
                shared: Arc::clone(&shared),
                tick,
            };
            thread::spawn(move || server.run())
        };
        let threads = receivers.into_iter().enumerate().map(start).collect();
        Self { shared, inboxes, threads, heartbeat: timing.heartbeat }
    }

    /// Silences the leader until another server leads. Returns how long it took until the new
    /// leader had committed its first entry.
    ///
    /// # Panics
    ///
    /// If no leader comes.
    pub(crate) fn fail_leader(&mut self, phase: Duration) -> Duration {
        let (term, leader) = self.settle();
        thread::sleep(self.heartbeat * 2 + phase);
        let failed_at = Instant::now();
        let mut state = self.shared.lock();
        state.away.insert(leader);
        state.after = term;
        state.committed = None;
        let waits = |state: &mut State| state.committed.is_none();
        let waited = self.shared.committed.wait_timeout_while(state, PATIENCE, waits);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.away.clear();
        let committed = state.committed.expect("a leader comes");
        committed - failed_at
    }

    /// Waits until all know one leader.
    fn settle(&self) -> (u64, u64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let known = self.shared.lock().known.clone();
            if known[0].1 != raft::INVALID_ID && known.iter().all(|one| *one == known[0]) {
                return known[0];
            }
            assert!(Instant::now() < until, "the cluster did not settle");
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl Drop for RaftRs {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.inboxes.clear();
        for thread in self.threads.drain(..) {
            // Its panic was printed.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    fn run(mut self) {
        let mut next_tick = Instant::now() + self.tick;
        while !self.shared.lock().stopping {
            match self.inbox.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(message) => self.step(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(message) = self.inbox.try_recv() {
                self.step(message);
            }
            while next_tick <= Instant::now() {
                self.node.tick();
                next_tick += self.tick;
            }
            self.do_what_is_ready();
        }
    }

    fn step(&mut self, message: Message) {
        if self.passes(&message) {
            // It refuses what comes from a leader of another time; so does the network's delay.
            let _ = self.node.step(message);
        }
    }

    fn do_what_is_ready(&mut self) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            self.send_all(ready.take_messages());
            drop(ready.take_committed_entries());
            let mut storage = self.node.store().wl();
            if !ready.entries().is_empty() {
                storage.append(ready.entries()).expect("entries follow each other");
            }
            if let Some(hard_state) = ready.hs() {
                storage.set_hardstate(hard_state.clone());
            }
            drop(storage);
            self.send_all(ready.take_persisted_messages());
            let mut light_ready = self.node.advance(ready);
            if let Some(commit) = light_ready.commit_index() {
                self.node.store().wl().mut_hard_state().set_commit(commit);
            }
            self.send_all(light_ready.take_messages());
            self.node.advance_apply();
        }
        self.note();
    }

    fn send_all(&self, messages: Vec<Message>) {
        for message in messages {
            if self.passes(&message) {
                // The receiver may have ended first.
                let _ = self.peers[message.to as usize - 1].send(message);
            }
        }
    }

    fn passes(&self, message: &Message) -> bool {
        let state = self.shared.lock();
        !state.away.contains(&message.from) && !state.away.contains(&message.to)
    }

    /// Records what this server knows, for the trial that watches.
    fn note(&self) {
        let now = Instant::now();
        let raft = &self.node.raft;
        let mut state = self.shared.lock();
        state.known[raft.id as usize - 1] = (raft.term, raft.leader_id);
        let leads = raft.state == StateRole::Leader && raft.term > state.after;
        if leads && state.committed.is_none() && raft.commit_to_current_term() {
            state.committed = Some(now);
            drop(state);
            self.shared.committed.notify_all();
        }
    }
}

fn node(position: usize, servers: usize, timing: Timing, tick: Duration) -> RawNode<MemStorage> {
    let ids: Vec<_> = (1..=servers as u64).collect();
    let storage = MemStorage::new_with_conf_state(ConfState::from((ids, vec![])));
    let ticks = |span: Duration| (span.as_micros() / tick.as_micros()).max(1) as usize;
    let config = Config {
        id: position as u64 + 1,
        pre_vote: timing.pre_vote,
        check_quorum: true,
        election_tick: ticks(timing.min),
        min_election_tick: ticks(timing.min),
        max_election_tick: ticks(timing.max),
        heartbeat_tick: ticks(timing.heartbeat),
        ..Config::default()
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&config, storage, &logger).expect("the configuration is valid")
}
