//! What operators ask a server, as commands of the Redis protocol.
//!
//! | command | what it does | answered by |
//! |---|---|---|
//! | `MEMBERS` | a line a member: id, suffrage, addresses, `leader` | every server, as it knows |
//! | `STATUS` | what the server knows about itself | every server |
//! | `WHY` | why nothing moves, as far as the server knows | every server |
//! | `SNAPSHOT` | writes a snapshot now, and compacts the log | every server, of its own |
//! | `BACKUP [LOCAL]` | begins a backup: of all acknowledged writes, or its own | every server |
//! | `BACKUP NEXT` | the next piece of it; an empty one is the end | the same connection |
//! | `ADD id address client-address` | lets a server join as a learner | the leader |
//! | `PROMOTE id` | makes a learner that has caught up a voter | the leader |
//! | `RELABEL id address client-address` | corrects where a member is reached | the leader |
//! | `RAISE version` | puts a version of the commands in force | the leader |
//! | `REMOVE id` | takes a member out | the leader |
//! | `TRANSFER [id]` | hands leadership over | the leader |
//!
//! A server that does not lead answers `LEADER address`, and one that can answer later
//! `TRYAGAIN why`. The [command line](crate::admin) goes where it is sent, and tries again.

use std::str::FromStr;

use bytes::Bytes;
use raft_core::host::handshake::Refusal;
use raft_core::host::{
    ADDRESS_BYTES_MAX, ChangeError, Handle, NodeStatus, Pending, SnapshotError, TransferError,
};
use raft_core::{Change, LogId, Membership, NodeId, ProgressState, Role, Suffrage};

use super::backup;
use super::info::role_name;
use super::members::{self, Addresses};
use super::resp::{Frame, LEADER, TRY_AGAIN, error};
use super::store::{Store, Summary};
use super::write::COMMANDS_VERSION;

/// A question or an order of an operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// `MEMBERS`
    Members,
    /// `STATUS`
    Status,
    /// `WHY`
    Why,
    /// `SNAPSHOT`
    Snapshot,
    /// `BACKUP [LOCAL]`
    Backup {
        /// Whether no leader is asked what was acknowledged.
        local: bool,
    },
    /// `BACKUP NEXT`
    BackupNext,
    /// `ADD id address client-address`
    Add {
        /// The new server.
        id: NodeId,
        /// Where it listens for the others.
        address: String,
        /// Where it listens for clients.
        client: String,
    },
    /// `PROMOTE id`
    Promote(NodeId),
    /// `RELABEL id address client-address`
    Relabel {
        /// The member.
        id: NodeId,
        /// Where it listens for the others.
        address: String,
        /// Where it listens for clients.
        client: String,
    },
    /// `RAISE version`
    Raise(u32),
    /// `REMOVE id`
    Remove(NodeId),
    /// `TRANSFER [id]`
    Transfer(Option<NodeId>),
}

/// What a server knows when it is asked.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) status: &'a NodeStatus,
    pub(super) addresses: &'a Addresses,
    pub(super) promotion_lag_max: u64,
    pub(super) store: Summary,
}

/// What comes of an operation at once.
#[derive(Debug)]
pub(super) enum Begun {
    Reply(Frame),
    Operating(Operating),
}

/// An operation under way in the node. Each ends by itself: a leader without a majority steps down.
#[derive(Debug)]
pub enum Operating {
    /// A change of membership.
    Change(Pending<Membership, ChangeError>),
    /// Another version is put in force.
    Raise(Pending<Membership, ChangeError>),
    /// A transfer of leadership.
    Transfer(Pending<NodeId, TransferError>),
    /// A snapshot.
    Snapshot(Pending<LogId, SnapshotError>),
}

