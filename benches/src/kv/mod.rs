//! The example `kv`: a key-value store replicated by Raft, which speaks the Redis protocol. All of it that knows no runtime.
//!
//! Each adapter has an example `kv` of its own; they differ in sockets and waiting, and in nothing else. So what they share is
//! here, in the only crate that depends on all of them: an adapter's example has this crate as a dev-dependency. The example
//! `kv_mixed` of this crate has them all in one program.
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
//! | [`values`] | its keys, in an order |
//! | [`glob`] | patterns of keys |
//! | [`snapshot`] | what is stored, as a file |
//! | [`operation`] | what operators can ask |
//! | `members` | where the members of the cluster are reached |
//! | [`once`] | writes that take effect once, however often they are sent |
//! | [`session`] | what a client says and is told, without its socket |
//! | [`conversation`] | what a server does for a client, step by step, without waiting |
//! | `uplink` | the part of that which forwards to the leader |
//! | [`server`] | a server but for its sockets |
//! | [`run`] | requests on their way to the leader, and when they may be tried again |
//! | [`local`] | what a node's own answers mean for a run |
//! | [`info`] | what INFO tells |
//! | [`flags`] | the command line |
//! | [`admin`] | the command line of operators |
//! | [`client`] | a blocking client, for the demonstration and for tests |
//! | [`cluster`] | server processes that can be killed and restarted |
//! | [`workload`] | clients that write without pause and remember what was acknowledged |
//! | [`demo`] | the demonstration |
//! | [`figures`] | measures: catching up, transfers, memory |
//! | `load` | writes without end, to measure with |
//! | [`grow`] | another: a cluster grows, and every member is replaced |
//! | `benchmark` | redis-benchmark as a load |
//! | `timeline` | what is said meanwhile |
//! | [`program`] | `main` |

pub mod admin;
mod benchmark;
pub mod client;
pub mod cluster;
pub mod command;
pub mod conversation;
pub mod demo;
pub mod figures;
pub mod flags;
pub mod glob;
pub mod grow;
pub mod hold;
pub mod info;
mod load;
pub mod local;
pub mod local_command;
mod members;
pub mod once;
pub mod operation;
pub mod program;
pub mod read;
pub mod reply;
pub mod resp;
pub mod run;
pub mod server;
pub mod session;
pub mod snapshot;
pub mod store;
mod timeline;
mod uplink;
pub mod values;
pub mod workload;
pub mod write;
