//! Log replication (§5.3), both sides.
//!
//! The leader builds an append when it is polled, so commands that are proposed together travel
//! together. A follower answers what is durable and nothing else: it acknowledges the part of the
//! leader's log that it holds on disk, when that grows, when a heartbeat round asks, and when an
//! append comes again because its answer was lost.
//!
//! A follower removes entries only at a real conflict, never because a message is shorter than its
//! log:
//!
//! ```text
//! sent   append a: entries 4 5 6      append b: entries 4 5 6 7
//! comes  b first, then a              removing "all behind a" would take back the acknowledged 7
//! ```

use rand_core::Rng;

use crate::entries::{Entries, Entry, Payload};
use crate::message::{AppendEntries, AppendEntriesReply, AppendResult, Body, Message};
use crate::raft::{Following, Leading, Next, Raft, Standing};
use crate::reason::StepDown;
use crate::state::progress::ProgressState;
use crate::state::roles::{Heard, KnownLeader};
use crate::state::server::Server;
use crate::status::count;
use crate::types::{Command, Index, NodeId, Round, Session};

impl<C: Command, R: Rng> Raft<C, R> {
    /// AppendEntries of the current term: its sender leads.
    pub(crate) fn on_append_entries(&mut self, from: NodeId, append: AppendEntries<C>) {
        if !self.server.is_well_formed(&append) {
            count(&mut self.server.counters.malformed);
            return;
        }
        if !self.follow(from, append.session, Some(append.round)) {
            return;
        }
        if let Some(mut following) = self.following() {
            following.on_append_entries(append);
        }
    }

    /// A leader sends heartbeats to all followers, in a round that asks for an answer (§5.2). A
    /// candidate asks the voters again that have not answered (§5.1).
    pub(crate) fn on_heartbeat_timeout(&mut self) {
        self.server.timers.heartbeat.touch();
        if let Some(mut leading) = self.leading() {
            leading.on_heartbeat_timeout();
        } else if let Some(Standing { ballot, .. }) = self.standing() {
            ballot.ask_again();
        } else {
            self.server.timers.heartbeat.stop();
        }
    }

    /// Follows the leader of the current term, in this session and since this round, if the message
    /// tells of one. Returns false if the session is over; or if another leader is known, or this
    /// server leads itself, which no correct cluster can bring about.
    pub(crate) fn follow(
        &mut self,
        leader: NodeId,
        session: Session,
        round: Option<Round>,
    ) -> bool {
        if self.leader().is_some_and(|known| known != leader) {
            count(&mut self.server.counters.protocol_violations);
            return false;
        }
        let is_stale = |following: Following<'_, C, R>| session < following.known.session;
        if self.following().is_some_and(is_stale) {
            count(&mut self.server.counters.stale_replies);
            return false;
        }
        self.server.promise_to_leader();
        let mut matched = Index::ZERO;
        if let Some(Following { known, .. }) = self.following() {
            if known.session == session {
                known.heard = Heard::SinceTick;
                known.listens_until = None;
                return true;
            }
            matched = known.matched;
        }
        let timeout_in_force = self.timeout_in_force();
        let before_first = round.map_or(0, |round| round.get().saturating_sub(1));
        self.step_down(self.server.current_term, StepDown::OtherLeader);
        self.server.reads.on_leader_followed();
        self.server.forwards.on_leader_followed();
        self.follow_leader(KnownLeader {
            id: leader,
            heard: Heard::SinceTick,
            listens_until: None,
            session,
            round: Round::new(before_first),
            rank: None,
            takes_proposals: false,
            refused: None,
            timeout_in_force,
            matched,
            acknowledged: Index::ZERO,
            reply_due: false,
            rejection: None,
        });
        true
    }
}