impl Operation {
    /// The operation of this name with these arguments; none if there is none of that name, an
    /// error says how it is used.
    pub fn parse(name: &[u8], words: &[Bytes]) -> Option<Result<Self, &'static str>> {
        Some(match (name, words) {
            (b"MEMBERS", []) => Ok(Self::Members),
            (b"STATUS", []) => Ok(Self::Status),
            (b"WHY", []) => Ok(Self::Why),
            (b"SNAPSHOT", []) => Ok(Self::Snapshot),
            (b"BACKUP", []) => Ok(Self::Backup { local: false }),
            (b"BACKUP", [word]) if word.eq_ignore_ascii_case(b"LOCAL") => {
                Ok(Self::Backup { local: true })
            }
            (b"BACKUP", [word]) if word.eq_ignore_ascii_case(b"NEXT") => Ok(Self::BackupNext),
            (b"BACKUP", _) => Err("BACKUP takes LOCAL, NEXT, or nothing"),
            (b"MEMBERS" | b"STATUS" | b"WHY" | b"SNAPSHOT", _) => {
                Err("this command takes no arguments")
            }
            (b"ADD" | b"RELABEL", [id, address, client]) => {
                match (number(id), self::address(address), self::address(client)) {
                    (Some(id), Some(address), Some(client)) if name == b"ADD" => {
                        Ok(Self::Add { id, address, client })
                    }
                    (Some(id), Some(address), Some(client)) => {
                        Ok(Self::Relabel { id, address, client })
                    }
                    _ => Err("this takes a number and two addresses with ports, as host-d:7101"),
                }
            }
            (b"ADD" | b"RELABEL", _) => {
                Err("this takes a server's number, its address and that for clients")
            }
            (b"PROMOTE", [id]) => number(id).map(Self::Promote).ok_or(NO_NUMBER),
            (b"RAISE", [version]) => parsed(version).map(Self::Raise).ok_or(NO_VERSION),
            (b"RAISE", _) => Err(NO_VERSION),
            (b"REMOVE", [id]) => number(id).map(Self::Remove).ok_or(NO_NUMBER),
            (b"PROMOTE" | b"REMOVE", _) => Err(NO_NUMBER),
            (b"TRANSFER", []) => Ok(Self::Transfer(None)),
            (b"TRANSFER", [id]) => number(id).map(|id| Self::Transfer(Some(id))).ok_or(NO_NUMBER),
            (b"TRANSFER", _) => Err("TRANSFER takes a server's number, or nothing"),
            _ => return None,
        })
    }

    /// Answers what can be answered at once, and begins the rest.
    pub(super) fn begin(self, view: &View<'_>, node: &Handle<Store>) -> Begun {
        let leads = view.status.raft.role == Role::Leader;
        let change = match self {
            Self::Members => return Begun::Reply(members(view)),
            Self::Status => return Begun::Reply(status(view)),
            Self::Why => return Begun::Reply(why(view)),
            Self::Snapshot => return Begun::Operating(Operating::Snapshot(node.take_snapshot())),
            // The connection keeps the backup, and takes these two itself.
            Self::Backup { .. } | Self::BackupNext => return Begun::Reply(backup::no_backup()),
            Self::Add { .. }
            | Self::Promote(_)
            | Self::Relabel { .. }
            | Self::Raise(_)
            | Self::Remove(_)
            | Self::Transfer(_)
                if !leads =>
            {
                return Begun::Reply(ask_the_leader(view));
            }
            Self::Transfer(to) => {
                return Begun::Operating(Operating::Transfer(node.transfer_leadership(to)));
            }
            Self::Add { id, address, client } => {
                match members::label(&address, &client).add_learner(id) {
                    Ok(change) => change,
                    Err(e) => return Begun::Reply(error(format!("ERR {e}"))),
                }
            }
            Self::Relabel { id, address, client } => {
                match members::label(&address, &client).encode() {
                    Ok(label) => Change::Relabel { id, label },
                    Err(e) => return Begun::Reply(error(format!("ERR {e}"))),
                }
            }
            Self::Promote(id) if refusal(view, id).is_some() => Change::Promote(id),
            Self::Promote(id) => match behind(view, id) {
                Some(why) => return Begun::Reply(error(format!("{TRY_AGAIN} {why}"))),
                None => Change::Promote(id),
            },
            Self::Raise(version) => {
                let raised = node.change_membership(vec![Change::RaiseVersion(version)]);
                return Begun::Operating(Operating::Raise(raised));
            }
            Self::Remove(id) => Change::Remove(id),
        };
        Begun::Operating(Operating::Change(node.change_membership(vec![change])))
    }
}

