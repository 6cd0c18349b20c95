//! A store on openraft: its own types and network traits, RPCs over TCP, the log in a [`Wal`].
//!
//! openraft 0.9 waits for its own disk within `append`, once for each proposal. So a proposal here
//! is a batch: all writes that came while earlier batches were on their way.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt::Debug;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{
    ClientWriteError, InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError,
    Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::storage::{LogFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot};
use openraft::{
    AnyError, BasicNode, Config, Entry, EntryPayload, LogId, OptionalSend, Raft, RaftLogReader,
    RaftSnapshotBuilder, ServerState, SnapshotMeta, SnapshotPolicy, StorageError, StorageIOError,
    StoredMembership, Vote,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

use super::front::{self, Refusal, Store};
use super::options::Options;
use super::wal::Wal;

/// How many batches are proposed before the first is applied.
const BATCHES_IN_FLIGHT: usize = 2;
/// The most writes in a batch.
const BATCH_WRITES_MAX: usize = 4096;
/// How soon a server that cannot be reached is tried again.
const REDIAL_INTERVAL: Duration = Duration::from_millis(10);

openraft::declare_raft_types!(
    pub(crate) Types:
        D = Batch,
        R = (),
        Node = BasicNode,
);

/// Writes that are proposed together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Batch(Vec<(Bytes, Bytes)>);

type Rpc<E> = RPCError<u64, BasicNode, E>;
type Failed = StorageError<u64>;

/// Runs one server until SIGTERM.
pub(crate) fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let (min, max) = options.election_timeout();
    let config = Config {
        election_timeout_min: min.as_millis() as u64,
        election_timeout_max: max.as_millis() as u64,
        heartbeat_interval: options.heartbeat().as_millis() as u64,
        // The contest is short: nobody's log need be compacted in it.
        snapshot_policy: SnapshotPolicy::Never,
        ..Config::default()
    };
    let log = Log::open(options)?;
    let values = Values::default();
    let raft =
        Raft::<Types>::new(options.id, Arc::new(config.validate()?), Network, log, values.clone())
            .await?;
    let peers = options.peers();
    let rpcs = TcpListener::bind(peers[&options.id]).await?;
    tokio::spawn(serve_rpcs(rpcs, raft.clone()));
    if !raft.is_initialized().await? && options.id == 1 {
        let members: BTreeMap<_, _> =
            peers.iter().map(|(id, place)| (*id, BasicNode::new(place))).collect();
        raft.initialize(members).await?;
    }
    let (proposals, proposed) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(propose(proposed, raft.clone()));
    let (told, stop) = oneshot::channel();
    let told = Mutex::new(Some(told));
    ctrlc::set_handler(move || {
        let _ = lock(&told).take().map(|told| told.send(()));
    })?;
    let server = Server { raft: raft.clone(), values, proposals };
    tokio::select! {
        served = front::serve(server, options.id, options.clients()) => served?,
        _ = stop => raft.shutdown().await?,
    }
    Ok(())
}

/// What clients talk to.
#[derive(Clone)]
struct Server {
    raft: Raft<Types>,
    values: Values,
    proposals: tokio::sync::mpsc::UnboundedSender<Proposal>,
}

type Proposal = (Bytes, Bytes, oneshot::Sender<Result<(), Refusal>>);

impl Store for Server {
    async fn write(&self, key: Bytes, value: Bytes) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        let ended = || Refusal::Unknown("the server ends".into());
        self.proposals.send((key, value, answer)).map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }

    fn read(&self, key: &[u8]) -> Option<Bytes> {
        lock(&self.values.0).map.get(key).cloned()
    }

    fn leads(&self) -> bool {
        self.raft.metrics().borrow().state == ServerState::Leader
    }
}

