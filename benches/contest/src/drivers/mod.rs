//! Small stores on this library and on others: each a server process with a durable log, TCP
//! between the servers, and the same front for clients.

pub(crate) mod front;
pub(crate) mod openraft;
pub(crate) mod options;
pub(crate) mod ours;
pub(crate) mod raft_rs;
pub(crate) mod wal;