const NO_VERSION: &str = "RAISE takes the number of a version";
const NO_NUMBER: &str = "this command takes a server's number";

impl Operating {
    /// Waits for the end, on any runtime.
    pub(super) async fn answer(self) -> Frame {
        match self {
            Self::Change(pending) => changed(pending.await, &members_now),
            Self::Raise(pending) => changed(pending.await, &version_now),
            Self::Transfer(pending) => transferred(pending.await),
            Self::Snapshot(pending) => taken(pending.await),
        }
    }

    /// Waits for the end, on this thread.
    pub(super) fn wait(self) -> Frame {
        match self {
            Self::Change(change) => changed(change.wait(), &members_now),
            Self::Raise(raised) => changed(raised.wait(), &version_now),
            Self::Transfer(transfer) => transferred(transfer.wait()),
            Self::Snapshot(snapshot) => taken(snapshot.wait()),
        }
    }
}

/// A line for each member.
fn members(view: &View<'_>) -> Frame {
    let raft = &view.status.raft;
    let line = |member: &raft_core::Member| {
        let unknown = || "-".to_owned();
        let address = view.addresses.of_servers(member).unwrap_or_else(unknown);
        let client = view.addresses.of_clients(&raft.membership, member.id);
        let client = client.unwrap_or_else(unknown);
        let leads = if raft.leader == Some(member.id) { " leader" } else { "" };
        format!("{} {} {address} {client}{leads}", member.id, seat_name(member.suffrage))
    };
    lines(raft.membership.members().iter().map(line))
}

/// What the server finds; if nothing stands in the way, what it is.
fn why(view: &View<'_>) -> Frame {
    let NodeStatus { findings, raft, .. } = view.status;
    if findings.is_empty() {
        let role = role_name(raft.role);
        return lines([match raft.leader {
            Some(leader) if leader != raft.id => {
                format!("nothing stands in its way: {role} of server {leader}")
            }
            Some(_) | None => {
                format!("nothing stands in its way: {role} in term {}", raft.current_term)
            }
        }]);
    }
    lines(findings.iter().map(ToString::to_string))
}

fn status(view: &View<'_>) -> Frame {
    let View { status, store, .. } = view;
    let raft = &status.raft;
    let leader =
        raft.leader.map_or_else(|| "nobody".to_owned(), |leader| format!("server {leader}"));
    let mut text = vec![
        format!(
            "server {}: {}, term {}; {leader} leads",
            raft.id,
            role_name(raft.role),
            raft.current_term
        ),
        format!(
            "log: behind entry {} up to {}, {} KiB in memory; durable to {}, committed to {}, applied to {}",
            raft.log_base.index,
            raft.last_log.index,
            raft.log_bytes >> 10,
            raft.durable_index,
            raft.commit_index,
            raft.last_applied
        ),
        match raft.snapshot {
            LogId::ZERO => "snapshot: none".to_owned(),
            last => format!("snapshot: up to entry {}", last.index),
        } + if status.takes_snapshot { "; another one is being taken" } else { "" },
        format!("store: {} keys, digest {}", store.keys, store.digest),
        format!(
            "waiting: {} writes, {} held back by a transfer, {} reads, {} changes of members; {} requests refused as too many",
            status.proposals_waiting,
            status.proposals_parked,
            status.reads_waiting,
            status.changes_waiting,
            status.requests_refused
        ),
    ];
    match raft.membership.identity() {
        Some(identity) => text.push(format!("cluster: {identity}")),
        None => text.push("cluster: without an identity yet".to_owned()),
    }
    text.push(match raft.membership.version() {
        0 => format!(
            "version: none is in force; this program knows commands up to {COMMANDS_VERSION}"
        ),
        version => format!(
            "version: {version} is in force; this program knows commands up to {COMMANDS_VERSION}"
        ),
    });
    if status.told_not_to_vote {
        text.push(
            "votes: none, for the other servers say that this one is not the member it takes itself for; see its log"
                .to_owned(),
        );
    }
    for difference in &status.state_differences {
        text.push(format!(
            "states: server {} holds another state than this one after entry {}; see the log",
            difference.peer, difference.index
        ));
    }
    for (id, refusal) in &status.refused_peers {
        text.push(format!("server {id} is refused: {refusal}"));
    }
    if raft.membership.member(raft.id).is_none() {
        text.push("members: this server is none; `kv add` lets it join".to_owned());
    }
    for peer in &raft.peers {
        let how = match peer.state {
            ProgressState::Probe => "its log is compared",
            ProgressState::Replicate => "entries are sent as they come",
            ProgressState::Snapshot => "it is sent a snapshot",
        };
        text.push(format!("follower {}: holds the log up to {}; {how}", peer.id, peer.match_index));
    }
    lines(text)
}

