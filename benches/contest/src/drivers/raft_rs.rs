//! A store on raft-rs: its `RawNode` in a thread, messages over TCP, the log in a [`Wal`].
//!
//! As in raft-rs's own examples the thread takes all that came, sends what need not wait, makes the
//! entries durable with one fdatasync, and sends the rest. A leader's appends leave before its own
//! fdatasync. Pre-vote and quorum checks are on, as in TiKV; entries are batched into messages.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use tokio::sync::oneshot;

use super::front::{self, Refusal, Store};
use super::options::Options;
use super::wal::Wal;

/// In how many ticks the smallest election timeout is counted: so finely are timeouts drawn.
const TICKS_OF_TIMEOUT: u32 = 10;
/// The most bytes of entries in a message.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// How many batches of messages wait for a slow peer; more are lost, and raft-rs is told.
const BATCHES_WAITING_MAX: usize = 1024;
/// How soon a server that cannot be reached is tried again.
const REDIAL_INTERVAL: Duration = Duration::from_millis(10);
/// How long a leader that is told to stop waits until another leads.
const HANDOVER_WAIT_MAX: Duration = Duration::from_secs(1);

/// What the thread of raft-rs receives.
enum Input {
    Message(Box<Message>),
    Write(Bytes, Bytes, Answer),
    Unreachable(u64),
    Stop,
}

type Answer = oneshot::Sender<Result<(), Refusal>>;

/// Runs one server until SIGTERM.
pub(crate) fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let (inbox, inputs) = mpsc::channel();
    let shared = Arc::<Shared>::default();
    let (node, wal) = open(options)?;
    let mut peers = BTreeMap::new();
    for (id, address) in options.peers() {
        if id == options.id {
            let (listener, inbox) = (TcpListener::bind(address)?, inbox.clone());
            thread::spawn(move || accept(&listener, &inbox));
        } else {
            let (batches, waiting) = mpsc::sync_channel(BATCHES_WAITING_MAX);
            let inbox = inbox.clone();
            thread::spawn(move || send_all(id, address, &waiting, &inbox));
            peers.insert(id, batches);
        }
    }
    let server = Server { inbox: inbox.clone(), shared: shared.clone() };
    ctrlc::set_handler(move || drop(inbox.send(Input::Stop)))?;
    let (id, clients) = (options.id, options.clients());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.spawn(async move {
        if let Err(e) = front::serve(server, id, clients).await {
            eprintln!("clients cannot be served: {e}");
            std::process::exit(1);
        }
    });
    let tick = options.election_timeout().0 / TICKS_OF_TIMEOUT;
    let waiting = HashMap::new();
    Driver { id, node, wal, peers, shared, waiting, next_write: 0 }.run(&inputs, tick)?;
    Ok(())
}

