//! A server but for its sockets: what it is made of before a runtime runs its node, and what its
//! connections share.
//!
//! | module | what |
//! |---|---|
//! | [`resp`] | the Redis protocol, in bounded pieces |
//! | [`reply`] | replies in both versions of it |
//! | [`command`] | what clients can ask |
//! | [`write`](mod@write) | changes, and how the log has them |
//! | [`read`] | looks at the store |
//! | [`local_command`] | what a connection answers by itself |
//! | [`store`] | the state machine |
//! | [`values`], [`glob`] | its keys, in an order; patterns of keys |
//! | [`digest`] | a sum over what the store holds |
//! | [`snapshot`] | what is stored, as a file |
//! | [`sessions`] | numbers for writes, so that each takes effect once (§8) |
//! | [`pipeline`] | a client's bytes become batches of requests, and replies become bytes |
//! | [`batch`] | requests on their way to the leader, and when they may be tried again |
//! | [`forwarder`] | brings a client's batches to the leader |
//! | [`connection`] | what a server does for a client, step by step, without waiting |
//! | [`local`] | what the node's own answers mean for a batch |
//! | [`operation`] | what operators can ask |
//! | `backup` | a backup on its way to an operator |
//! | `members` | where the members of the cluster are reached |
//! | [`info`] | what INFO tells |
//! | `monitoring` | what a monitoring system asks, by HTTP |
//! | [`hold`] | a test can make the state machine wait |
//! | [`limits`] | what a server bounds |

mod backup;
pub mod batch;
pub mod command;
pub mod connection;
pub mod digest;
pub mod forwarder;
pub mod glob;
pub mod hold;
pub mod info;
pub mod limits;
pub mod local;
pub mod local_command;
mod members;
mod monitoring;
pub mod operation;
pub mod pipeline;
pub mod read;
pub mod reply;
pub mod resp;
pub mod sessions;
pub mod snapshot;
pub mod store;
pub mod values;
pub mod write;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use raft_core::NodeId;
use raft_core::host::tls::Tls;
use raft_core::host::{
    ClusterId, FileJournal, Handle, NodeConfig, NodeStatus, ReadError, StopReason, Versions, tcp,
};

use self::members::Addresses;
use self::operation::{Begun, Operation};
use self::resp::{Frame, error};
use self::sessions::SessionPool;
use self::store::{Store, Watch};
use self::write::COMMANDS_VERSION;
use crate::flags::ServeOptions;
use crate::tls;

/// How long no client is let in after the operating system refused one, as it does when too many
/// files are open.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a runtime needs to run a server's node and to let clients in. The sockets listen already,
/// and block.
#[derive(Debug)]
pub struct Parts {
    /// For the node.
    pub config: NodeConfig,
    /// The node's state machine.
    pub store: Store,
    /// The node's journal.
    pub journal: FileJournal,
    /// Where the other servers connect.
    pub listener: TcpListener,
    /// Where the other servers listen.
    pub peers: BTreeMap<NodeId, String>,
    /// For the transport between servers.
    pub transport: tcp::Config,
    /// TLS for that transport, if the options ask for it.
    pub tls: Option<Tls>,
    /// Where clients connect.
    pub clients: TcpListener,
    /// Makes the server of the node.
    pub front: Front,
}

/// What is left of a server when its node and its sockets are taken from it.
#[derive(Debug)]
pub struct Front {
    id: NodeId,
    store: Watch,
    client: String,
    addresses: Addresses,
    promotion_lag_max: u64,
    commands_version: u32,
    until_stdin_ends: bool,
    /// Where a monitoring system connects.
    metrics: Option<TcpListener>,
}

/// A server whose node runs.
#[derive(Debug)]
pub struct Server {
    id: NodeId,
    node: Handle<Store>,
    store: Watch,
    addresses: Addresses,
    promotion_lag_max: u64,
    sessions: SessionPool,
    /// The newest version of writes that clients may ask for while none is in force.
    commands_version: u32,
    until_stdin_ends: bool,
}