fn ask_the_leader(view: &View<'_>) -> Frame {
    let raft = &view.status.raft;
    let Some(leader) = raft.leader else {
        return error(format!(
            "{TRY_AGAIN} no leader is known here: a majority of the voters must be up, and reach each other"
        ));
    };
    match view.addresses.of_clients(&raft.membership, leader) {
        Some(address) => error(format!("{LEADER} {address} server {leader} leads: ask it there")),
        None => error(format!(
            "{TRY_AGAIN} server {leader} leads; its address for clients is not known here yet"
        )),
    }
}

/// Why this server refuses the one to be promoted. The node answers with it, however long one would
/// wait.
fn refusal(view: &View<'_>, id: NodeId) -> Option<Refusal> {
    let refused = view.status.refused_peers.iter().find(|(refused, _)| *refused == id);
    refused.map(|(_, refusal)| *refusal)
}

/// Why the learner cannot be promoted yet. What is no learner at all the node refuses.
fn behind(view: &View<'_>, id: NodeId) -> Option<String> {
    let raft = &view.status.raft;
    if raft.membership.suffrage(id) != Some(Suffrage::Learner) {
        return None;
    }
    let peer = raft.peers.iter().find(|peer| peer.id == id)?;
    let lag = raft.commit_index.get().saturating_sub(peer.match_index.get());
    if lag <= view.promotion_lag_max && peer.match_index.get() > 0 {
        return None;
    }
    Some(match peer.state {
        ProgressState::Probe if peer.match_index.get() == 0 => {
            let at = raft.membership.member(id).and_then(|m| view.addresses.of_servers(m));
            let at = at.unwrap_or_else(|| "an unknown address".to_owned());
            format!("server {id} has not answered yet: does it run, and listen at {at}?")
        }
        ProgressState::Snapshot => format!("server {id} is being sent a snapshot"),
        ProgressState::Probe | ProgressState::Replicate => {
            format!("server {id} is {lag} entries behind, {} are allowed", view.promotion_lag_max)
        }
    })
}

fn members_now(membership: &Membership) -> String {
    let count = |voters| {
        let is_meant = |member: &&raft_core::Member| member.suffrage.is_voter() == voters;
        membership.members().iter().filter(is_meant).count()
    };
    format!("done: {} voters, {} learners", count(true), count(false))
}

fn version_now(membership: &Membership) -> String {
    format!("done: version {} is in force", membership.version())
}

fn changed(answer: Result<Membership, ChangeError>, now: &dyn Fn(&Membership) -> String) -> Frame {
    match answer {
        Ok(membership) => text(now(&membership)),
        Err(e @ (ChangeError::NotLeader { .. } | ChangeError::Busy)) => {
            error(format!("{TRY_AGAIN} {e}"))
        }
        Err(e) if e.may_take_effect() => error(format!("UNKNOWN {e}: look at the members")),
        Err(e) => error(format!("ERR {e}")),
    }
}

fn transferred(answer: Result<NodeId, TransferError>) -> Frame {
    match answer {
        Ok(leader) => text(format!("done: server {leader} leads")),
        Err(e @ (TransferError::NotLeader { .. } | TransferError::Busy)) => {
            error(format!("{TRY_AGAIN} {e}"))
        }
        Err(e) => error(format!("ERR {e}")),
    }
}

fn taken(answer: Result<LogId, SnapshotError>) -> Frame {
    match answer {
        Ok(last) => text(format!("done: the snapshot holds everything up to entry {}", last.index)),
        Err(e) => error(format!("ERR {e}")),
    }
}

