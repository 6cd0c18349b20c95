//! Writes what simulated servers did as a TLA+ module, which `raft-core/spec/trace.sh` holds
//! against the specification.
//!
//! ```text
//! cargo run --release -p raft-core --features sim --example spec_trace -- --seeds 10 > Worlds.tla
//! ```
//!
//! Each seed is a small world of its own: three voters and a joiner, clients, crashes, cuts,
//! pauses, slow disks, transfers, snapshots and changes of membership. After every event each
//! server is looked at, and where its state has changed a record is written.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use clap::Parser;
use raft_core::sim::{Cluster, Crash, Delay, Failure, Registers, Swap};
use raft_core::{Change, Config, Entry, LogId, Membership, NodeId, Raft, Restored, Role, Suffrage};

/// Voters at the beginning, and servers in all.
const VOTERS: u64 = 3;
const SERVERS: u64 = 4;

/// What happens to a world, one after the other.
const ACTIONS: u64 = 60;

/// Disks are late now and then, by more than an answer of the network takes.
const DISK: Delay = Delay::Spikes {
    usual: Duration::from_micros(500),
    spike: Duration::from_millis(60),
    spikes_per_mille: 150,
};

/// Snapshots come after so few entries, so that there are some in a short run.
const SNAPSHOT_ENTRIES: u64 = 12;

/// Writes simulated runs as a TLA+ module.
#[derive(Parser)]
struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
}

fn main() {
    let options = Options::parse();
    let runs: Vec<_> = (options.first..options.first + options.seeds).map(run).collect();
    println!("{}", module(&runs));
}

type World = Cluster<Registers>;

/// Runs one world and returns its records, each a TLA+ record. A run in which the simulator's own
/// observer finds a fault, or a server panics, ends there: the specification judges what came
/// before.
fn run(seed: u64) -> Vec<String> {
    let watch = RefCell::new(Watch::default());
    let ended = panic::catch_unwind(AssertUnwindSafe(|| live(seed, &watch)));
    if let Ok(Err(failure)) = ended {
        eprintln!("{failure}");
    }
    watch.into_inner().records
}

fn live(seed: u64, watch: &RefCell<Watch>) -> Result<(), Box<Failure>> {
    let mut world = World::with(VOTERS, seed, |config: &mut Config| {
        config.snapshot_log_entries = SNAPSHOT_ENTRIES;
        config.log_tail_bytes = 0;
    });
    world.start_new();
    (1..=SERVERS).for_each(|id| world.set_disk_latency(NodeId::new(id), DISK));
    watch.borrow_mut().look(&world);
    for _ in 0..ACTIONS {
        act(&mut world);
        watch.borrow_mut().look(&world);
        let span = Duration::from_millis(world.random(120));
        let watched = world.run_until(span, |world| {
            watch.borrow_mut().look(world);
            false
        });
        watch.borrow_mut().look(&world);
        watched?;
    }
    Ok(())
}

/// Something that a client, an operator or a fault does. What is refused is no matter.
fn act(world: &mut World) {
    let server = NodeId::new(1 + world.random(SERVERS));
    let other = NodeId::new(1 + world.random(SERVERS));
    let leader = world.leader().unwrap_or(server);
    match world.random(20) {
        0..=6 => drop(world.propose(leader, Swap::new(0, 1))),
        7 => world.crash(server, Crash::Keep),
        8 => world.crash(server, Crash::Tear),
        9 => world.crash(leader, Crash::Lose),
        10..=12 => (1..=SERVERS).for_each(|id| world.start(NodeId::new(id))),
        13 if server != other => world.cut(server, other),
        13 | 14 => (1..=SERVERS).for_each(|id| world.connect(NodeId::new(id))),
        15 => world.disconnect(leader),
        16 => drop(world.transfer_leadership(leader, None)),
        17 => drop(world.take_snapshot(server)),
        18 => drop(world.change_membership(leader, &[change(world, leader, server)])),
        _ => world.suspect_leader(server, leader),
    }
}

