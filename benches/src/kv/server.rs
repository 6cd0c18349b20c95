//! A server but for its sockets: what it is made of before a runtime runs its node, and what its connections share.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft_core::NodeId;
use raft_core::host::{
    ClusterId, FileJournal, Handle, NodeConfig, NodeStatus, ReadError, StopReason,
};

use super::conversation::{Conversation, Question};
use super::flags::ServeOptions;
use super::local;
use super::once::Writers;
use super::program::when_stdin_ends;
use super::resp::{Frame, encode, error};
use super::run::Run;
use super::session::CONNECTIONS_MAX;
use super::store::{Store, Watch};

/// How long no client is let in after the operating system refused one, as it does when too many files are open.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a runtime needs to run a server's node and to let clients in. The sockets listen already, and block.
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
    client_peers: BTreeMap<NodeId, String>,
    until_stdin_ends: bool,
}

/// A server whose node runs.
#[derive(Debug)]
pub struct Server {
    pub(super) id: NodeId,
    pub(super) node: Handle<Store>,
    store: Watch,
    /// Where every server listens for clients.
    pub(super) client_peers: BTreeMap<NodeId, String>,
    writers: Writers,
    until_stdin_ends: bool,
}

impl Parts {
    /// Opens the journal and the sockets that the options name.
    pub fn open(options: ServeOptions) -> Result<Self, Box<dyn Error>> {
        let ServeOptions { raft, peers, client, client_peers, until_stdin_ends, .. } = options;
        let clients = listen(&client, "clients")?;
        let listener = listen(&options.listen, "other servers")?;
        let cluster = ClusterId::new(options.cluster);
        let journal = FileJournal::open(&options.data, cluster, raft.id)?;
        let store = Store::new();
        let front =
            Front { id: raft.id, store: store.watch(), client, client_peers, until_stdin_ends };
        let config = NodeConfig::new(cluster, raft);
        Ok(Self { config, store, journal, listener, peers, clients, front })
    }
}

impl Front {
    /// The server of this node, which runs.
    pub fn open(self, node: &Handle<Store>) -> Arc<Server> {
        let Self { id, store, client, client_peers, until_stdin_ends } = self;
        tracing::info!(%id, clients = %client, "serving");
        let (node, writers) = (node.clone(), Writers::new());
        Arc::new(Server { id, node, store, client_peers, writers, until_stdin_ends })
    }
}

impl Server {
    /// Lets a client in; if it would be one too many, gives what to tell it before its socket is closed.
    pub fn admit(self: &Arc<Self>) -> Result<Conversation, Bytes> {
        let writer = self.writers.take().ok_or_else(|| {
            let mut out = BytesMut::new();
            let text = format!("ERR this server has its {CONNECTIONS_MAX} connections already");
            encode(&mut out, &error(text));
            out.freeze()
        })?;
        Ok(Conversation::new(self.clone(), writer))
    }

    /// Blocks until the server was told to stop, by SIGTERM, SIGINT or its parent, and its node has stopped. A node that stops by
    /// itself is an error.
    pub fn run_until_told(&self) -> Result<(), Box<dyn Error>> {
        let node = self.node.clone();
        ctrlc::set_handler(move || drop(node.shutdown()))?;
        if self.until_stdin_ends {
            let node = self.node.clone();
            when_stdin_ends(move || drop(node.shutdown()));
        }
        match self.node.stopped().wait() {
            Ok(StopReason::Shutdown) => {
                tracing::info!(id = %self.id, "stopped");
                Ok(())
            }
            Ok(reason) => Err(reason.to_string().into()),
            Err(stopped) => Err(stopped.into()),
        }
    }

    /// Asks this server's node, which leads. All writes are proposed before the first is waited for: they share a write to the disk
    /// and a message to each peer.
    pub(super) fn ask(&self, run: &Run) -> Question {
        match run {
            Run::Writes(writes) => {
                let propose = |write: &Bytes| self.node.propose(write.clone());
                Question::Writes(writes.commands().iter().map(propose).collect())
            }
            Run::Reads(reads) => {
                let reads = reads.clone();
                Question::Reads(self.node.read(move |store| store.read(&reads)))
            }
        }
    }

    /// What INFO tells.
    pub(super) fn info(&self, status: Result<NodeStatus, ReadError>) -> Frame {
        match status {
            Ok(status) => local::info(&status, self.store.summary()),
            Err(e) => error(format!("ERR {e}")),
        }
    }
}

fn listen(address: &str, whom: &str) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address);
    listener.map_err(|e| format!("cannot listen on {address} for {whom}: {e}"))
}
