//! Raft on tokio: one of three or more servers that agree on every command, and survive the loss of
//! a minority.
//!
//! You write a [`StateMachine`]. A [`Node`] replicates its commands, and keeps them in a
//! [`FileJournal`] on the disks of most nodes before anybody sees what follows from them.
//!
//! ```toml
//! [dependencies]
//! bytes = "1"
//! raft-tokio = { path = "../raft/raft-tokio" } # not yet on the registry
//! tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
//! ```
//!
//! ```no_run
//! # use bytes::Bytes;
//! # use raft_tokio::{ClusterId, Config, FileJournal, Index, Node, NodeConfig, NodeId};
//! # use raft_tokio::{StateMachine, tcp};
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
//! ```
//!
//! [`Node`] and its [`Handle`] have what you call, [`tcp`] and [`channel`] the networks. The guide,
//! a page for each capability with what can go wrong, is in the documentation of [`raft_core`].
//!
//! # Example
//!
//! A cluster of three nodes in one process, each with a counter that all agree upon:
//!
//! ```
//! use bytes::Bytes;
//! use raft_tokio::{
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
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = channel::Network::new(7);
//! let mut nodes = Vec::new();
//! for id in [1, 2, 3].map(NodeId::new) {
//!     let raft = Config::new(id, [1, 2, 3].map(NodeId::new));
//!     let config = NodeConfig::new(ClusterId::new(1), raft);
//!     let transport = network.endpoint(id);
//!     nodes.push(Node::start(config, Counter(0), MemoryJournal::new(), transport).await?);
//! }
//!
//! // Whichever node wins the election takes the commands.
//! let leader = tokio::select! {
//!     lead = nodes[0].lead() => { lead?; &nodes[0] }
//!     lead = nodes[1].lead() => { lead?; &nodes[1] }
//!     lead = nodes[2].lead() => { lead?; &nodes[2] }
//! };
//! assert_eq!(leader.propose("one").await?, 1);
//! assert_eq!(leader.propose("two").await?, 2);
//! assert_eq!(leader.read(|counter| counter.0).await?, 2);
//! # Ok(())
//! # }
//! ```
//!
//! # What it needs of the runtime
//!
//! A runtime with time and I/O enabled (`enable_all`), of either flavour. Each node runs as one
//! task and has three threads of its own: for its journal, its state machine and its snapshots, so
//! no slow disk delays a heartbeat. If the runtime has several workers, the task itself applies
//! quick commands, and a slow one delays a heartbeat by half of its interval at most; a state
//! machine that calls `block_on` or `blocking_send` must [say so](StateMachine::blocks). Over TCP
//! one peer may hear nothing until that command ends, because no other worker takes the task that a
//! worker woke last; it stands in vain, because the others hear the leader. On Linux the node
//! sleeps by a timer of the operating system (timerfd): tokio's own is late by about a millisecond,
//! which would be most of an election. A paused tokio clock therefore does not stop its timeouts.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

pub mod channel;
mod node;
pub mod tcp;
mod timer;

pub use node::Node;
pub use raft_core;

raft_core::adapter_exports!();

// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