impl<C: Command, R: Rng> Following<'_, C, R> {
    /// AppendEntries of the current term, receiver implementation (Figure 2).
    fn on_append_entries(&mut self, append: AppendEntries<C>) {
        self.server.timers.election.touch();

        let AppendEntries { round, prev_log, entries, leader_commit, .. } = append;
        self.known.rank = append.rank;
        self.known.takes_proposals = append.takes_proposals;
        self.known.timeout_in_force =
            self.server.config.timeout_told(append.election_timeout_micros);
        // What lies below the first entry is committed, and so the same on every server.
        let base = self.server.log.base().index;
        if prev_log.index >= base && !self.server.log.contains(prev_log) {
            let hint = self.server.log.newest_within(prev_log);
            let prev_log_index = prev_log.index;
            self.known.rejection = Some(AppendResult::Rejected { prev_log_index, hint });
            self.known.round = self.known.round.max(round);
            return;
        }

        let carries_entries = !entries.is_empty();
        let matched = self.append_entries(prev_log.index.max(base), entries);
        let is_known = carries_entries && matched <= self.server.durable.index();
        self.known.reply_due |= round > self.known.round || is_known;
        self.known.round = self.known.round.max(round);
        self.known.matched = self.known.matched.max(matched);
        self.advance_commit_to(leader_commit.min(matched));
    }

    /// Appends what is new; removes what conflicts, and all that follows it. Returns up to where
    /// the log is the leader's, given that it is up to `matched`.
    fn append_entries(&mut self, mut matched: Index, entries: Entries<C>) -> Index {
        let mut members_changed = false;
        for entry in entries {
            if entry.index <= matched {
                continue;
            }
            if self.server.log.contains(entry.id()) {
                matched = entry.index;
                continue;
            }
            if self.server.log.term_at(entry.index.previous()) > Some(entry.term) {
                // What the message says lies below the log's first entry is not what is committed
                // there.
                count(&mut self.server.counters.protocol_violations);
                break;
            }
            if entry.index <= self.server.log.last().index {
                if entry.index <= self.server.commit_index {
                    // Only a leader without a committed entry could ask for this, and none is ever
                    // elected.
                    count(&mut self.server.counters.protocol_violations);
                    break;
                }
                self.server.log.truncate_from(entry.index);
                self.server.durable.on_truncated(entry.index);
                self.on_log_truncated(entry.index);
                members_changed |= self.server.memberships.truncate_from(entry.index);
            }
            self.server.make_room(entry.size());
            if !self.server.takes(&entry) {
                count(&mut self.server.counters.log_full);
                break;
            }
            matched = entry.index;
            if let Payload::Configuration(membership) = &entry.payload {
                self.server.memberships.append(entry.index, (**membership).clone());
                members_changed = true;
            }
            self.server.log.append(entry);
        }
        if members_changed {
            self.server.membership_changed = true;
            self.server.update_members();
        }
        matched
    }

    /// What a follower claims to share with its leader ends where the log does.
    pub(crate) fn on_log_truncated(&mut self, from: Index) {
        self.known.matched = self.known.matched.min(from.previous());
        self.known.acknowledged = self.known.acknowledged.min(from.previous());
    }

    /// Commits up to `index`, as the leader did.
    pub(crate) fn advance_commit_to(&mut self, index: Index) {
        if self.server.advance_commit_to(index) {
            self.server.update_members();
            self.server.note_removal();
        }
    }

    /// What a follower owes its leader: a rejection, or how much of the leader's log is durable
    /// here.
    pub(crate) fn next_append_reply(&mut self) -> Option<Message<C>> {
        if !self.server.durable.hard_state_is_durable() {
            return None;
        }
        let matched = self.known.matched.min(self.server.durable.index());
        let result = match self.known.rejection.take() {
            Some(rejection) => rejection,
            None if self.known.reply_due || matched > self.known.acknowledged => {
                self.known.reply_due = false;
                self.known.acknowledged = matched;
                AppendResult::Matched(matched)
            }
            None => return None,
        };
        let promise_micros = self.server.config.promise_micros();
        let KnownLeader { id, session, round, .. } = *self.known;
        let reply = AppendEntriesReply { session, round, result, promise_micros, state: None };
        Some(self.server.message(id, Body::AppendEntriesReply(reply)))
    }
}

impl<C: Command, R: Rng> Server<C, R> {
    /// Whether the entries follow `prev_log` without a gap, in terms that never fall nor pass the
    /// leader's.
    pub(crate) fn is_well_formed(&self, append: &AppendEntries<C>) -> bool {
        let mut last = append.prev_log;
        for entry in &append.entries {
            let follows = entry.index == last.index.next() && entry.term >= last.term;
            let makes_sense = match &entry.payload {
                Payload::Noop | Payload::Command(_) => true,
                Payload::Configuration(membership) => membership.validate().is_ok(),
            };
            if !follows || !makes_sense {
                return false;
            }
            last = entry.id();
        }
        last.term <= self.current_term
    }

