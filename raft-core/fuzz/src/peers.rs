//! What peers say: messages as few bytes, whose numbers mostly make sense to the server that gets them.
//!
//! Each number is one byte, relative to what would be usual in its place, and 0 is the usual. So a short input is a sensible
//! message, and a small change of the input is a small change of the message.

use arbitrary::Arbitrary;
use raft_core::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Entry, Index, LogId, Message, NodeId,
    Payload, RequestPreVote, RequestPreVoteReply, RequestVote, RequestVoteReply, Restored, Role,
    Round, Session, Term,
};

/// The longest command that a peer puts into an entry, in bytes: longer than the server takes.
const COMMAND_BYTES_MAX: u8 = 100;
/// How many entries a message has at most.
const ENTRIES_MAX: usize = 8;

/// A number close to the one that is usual in its place, or a small one, or a senseless one.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Near(u8);

impl Near {
    /// The number, where `usual` is usual.
    pub(crate) fn to(self, usual: u64) -> u64 {
        const STEPS: [i64; 8] = [0, -1, 1, -2, 2, -3, 3, -8];
        const SENSELESS: [u64; 8] = [0, 1 << 16, 1 << 32, 1 << 62, 1 << 63, !1, !0, 0xff];
        let low = usize::from(self.0 % 8);
        match self.0 {
            0..=199 => usual.saturating_add_signed(STEPS[low]),
            200..=239 => u64::from(self.0) - 200,
            240..=u8::MAX => SENSELESS[low],
        }
    }
}

/// What a peer needs to know of the server to say something sensible.
pub(crate) struct View<'a> {
    pub(crate) id: NodeId,
    pub(crate) voters: u64,
    pub(crate) term: Term,
    /// The server's log, as far as it has asked for it to be written.
    pub(crate) log: &'a Restored<Vec<u8>>,
    /// The newest pre-vote and the newest round that the server has sent.
    pub(crate) campaign: u64,
    pub(crate) round: Round,
}

impl View<'_> {
    fn last_index(&self) -> Index {
        self.log.entries.last().map_or(Index::ZERO, |entry| entry.index)
    }
}

/// A message from anybody, or from nobody.
#[derive(Arbitrary, Debug)]
pub(crate) struct AnyMessage {
    /// Counted from the server's right neighbour; one beyond the cluster is a stranger.
    from: u8,
    misrouted: bool,
    term: Near,
    body: AnyBody,
}

impl AnyMessage {
    pub(crate) fn to_message(&self, view: &View<'_>) -> Message<Vec<u8>> {
        let from =
            (view.id.get() + u64::from(self.from) % (view.voters + 1)) % (view.voters + 1) + 1;
        let to = if self.misrouted { view.id.next() } else { view.id };
        let term = Term::new(self.term.to(view.term.get()));
        Message { from: NodeId::new(from), to, term, body: self.body.to_body(view) }
    }
}

#[derive(Arbitrary, Debug)]
enum AnyBody {
    RequestPreVote { last_log: Position, campaign: Near },
    RequestPreVoteReply { granted: bool, campaign: Near },
    RequestVote { last_log: Position },
    RequestVoteReply { granted: bool, last_log: Position },
    AppendEntries(Append),
    Matched { session: Near, round: Near, index: Near },
    Rejected { session: Near, round: Near, index: Near, hint: Position },
}

impl AnyBody {
    fn to_body(&self, view: &View<'_>) -> Body<Vec<u8>> {
        let reply = |session: &Near, round: &Near, result| {
            Body::AppendEntriesReply(AppendEntriesReply {
                session: Session::new(session.to(1)),
                round: Round::new(round.to(view.round.get())),
                result,
            })
        };
        match self {
            Self::RequestPreVote { last_log, campaign } => {
                let (last_log, campaign) = (last_log.to_id(view), campaign.to(view.campaign));
                Body::RequestPreVote(RequestPreVote { last_log, campaign })
            }
            Self::RequestPreVoteReply { granted, campaign } => {
                let (granted, campaign) = (*granted, campaign.to(view.campaign));
                Body::RequestPreVoteReply(RequestPreVoteReply { granted, campaign })
            }
            Self::RequestVote { last_log } => {
                Body::RequestVote(RequestVote { last_log: last_log.to_id(view) })
            }
            Self::RequestVoteReply { granted, last_log } => {
                let (granted, last_log) = (*granted, last_log.to_id(view));
                Body::RequestVoteReply(RequestVoteReply { granted, last_log })
            }
            Self::AppendEntries(append) => Body::AppendEntries(append.to_append(view)),
            Self::Matched { session, round, index } => {
                let index = Index::new(index.to(view.last_index().get()));
                reply(session, round, AppendResult::Matched(index))
            }
            Self::Rejected { session, round, index, hint } => {
                let prev_log_index = Index::new(index.to(view.last_index().get()));
                reply(
                    session,
                    round,
                    AppendResult::Rejected { prev_log_index, hint: hint.to_id(view) },
                )
            }
        }
    }
}

/// A position near the end of the server's log, with the term that the server has there.
#[derive(Arbitrary, Debug)]
struct Position {
    index: Near,
    term: Near,
}

