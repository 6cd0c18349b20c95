//! A leader's view of one follower (§5.3): what it holds, what to send it next, and how much is on
//! its way.
//!
//! ```text
//!         took the probe                       rejected
//!   Probe ────────────────► Replicate    Replicate ─────────► Probe
//!   one message at a time   a window of messages, next_index runs ahead of the replies
//!
//!            what it needs is compacted                holds enough of the log
//!   Probe ──────────────────────────────► Snapshot ─────────────────────────────► Replicate
//!                                         a window of chunks (§7)
//! ```
//!
//! | | Probe | Replicate | Snapshot |
//! |---|---|---|---|
//! | an append is sent | one at a time | while `inflights` have room | heartbeats only |
//! | `Matched` | Replicate, unless a probe is unanswered | `match_index` grows | Replicate, once the log goes on where the follower's ends |
//! | `Rejected` | `next_index` falls | Probe, `next_index` falls | ignored |
//! | the next entry is compacted | Snapshot | Snapshot | the newest snapshot, if the old one is stuck |
//!
//! Every message, a heartbeat as well, names the entry before `next_index`. So a lost message shows
//! at the next heartbeat at the latest: the follower rejects it, and the leader goes back to what
//! the follower does hold.
//!
//! Replication takes up speed only with progress. A follower whose log is full answers a probe by
//! what it held before; the leader probes on, once with each heartbeat and with a single entry,
//! until the follower has taken what a probe brought:
//!
//! ```text
//! leader                                            follower, whose log is full at 7
//!   probe: entries 8 9 10 ───────────────────────►    takes none
//!                          ◄──── matched 7 ───────    no progress: still Probe, nothing is sent
//!   heartbeat after 10     ──────────────────────►
//!                          ◄──── rejected, hint 7 ─
//!   probe: entry 8         ──────────────────────►    and so on, at the pace of heartbeats
//! ```

use core::time::Duration;

use crate::checkpoint::stored;
use crate::config::Config;
use crate::message::{AppendEntries, SnapshotMeta};
use crate::state::election_timeout::RoundTrip;
use crate::state::forwards::Taken;
use crate::state::inflights::Inflights;
use crate::state::log::Log;
use crate::state::pace::{Pace, Sent};
use crate::state::sending::Sending;
use crate::time::Instant;
use crate::types::{Command, Index, LogId, Round, Session};

/// How a leader sends to a follower.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ProgressState {
    /// Where the logs agree is not known: one message with entries at a time.
    Probe,
    /// The logs agree: messages follow each other without waiting for replies.
    Replicate,
    /// What the follower needs was compacted: it is sent a snapshot (§7).
    Snapshot,
}

stored! { enum ProgressState { 0 Probe {}, 1 Replicate {}, 2 Snapshot {}, } }

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Progress {
    session: Session,
    state: ProgressState,
    /// The follower holds the log up to here, durably.
    match_index: Index,
    /// The next entry to send.
    next_index: Index,
    /// The entry before those that were sent last: while probing, the one that the probe named,
    /// once it was sent.
    probed: Option<Index>,
    /// The last probe was in vain: it was lost, or the follower had no room. The next one holds a
    /// single entry.
    in_vain: bool,
    inflights: Inflights,
    /// The newest round that went out to the follower, and the newest that it has echoed.
    round_sent: Round,
    round_echoed: Round,
    /// The commit index that the follower was told.
    commit_sent: Index,
    /// When the follower was last heard of.
    heard_at: Instant,
    /// Until then the follower elects nobody else, by this server's clock (thesis 6.4.1).
    pub(crate) promised_until: Instant,
    /// How long it takes to answer; measured for adaptive timeouts only.
    pub(crate) round_trip: RoundTrip,
    /// Its place in the line of successors.
    pub(crate) rank: Option<u8>,
    /// The follower was sent a snapshot, and has not held all that was committed since.
    catches_up: bool,
    /// The snapshot on its way to the follower; none unless in state `Snapshot`.
    pub(crate) sending: Option<Sending>,
    /// What the follower is sent of the log to catch up; none if it keeps up.
    backlog: Option<Backlog>,
    /// The newest request of this follower to append commands, with the answer.
    pub(crate) taken: Taken,
}

stored! {
    struct Progress {
        session, state, match_index, next_index, probed, in_vain, inflights, round_sent,
        round_echoed, commit_sent, heard_at, promised_until, round_trip, rank, catches_up,
        sending, backlog, taken,
    }
}

/// What a follower is sent of the log to catch up.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Backlog {
    /// So many bytes of it the follower has written.
    acknowledged: u64,
    pace: Pace,
}

stored! { struct Backlog { acknowledged, pace } }

impl Backlog {
    /// Two windows may be on their way at a time.
    fn sent(&self, inflights: &Inflights, config: &Config) -> Sent {
        let next = self.acknowledged.saturating_add(bytes_of(inflights.bytes()));
        let window = bytes_of(config.inflight_bytes_max) / 2;
        Sent { acknowledged: self.acknowledged, next, window }
    }
}

