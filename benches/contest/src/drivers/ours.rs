//! A store on this repository's library, as small as the drivers on the others: a node of
//! `raft-tokio`, its journal and its transport as they come, and a state machine in memory.
//!
//! It shows the library without the rest of `kv`, which keeps sessions of clients and more.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use raft_tokio::{
    ClusterId, Config, FileJournal, Index, Node, NodeConfig, NodeId, ProposeError, StateMachine,
    tcp,
};

use super::front::{self, Refusal, Store};
use super::options::Options;

const CLUSTER: ClusterId = ClusterId::new(1);

/// Runs one server until SIGTERM.
pub(crate) fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let id = NodeId::new(options.id);
    let (min, max) = options.election_timeout();
    let peers = options.peers();
    let raft = Config {
        election_timeout_min: min,
        election_timeout_max: max,
        heartbeat_interval: options.heartbeat(),
        ..Config::new(id, peers.keys().map(|peer| NodeId::new(*peer)))
    };
    let others = peers.iter().filter(|(peer, _)| **peer != options.id);
    let others = others.map(|(peer, place)| (NodeId::new(*peer), place.to_string()));
    let transport =
        tcp::Transport::bind(peers[&options.id], others, tcp::Config::default()).await?;
    let journal = FileJournal::open(&options.data, CLUSTER, id)?;
    let values = Values::default();
    let node =
        Node::start(NodeConfig::new(CLUSTER, raft), values.clone(), journal, transport).await?;
    let told = Arc::new(tokio::sync::Notify::new());
    let tell = told.clone();
    ctrlc::set_handler(move || tell.notify_one())?;
    let server = Server { id, node: node.clone(), values };
    tokio::select! {
        served = front::serve(server, options.id, options.clients()) => served?,
        () = told.notified() => drop(node.shutdown().await),
    }
    Ok(())
}

/// What clients talk to.
#[derive(Clone)]
struct Server {
    id: NodeId,
    node: Node<Values>,
    values: Values,
}

impl Store for Server {
    async fn write(&self, key: Bytes, value: Bytes) -> Result<(), Refusal> {
        let mut command = BytesMut::with_capacity(4 + key.len() + value.len());
        command.put_u32_le(key.len() as u32);
        command.put(key);
        command.put(value);
        self.node.propose(command).await.map_err(|error| {
            if let ProposeError::NotLeader { leader, .. } = error {
                return Refusal::NotLeader(leader.map(NodeId::get));
            }
            Refusal::Unknown(error.to_string())
        })
    }

    fn read(&self, key: &[u8]) -> Option<Bytes> {
        self.values.lock().get(key).cloned()
    }

    fn leads(&self) -> bool {
        self.node.leadership().current().leader == Some(self.id)
    }
}

/// The state machine. A clone is the same one.
#[derive(Clone, Default)]
struct Values(Arc<Mutex<HashMap<Bytes, Bytes>>>);

impl Values {
    fn lock(&self) -> MutexGuard<'_, HashMap<Bytes, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateMachine for Values {
    type Reply = ();

    fn apply(&mut self, _index: Index, command: Bytes) {
        let Some((head, rest)) = command.split_first_chunk() else { return };
        let (key, value) = rest.split_at(u32::from_le_bytes(*head) as usize);
        self.lock().insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    }
}