impl Position {
    fn to_id(&self, view: &View<'_>) -> LogId {
        let index = Index::new(self.index.to(view.last_index().get()));
        let entries = &view.log.entries;
        let term = match entries.binary_search_by_key(&index, |entry| entry.index) {
            Ok(at) => entries[at].term,
            Err(_) if index == Index::ZERO => Term::ZERO,
            Err(_) => view.term,
        };
        LogId::new(Term::new(self.term.to(term.get())), index)
    }
}

#[derive(Arbitrary, Debug)]
struct Append {
    session: Near,
    round: Near,
    prev_log: Position,
    entries: Vec<AnyEntry>,
    leader_commit: Near,
}

impl Append {
    fn to_append(&self, view: &View<'_>) -> AppendEntries<Vec<u8>> {
        let prev_log = self.prev_log.to_id(view);
        let mut last = prev_log;
        let entries = self.entries.iter().take(ENTRIES_MAX).map(|entry| {
            let entry = entry.to_entry(last);
            last = entry.id();
            entry
        });
        let entries = entries.collect();
        AppendEntries {
            session: Session::new(self.session.to(1)),
            round: Round::new(self.round.to(view.round.get())),
            prev_log,
            entries,
            leader_commit: Index::new(self.leader_commit.to(last.index.get())),
        }
    }
}

#[derive(Arbitrary, Debug)]
struct AnyEntry {
    /// Mostly the term and the position that follow.
    oddity: u8,
    command: Option<u8>,
}

impl AnyEntry {
    fn to_entry(&self, last: LogId) -> Entry<Vec<u8>> {
        let next = last.index.next();
        let (term, index) = match self.oddity {
            0..=191 => (last.term, next),
            192..=239 => (last.term.next(), next),
            240..=247 => (Term::new(last.term.get().saturating_sub(1)), next),
            248..=u8::MAX => (last.term, next.next()),
        };
        let payload = match self.command {
            None => Payload::Noop,
            Some(bytes) => Payload::Command(vec![bytes; usize::from(bytes % COMMAND_BYTES_MAX)]),
        };
        Entry { term, index, payload }
    }
}

/// What a sound peer says next to a message of the server's. To a candidate or a leader it gives what was asked for, or refuses;
/// to a voter it shows up as the leader that it voted for; to a follower it sends the next entry.
pub(crate) fn answer(to: &Message<Vec<u8>>, yes: bool, view: &View<'_>) -> Message<Vec<u8>> {
    let (from, mut term) = (to.to, to.term);
    let body = match &to.body {
        Body::RequestPreVote(request) => Body::RequestPreVoteReply(RequestPreVoteReply {
            granted: yes,
            campaign: request.campaign,
        }),
        Body::RequestVote(request) => {
            Body::RequestVoteReply(RequestVoteReply { granted: yes, last_log: request.last_log })
        }
        Body::AppendEntries(append) => {
            let last = append.entries.last().map_or(append.prev_log, Entry::id);
            let prev_log_index = append.prev_log.index;
            let result = if yes {
                AppendResult::Matched(last.index)
            } else {
                AppendResult::Rejected { prev_log_index, hint: LogId::ZERO }
            };
            let (session, round) = (append.session, append.round);
            Body::AppendEntriesReply(AppendEntriesReply { session, round, result })
        }
        Body::RequestPreVoteReply(_) => {
            term = term.next();
            let last_log = view.log.entries.last().map_or(LogId::ZERO, Entry::id);
            Body::RequestVote(RequestVote { last_log })
        }
        Body::RequestVoteReply(_) | Body::AppendEntriesReply(_) => {
            let prev_log = view.log.entries.last().map_or(LogId::ZERO, Entry::id);
            let entry = Entry { term, index: prev_log.index.next(), payload: Payload::Noop };
            let round = match &to.body {
                Body::AppendEntriesReply(reply) => reply.round.next(),
                _ => Round::new(1),
            };
            Body::AppendEntries(AppendEntries {
                session: Session::new(1),
                round,
                prev_log,
                entries: yes.then_some(entry).into_iter().collect(),
                leader_commit: prev_log.index,
            })
        }
        body => panic!("unknown to the fuzzer: {body:?}"),
    };
    Message { from, to: view.id, term, body }
}

/// Whether a message speaks for its sender's memory, so that it must be durable before it is said: everything but what a
/// candidate asks for.
pub(crate) fn is_promise(body: &Body<Vec<u8>>) -> bool {
    !matches!(body, Body::RequestPreVote(_) | Body::RequestVote(_))
}

/// A leader's own messages.
pub(crate) fn is_leaders(body: &Body<Vec<u8>>) -> bool {
    matches!(body, Body::AppendEntries(_))
}

/// Whether a server of this role may say this at all.
pub(crate) fn fits(body: &Body<Vec<u8>>, role: Role) -> bool {
    match body {
        Body::RequestPreVote(_) => role == Role::PreCandidate,
        Body::RequestVote(_) => role == Role::Candidate,
        Body::AppendEntries(_) => role == Role::Leader,
        _ => true,
    }
}
