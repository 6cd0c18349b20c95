//! What no story may break, looked at from outside, where everything can be seen: after every turn
//! of every server.
//!
//! - Election Safety (Figure 3): one leader per term; and one vote per server and term, over all
//!   its lives.
//! - Log Matching: an entry of one term and index has one content and one predecessor, wherever it
//!   is written or sent.
//! - Leader Completeness: who leads holds what was committed in earlier terms.
//! - State Machine Safety: one entry per index, handed out one by one and from the disk; what is
//!   taken for committed is on the disks of a majority.
//! - Membership (§6): the configuration in force is the newest in the log, and a snapshot holds the
//!   newest up to its last entry.
//! - The gate: what a message promises is on its sender's disk when it leaves.
//! - Reads are linearizable: who is told to serve one has all that was committed when it was asked
//!   for.
//! - In one life, terms and commit indexes only grow; and nobody sees what no correct cluster can
//!   bring about.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use super::super::server::SimRaft;
use super::host::{Host, entry_at, holds};
use super::{Command, Told, tell};
use crate::{
    AppendEntries, AppendResult, Body, Entries, Entry, HardState, Index, LogId, Membership,
    Message, NodeId, Payload, Restored, Role, SnapshotMeta, Status, Suffrage, Term, Write,
};

pub(super) type Hosts = BTreeMap<NodeId, Host>;

#[derive(Default, Debug)]
pub(super) struct Truth {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(Term, NodeId), NodeId>,
    /// Every entry ever seen, with the term of its predecessor.
    entries: BTreeMap<LogId, (Term, Payload<Command>)>,
    committed: BTreeMap<Index, Committed>,
    /// By server: its life, and the term and commit index that it had.
    seen: BTreeMap<NodeId, (u64, Term, Index)>,
    /// The script forges messages, or lies in the name of a host: oddities are no surprise.
    pub(super) tolerates_oddities: bool,
}

#[derive(Debug)]
struct Committed {
    id: LogId,
    /// The term of the server that took it for committed first: no earlier than the one in which it
    /// was committed.
    known_in: Term,
}

/// Fails with these words unless it holds.
macro_rules! must {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(format!($($words)+));
        }
    };
}

impl Truth {
    /// The last entry that anyone takes for committed.
    pub(super) fn committed(&self) -> Index {
        self.committed.last_key_value().map_or(Index::ZERO, |(index, _)| *index)
    }

    pub(super) fn on_write(&mut self, host: &Host, write: &Write<Command>) -> Told {
        let id = host.id;
        let mut kept = host.written.clone();
        kept.replay(Write { entries: Entries::new(), ..write.clone() });
        let last = kept.entries.last().map_or(kept.base, Entry::id);
        if let (Some(from), Some((_, _, commit))) = (write.truncate_from, self.seen.get(&id)) {
            must!(from > *commit, "{id} removes entry {from}, which it knows to be committed");
        }
        self.match_entries(last, &write.entries)
    }

    fn match_entries(&mut self, mut previous: LogId, entries: &[Entry<Command>]) -> Told {
        for entry in entries {
            let id = entry.id();
            must!(
                id.index == previous.index.next(),
                "Log Matching: a gap between {previous} and {id}"
            );
            let known = (previous.term, entry.payload.clone());
            let known = self.entries.entry(id).or_insert(known);
            must!(
                known.1 == entry.payload,
                "Log Matching: two entries are {id}, {} and {}",
                tell::payload(&known.1),
                tell::payload(&entry.payload)
            );
            must!(known.0 == previous.term, "Log Matching: {id} follows two different logs");
            previous = id;
        }
        Ok(())
    }

    /// "A node never says what it could forget."
    pub(super) fn on_send(&mut self, hosts: &Hosts, message: &Message<Command>) -> Told {
        let Message { from, to, term, body } = message;
        let stored = &hosts[from].stored;
        let said = tell::message(message);
        let asks = !matches!(said.split(' ').nth(3), Some(kind) if kind.ends_with("Reply"));
        let on_disk = stored.hard_state;
        must!(
            asks || on_disk.current_term == *term,
            "the gate: {said}: a crash would forget the term, for on disk is {}",
            tell::hard_state(&on_disk)
        );
        match body {
            // They promise nothing about their sender.
            Body::RequestPreVote(_) | Body::RequestVote(_) | Body::RequestPreVoteReply(_) => Ok(()),
            Body::RequestVoteReply(reply) if !reply.granted => Ok(()),
            Body::RequestVoteReply(_) => {
                must!(
                    on_disk.voted_for == Some(*to),
                    "the gate: {said}: a crash would forget the vote"
                );
                self.on_vote(*term, *from, *to)
            }
            Body::AppendEntries(append) => {
                let leads = HardState { current_term: *term, voted_for: Some(*from), ..on_disk };
                must!(on_disk == leads, "the gate: {said}: a crash would forget who leads");
                self.on_leader(*from, *term)?;
                self.on_append(hosts, (*from, *to), append)
            }
            Body::AppendEntriesReply(reply) => match reply.result {
                AppendResult::Matched(index) => check_match(hosts, message, index),
                AppendResult::Rejected { .. } => Ok(()),
            },
            Body::InstallSnapshot(_) | Body::TimeoutNow(_) => {
                let leads = HardState { current_term: *term, voted_for: Some(*from), ..on_disk };
                must!(on_disk == leads, "the gate: {said}: a crash would forget who leads");
                Ok(())
            }
            Body::InstallSnapshotReply(_)
            | Body::ReadIndex(_)
            | Body::ReadIndexReply(_)
            | Body::Propose(_)
            | Body::ProposeReply(_) => Ok(()),
        }
    }

