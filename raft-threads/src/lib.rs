//! Raft on plain threads, without an async runtime: one of three or more servers that agree on
//! every command, and survive the loss of a minority.
//!
//! You write a [`StateMachine`]. A [`Node`] replicates its commands, and keeps them in a
//! [`FileJournal`] on the disks of most nodes before anybody sees what follows from them.
//!
//! ```toml
//! [dependencies]
//! bytes = "1"
//! raft-threads = { path = "../raft/raft-threads" } # not yet on the registry
//! ```
//!
//! ```no_run
//! # use bytes::Bytes;
//! # use raft_threads::{ClusterId, Config, FileJournal, Index, Node, NodeConfig, NodeId};
//! # use raft_threads::{StateMachine, tcp};
//! # struct Counter(u64);
//! # impl StateMachine for Counter {
//! #     type Reply = u64;
//! #     fn apply(&mut self, _: Index, _: Bytes) -> u64 {
//! #         self.0 += 1;
//! #         self.0
//! #     }
//! # }
//! # fn serve(peers: Vec<(NodeId, String)>) -> Result<(), Box<dyn std::error::Error>> {
//! let (cluster, id) = (ClusterId::new(1), NodeId::new(1));
//! let config = NodeConfig::new(cluster, Config::new(id, [1, 2, 3].map(NodeId::new)));
//! let journal = FileJournal::open("/var/lib/counter", cluster, id)?;
//! let transport = tcp::Transport::bind("0.0.0.0:7000", peers, tcp::Config::default())?;
//! let node = Node::start(config, Counter(0), journal, transport)?;
//!
//! let lead = node.lead().wait()?; // once this node leads
//! let count = node.propose("one more").wait()?; // durable on most nodes, applied on this one
//! let same = node.read(|counter| counter.0).wait()?; // linearizable
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
//! use raft_threads::{
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
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = channel::Network::new(7);
//! let mut nodes = Vec::new();
//! for id in [1, 2, 3].map(NodeId::new) {
//!     let raft = Config::new(id, [1, 2, 3].map(NodeId::new));
//!     let config = NodeConfig::new(ClusterId::new(1), raft);
//!     let transport = network.endpoint(id);
//!     nodes.push(Node::start(config, Counter(0), MemoryJournal::new(), transport)?);
//! }
//!
//! // Whichever node wins the election takes the commands.
//! let leader = nodes[0].leaderships().find_map(|now| now.leader).expect("the node runs");
//! let leader = &nodes[leader.get() as usize - 1];
//! leader.lead().wait()?;
//! assert_eq!(leader.propose("one").wait()?, 1);
//! assert_eq!(leader.propose("two").wait()?, 2);
//! assert_eq!(leader.read(|counter| counter.0).wait()?, 2);
//! # Ok(())
//! # }
//! ```
//!
//! # What blocks, and for how long
//!
//! No method of a [`Node`] blocks: each returns an answer. `wait` blocks the calling thread until
//! the answer is there, which it is at the latest when the leadership is lost or the node stops. A
//! leader that is cut off from the others by the network learns that only after an election timeout
//! or so; `wait_timeout` and `within` give up earlier. Clone the node to call from many threads at
//! once: commands that are proposed together travel together. One thread with many answers to wait
//! for is faster still, because it spares a switch of threads for each command. If the answers are
//! for many clients, [`then`](raft_core::host::Pending::then) hands each to a function, which sends
//! it to that thread by a channel.
//!
//! # Threads
//!
//! A node has one for its loop, one for its journal, one for its state machine and one for its
//! snapshots, so no slow disk delays a heartbeat, and a slow command by half of its interval at
//! most; and one more while a snapshot is taken. A [`tcp::Transport`] adds one that accepts, three
//! for each peer (one that sends to it, one that listens to that connection's other side, one that
//! receives), and one while a name is looked up. A [`channel::Network`] has one for all its nodes.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

pub mod channel;
mod node;
pub mod tcp;
mod wait;

pub use node::Node;
pub use raft_core;

raft_core::adapter_exports!();

// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
