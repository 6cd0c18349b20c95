//! What the node did, for `spec/trace.sh` to hold against the specification. Without
//! `--cfg raft_trace`, which no user sets, nothing of it is built.

#[cfg(raft_trace)]
mod file;
#[cfg(not(raft_trace))]
mod none;

#[cfg(raft_trace)]
pub(super) use file::Trace;
#[cfg(not(raft_trace))]
pub(super) use none::Trace;
