//! Bounded memory: what a server's queues and its log may hold.

use rand_core::Rng;

use crate::entries::{Entry, Payload};
use crate::quorum::MEMBERS_MAX;
use crate::raft::Raft;
use crate::sim::violation::{Verdict, hold};
use crate::types::Command;

/// Every queue keeps within its limit.
#[inline]
pub(super) fn check_bounds<R: Rng, C: Command>(raft: &Raft<C, R>) -> Verdict {
    let (id, config) = (raft.id(), raft.config());
    let log = raft.server.log.bytes();
    // Entries that earlier leaders had room for are taken beyond the limit.
    let limit = config.log_bytes_max.saturating_add(config.log_room());
    hold!(
        log <= config.log_bytes_max || log.saturating_sub(roomless_bytes(raft)) <= limit,
        BoundedMemory,
        "the log of server {id} has {log} bytes"
    );
    let writes = raft.server.durable.writes_in_flight();
    hold!(writes <= config.inflight_writes_max, BoundedMemory, "server {id}: {writes} writes");
    let reads = raft.server.reads.waiting();
    hold!(reads <= config.reads_waiting_max, BoundedMemory, "server {id}: {reads} reads wait");
    let forwards = raft.server.forwards.len();
    hold!(
        forwards <= config.forwards_waiting_max,
        BoundedMemory,
        "server {id}: {forwards} forwarded commands wait"
    );
    let applies = raft.server.inflight_applies.len();
    // One restore at a time is not counted against the limit.
    hold!(
        applies <= config.inflight_applies_max + 1,
        BoundedMemory,
        "server {id}: {applies} applies"
    );
    let asked = raft.server.vote_requests.len();
    hold!(asked <= 2 * MEMBERS_MAX, BoundedMemory, "server {id}: {asked} vote requests");
    Ok(())
}

/// The size of the entries in a log that need no room: those that Raft appends for itself, with
/// which terms begin, and configurations; and one command, which may be longer than this server's
/// own limits allow.
#[cold]
fn roomless_bytes<R: Rng, C: Command>(raft: &Raft<C, R>) -> usize {
    let (base, last) = (raft.server.log.base(), raft.server.log.last());
    let (entries, _) = raft.server.log.slice(base.index.next(), last.index, usize::MAX);
    let is_command = |entry: &&Entry<C>| matches!(entry.payload, Payload::Command(_));
    let own: usize = entries.iter().filter(|entry| !is_command(entry)).map(Entry::size).sum();
    let longest = entries.iter().filter(is_command).map(Entry::size).max();
    own.saturating_add(longest.unwrap_or_default())
}
