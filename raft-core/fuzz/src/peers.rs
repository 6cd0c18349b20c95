//! What peers say: messages as few bytes, whose numbers mostly make sense to the server that gets
//! them.
//!
//! Each number is one byte, relative to what would be usual in its place, and 0 is the usual. So a
//! short input is a sensible message, and a small change of the input is a small change of the
//! message.

use arbitrary::Arbitrary;
use raft_core::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Entry, Index, InstallSnapshot,
    InstallSnapshotReply, LogId, Member, MemberStore, Membership, Message, NodeId, Payload,
    ProposalId, Propose, ProposeRefusal, ProposeReply, ReadId, ReadIndex, ReadIndexReply,
    RequestPreVote, RequestPreVoteReply, RequestVote, RequestVoteReply, Role, Round, Session,
    SnapshotMeta, Suffrage, Term, TimeoutNow,
};

use crate::disk::{Log, last, snapshot, term_at};
use crate::evidence::Followers;
use crate::files::SNAPSHOT_BYTES;

/// The longest command that a peer puts into an entry, in bytes: longer than the server takes.
const COMMAND_BYTES_MAX: u8 = 100;
/// How many entries a message has at most.
const ENTRIES_MAX: usize = 8;
/// Servers with these ids come and go.
pub(crate) const SERVERS_MIN: u64 = 5;
/// The longest piece of a snapshot that a peer sends, in bytes.
const CHUNK_BYTES_MAX: u8 = 30;

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
    pub(crate) membership: &'a Membership,
    pub(crate) term: Term,
    /// The server's log, as far as it has asked for it to be written.
    pub(crate) log: &'a Log,
    /// The newest pre-vote and the newest request for a read index that the server has sent.
    pub(crate) campaign: u64,
    pub(crate) read_request: ReadId,
    /// The newest request of the server to append commands.
    pub(crate) forward_request: ProposalId,
    /// What the server's followers know of it.
    pub(crate) followers: &'a Followers,
    /// The snapshot that comes to the server, and how much of it has come.
    pub(crate) incoming: Option<LogId>,
    pub(crate) incoming_bytes: u64,
}

impl View<'_> {
    fn last_index(&self) -> Index {
        last(self.log).index
    }

    /// How many servers there are, as far as anyone could know.
    fn servers(&self) -> u64 {
        let newest = self.membership.members().last().map_or(0, |member| member.id.get());
        newest.max(self.id.get()).max(SERVERS_MIN)
    }

    fn session(&self, of: NodeId) -> u64 {
        self.followers.session(of).map_or(1, Session::get)
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
        let everyone = view.servers() + 1;
        let from = NodeId::new((view.id.get() + u64::from(self.from) % everyone) % everyone + 1);
        let to = if self.misrouted { view.id.next() } else { view.id };
        let term = Term::new(self.term.to(view.term.get()));
        Message { from, to, term, body: self.body.to_body(from, view) }
    }
}

#[derive(Arbitrary, Debug)]
enum AnyBody {
    RequestPreVote { last_log: Position, campaign: Near },
    RequestPreVoteReply { granted: bool, campaign: Near },
    RequestVote { last_log: Position, transfer: bool },
    RequestVoteReply { granted: bool, last_log: Position },
    AppendEntries(Append),
    Matched { session: Near, round: Near, index: Near },
    Rejected { session: Near, round: Near, index: Near, hint: Position },
    InstallSnapshot(Install),
    Received { session: Near, snapshot: Position, bytes: Near },
    TimeoutNow { last_log: Position },
    ReadIndex { id: Near },
    ReadIndexReply { id: Near, index: Near },
    Propose { session: Near, round: Near, id: Near, commands: u8 },
    ProposeReply { id: Near, first: Near, appended: u8, refusal: Option<u8> },
}

/// What a follower promises when it echoes this round: nothing, less than the leader would, as
/// much, or more.
fn promise(round: Round) -> u32 {
    const PROMISES: [u32; 4] = [150_000, u32::MAX, 0, 40_000];
    PROMISES[(round.get() % 4) as usize]
}

