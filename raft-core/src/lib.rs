//! Raft as a pure state machine.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod commit;
#[cfg(feature = "codec")]
pub mod codec;
mod config;
mod durable;
mod election;
mod entries;
mod error;
mod invariants;
mod log;
#[cfg(feature = "std")]
pub mod host;
mod message;
mod outbox;
mod output;
mod progress;
mod quorum;
mod raft;
mod read;
mod replication;
mod role;
mod status;
mod time;
mod timers;
mod types;
mod window;

pub use config::Config;
pub use entries::{Entries, Entry, Payload};
pub use error::{ConfigError, ProposeError, Refused};
pub use message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Message, RequestPreVote,
    RequestPreVoteReply, RequestVote, RequestVoteReply,
};
pub use output::{Output, Restored, Write};
pub use progress::ProgressState;
pub use quorum::VOTERS_MAX;
pub use raft::Raft;
pub use role::Role;
pub use status::{Counters, PeerStatus, Status, Wake};
pub use time::Instant;
pub use types::{Command, HardState, Index, LogId, NodeId, ReadId, Round, Session, Term, WriteId};