async fn propose(mut proposed: tokio::sync::mpsc::UnboundedReceiver<Proposal>, raft: Raft<Types>) {
    let in_flight = Arc::new(Semaphore::new(BATCHES_IN_FLIGHT));
    loop {
        let permit = in_flight.clone().acquire_owned().await;
        let mut some = Vec::new();
        if proposed.recv_many(&mut some, BATCH_WRITES_MAX).await == 0 {
            return;
        }
        let raft = raft.clone();
        tokio::spawn(async move {
            let mut writes = Vec::with_capacity(some.len());
            let mut waiting = Vec::with_capacity(some.len());
            for (key, value, answer) in some {
                writes.push((key, value));
                waiting.push(answer);
            }
            let done = raft.client_write(Batch(writes)).await;
            drop(permit);
            for answer in waiting {
                // A client that went away needs no answer.
                let _ = answer.send(match &done {
                    Ok(_) => Ok(()),
                    Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                        Err(Refusal::NotLeader(to.leader_id))
                    }
                    Err(e) => Err(Refusal::Unknown(e.to_string())),
                });
            }
        });
    }
}

/// A record of the log on the disk.
#[derive(Serialize, Deserialize)]
enum Record {
    /// Takes the place of all entries from its index on.
    Entry(Entry<Types>),
    Vote(Vote<u64>),
}

/// The log: in memory for readers, on the disk by a thread that writes what came meanwhile at once.
#[derive(Clone)]
struct Log {
    held: Arc<Mutex<Held>>,
    writes: mpsc::Sender<(Vec<Vec<u8>>, Durable)>,
}

#[derive(Default)]
struct Held {
    entries: BTreeMap<u64, Entry<Types>>,
    vote: Option<Vote<u64>>,
    purged: Option<LogId<u64>>,
}

enum Durable {
    Entries(LogFlushed<Types>),
    Vote(oneshot::Sender<io::Result<()>>),
}

impl Log {
    fn open(options: &Options) -> io::Result<Self> {
        let mut held = Held::default();
        let wal = Wal::open(&options.data, |record| {
            match postcard::from_bytes(record).map_err(io::Error::other)? {
                Record::Entry(entry) => {
                    held.entries.split_off(&entry.log_id.index);
                    held.entries.insert(entry.log_id.index, entry);
                }
                Record::Vote(vote) => held.vote = Some(vote),
            }
            Ok(())
        })?;
        let (writes, written) = mpsc::channel();
        thread::Builder::new().name("log".into()).spawn(move || write_all(wal, &written))?;
        Ok(Self { held: Arc::new(Mutex::new(held)), writes })
    }
}