impl AnyBody {
    fn to_body(&self, from: NodeId, view: &View<'_>) -> Body<Vec<u8>> {
        let session_to = |session: &Near| Session::new(session.to(view.session(from)));
        let reply = |session: &Near, round: &Near, result| {
            let round = Round::new(round.to(view.followers.round_sent().get()));
            Body::AppendEntriesReply(AppendEntriesReply {
                session: session_to(session),
                round,
                result,
                promise_micros: promise(round),
                state: None,
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
            Self::RequestVote { last_log, transfer } => {
                let (last_log, transfer) = (last_log.to_id(view), *transfer);
                Body::RequestVote(RequestVote { last_log, transfer })
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
            Self::InstallSnapshot(install) => Body::InstallSnapshot(install.to_install(view)),
            Self::Received { session, snapshot: of, bytes } => {
                Body::InstallSnapshotReply(InstallSnapshotReply {
                    session: session_to(session),
                    snapshot: of.near(snapshot(view.log), view),
                    received: bytes.to(SNAPSHOT_BYTES),
                })
            }
            Self::TimeoutNow { last_log } => {
                Body::TimeoutNow(TimeoutNow { last_log: last_log.to_id(view) })
            }
            Self::ReadIndex { id } => Body::ReadIndex(ReadIndex { id: ReadId::new(id.to(1)) }),
            Self::ReadIndexReply { id, index } => Body::ReadIndexReply(ReadIndexReply {
                id: ReadId::new(id.to(view.read_request.get())),
                index: Index::new(index.to(view.last_index().get())),
            }),
            Self::Propose { session, round, id, commands } => Body::Propose(Propose {
                session: session_to(session),
                round: Round::new(round.to(view.followers.round_sent().get())),
                id: ProposalId::new(id.to(1)),
                commands: (0..commands % 4).map(|byte| vec![byte; 40]).collect(),
            }),
            Self::ProposeReply { id, first, appended, refusal } => {
                Body::ProposeReply(ProposeReply {
                    id: ProposalId::new(id.to(view.forward_request.get())),
                    first: Index::new(first.to(view.last_index().get())),
                    appended: u32::from(*appended),
                    refusal: refusal.map(any_refusal),
                })
            }
        }
    }
}

fn any_refusal(kind: u8) -> ProposeRefusal {
    match kind % 5 {
        0 => ProposeRefusal::TooLarge(u64::from(kind)),
        1 => ProposeRefusal::LogFull(u64::from(kind)),
        2 => ProposeRefusal::TooManyUncommitted(u64::from(kind)),
        3 => ProposeRefusal::Transferring(NodeId::new(u64::from(kind))),
        _ => ProposeRefusal::Other(u64::from(kind)),
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
        self.near(last(view.log), view)
    }

    fn near(&self, usual: LogId, view: &View<'_>) -> LogId {
        let index = Index::new(self.index.to(usual.index.get()));
        let term = match term_at(view.log, index) {
            _ if index == usual.index => usual.term,
            Some(term) => term,
            None if index == Index::ZERO => Term::ZERO,
            None => view.term,
        };
        LogId::new(Term::new(self.term.to(term.get())), index)
    }
}

/// The suffrage of each of the first five servers, in three bits. 0 is the membership in force.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct AnyMembership(u16);

impl AnyMembership {
    /// If nobody could decide in it, an empty one, which makes no sense either.
    fn to_membership(self, view: &View<'_>) -> Membership {
        if self.0 == 0 {
            return view.membership.clone();
        }
        let members = (1..=5).filter_map(|number| {
            let id = NodeId::new(number);
            let suffrage = match (self.0 >> (3 * (number - 1))) % 8 {
                0 => view.membership.suffrage(id)?,
                1 | 7 => Suffrage::Voter,
                2 => Suffrage::Learner,
                3 => Suffrage::Incoming,
                4 => Suffrage::Outgoing,
                5 => Suffrage::Demoted,
                _ => return None,
            };
            let priority = u8::from(self.0 >> 15 != 0) * (number % 3) as u8;
            Some(Member {
                id,
                suffrage,
                priority,
                label: vec![number as u8; 2],
                store: MemberStore::Unrecorded,
            })
        });
        Membership::of_members(members).unwrap_or_else(|_| Membership::of_voters([]))
    }
}

#[derive(Arbitrary, Debug)]
struct Install {
    session: Near,
    last: Position,
    /// Whether it is the one that is coming already.
    another: bool,
    membership: AnyMembership,
    offset: Near,
    bytes: u8,
    not_done: bool,
}

impl Install {
    fn to_install(&self, view: &View<'_>) -> InstallSnapshot<Vec<u8>> {
        let mut usual = last(view.log);
        usual.index = usual.index.next();
        let incoming = view.incoming.filter(|_| !self.another);
        let bytes = usize::from(self.bytes % CHUNK_BYTES_MAX);
        InstallSnapshot {
            session: Session::new(self.session.to(1)),
            snapshot: Box::new(SnapshotMeta {
                last: self.last.near(incoming.unwrap_or(usual), view),
                membership: self.membership.to_membership(view),
            }),
            offset: self.offset.to(if self.another { 0 } else { view.incoming_bytes }),
            chunk: vec![self.bytes; bytes],
            done: !self.not_done,
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Append {
    session: Near,
    round: Near,
    prev_log: Position,
    entries: Vec<AnyEntry>,
    leader_commit: Near,
    rank: Option<u8>,
}

impl Append {
    fn to_append(&self, view: &View<'_>) -> AppendEntries<Vec<u8>> {
        let prev_log = self.prev_log.to_id(view);
        let mut last = prev_log;
        let entries = self.entries.iter().take(ENTRIES_MAX).map(|entry| {
            let entry = entry.to_entry(last, view);
            last = entry.id();
            entry
        });
        let entries = entries.collect();
        AppendEntries {
            session: Session::new(self.session.to(1)),
            round: Round::new(self.round.to(view.followers.round_sent().get() + 1)),
            prev_log,
            entries,
            leader_commit: Index::new(self.leader_commit.to(last.index.get())),
            rank: self.rank,
            election_timeout_micros: None,
            takes_proposals: true,
        }
    }
}

#[derive(Arbitrary, Debug)]
struct AnyEntry {
    /// Mostly the term and the position that follow.
    oddity: u8,
    payload: AnyPayload,
}

#[derive(Arbitrary, Debug)]
enum AnyPayload {
    Noop,
    Command(u8),
    Configuration(AnyMembership),
}

impl AnyEntry {
    fn to_entry(&self, last: LogId, view: &View<'_>) -> Entry<Vec<u8>> {
        let next = last.index.next();
        let (term, index) = match self.oddity {
            0..=191 => (last.term, next),
            192..=239 => (last.term.next(), next),
            240..=247 => (Term::new(last.term.get().saturating_sub(1)), next),
            248..=u8::MAX => (last.term, next.next()),
        };
        let payload = match self.payload {
            AnyPayload::Noop => Payload::Noop,
            AnyPayload::Command(bytes) => {
                Payload::Command(vec![bytes; usize::from(bytes % COMMAND_BYTES_MAX)])
            }
            AnyPayload::Configuration(membership) => {
                Payload::Configuration(membership.to_membership(view).into())
            }
        };
        Entry { term, index, payload }
    }
}

/// What a sound peer says next to a message of the server's. To a candidate or a leader it gives
/// what was asked for, or refuses; to a voter it shows up as the leader that it voted for; to a
/// follower it sends the next entry.
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
            Body::AppendEntriesReply(AppendEntriesReply {
                session,
                round,
                result,
                promise_micros: promise(round),
                state: None,
            })
        }
        Body::RequestPreVoteReply(_) => {
            term = term.next();
            let last_log = last(view.log);
            Body::RequestVote(RequestVote { last_log, transfer: false })
        }
        Body::RequestVoteReply(_) | Body::AppendEntriesReply(_) => {
            let prev_log = last(view.log);
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
                rank: None,
                election_timeout_micros: None,
                takes_proposals: true,
            })
        }
        Body::InstallSnapshot(install) => {
            let InstallSnapshot { session, ref snapshot, offset, ref chunk, done } = *install;
            let (snapshot, received) = (snapshot.last, offset + chunk.len() as u64);
            if yes && done {
                let result = AppendResult::Matched(snapshot.index);
                let round = view.followers.round_sent();
                Body::AppendEntriesReply(AppendEntriesReply {
                    session,
                    round,
                    result,
                    promise_micros: promise(round),
                    state: None,
                })
            } else {
                let received = if yes { received } else { 0 };
                Body::InstallSnapshotReply(InstallSnapshotReply { session, snapshot, received })
            }
        }
        Body::InstallSnapshotReply(reply) => Body::InstallSnapshot(InstallSnapshot {
            session: reply.session,
            snapshot: Box::new(SnapshotMeta {
                last: reply.snapshot,
                membership: view.membership.clone(),
            }),
            offset: reply.received,
            chunk: vec![7; 10],
            done: yes,
        }),
        Body::TimeoutNow(request) => {
            term = term.next();
            Body::RequestVote(RequestVote { last_log: request.last_log, transfer: yes })
        }
        Body::ReadIndex(request) => {
            let index = if yes { view.last_index() } else { snapshot(view.log).index };
            Body::ReadIndexReply(ReadIndexReply { id: request.id, index })
        }
        Body::ReadIndexReply(reply) => {
            let id = if yes { reply.id.next() } else { reply.id };
            Body::ReadIndex(ReadIndex { id })
        }
        Body::Propose(request) => Body::ProposeReply(ProposeReply {
            id: request.id,
            first: view.last_index().next(),
            appended: u32::from(yes),
            refusal: (!yes).then_some(ProposeRefusal::TooLarge(0)),
        }),
        Body::ProposeReply(reply) => Body::Propose(Propose {
            session: Session::new(view.session(from)),
            round: view.followers.round_sent(),
            id: if yes { reply.id.next() } else { reply.id },
            commands: vec![vec![1; 8]],
        }),
        body => panic!("unknown to the fuzzer: {body:?}"),
    };
    Message { from, to: view.id, term, body }
}

/// Whether a message speaks for its sender's memory, so that it must be durable before it is said:
/// everything but what a candidate or a follower asks for.
pub(crate) fn is_promise(body: &Body<Vec<u8>>) -> bool {
    !matches!(
        body,
        Body::RequestPreVote(_) | Body::RequestVote(_) | Body::ReadIndex(_) | Body::Propose(_)
    )
}

/// A leader's own messages.
pub(crate) fn is_leaders(body: &Body<Vec<u8>>) -> bool {
    matches!(
        body,
        Body::AppendEntries(_)
            | Body::InstallSnapshot(_)
            | Body::TimeoutNow(_)
            | Body::ProposeReply(_)
    )
}

/// What anyone gets who asks.
pub(crate) fn is_reply(body: &Body<Vec<u8>>) -> bool {
    matches!(
        body,
        Body::RequestPreVoteReply(_)
            | Body::RequestVoteReply(_)
            | Body::AppendEntriesReply(_)
            | Body::InstallSnapshotReply(_)
            | Body::ReadIndex(_)
            | Body::ReadIndexReply(_)
            | Body::Propose(_)
            | Body::ProposeReply(_)
    )
}

/// Whether a server of this role may say this at all. A leader that has stepped down may finish
/// what it was saying.
pub(crate) fn fits(body: &Body<Vec<u8>>, role: Role) -> bool {
    match body {
        Body::RequestPreVote(_) => role == Role::PreCandidate,
        Body::RequestVote(_) => role == Role::Candidate,
        Body::AppendEntries(_) | Body::ProposeReply(_) => role == Role::Leader,
        Body::ReadIndex(_) | Body::Propose(_) => role == Role::Follower,
        _ => true,
    }
}