fn lines(lines: impl IntoIterator<Item = String>) -> Frame {
    Frame::Array(lines.into_iter().map(|line| Frame::BulkString(line.into())).collect())
}

fn text(line: String) -> Frame {
    Frame::SimpleString(line.into())
}

fn seat_name(suffrage: Suffrage) -> &'static str {
    match suffrage {
        Suffrage::Voter => "voter",
        Suffrage::Learner => "learner",
        Suffrage::Incoming => "incoming",
        Suffrage::Outgoing => "outgoing",
        Suffrage::Demoted => "demoted",
        _ => "unknown",
    }
}

fn number(word: &[u8]) -> Option<NodeId> {
    parsed(word).map(NodeId::new)
}

fn parsed<N: FromStr>(word: &[u8]) -> Option<N> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// An address with a port, as it may go into a label and into a line of MEMBERS.
fn address(word: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(word).ok().filter(|text| text.len() <= ADDRESS_BYTES_MAX)?;
    let (host, port) = text.rsplit_once(':')?;
    let is_address = !host.is_empty() && port.parse::<u16>().is_ok() && !text.contains(' ');
    is_address.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&'static str]) -> Option<Result<Operation, &'static str>> {
        let rest: Vec<_> = words[1..].iter().map(|word| Bytes::from(*word)).collect();
        Operation::parse(words[0].as_bytes(), &rest)
    }

    #[test]
    fn operations_are_understood_or_explained() {
        let id = NodeId::new(4);
        assert_eq!(parse(&["GET", "k"]), None);
        assert_eq!(parse(&["MEMBERS"]), Some(Ok(Operation::Members)));
        assert_eq!(parse(&["BACKUP"]), Some(Ok(Operation::Backup { local: false })));
        assert_eq!(parse(&["BACKUP", "local"]), Some(Ok(Operation::Backup { local: true })));
        assert_eq!(parse(&["BACKUP", "NEXT"]), Some(Ok(Operation::BackupNext)));
        assert_eq!(parse(&["PROMOTE", "4"]), Some(Ok(Operation::Promote(id))));
        let (address, client) = ("d:1".to_owned(), "d:2".to_owned());
        let relabel = Operation::Relabel { id, address, client };
        assert_eq!(parse(&["RELABEL", "4", "d:1", "d:2"]), Some(Ok(relabel)));
        assert!(matches!(parse(&["RELABEL", "4"]), Some(Err(_))));
        assert_eq!(parse(&["TRANSFER"]), Some(Ok(Operation::Transfer(None))));
        assert_eq!(parse(&["TRANSFER", "4"]), Some(Ok(Operation::Transfer(Some(id)))));
        let (address, client) = ("d:1".into(), "d:2".into());
        let add = Operation::Add { id, address, client };
        assert_eq!(parse(&["ADD", "4", "d:1", "d:2"]), Some(Ok(add)));
        for wrong in [
            &["MEMBERS", "x"] as &[_],
            &["BACKUP", "x"],
            &["ADD", "4", "d:1"],
            &["ADD", "four", "d:1", "d:2"],
            &["ADD", "4", "d", "d:2"],
            &["ADD", "4", "d:1", "d d:2"],
            &["REMOVE"],
            &["REMOVE", "-1"],
            &["TRANSFER", "x"],
        ] {
            assert!(matches!(parse(wrong), Some(Err(_))), "{wrong:?}");
        }
    }

    #[test]
    fn who_may_be_promoted_later_is_told_from_who_may_not() {
        let text = |frame| {
            let Frame::Error(text) = frame else { panic!("{frame:?}") };
            text.to_string()
        };
        let lost = ChangeError::LeadershipLost { may_take_effect: true };
        assert!(text(changed(Err(lost), &members_now)).starts_with("UNKNOWN"));
        let elsewhere = ChangeError::NotLeader { leader: None, address: None };
        assert!(text(changed(Err(elsewhere), &members_now)).starts_with(TRY_AGAIN));
        let invalid = ChangeError::Invalid(raft_core::MembershipError::NoVoter);
        assert!(text(changed(Err(invalid), &members_now)).starts_with("ERR no voter"));
    }
}