    fn on_vote(&mut self, term: Term, voter: NodeId, candidate: NodeId) -> Told {
        let voted = *self.votes.entry((term, voter)).or_insert(candidate);
        must!(
            voted == candidate,
            "Election Safety: {voter} votes for {voted} and for {candidate} in term {term}"
        );
        Ok(())
    }

    fn on_leader(&mut self, id: NodeId, term: Term) -> Told {
        let leader = *self.leaders.entry(term).or_insert(id);
        must!(leader == id, "Election Safety: {leader} and {id} lead term {term}");
        self.on_vote(term, id, id)
    }

    fn on_append(
        &mut self,
        hosts: &Hosts,
        (from, to): (NodeId, NodeId),
        append: &AppendEntries<Command>,
    ) -> Told {
        self.match_entries(append.prev_log, &append.entries)?;
        let commit = append.leader_commit;
        let stored = &hosts[&to].stored;
        let held = commit <= stored.base.index || entry_at(stored, commit).is_some();
        // A leader sends the removal notice without waiting for an answer of the removed server.
        let end = append.entries.last().map_or(append.prev_log.index, |last| last.index);
        let is_last_word = is_without(&hosts[&from].written, to) && commit <= end;
        must!(held || is_last_word, "{to} is told of commit {commit}, which is not on its disk");
        Ok(())
    }

