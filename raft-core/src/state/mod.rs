//! What a server holds (Figure 2). No rule of Raft is here: the rules are in the files beside this
//! folder, which use what is here, and nothing here uses them.

pub(crate) mod durable;
pub(crate) mod election_timeout;
pub(crate) mod forwards;
pub(crate) mod inflights;
pub(crate) mod lease;
pub(crate) mod log;
pub(crate) mod members;
pub(crate) mod memberships;
pub(crate) mod outbox;
pub(crate) mod pace;
pub(crate) mod peers;
pub(crate) mod progress;
pub(crate) mod promise;
pub(crate) mod reads;
pub(crate) mod roles;
pub(crate) mod sending;
pub(crate) mod server;
pub(crate) mod snapshots;
pub(crate) mod timers;