impl Parts {
    /// Opens the journal and the sockets that the options name.
    pub fn open(options: ServeOptions) -> Result<Self, Box<dyn Error>> {
        let ServeOptions { raft, peers, client, client_peers, until_stdin_ends, .. } = options;
        let commands_version = options.commands_version;
        let advertise = peers.get(&raft.id).cloned();
        let tls = options.tls.map(tls::open).transpose()?;
        let clients = listen(&client, "clients")?;
        let listener = listen(&options.listen, "other servers")?;
        let metrics = options.metrics.as_deref();
        let metrics = metrics.map(|at| listen(at, "a monitoring system")).transpose()?;
        let cluster = ClusterId::new(options.cluster);
        let journal = FileJournal::open(&options.data, cluster, raft.id)?;
        let store = Store::new();
        let addresses = Addresses { servers: peers.clone(), clients: client_peers };
        let (id, promotion_lag_max, watch) = (raft.id, raft.promotion_lag_max, store.watch());
        let front = Front {
            id,
            store: watch,
            client,
            addresses,
            promotion_lag_max,
            commands_version,
            until_stdin_ends,
            metrics,
        };
        let note = options.reached_by_clients_at.map(Bytes::from).unwrap_or_default();
        let (record, versions) = (options.record, Versions::new(1, COMMANDS_VERSION));
        let config = NodeConfig { note, record, versions, ..NodeConfig::new(cluster, raft) };
        let transport = tcp::Config { advertise, ..tcp::Config::default() };
        Ok(Self { config, store, journal, listener, peers, transport, tls, clients, front })
    }
}

impl Front {
    /// The server of this node, which runs. `counters` are those of the node's transport.
    pub fn open(self, node: &Handle<Store>, counters: tcp::Counters) -> Arc<Server> {
        let Self { id, store, client, addresses, promotion_lag_max, .. } = self;
        let Self { commands_version, until_stdin_ends, metrics, .. } = self;
        tracing::info!(%id, clients = %client, "serving");
        members::keep_labels(id, node, &addresses);
        let reader = node.metrics_reader();
        let monitored = metrics.map(|listener| monitoring::serve(listener, reader, counters));
        if let Some(Err(error)) = monitored {
            tracing::error!(%id, %error, "no metrics: the monitoring system is not answered");
        }
        let (node, sessions) = (node.clone(), SessionPool::new());
        Arc::new(Server {
            id,
            node,
            store,
            addresses,
            promotion_lag_max,
            sessions,
            commands_version,
            until_stdin_ends,
        })
    }
}

impl Server {
    /// Blocks until the server was told to stop, by SIGTERM, SIGINT or its parent, and its node has
    /// stopped. A node that stops by itself is an error.
    pub fn run_until_told(&self) -> Result<(), Box<dyn Error>> {
        let node = self.node.clone();
        ctrlc::set_handler(move || drop(node.shutdown()))?;
        if self.until_stdin_ends {
            let node = self.node.clone();
            when_stdin_ends(move || drop(node.shutdown()));
        }
        let reason = self.node.stopped().wait();
        if !matches!(reason, StopReason::Shutdown) {
            return Err(reason.to_string().into());
        }
        tracing::info!(id = %self.id, "stopped");
        Ok(())
    }

    /// The newest version of writes that clients may ask for now.
    fn commands_version(&self) -> u32 {
        match self.node.version() {
            0 => self.commands_version,
            version => version,
        }
    }

    /// Where that server listens for clients, if this one knows.
    fn client_address(&self, id: NodeId) -> Option<String> {
        self.addresses.of_clients(&self.node.membership(), id)
    }

    /// Begins what an operator asked, as this server's node is.
    fn operate(&self, operation: Operation, status: Result<NodeStatus, ReadError>) -> Begun {
        let status = match status {
            Ok(status) => status,
            Err(e) => return Begun::Reply(error(format!("ERR {e}"))),
        };
        let Self { node, addresses, promotion_lag_max, store, .. } = self;
        let view = operation::View {
            status: &status,
            addresses,
            promotion_lag_max: *promotion_lag_max,
            store: store.summary(),
        };
        operation.begin(&view, node)
    }

    /// What INFO tells.
    fn info(&self, status: Result<NodeStatus, ReadError>) -> Frame {
        match status {
            Ok(status) => local::info(&status, self.store.summary()),
            Err(e) => error(format!("ERR {e}")),
        }
    }
}

/// Calls `ended` once standard input has ended, from a thread of its own.
fn when_stdin_ends(ended: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        let mut chunk = [0; 64];
        // An error ends it as well.
        while io::stdin().read(&mut chunk).is_ok_and(|read| read > 0) {}
        ended();
    });
}

fn listen(address: &str, whom: &str) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address);
    listener.map_err(|e| format!("cannot listen on {address} for {whom}: {e}"))
}