fn write_all(mut wal: Wal, writes: &mpsc::Receiver<(Vec<Vec<u8>>, Durable)>) {
    while let Ok(first) = writes.recv() {
        let mut waiting = Vec::new();
        for (records, durable) in [first].into_iter().chain(writes.try_iter()) {
            records.iter().for_each(|record| wal.add(record));
            waiting.push(durable);
        }
        let done = wal.commit();
        for durable in waiting {
            let done = done.as_ref().copied().map_err(|e| io::Error::new(e.kind(), e.to_string()));
            match durable {
                Durable::Entries(flushed) => flushed.log_io_completed(done),
                Durable::Vote(answer) => drop(answer.send(done)),
            }
        }
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<Types>>, Failed> {
        Ok(lock(&self.held).entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, Failed> {
        let held = lock(&self.held);
        let last = held.entries.last_key_value().map(|(_, entry)| entry.log_id).or(held.purged);
        Ok(LogState { last_purged_log_id: held.purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), Failed> {
        let (answer, answered) = oneshot::channel();
        let record = postcard::to_stdvec(&Record::Vote(*vote)).map_err(failed)?;
        self.writes.send((vec![record], Durable::Vote(answer))).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?.map_err(failed)?;
        lock(&self.held).vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, Failed> {
        Ok(lock(&self.held).vote)
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<Types>) -> Result<(), Failed>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut held = lock(&self.held);
        for entry in entries {
            let record = Record::Entry(entry);
            records.push(postcard::to_stdvec(&record).map_err(failed)?);
            if let Record::Entry(entry) = record {
                held.entries.insert(entry.log_id.index, entry);
            }
        }
        drop(held);
        self.writes.send((records, Durable::Entries(flushed))).map_err(|_| ended())?;
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Result<(), Failed> {
        // The disk learns it with the entries that take their place.
        lock(&self.held).entries.split_off(&from.index);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId<u64>) -> Result<(), Failed> {
        let mut held = lock(&self.held);
        held.entries = held.entries.split_off(&(upto.index + 1));
        held.purged = Some(upto);
        Ok(())
    }
}

/// The state machine: in memory, made anew from the log after a start.
#[derive(Clone, Default)]
struct Values(Arc<Mutex<Applied>>);

#[derive(Default)]
struct Applied {
    map: HashMap<Bytes, Bytes>,
    last: Option<LogId<u64>>,
    membership: StoredMembership<u64, BasicNode>,
}

impl RaftStateMachine<Types> for Values {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>), Failed> {
        let applied = lock(&self.0);
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, Failed>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut applied = lock(&self.0);
        let mut answers = Vec::new();
        for entry in entries {
            applied.last = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(Batch(writes)) => applied.map.extend(writes),
                EntryPayload::Membership(members) => {
                    applied.membership = StoredMembership::new(Some(entry.log_id), members);
                }
            }
            answers.push(());
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, Failed> {
        Err(no_snapshots())
    }

    async fn install_snapshot(
        &mut self,
        _: &SnapshotMeta<u64, BasicNode>,
        _: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), Failed> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, Failed> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<Types> for Values {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, Failed> {
        Err(no_snapshots())
    }
}

#[derive(Serialize, Deserialize)]
enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<u64>),
}

struct Network;

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, id: u64, node: &BasicNode) -> Peer {
        Peer { id, address: node.addr.parse().ok(), stream: None }
    }
}

/// A connection to one server, with one RPC at a time, as openraft calls it.
struct Peer {
    id: u64,
    address: Option<SocketAddr>,
    /// Absent while an RPC is on its way: one that was given up leaves no half an answer behind.
    stream: Option<TcpStream>,
}

impl Peer {
    async fn call<A: DeserializeOwned, E: Error + DeserializeOwned + 'static>(
        &mut self,
        request: Request,
    ) -> Result<A, Rpc<RaftError<u64, E>>> {
        let answered = self.exchange(&request).await;
        let answer = answered.map_err(|e| RPCError::Unreachable(Unreachable::new(&e)))?;
        let answer: Result<A, RaftError<u64, E>> =
            postcard::from_bytes(&answer).map_err(|e| RPCError::Network(NetworkError::new(&e)))?;
        answer.map_err(|e| RPCError::RemoteError(RemoteError::new(self.id, e)))
    }

    async fn exchange(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let address = self.address.ok_or(io::ErrorKind::AddrNotAvailable)?;
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        send(&mut stream, request).await?;
        let answer = receive(&mut stream).await?;
        self.stream = Some(stream);
        Ok(answer)
    }
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Rpc<RaftError<u64>>> {
        self.call(Request::Append(request)).await
    }

    async fn install_snapshot(
        &mut self,
        _: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Rpc<RaftError<u64, InstallSnapshotError>>> {
        Err(RPCError::Network(NetworkError::new(&AnyError::error("there are no snapshots"))))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, Rpc<RaftError<u64>>> {
        self.call(Request::Vote(request)).await
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(REDIAL_INTERVAL))
    }
}

async fn serve_rpcs(listener: TcpListener, raft: Raft<Types>) {
    while let Ok((stream, _)) = listener.accept().await {
        let raft = raft.clone();
        // A peer that went away dials again.
        tokio::spawn(async move { drop(answer_rpcs(stream, raft).await) });
    }
}

async fn answer_rpcs(mut stream: TcpStream, raft: Raft<Types>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let request = receive(&mut stream).await?;
        match postcard::from_bytes(&request).map_err(io::Error::other)? {
            Request::Append(request) => {
                send(&mut stream, &raft.append_entries(request).await).await?;
            }
            Request::Vote(request) => send(&mut stream, &raft.vote(request).await).await?,
        }
    }
}

async fn send(stream: &mut TcpStream, message: &(impl Serialize + Sync)) -> io::Result<()> {
    let mut frame = postcard::to_extend(message, vec![0; 4]).map_err(io::Error::other)?;
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    stream.write_all(&frame).await
}

async fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; stream.read_u32_le().await? as usize];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(e: impl Error + 'static) -> Failed {
    StorageIOError::write_logs(&e).into()
}

fn ended() -> Failed {
    StorageIOError::write_logs(AnyError::error("the log's thread has ended")).into()
}

fn no_snapshots() -> Failed {
    StorageIOError::write(AnyError::error("there are no snapshots")).into()
}