    pub(super) fn on_apply(&mut self, host: &Host, entry: &Entry<Command>) -> Told {
        let (id, at) = (host.id, entry.id());
        let next = host.handed_out.next();
        must!(entry.index == next, "{id} is handed entry {at} to apply, when {next} would be next");
        let stored = entry_at(&host.stored, entry.index);
        must!(stored == Some(entry), "{id} applies {at}, which is not on its disk");
        let committed = host.raft.as_ref().map_or(Index::ZERO, |raft| raft.status().commit_index);
        must!(
            entry.index <= committed,
            "{id} applies {at}, which it does not know to be committed"
        );
        match self.committed.get(&entry.index) {
            Some(known) if known.id != at => Err(format!(
                "State Machine Safety: {id} applies {at} where {} is committed",
                known.id
            )),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn on_take_snapshot(&self, host: &Host, snapshot: &SnapshotMeta) -> Told {
        let known = configuration(&host.written, snapshot.last.index);
        let (id, last) = (host.id, snapshot.last);
        must!(
            known.is_none_or(|known| *known == snapshot.membership),
            "Membership: the snapshot of {id} that ends at {last} has {}",
            tell::membership(&snapshot.membership)
        );
        Ok(())
    }

    /// A snapshot takes the place of a log: what it ends with was committed.
    pub(super) fn on_restore(&self, id: NodeId, last: LogId) -> Told {
        match self.committed.get(&last.index) {
            Some(known) if known.id == last => Ok(()),
            Some(known) => Err(format!(
                "State Machine Safety: {id} restores {last} where {} is committed",
                known.id
            )),
            None => Err(format!("{id} restores {last}, which nobody has committed")),
        }
    }

    pub(super) fn on_read_ready(&self, id: NodeId, index: Index, floor: Index) -> Told {
        must!(
            index >= floor,
            "Linearizability: {id} may serve a read from index {index}, when {floor} was committed before it was asked for"
        );
        Ok(())
    }

    /// Looks at a server at the end of its turn, and at all for the sake of what it has just
    /// committed.
    pub(super) fn look(&mut self, hosts: &Hosts, id: NodeId) -> Told {
        let host = &hosts[&id];
        let Some(raft) = &host.raft else { return Ok(()) };
        let status = raft.status();
        let (term, commit) = (status.current_term, status.commit_index);
        if let Some((_, earlier_term, earlier_commit)) =
            self.seen.insert(id, (host.life, term, commit)).filter(|seen| seen.0 == host.life)
        {
            must!(term >= earlier_term, "the term of {id} falls from {earlier_term} to {term}");
            must!(
                commit >= earlier_commit,
                "the commit index of {id} falls from {earlier_commit} to {commit}"
            );
        }
        self.check_oddities(&status)?;
        let known = configuration(&host.written, status.last_log.index);
        must!(
            known.is_none_or(|known| *known == status.membership),
            "Membership: {id} goes by {}, and its log says otherwise",
            tell::membership(&status.membership)
        );
        if status.role == Role::Leader {
            self.on_leader(id, term)?;
        }
        self.check_commit(hosts, host, &status)?;
        hosts.values().try_for_each(|host| self.check_completeness(host))
    }

    fn check_oddities(&self, status: &Status) -> Told {
        if self.tolerates_oddities {
            return Ok(());
        }
        let (id, counters) = (status.id, status.counters);
        let odd = [
            counters.protocol_violations,
            counters.malformed,
            counters.misrouted,
            counters.api_misuse,
        ];
        must!(odd == [0; 4], "{id} sees what no correct cluster can bring about: {counters:?}");
        Ok(())
    }

    fn check_commit(&mut self, hosts: &Hosts, host: &Host, status: &Status) -> Told {
        let through = status.commit_index;
        for entry in host.written.entries.iter().filter(|entry| entry.index <= through) {
            let (id, at) = (host.id, entry.id());
            match self.committed.get(&entry.index) {
                Some(known) => must!(
                    known.id == at,
                    "State Machine Safety: {id} takes {at} for committed, and {} was",
                    known.id
                ),
                None => {
                    check_quorum(hosts, status, at)?;
                    let known_in = status.current_term;
                    self.committed.insert(entry.index, Committed { id: at, known_in });
                }
            }
        }
        Ok(())
    }

    fn check_completeness(&self, host: &Host) -> Told {
        let Some(raft) = host.raft.as_ref().filter(|raft| raft.role() == Role::Leader) else {
            return Ok(());
        };
        let (id, term) = (host.id, raft.term());
        let earlier = self.committed.values().filter(|committed| committed.known_in < term);
        for Committed { id: needed, .. } in earlier {
            must!(
                holds(&host.written, *needed),
                "Leader Completeness: {id} leads term {term} without {needed}, which is committed"
            );
        }
        Ok(())
    }
}

/// The newest configuration of a log up to this index.
fn configuration(log: &Restored<Command>, through: Index) -> Option<&Membership> {
    let entries = log.entries.iter().rev().filter(|entry| entry.index <= through);
    let mut configurations = entries.filter_map(|entry| {
        if let Payload::Configuration(membership) = &entry.payload {
            Some(&**membership)
        } else {
            None
        }
    });
    let before = log.snapshot.as_ref().map(|snapshot| &snapshot.membership);
    configurations.next().or(before)
}

/// An entry is on the disks of a majority of the voters; in a joint configuration of the old ones
/// and of the new ones.
fn check_quorum(hosts: &Hosts, status: &Status, at: LogId) -> Told {
    let (id, members) = (status.id, &status.membership);
    let outgoing = [Suffrage::Voter, Suffrage::Outgoing, Suffrage::Demoted];
    let electorates = [&[Suffrage::Voter, Suffrage::Incoming][..], &outgoing[..]];
    for suffrages in electorates {
        let voters: Vec<_> =
            suffrages.iter().flat_map(|suffrage| tell::of_suffrage(members, *suffrage)).collect();
        let holds = |id: &&NodeId| hosts.get(id).is_some_and(|host| holds(&host.stored, at));
        let (holders, all) = (voters.iter().filter(holds).count(), voters.len());
        must!(
            holders * 2 > all,
            "{id} takes {at} for committed, which is on {holders} of {all} disks"
        );
    }
    Ok(())
}

/// An entry that a follower acknowledges is on its disk, and is the same in the leader's log.
fn check_match(hosts: &Hosts, message: &Message<Command>, index: Index) -> Told {
    let stored = &hosts[&message.from].stored;
    if index <= stored.base.index {
        return Ok(());
    }
    let said = tell::message(message);
    let Some(held) = entry_at(stored, index) else {
        return Err(format!("the gate: {said}: a crash would forget the entry"));
    };
    let leader = &hosts[&message.to];
    let leads = |raft: &&_| leads_term(raft, message.term);
    if leader.raft.as_ref().filter(leads).is_some() {
        must!(holds(&leader.written, held.id()), "{said}: its leader does not hold {}", held.id());
    }
    Ok(())
}

fn leads_term(raft: &SimRaft<Command>, term: Term) -> bool {
    raft.role() == Role::Leader && raft.term() == term
}

/// Whether the newest configuration in this log is without that server.
fn is_without(log: &Restored<Command>, id: NodeId) -> bool {
    let configurations = log.entries.iter().rev().filter_map(|entry| match &entry.payload {
        Payload::Configuration(membership) => Some(membership),
        Payload::Noop | Payload::Command(_) => None,
    });
    configurations.take(1).any(|membership| membership.suffrage(id).is_none())
}