fn open(options: &Options) -> Result<(RawNode<MemStorage>, Wal), Box<dyn Error>> {
    let ids: Vec<_> = options.peers().into_keys().collect();
    let storage = MemStorage::new_with_conf_state(ConfState::from((ids, vec![])));
    let wal = Wal::open(&options.data, |record| {
        let strange = || io::Error::from(io::ErrorKind::InvalidData);
        let (kind, bytes) = record.split_first().ok_or_else(strange)?;
        let mut storage = storage.wl();
        match *kind {
            ENTRY => {
                let entry = Entry::parse_from_bytes(bytes).map_err(io::Error::other)?;
                storage.append(&[entry]).map_err(io::Error::other)?;
            }
            _ => {
                let hard_state = HardState::parse_from_bytes(bytes).map_err(io::Error::other)?;
                storage.set_hardstate(hard_state);
            }
        }
        Ok(())
    })?;
    let (min, max) = options.election_timeout();
    let tick = min / TICKS_OF_TIMEOUT;
    let ticks = |span: Duration| (span.as_micros() / tick.as_micros()).max(1) as usize;
    let config = Config {
        id: options.id,
        election_tick: ticks(min),
        min_election_tick: ticks(min),
        max_election_tick: ticks(max),
        heartbeat_tick: ticks(options.heartbeat()),
        max_size_per_msg: MESSAGE_BYTES_MAX,
        pre_vote: true,
        check_quorum: true,
        batch_append: true,
        ..Config::default()
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    Ok((RawNode::new(&config, storage, &logger)?, wal))
}

/// The kinds of records on the disk.
const ENTRY: u8 = 0;
const HARD_STATE: u8 = 1;

struct Driver {
    id: u64,
    node: RawNode<MemStorage>,
    wal: Wal,
    peers: BTreeMap<u64, SyncSender<Vec<u8>>>,
    shared: Arc<Shared>,
    /// Who waits for which write.
    waiting: HashMap<u64, Answer>,
    next_write: u64,
}

impl Driver {
    fn run(mut self, inputs: &Receiver<Input>, tick: Duration) -> Result<(), Box<dyn Error>> {
        let mut next_tick = Instant::now() + tick;
        let mut stop_at = None;
        loop {
            match inputs.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    for input in [first].into_iter().chain(inputs.try_iter()) {
                        if self.take(input) {
                            stop_at = Some(Instant::now() + HANDOVER_WAIT_MAX);
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            while next_tick <= Instant::now() {
                self.node.tick();
                next_tick += tick;
            }
            while self.node.has_ready() {
                self.do_what_is_ready()?;
            }
            if stop_at.is_some_and(|at| !self.leads() || Instant::now() >= at) {
                return Ok(());
            }
        }
    }

    /// Whether the server is told to stop.
    fn take(&mut self, input: Input) -> bool {
        match input {
            // It refuses what comes from another time; so does the network's delay.
            Input::Message(message) => drop(self.node.step(*message)),
            Input::Write(key, value, answer) => self.propose(&key, &value, answer),
            Input::Unreachable(peer) => self.node.report_unreachable(peer),
            Input::Stop => {
                let progress = self.node.status().progress.map(|all| {
                    let others = all.iter().filter(|(id, _)| **id != self.id);
                    others.max_by_key(|(_, progress)| progress.matched).map(|(id, _)| *id)
                });
                if let Some(successor) = progress.flatten() {
                    self.node.transfer_leader(successor);
                }
                return true;
            }
        }
        false
    }

    fn propose(&mut self, key: &[u8], value: &[u8], answer: Answer) {
        if !self.leads() {
            return drop(answer.send(Err(self.not_leader())));
        }
        // Unique among all servers and their lives: nobody else answers for it.
        self.next_write += 1;
        let mut context = self.node.raft.term.to_le_bytes().to_vec();
        context.extend_from_slice(&self.next_write.to_le_bytes());
        let mut data = (key.len() as u32).to_le_bytes().to_vec();
        data.extend_from_slice(key);
        data.extend_from_slice(value);
        match self.node.propose(context, data) {
            Ok(()) => drop(self.waiting.insert(self.next_write, answer)),
            Err(_) => drop(answer.send(Err(self.not_leader()))),
        }
    }

    fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    fn not_leader(&self) -> Refusal {
        let leader = self.node.raft.leader_id;
        let known = leader != raft::INVALID_ID && leader != self.id;
        Refusal::NotLeader(known.then_some(leader))
    }

    fn do_what_is_ready(&mut self) -> Result<(), Box<dyn Error>> {
        let mut ready = self.node.ready();
        self.send(ready.take_messages());
        self.apply(ready.take_committed_entries());
        for entry in ready.entries() {
            self.wal.add(&record(ENTRY, entry)?);
        }
        if let Some(hard_state) = ready.hs() {
            self.wal.add(&record(HARD_STATE, hard_state)?);
        }
        // A commit index alone need not be durable: it goes with the next batch.
        if ready.must_sync() {
            self.wal.commit()?;
        }
        let mut storage = self.node.store().wl();
        storage.append(ready.entries())?;
        if let Some(hard_state) = ready.hs() {
            storage.set_hardstate(hard_state.clone());
        }
        drop(storage);
        self.send(ready.take_persisted_messages());
        let mut light = self.node.advance(ready);
        if let Some(commit) = light.commit_index() {
            self.node.store().wl().mut_hard_state().set_commit(commit);
        }
        self.send(light.take_messages());
        self.apply(light.take_committed_entries());
        self.node.advance_apply();
        let leads = self.leads();
        lock(&self.shared).leads = leads;
        if !leads {
            for (_, answer) in self.waiting.drain() {
                drop(answer.send(Err(Refusal::Unknown("no longer the leader".into()))));
            }
        }
        Ok(())
    }

    fn send(&mut self, messages: Vec<Message>) {
        let mut batches = BTreeMap::<u64, Vec<u8>>::new();
        for message in messages {
            let batch = batches.entry(message.to).or_default();
            batch.extend_from_slice(&message.compute_size().to_le_bytes());
            if message.write_to_vec(batch).is_err() {
                unreachable!("messages of raft-rs can be encoded");
            }
        }
        for (peer, batch) in batches {
            let sent = self.peers.get(&peer).map(|peer| peer.try_send(batch));
            if let Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) = sent {
                self.node.report_unreachable(peer);
            }
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        let mut shared = lock(&self.shared);
        for entry in entries {
            let is_write = entry.get_entry_type() == EntryType::EntryNormal;
            let Some((head, rest)) = entry.data.split_first_chunk().filter(|_| is_write) else {
                continue;
            };
            let (key, value) = rest.split_at(u32::from_le_bytes(*head) as usize);
            shared.map.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            let answer = own_number(&entry.context, self.node.raft.term)
                .and_then(|number| self.waiting.remove(&number));
            if let Some(answer) = answer {
                // A client that went away needs no answer.
                let _ = answer.send(Ok(()));
            }
        }
    }
}

/// The number of a write that was proposed in this term, so by this leader.
fn own_number(context: &[u8], term: u64) -> Option<u64> {
    let (of, number) = context.split_first_chunk()?;
    let number = u64::from_le_bytes(number.try_into().ok()?);
    (u64::from_le_bytes(*of) == term).then_some(number)
}

fn record(kind: u8, message: &impl protobuf::Message) -> protobuf::ProtobufResult<Vec<u8>> {
    let mut record = vec![kind];
    message.write_to_vec(&mut record)?;
    Ok(record)
}

/// What clients talk to.
#[derive(Clone)]
struct Server {
    inbox: Sender<Input>,
    shared: Arc<Mutex<State>>,
}

type Shared = Mutex<State>;

#[derive(Default)]
struct State {
    map: HashMap<Bytes, Bytes>,
    leads: bool,
}

impl Store for Server {
    async fn write(&self, key: Bytes, value: Bytes) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        let ended = || Refusal::Unknown("the server ends".into());
        self.inbox.send(Input::Write(key, value, answer)).map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }

    fn read(&self, key: &[u8]) -> Option<Bytes> {
        lock(&self.shared).map.get(key).cloned()
    }

    fn leads(&self) -> bool {
        lock(&self.shared).leads
    }
}

fn accept(listener: &TcpListener, inbox: &Sender<Input>) {
    while let Ok((stream, _)) = listener.accept() {
        let inbox = inbox.clone();
        // A peer that went away dials again.
        thread::spawn(move || drop(receive_all(stream, &inbox)));
    }
}

fn receive_all(stream: TcpStream, inbox: &Sender<Input>) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(1 << 16, stream);
    let (mut length, mut bytes) = ([0; 4], Vec::new());
    loop {
        stream.read_exact(&mut length)?;
        bytes.resize(u32::from_le_bytes(length) as usize, 0);
        stream.read_exact(&mut bytes)?;
        let message = Message::parse_from_bytes(&bytes).map_err(io::Error::other)?;
        let sent = inbox.send(Input::Message(Box::new(message)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
    }
}

/// Sends to one peer. While it cannot be reached, messages are lost.
fn send_all(id: u64, address: SocketAddr, batches: &Receiver<Vec<u8>>, inbox: &Sender<Input>) {
    let mut stream = None;
    let mut dialled_at = None::<Instant>;
    while let Ok(mut batch) = batches.recv() {
        batch.extend(batches.try_iter().flatten());
        if stream.is_none() && dialled_at.is_none_or(|at| at.elapsed() >= REDIAL_INTERVAL) {
            dialled_at = Some(Instant::now());
            stream = dial(address).ok();
        }
        let is_lost = |stream: &mut TcpStream| stream.write_all(&batch).is_err();
        if stream.as_mut().is_none_or(is_lost) {
            stream = None;
            if inbox.send(Input::Unreachable(id)).is_err() {
                return;
            }
        }
    }
}

fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, HANDOVER_WAIT_MAX)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