/// A change that brings this server nearer to a vote, or takes it out.
fn change(world: &World, leader: NodeId, server: NodeId) -> Change {
    let membership = world.raft(leader).map(Raft::membership);
    match membership.and_then(|membership| membership.member(server)).map(|member| member.suffrage)
    {
        None => Change::add_learner(server, ""),
        Some(suffrage) if suffrage.is_voter() => Change::Remove(server),
        Some(_) => Change::Promote(server),
    }
}

/// The records of a run so far.
#[derive(Default)]
struct Watch {
    last: Vec<String>,
    records: Vec<String>,
}

impl Watch {
    /// Writes a record for each server whose state has changed.
    fn look(&mut self, world: &World) {
        self.last.resize(SERVERS as usize, String::new());
        for (id, last) in (1..=SERVERS).zip(&mut self.last) {
            let record = record(world, NodeId::new(id));
            if record != *last {
                self.records.push(record.clone());
                *last = record;
            }
        }
    }
}

fn record(world: &World, id: NodeId) -> String {
    let disk = disk(world.stored(id));
    let Some(raft) = world.raft(id) else {
        return format!("[server |-> {id}, runs |-> FALSE, disk |-> {disk}]");
    };
    let status = raft.status();
    let role = match status.role {
        Role::Follower => "follower",
        Role::PreCandidate => "precandidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    };
    let number = |id: Option<NodeId>| id.map_or(0, NodeId::get);
    let (incoming, outgoing, learners) = sets(&status.membership);
    format!(
        "[server |-> {id}, runs |-> TRUE, term |-> {}, vote |-> {}, role |-> \"{role}\", \
         leader |-> {}, last |-> {}, base |-> {}, commit |-> {}, incoming |-> {incoming}, \
         outgoing |-> {outgoing}, learners |-> {learners}, disk |-> {disk}]",
        status.current_term,
        number(status.voted_for),
        number(status.leader),
        pair(status.last_log),
        status.log_base.index,
        status.commit_index,
    )
}

/// The disk: term, vote, the log's last entry, the position before its first.
fn disk(stored: &Restored<Swap>) -> String {
    let vote = stored.hard_state.voted_for.map_or(0, NodeId::get);
    let last = stored.entries.last().map_or(stored.base, Entry::id);
    let term = stored.hard_state.current_term;
    format!("<<{term}, {vote}, {}, {}, {}>>", last.term, last.index, stored.base.index)
}

/// The voters after and, in a joint configuration, before; and the learners.
fn sets(membership: &Membership) -> (String, String, String) {
    let (mut incoming, mut outgoing, mut learners) = (Vec::new(), Vec::new(), Vec::new());
    for member in membership.members() {
        match member.suffrage {
            Suffrage::Voter => {
                incoming.push(member.id);
                if membership.is_joint() {
                    outgoing.push(member.id);
                }
            }
            Suffrage::Incoming => incoming.push(member.id),
            Suffrage::Outgoing | Suffrage::Demoted => outgoing.push(member.id),
            Suffrage::Learner => learners.push(member.id),
        }
    }
    (set(&incoming), set(&outgoing), set(&learners))
}

fn set(ids: &[NodeId]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    format!("{{{}}}", ids.join(", "))
}

fn pair(last: LogId) -> String {
    format!("<<{}, {}>>", last.term, last.index)
}

/// The module that `trace.tla` extends.
fn module(runs: &[Vec<String>]) -> String {
    let mut text = String::from("---- MODULE Worlds ----\nEXTENDS Naturals\n");
    for (number, records) in (1..).zip(runs) {
        let _ = writeln!(text, "Run{number} == <<\n{}>>", records.join(",\n"));
    }
    let names: Vec<_> = (1..=runs.len()).map(|number| format!("Run{number}")).collect();
    let _ = writeln!(text, "Runs == <<{}>>\n====", names.join(", "));
    text
}
