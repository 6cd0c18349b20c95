//! What a picture shows of one moment, as it goes to the page.

use raft_core::sim::{StateMachine as _, Swap};
use raft_core::{Entry, NodeId, Payload};
use serde::Serialize;

use crate::live::{Live, Lost, Setup};
use crate::position::Position;
use crate::words::{self, command, role, wake};

/// The most entries of a log that are shown: the last ones.
const ENTRIES_SHOWN: usize = 64;

/// One moment of a cluster.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Scene {
    /// With what the run began.
    pub setup: Setup,
    /// This moment.
    pub at: Position,
    /// The farthest moment seen.
    pub end: Position,
    /// Whether the run can go on.
    pub over: bool,
    /// The rule that was broken.
    pub failure: Option<String>,
    /// The leader of the newest term that is not cut off, if a majority follows it.
    pub leader: Option<u64>,
    /// The election timeouts in force, in milliseconds.
    pub timeouts: (u64, u64),
    /// How long a message travels in milliseconds, and how many of 100 are lost.
    pub network: (u64, u32),
    /// Every server.
    pub servers: Vec<Server>,
    /// Messages on their way.
    pub flights: Vec<Flight>,
    /// Messages that were lost just now.
    pub lost: Vec<Lost>,
    /// The links through which nothing passes, from a smaller to a greater number.
    pub cut: Vec<(u64, u64)>,
    /// How many lines the story has up to this moment.
    pub told: usize,
}

/// A server at one moment.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Server {
    /// Its number.
    pub id: u64,
    /// What it does: a role, `down` or `paused`.
    pub state: &'static str,
    /// Its role; none if it is down.
    pub role: Option<&'static str>,
    /// Its current term; that on its disk if it is down.
    pub term: u64,
    /// Its vote in that term.
    pub voted_for: Option<u64>,
    /// The leader that it knows.
    pub leader: Option<u64>,
    /// The last entries of its log.
    pub log: Vec<Cell>,
    /// The last entry that its core knows to be on the disk.
    pub durable: u64,
    /// The last entry known to be committed.
    pub commit: u64,
    /// The last entry that its state machine applied.
    pub applied: u64,
    /// What its state machine holds.
    pub registers: Vec<u64>,
    /// Writes that the disk has not acknowledged yet.
    pub writes: usize,
    /// Replies that wait at the gate for a write.
    pub held: Vec<Held>,
    /// How long a sync of its disk takes, in milliseconds.
    pub disk: u64,
    /// When its timer fires, in microseconds, and for what.
    pub wake: Option<(u64, &'static str)>,
    /// As leader: how far each follower is.
    pub peers: Vec<Peer>,
}

/// A leader's view of a follower.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Peer {
    /// The follower.
    pub id: u64,
    /// The last entry that it holds durably.
    pub matched: u64,
    /// The next entry to send.
    pub next: u64,
}

/// An entry of a log.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Cell {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// What it holds, in a few letters.
    pub text: String,
}

/// A reply that waits at the gate.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Held {
    /// For whom.
    pub to: u64,
    /// What it says.
    pub text: String,
    /// The write that it waits for.
    pub write: u64,
}

/// A message on its way.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Flight {
    /// Tells it from all others.
    pub number: u64,
    /// The sender.
    pub from: u64,
    /// The receiver.
    pub to: u64,
    /// A class for its colour: `vote`, `append`, `beat` or `reply`.
    pub class: &'static str,
    /// What it says.
    pub text: String,
    /// Whether it refuses something.
    pub no: bool,
    /// When it left, in microseconds.
    pub sent: u64,
    /// When it arrives.
    pub arrives: u64,
}

impl Live {
    /// What a picture shows of this moment.
    pub fn scene(&self) -> Scene {
        Scene::of(self)
    }
}

