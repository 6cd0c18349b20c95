//! The servers of all adapters' examples `kv`, in one program.

#[path = "../../raft-smol/examples/kv/serve.rs"]
mod on_smol;
#[path = "../../raft-threads/examples/kv/serve.rs"]
mod on_threads;
#[path = "../../raft-tokio/examples/kv/serve.rs"]
mod on_tokio;

use kv::program::Runtime;
use raft_smol::on::{AsyncStd, Smol};

/// Every runtime that can host a server.
pub(crate) const RUNTIMES: [Runtime; 4] = [
    Runtime { name: "tokio", serve: on_tokio::serve },
    Runtime { name: "smol", serve: on_smol::serve::<Smol> },
    Runtime { name: "threads", serve: on_threads::serve },
    Runtime { name: "async-std", serve: on_smol::serve::<AsyncStd> },
];