fn bytes_of(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl Progress {
    /// A follower of whom nothing is known, at the start of a replication session.
    pub(crate) fn new() -> Self {
        Self {
            session: Session::new(0),
            state: ProgressState::Probe,
            match_index: Index::ZERO,
            next_index: Index::ZERO.next(),
            probed: None,
            in_vain: false,
            inflights: Inflights::default(),
            round_sent: Round::new(0),
            round_echoed: Round::new(0),
            commit_sent: Index::ZERO,
            heard_at: Instant::ZERO,
            promised_until: Instant::ZERO,
            round_trip: RoundTrip::default(),
            rank: None,
            catches_up: false,
            sending: None,
            backlog: None,
            taken: Taken::default(),
        }
    }

    /// Begins a session with a guess: the follower holds all that the leader does. Keeps the memory
    /// of `inflights`.
    pub(crate) fn begin(&mut self, session: Session, next_index: Index, now: Instant) {
        self.inflights.clear();
        let inflights = core::mem::take(&mut self.inflights);
        *self = Self { session, next_index, inflights, heard_at: now, ..Self::new() };
    }

    /// The term is over. Keeps the memory of `inflights`.
    pub(crate) fn end(&mut self) {
        self.begin(Session::new(0), Index::ZERO.next(), Instant::ZERO);
    }

    pub(crate) fn session(&self) -> Session {
        self.session
    }

    pub(crate) fn state(&self) -> ProgressState {
        self.state
    }

    pub(crate) fn match_index(&self) -> Index {
        self.match_index
    }

    pub(crate) fn next_index(&self) -> Index {
        self.next_index
    }

    pub(crate) fn round_echoed(&self) -> Round {
        self.round_echoed
    }

    pub(crate) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    pub(crate) fn on_heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// A message that is about to leave carries this round.
    pub(crate) fn time_round(&mut self, round: Round, now: Instant) {
        if round > self.round_sent {
            self.round_trip.on_sent(round, now);
        }
    }

    /// What it has echoed, it has echoed by now.
    pub(crate) fn measure_round_trip(&mut self, now: Instant, longest: Duration) {
        self.round_trip.on_echoed(self.round_echoed, now, longest);
    }

    /// Takes the round that an answer echoes. Returns it, or the newest that was sent, if the
    /// answer claims more.
    pub(crate) fn on_round_echoed(&mut self, round: Round) -> Round {
        let round = round.min(self.round_sent);
        self.round_echoed = self.round_echoed.max(round);
        round
    }

    /// The follower holds the log up to `index`. Returns whether that is news.
    ///
    /// A follower that is sent a snapshot has caught up once the log of the leader, which begins
    /// behind `base`, goes on where its own ends. If it never does, for the leader compacts faster,
    /// it is sent the next one.
    pub(crate) fn on_matched(&mut self, index: Index, base: Index, commit_index: Index) -> bool {
        let news = index > self.match_index;
        self.catches_up &= index < commit_index;
        self.match_index = self.match_index.max(index);
        self.next_index = self.next_index.max(self.match_index.next());
        if self.state == ProgressState::Snapshot {
            self.next_index = self.match_index.next();
            let is_sent = |sending: &Sending| sending.last().index <= self.match_index;
            let needs_newer = self.match_index < base;
            if needs_newer && !self.sending.as_ref().is_some_and(is_sent) {
                return news;
            }
            self.sending = None;
            if needs_newer {
                // What follows the snapshot that it holds was compacted while that was on its way.
                self.state = ProgressState::Probe;
                return news;
            }
        }
        let acknowledged = bytes_of(self.inflights.acknowledge(index));
        if let Some(backlog) = &mut self.backlog {
            backlog.acknowledged = backlog.acknowledged.saturating_add(acknowledged);
        }
        let is_probed = self.state == ProgressState::Probe && self.inflights.len() > 0;
        if !is_probed {
            self.state = ProgressState::Replicate;
            self.in_vain = false;
        }
        news
    }

    /// The follower does not hold the entry at `prev_log_index`; `hint` is the newest one that both
    /// could hold. Returns false for a late reply to a message that later ones have made
    /// irrelevant.
    pub(crate) fn on_rejected<C: Command>(
        &mut self,
        prev_log_index: Index,
        hint: LogId,
        log: &Log<C>,
    ) -> bool {
        if prev_log_index <= self.match_index || !self.awaits_answer_about(prev_log_index) {
            return false;
        }
        let base = log.base();
        let shared = match hint.term < base.term || hint.index < base.index {
            true => base.index.previous(),
            false => log.newest_within(hint).index,
        };
        self.next_index = shared.next().min(prev_log_index).max(self.match_index.next());
        self.in_vain = self.state == ProgressState::Probe
            && self.probed.is_some_and(|probed| probed.next() == self.next_index);
        self.state = ProgressState::Probe;
        self.probed = None;
        self.inflights.clear();
        true
    }

    /// Whether a message that named this entry can still be unanswered. Of a lost append, all that
    /// were sent behind it are rejected; the first rejection says it all, and once the probe is out
    /// only its own answer counts, or that to the heartbeat behind it.
    fn awaits_answer_about(&self, prev_log_index: Index) -> bool {
        let newest = self.next_index.previous();
        match self.state {
            ProgressState::Probe => self.probed == Some(prev_log_index) || prev_log_index == newest,
            ProgressState::Replicate => prev_log_index <= newest,
            // It is rejected with every heartbeat, until it has caught up.
            ProgressState::Snapshot => false,
        }
    }

    /// Whether the follower needs entries that this log has compacted away; then it is to be sent a
    /// snapshot.
    pub(crate) fn needs_snapshot<C: Command>(&self, log: &Log<C>) -> bool {
        self.state != ProgressState::Snapshot && self.next_index <= log.base().index
    }

    /// Whether the follower takes entries, and was not sent yet all that is committed. What follows
    /// a snapshot is no backlog: the leader keeps more log than usual until the follower has it.
    pub(crate) fn has_backlog(&self, commit_index: Index) -> bool {
        let replicates = self.state == ProgressState::Replicate;
        replicates && self.next_index <= commit_index && !self.catches_up
    }

    /// With each tick: pauses between windows of what the follower is sent to catch up.
    pub(crate) fn pace<C: Command>(
        &mut self,
        now: Instant,
        commit_index: Index,
        log: &Log<C>,
        config: &Config,
    ) {
        if let Some(sending) = &mut self.sending {
            sending.pace(now, commit_index, log, config);
        }
        if self.has_backlog(commit_index) {
            let new = || Backlog { acknowledged: 0, pace: Pace::new(now) };
            let backlog = self.backlog.get_or_insert_with(new);
            let sent = backlog.sent(&self.inflights, config);
            backlog.pace.on_tick(now, sent, commit_index, log);
        } else {
            self.backlog = None;
        }
    }

    /// When the pause ends between two windows of what the follower is sent to catch up.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        let backlog = self.backlog.as_ref().and_then(|backlog| backlog.pace.paused_until());
        backlog.or_else(|| self.sending.as_ref()?.paused_until())
    }

    /// The entry behind which the follower needs the log, while it catches up with the help of a
    /// snapshot.
    pub(crate) fn catches_up_from(&self) -> Option<Index> {
        let from = self.sending.as_ref().map_or(self.match_index, |sending| sending.last().index);
        self.catches_up.then_some(from)
    }

    /// From here on the follower is sent this snapshot, and heartbeats.
    pub(crate) fn begin_snapshot(&mut self, snapshot: SnapshotMeta, now: Instant) {
        self.state = ProgressState::Snapshot;
        self.catches_up = true;
        self.inflights.clear();
        self.sending = Some(Sending::new(snapshot, now));
    }

    /// What to send to the follower now, if anything: entries up to `last_index`, a heartbeat of
    /// this round, or word of a new commit index.
    pub(crate) fn next_append<C: Command>(
        &mut self,
        log: &Log<C>,
        last_index: Index,
        commit_index: Index,
        round: Round,
        config: &Config,
    ) -> Option<AppendEntries<C>> {
        let leader_commit = commit_index.min(self.match_index);
        let sends_entries = self.next_index <= last_index && !self.is_full(config);
        if !sends_entries && self.round_sent == round && self.commit_sent == leader_commit {
            return None;
        }
        // A follower that is sent a snapshot does not hold this entry and will say so; it hears
        // that its leader lives.
        let prev_index = match self.state {
            ProgressState::Probe | ProgressState::Replicate => self.next_index.previous(),
            ProgressState::Snapshot => log.base().index,
        };
        let prev_log = LogId::new(log.term_at(prev_index)?, prev_index);
        let bytes_max = if self.in_vain { 0 } else { config.append_bytes_max };
        let (entries, bytes) = match sends_entries {
            true => log.slice(self.next_index, last_index, bytes_max),
            false => Default::default(),
        };
        if let Some(last) = entries.last() {
            self.probed = Some(prev_index);
            self.inflights.push(last.index, bytes);
            self.next_index = last.index.next();
        }
        self.round_sent = round;
        self.commit_sent = leader_commit;
        let (session, rank) = (self.session, self.rank);
        Some(AppendEntries {
            session,
            round,
            prev_log,
            entries,
            leader_commit,
            rank,
            // The leader's, and not the follower's.
            election_timeout_micros: None,
            takes_proposals: true,
        })
    }

    fn is_full(&self, config: &Config) -> bool {
        match self.state {
            ProgressState::Probe => self.inflights.len() > 0,
            ProgressState::Replicate => {
                self.inflights.len() >= config.inflight_appends_max
                    || self.inflights.bytes() >= config.inflight_bytes_max
                    || self.backlog.as_ref().is_some_and(|backlog| {
                        backlog.pace.holds_back(backlog.sent(&self.inflights, config))
                    })
            }
            ProgressState::Snapshot => true,
        }
    }
}