    /// Whether a follower's log has room for the next entry. A log that is full must not stay full
    /// for good, so beyond the limit it takes
    ///
    /// - the no-op with which a term begins: one in each term, for more come from no correct
    ///   leader;
    /// - entries of earlier terms, as much again as what is not committed may take: an earlier
    ///   leader had room for them, and none of them commits before the no-op behind them (§5.4.2);
    /// - one entry, if all others have been handed to the state machine and no snapshot is due: it
    ///   is longer than a command may be here, or the limits differ from the leader's, and nothing
    ///   but that entry brings the next snapshot nearer.
    fn takes(&self, entry: &Entry<C>) -> bool {
        let last = self.log.last();
        let begins_term = entry.is_noop() && entry.term > last.term;
        let earlier = entry.term < self.current_term;
        let beyond = if earlier { self.config.log_room() } else { 0 };
        let fits = self.log.bytes().saturating_add(entry.size()).saturating_sub(beyond)
            <= self.config.log_bytes_max;
        let is_idle = self.apply_sent >= last.index && !self.snapshots.is_due(&self.config);
        begins_term || fits || is_idle
    }
}

impl<C: Command, R: Rng> Leading<'_, C, R> {
    /// A follower's answer, in the current term. It counts only in the session that asked for it.
    pub(crate) fn on_append_entries_reply(
        &mut self,
        from: usize,
        reply: AppendEntriesReply,
    ) -> Next {
        let Leading { leader, server } = self;
        let Some(peer) = leader.peers.get_mut(from) else { return Next::Stay };
        if reply.session != peer.session() {
            count(&mut server.counters.stale_replies);
            return Next::Stay;
        }
        // The quorum timer runs on: when it fires, the leader looks again which peers it has heard.
        leader.heard.insert(from);
        let round = peer.on_round_echoed(reply.round);
        if let (Some(lease), Some(left_at)) = (server.config.lease, leader.lease.left_at(round)) {
            let until = left_at + server.config.lease_span(lease, reply.promise_micros);
            peer.promised_until = peer.promised_until.max(until);
        }
        match reply.result {
            AppendResult::Matched(index) if index > server.log.last().index => {
                count(&mut server.counters.malformed);
                return Next::Stay;
            }
            AppendResult::Matched(index) => {
                leader.pending.insert(from);
                if peer.on_matched(index, server.log.base().index, server.commit_index) {
                    let next = self.advance_commit();
                    if next != Next::Stay {
                        return next;
                    }
                }
            }
            AppendResult::Rejected { prev_log_index, hint } => {
                leader.pending.insert(from);
                let installs = peer.state() == ProgressState::Snapshot;
                if !peer.on_rejected(prev_log_index, hint, &server.log) && !installs {
                    count(&mut server.counters.stale_replies);
                }
            }
        }
        self.confirm_reads();
        Next::Stay
    }

    /// With each heartbeat.
    fn on_heartbeat_timeout(&mut self) {
        self.adapt_timeout();
        self.rank_successors();
        self.begin_round();
        self.retry_snapshots();
        self.release_log();
        self.retry_transfer();
    }

    /// Begins a heartbeat round.
    pub(crate) fn begin_round(&mut self) {
        let (everyone, now) = (self.server.members.everyone_else(), self.server.now);
        self.leader.round = self.leader.round.next();
        self.leader.pending = everyone;
        if self.server.config.lease.is_some() {
            self.leader.lease.on_round(self.leader.round, now);
        }
    }

    /// The next AppendEntries of a leader.
    pub(crate) fn next_append(&mut self) -> Option<Message<C>> {
        loop {
            let position = self.leader.pending.first()?;
            let peer = self.leader.peers.get_mut(position)?;
            if peer.needs_snapshot(&self.server.log) {
                peer.begin_snapshot(self.server.snapshots.last.clone(), self.server.now);
                self.leader.lagging.insert(position);
            }
            if let Some(message) = self.append_to(position) {
                return Some(message);
            }
            self.leader.pending.remove(position);
        }
    }

    /// The next AppendEntries of a leader to this follower, if there is anything to send.
    #[inline]
    pub(crate) fn append_to(&mut self, position: usize) -> Option<Message<C>> {
        let (to, commit_index) = (self.server.members.id(position)?, self.server.commit_index);
        let (peer, round) = (self.leader.peers.get_mut(position)?, self.leader.round);
        if self.server.config.adaptive.is_some() {
            peer.time_round(round, self.server.now);
        }
        // A member that leaves gets nothing behind the configuration without it. See
        // `reconfiguration`.
        let last_index = match self.server.members.leaving.contains(position) {
            true => self.server.memberships.index(),
            false => self.server.log.last().index,
        };
        let log = &self.server.log;
        let mut append =
            peer.next_append(log, last_index, commit_index, round, &self.server.config)?;
        append.election_timeout_micros = self.leader.timeout.told(&self.server.config);
        Some(self.server.message(to, Body::AppendEntries(append)))
    }
}
