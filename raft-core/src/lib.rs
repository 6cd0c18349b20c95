//! Raft as a pure state machine.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod config;
mod entries;
mod error;
mod message;
mod output;
mod quorum;
mod role;
mod time;
mod types;

pub use config::Config;
pub use entries::{Entries, Entry, Payload};
pub use error::{ConfigError, ProposeError, Refused};
pub use message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Message, RequestPreVote,
    RequestPreVoteReply, RequestVote, RequestVoteReply,
};
pub use output::{Output, Restored, Write};
pub use quorum::VOTERS_MAX;
pub use role::Role;
pub use time::Instant;
pub use types::{Command, HardState, Index, LogId, NodeId, ReadId, Round, Session, Term, WriteId};
