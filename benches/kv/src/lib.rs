//! A key-value store replicated by Raft, which speaks the Redis protocol: all of it that knows no
//! runtime.
//!
//! Each adapter has an example of it, and the package `kv_mixed` has them all in one program; they
//! differ in sockets and waiting, and in nothing else.
//!
//! | module | what |
//! |---|---|
//! | [`server`] | a server but for its sockets |
//! | [`demo`] | the demonstration: servers as processes, a load, what is said meanwhile |
//! | [`client`] | a blocking client, for the demonstration, for operators and for tests |
//! | [`flags`] | the command line |
//! | [`admin`] | the command line of operators |
//! | [`backup`] | the command line for backups |
//! | [`program`] | `main` |

mod address;
pub mod admin;
mod ask;
pub mod backup;
pub mod client;
pub mod demo;
pub mod flags;
pub mod program;
pub mod server;
mod tls;
