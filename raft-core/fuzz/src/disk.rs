//! What is on a server's disk, and what follows from it: terms, entries, the configuration in
//! force.

use raft_core::{
    Config, Entry, Index, LogId, Membership, NodeId, Payload, Restored, Suffrage, Term,
};

pub(crate) type Log = Restored<Vec<u8>>;

/// The entry at that index, if the log holds it.
pub(crate) fn entry_at(log: &Log, index: Index) -> Option<&Entry<Vec<u8>>> {
    let at = log.entries.binary_search_by_key(&index, |entry| entry.index).ok()?;
    log.entries.get(at)
}

/// The term at that index, if the log holds the entry or begins right behind it.
pub(crate) fn term_at(log: &Log, index: Index) -> Option<Term> {
    if index == log.base.index {
        return Some(log.base.term);
    }
    entry_at(log, index).map(|entry| entry.term)
}

/// The last entry, or the position before the first.
pub(crate) fn last(log: &Log) -> LogId {
    log.entries.last().map_or(log.base, Entry::id)
}

/// Whether a server has run with this disk.
pub(crate) fn has_run(log: &Log) -> bool {
    log.hard_state.current_term > Term::default()
        || log.snapshot.is_some()
        || !log.entries.is_empty()
}

/// Where the snapshot ends.
pub(crate) fn snapshot(log: &Log) -> LogId {
    log.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last)
}

/// The configuration in force at an index that the snapshot does not hide.
pub(crate) fn membership_at(log: &Log, config: &Config, index: Index) -> Membership {
    let hidden = snapshot(log).index;
    let visible = log.entries.iter().rev().filter(|e| e.index <= index && e.index > hidden);
    let newest = visible.filter_map(configuration).next();
    let begin = || match &log.snapshot {
        Some(snapshot) => snapshot.membership.clone(),
        None if has_run(log) => Membership::default(),
        None => Membership::of_voters(config.voters.iter().copied()),
    };
    newest.cloned().unwrap_or_else(begin)
}

/// Whether any configuration that the log holds, or its snapshot, knows the server.
pub(crate) fn knows(log: &Log, id: NodeId) -> bool {
    let entries = log.entries.iter().filter_map(configuration);
    let all = entries.chain(log.snapshot.as_ref().map(|snapshot| &snapshot.membership));
    all.into_iter().any(|membership| membership.member(id).is_some())
}

/// Whether those servers are enough to decide: a majority, and during a change one of the old
/// voters as well (§6).
pub(crate) fn is_quorum(membership: &Membership, agrees: impl Fn(NodeId) -> bool) -> bool {
    let decide = |votes: fn(Suffrage) -> bool| {
        let voters = membership.members().iter().filter(|member| votes(member.suffrage));
        let (mut count, mut agree) = (0, 0);
        for voter in voters {
            count += 1;
            agree += usize::from(agrees(voter.id));
        }
        agree > count / 2
    };
    let incoming = |suffrage| matches!(suffrage, Suffrage::Voter | Suffrage::Incoming);
    let outgoing =
        |suffrage| matches!(suffrage, Suffrage::Voter | Suffrage::Outgoing | Suffrage::Demoted);
    decide(incoming) && (!membership.is_joint() || decide(outgoing))
}

fn configuration(entry: &Entry<Vec<u8>>) -> Option<&Membership> {
    match &entry.payload {
        Payload::Configuration(membership) => Some(membership),
        _ => None,
    }
}
