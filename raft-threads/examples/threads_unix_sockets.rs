//! A transport of one's own: three nodes that talk over Unix sockets.
//!
//! The transport has a thread for each peer that it sends to, and one for each connection that it
//! accepts. It holds the contract of [`Transport`], which the program checks first.
//!
//! `cargo run -p raft-threads --example threads_unix_sockets`

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use bytes::Bytes;
use raft_core::host::handshake::Hello;
use raft_core::host::{Identity, MessageInbox, PeerInbox, Running, Transport, contract};
use raft_core::{Message, codec};
use raft_threads::{ClusterId, Config, MemoryJournal, Node, NodeConfig, NodeId};

/// The most messages that wait for one peer.
const QUEUE_MAX: usize = 1024;

/// The longest frame, in bytes: a message of the default limits and its envelope.
const FRAME_BYTES_MAX: usize = 2 << 20;

/// Sends and receives over the sockets in one directory, each named after its node.
struct UnixTransport {
    directory: PathBuf,
    queues: BTreeMap<NodeId, SyncSender<Message<Bytes>>>,
    started: Option<(Identity, MessageInbox)>,
    shared: Arc<Shared>,
}

/// What the transport's threads share with it. The last of them that ends drops it.
#[derive(Default)]
struct Shared {
    /// Set when the transport stops. When it is dropped, nothing of the transport is left.
    running: OnceLock<Running>,
    /// The connections that other nodes have opened.
    accepted: Mutex<Vec<UnixStream>>,
}

impl UnixTransport {
    fn new(directory: &Path) -> Self {
        let directory = directory.to_path_buf();
        Self { directory, queues: BTreeMap::new(), started: None, shared: Arc::default() }
    }
}

fn socket(directory: &Path, node: NodeId) -> PathBuf {
    directory.join(format!("node-{node}"))
}

impl Transport for UnixTransport {
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        let path = socket(&self.directory, identity.node);
        // What an earlier process left behind is no socket that anybody listens at.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path)?;
        let shared = Arc::clone(&self.shared);
        self.started = Some((identity, inbox.clone()));
        thread::spawn(move || accept(&listener, identity, &inbox, &shared));
        Ok(())
    }

    /// Never blocks: a message for which there is no room is dropped, and Raft sends again.
    fn send(&mut self, message: Message<Bytes>) {
        let Some((identity, inbox)) = self.started.clone() else { return };
        let to = message.to;
        let queue = self.queues.entry(to).or_insert_with(|| {
            let (queue, waiting) = mpsc::sync_channel(QUEUE_MAX);
            let (path, shared) = (socket(&self.directory, to), Arc::clone(&self.shared));
            thread::spawn(move || {
                send_all(&waiting, &path, &identity, to, &inbox, &shared);
            });
            queue
        });
        let _ = queue.try_send(message);
    }

    fn message_bytes_max(&self) -> usize {
        FRAME_BYTES_MAX - (64 << 10)
    }

    fn stop(&mut self, running: Running) {
        let _ = self.shared.running.set(running);
        self.queues.clear();
        for connection in self.shared.accepted().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        if let Some((identity, _)) = self.started.take() {
            // Wakes the thread that accepts.
            let _ = UnixStream::connect(socket(&self.directory, identity.node));
        }
        self.shared = Arc::default();
    }
}

impl Drop for UnixTransport {
    fn drop(&mut self) {
        self.stop(Running::new().0);
    }
}

impl Shared {
    fn accepted(&self) -> std::sync::MutexGuard<'_, Vec<UnixStream>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &UnixListener, me: Identity, inbox: &MessageInbox, shared: &Arc<Shared>) {
    for connection in listener.incoming() {
        let Ok(connection) = connection else { continue };
        let Ok(kept) = connection.try_clone() else { continue };
        shared.accepted().push(kept);
        // The transport closes what it finds in the list once this is set.
        if shared.running.get().is_some() {
            let _ = connection.shutdown(Shutdown::Both);
            return;
        }
        let (inbox, shared) = (inbox.clone(), Arc::clone(shared));
        thread::spawn(move || {
            // Whatever ends a connection, the peer opens another one.
            let _ = receive_all(connection, &me, &inbox);
            drop(shared);
        });
    }
}

/// Lets the peer in by what it says of itself, and hands its messages to the node.
fn receive_all(
    mut connection: UnixStream,
    me: &Identity,
    inbox: &MessageInbox,
) -> Result<(), Box<dyn Error>> {
    let hello = Hello::decode(&read_frame(&mut connection)?)?;
    hello.check(me, |_| None)?;
    let peer: PeerInbox = inbox.admit(hello.introduction(None))?;
    loop {
        let bytes = Bytes::from(read_frame(&mut connection)?);
        let message = codec::decode_message(&bytes, |command| bytes.slice_ref(command))?;
        if message.from == peer.peer() {
            peer.deliver(message)?;
        }
    }
}

/// Sends the messages that wait for one peer, over a new connection whenever the last one broke.
fn send_all(
    waiting: &Receiver<Message<Bytes>>,
    path: &Path,
    me: &Identity,
    to: NodeId,
    inbox: &MessageInbox,
    shared: &Arc<Shared>,
) {
    let mut connection = None;
    while let Ok(message) = waiting.recv() {
        if shared.running.get().is_some() {
            return;
        }
        let mut bytes = Vec::new();
        codec::encode_message(&message, &mut bytes);
        let sent = match &mut connection {
            Some(connection) => write_frame(connection, &bytes),
            None => connect(path, me, to, inbox).and_then(|mut new| {
                write_frame(&mut new, &bytes)?;
                connection = Some(new);
                Ok(())
            }),
        };
        if sent.is_err() {
            connection = None;
        }
    }
}

fn connect(path: &Path, me: &Identity, to: NodeId, inbox: &MessageInbox) -> io::Result<UnixStream> {
    let mut connection = UnixStream::connect(path)?;
    let mut hello = Vec::new();
    Hello::of(me, to, inbox.introduce(me, to, None)).encode(&mut hello);
    write_frame(&mut connection, &hello)?;
    Ok(connection)
}

/// A frame is its length and so many bytes.
fn write_frame(connection: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    connection.write_all(&length.to_le_bytes())?;
    connection.write_all(bytes)
}

fn read_frame(connection: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other("the frame is too long"));
    }
    let mut bytes = vec![0; length];
    connection.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("raft-unix-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    contract::transport(|_| UnixTransport::new(&directory));
    println!("the transport keeps its contract");

    let ids = [1, 2, 3].map(NodeId::new);
    let mut nodes = Vec::new();
    for id in ids {
        let config = NodeConfig::new(ClusterId::new(1), Config::new(id, ids));
        let transport = UnixTransport::new(&directory);
        nodes.push(Node::start(config, (), MemoryJournal::new(), transport)?);
    }
    let mut leadership = nodes[0].leadership().current();
    while leadership.leader.is_none() {
        leadership = nodes[0].leadership().changed_from(leadership).wait()?;
    }
    println!("node 1 knows its leader: {leadership:?}");
    for node in nodes {
        node.shutdown().wait();
    }
    std::fs::remove_dir_all(directory)?;
    Ok(())
}
