//! Raft on smol and async-std: one of three or more servers that agree on every command, and
//! survive the loss of a minority.
//!
//! You write a [`StateMachine`]. A `Node` replicates its commands, and keeps them in a
//! [`FileJournal`] on the disks of most nodes before anybody sees what follows from them.
//!
//! ```toml
//! [dependencies]
//! bytes = "1"
//! raft-smol = { path = "../raft/raft-smol" } # not yet on the registry
//! smol = "2"
//! ```
//!
//! ```no_run
//! # #[cfg(feature = "smol")]
//! # mod with_smol {
//! # use bytes::Bytes;
//! # use raft_smol::{ClusterId, Config, FileJournal, Index, Node, NodeConfig, NodeId};
//! # use raft_smol::{StateMachine, tcp};
//! # struct Counter(u64);
//! # impl StateMachine for Counter {
//! #     type Reply = u64;
//! #     fn apply(&mut self, _: Index, _: Bytes) -> u64 {
//! #         self.0 += 1;
//! #         self.0
//! #     }
//! # }
//! # async fn serve(peers: Vec<(NodeId, String)>) -> Result<(), Box<dyn std::error::Error>> {
//! let (cluster, id) = (ClusterId::new(1), NodeId::new(1));
//! let config = NodeConfig::new(cluster, Config::new(id, [1, 2, 3].map(NodeId::new)));
//! let journal = FileJournal::open("/var/lib/counter", cluster, id)?;
//! let transport = tcp::Transport::bind("0.0.0.0:7000", peers, tcp::Config::default()).await?;
//! let node = Node::start(config, Counter(0), journal, transport).await?;
//!
//! let lead = node.lead().await?; // once this node leads
//! let count = node.propose("one more").await?; // durable on most nodes, applied on this one
//! let same = node.read(|counter| counter.0).await?; // linearizable
//! # Ok(())
//! # }
//! # }
//! ```
//!
//! `Node` and its [`Handle`] have what you call, `tcp` and `channel` the networks. The guide, a
//! page for each capability with what can go wrong, is in the documentation of [`raft_core`].
//!
//! # Example
//!
//! A cluster of three nodes in one process, each with a counter that all agree upon:
//!
//! ```
//! # #[cfg(feature = "smol")]
//! # mod with_smol {
//! use bytes::Bytes;
//! use futures_lite::future::or;
//! use raft_smol::{
//!     ClusterId, Config, Index, MemoryJournal, Node, NodeConfig, NodeId, StateMachine, channel,
//! };
//!
//! struct Counter(u64);
//!
//! impl StateMachine for Counter {
//!     type Reply = u64;
//!
//!     fn apply(&mut self, _index: Index, _command: Bytes) -> u64 {
//!         self.0 += 1;
//!         self.0
//!     }
//! }
//!
//! # pub fn main() -> Result<(), Box<dyn std::error::Error>> {
//! smol::block_on(async {
//!     let network = channel::Network::new(7);
//!     let mut nodes = Vec::new();
//!     for id in [1, 2, 3].map(NodeId::new) {
//!         let raft = Config::new(id, [1, 2, 3].map(NodeId::new));
//!         let config = NodeConfig::new(ClusterId::new(1), raft);
//!         let transport = network.endpoint(id);
//!         nodes.push(Node::start(config, Counter(0), MemoryJournal::new(), transport).await?);
//!     }
//!
//!     // Whichever node wins the election takes the commands.
//!     let leads = |node: Node<Counter>| async move { node.lead().await.map(|_| node) };
//!     let [one, two, three] = [0, 1, 2].map(|position| leads(nodes[position].clone()));
//!     let leader = or(one, or(two, three)).await?;
//!     assert_eq!(leader.propose("one").await?, 1);
//!     assert_eq!(leader.propose("two").await?, 2);
//!     assert_eq!(leader.read(|counter| counter.0).await?, 2);
//!     Ok(())
//! })
//! # }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     #[cfg(feature = "smol")]
//! #     with_smol::main()?;
//! #     Ok(())
//! # }
//! ```
//!
//! # Which executor?
//!
//! Each node runs as one task and has three threads of its own: for its journal, its state machine
//! and its snapshots, so no slow disk delays a heartbeat. If the executor has several threads
//! (smol's has one by default), the task itself applies quick commands, and a slow one delays a
//! heartbeat by half of its interval at most. With a single thread the state machine's thread
//! applies all commands, because [nobody could take the place](on::Executor::has_several_threads)
//! of a thread that a slow one holds up. That costs: with `SMOL_THREADS=2` one client writes three
//! times as much or more, and 64 clients twice as much.
//!
//! Its timers and sockets are those of smol (`async-io`), whose reactor async-std has, too; it
//! sleeps by a timer of the operating system, late by some tens of microseconds. Only where the
//! task runs is a choice:
//!
//! | names | run on | feature |
//! |---|---|---|
//! | `Node`, `tcp`, `channel` | `smol::spawn` | `smol`, by default |
//! | the same in `async_std` | `async_std::task::spawn` | `async-std` |
//! | the same in [`on`], with a parameter | an executor of your own | |
//!
//! A program may have nodes of all three. Handles do not mind where they are used: whatever awaits
//! `propose` may run on any executor, or block on it.
//!
//! smol's global executor has a single thread, unless the environment variable `SMOL_THREADS` says
//! otherwise: a task of yours that keeps it busy, for longer than an election timeout, costs the
//! node its leadership. Leave such work to `smol::unblock`, or give the nodes an executor of their
//! own, as in [`on::Executor`].
//!
//! async-std is no longer developed; its authors point to smol. The feature is for programs that
//! are on it still, and only the `use` changes when they move on.
//!
//! # Features
#![cfg_attr(feature = "document-features", doc = document_features::document_features!())]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

mod alarm;
mod executor;
mod names;
mod network;
mod node;
mod transport;

#[cfg(feature = "async-std")]
pub mod async_std;
#[cfg(feature = "smol")]
mod smol_spawn;

pub use names::*;
#[cfg(feature = "smol")]
pub use smol_spawn::{Node, channel, tcp};

/// Nodes on an executor of your own: the types behind the names elsewhere, with the executor as a
/// parameter.
///
/// `on::Node::<_, Own>::start` starts a node on the [`Executor`](on::Executor) `Own`. A type alias
/// saves the parameter.
pub mod on {
    #[cfg(feature = "async-std")]
    pub use crate::executor::AsyncStd;
    pub use crate::executor::Executor;
    #[cfg(feature = "smol")]
    pub use crate::executor::Smol;
    pub use crate::network::Network;
    pub use crate::node::Node;
    pub use crate::transport::Transport;
}

// Compiles the example of the README.
#[cfg(all(doctest, feature = "smol"))]
#[doc = include_str!("../README.md")]
struct Readme;