impl Scene {
    fn of(live: &Live) -> Self {
        let cluster = live.cluster();
        let ids = cluster.ids();
        let pairs = ids.iter().flat_map(|a| ids.iter().map(move |b| (*a, *b)));
        let is_cut = |(a, b): &(NodeId, NodeId)| a < b && !cluster.passes(*a, *b);
        Self {
            setup: live.setup(),
            at: live.position(),
            end: live.end(),
            over: live.is_over(),
            failure: live.failure().map(str::to_owned),
            leader: cluster.followed_leader().map(NodeId::get),
            timeouts: live.timeouts(),
            network: live.network(),
            servers: ids.iter().map(|id| Server::of(live, *id)).collect(),
            flights: flights(live),
            lost: live.lost().to_vec(),
            cut: pairs.filter(is_cut).map(|(a, b)| (a.get(), b.get())).collect(),
            told: live.told(),
        }
    }
}

impl Server {
    fn of(live: &Live, id: NodeId) -> Self {
        let cluster = live.cluster();
        let stored = cluster.stored(id);
        let Some(raft) = cluster.raft(id) else {
            return Self {
                id: id.get(),
                state: "down",
                role: None,
                term: stored.hard_state.current_term.get(),
                voted_for: stored.hard_state.voted_for.map(NodeId::get),
                leader: None,
                log: cells(stored.entries.iter()),
                durable: stored.entries.last().map_or(0, |last| last.index.get()),
                commit: 0,
                applied: 0,
                registers: Vec::new(),
                writes: 0,
                held: Vec::new(),
                disk: live.disk(id),
                wake: None,
                peers: Vec::new(),
            };
        };
        let status = raft.status();
        let role = role(status.role);
        let held = cluster.held(id).map(|(write, message)| Held {
            to: message.to.get(),
            text: words::message(message).1,
            write: write.get(),
        });
        let registers = (0..4).map(|register| cluster.machine(id).query(&register)).collect();
        let peers = status.peers.iter().map(|peer| Peer {
            id: peer.id.get(),
            matched: peer.match_index.get(),
            next: peer.next_index.get(),
        });
        Self {
            id: id.get(),
            state: if cluster.is_paused(id) { "paused" } else { role },
            role: Some(role),
            term: status.current_term.get(),
            voted_for: status.voted_for.map(NodeId::get),
            leader: status.leader.map(NodeId::get),
            log: cells(cluster.log(id)),
            durable: status.durable_index.get(),
            commit: status.commit_index.get(),
            applied: status.last_applied.get(),
            registers,
            writes: status.writes_in_flight,
            held: held.collect(),
            disk: live.disk(id),
            wake: status.wake.map(|(at, why)| (at.as_micros(), wake(why))),
            peers: peers.collect(),
        }
    }
}

fn cells<'e>(entries: impl Iterator<Item = &'e Entry<Swap>>) -> Vec<Cell> {
    let mut cells: Vec<_> = entries.map(cell).collect();
    cells.split_off(cells.len().saturating_sub(ENTRIES_SHOWN))
}

fn cell(entry: &Entry<Swap>) -> Cell {
    let text = match &entry.payload {
        Payload::Command(swap) => command(swap),
        Payload::Configuration(_) => "members".to_owned(),
        _ => "no-op".to_owned(),
    };
    Cell { index: entry.index.get(), term: entry.term.get(), text }
}

fn flights(live: &Live) -> Vec<Flight> {
    let cluster = live.cluster();
    let mut flights: Vec<_> = cluster
        .in_flight()
        .map(|flight| {
            let (class, text, no) = words::message(flight.message);
            Flight {
                number: flight.number,
                from: flight.message.from.get(),
                to: flight.message.to.get(),
                class,
                text,
                no,
                sent: live.sent_at(flight.number).unwrap_or(cluster.now()).as_micros(),
                arrives: flight.arrives.as_micros(),
            }
        })
        .collect();
    flights.sort_by_key(|flight| flight.number);
    flights
}
