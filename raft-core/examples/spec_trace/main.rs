//! Writes what simulated servers did as a TLA+ module, which `raft-core/spec/trace.sh` holds
//! against the specification.
//!
//! ```text
//! cargo run --release -p raft-core --features sim --example spec_trace -- --seeds 10 > Worlds.tla
//! ```
//!
//! Each seed is a small world of its own: three voters and a joiner, clients that write and read,
//! crashes, cuts, slow disks, transfers, snapshots and changes of membership. In some worlds nobody
//! asks before it stands, the network is bad, or an append has room for one entry only. After every
//! event each server is looked at, and where its state has changed a record is written. A read has
//! a record when it is asked, and one when it ends.
//!
//! With `--merge` it writes what the processes of a cluster did, each of which has left a trace.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use raft_core::sim::{Cluster, Crash, Delay, Failure, Network, Registers, Swap, TRUE_RATE_PPM};
use raft_core::{Change, Config, Entry, NodeId, Raft, Role};

mod record;

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

/// Messages are late, overtaken, repeated and lost.
const BAD_NETWORK: Network = Network {
    delay: Delay::Uniform { min: Duration::from_micros(500), max: Duration::from_millis(4) },
    request_loss_per_mille: 30,
    reply_loss_per_mille: 30,
    duplicates_per_mille: 60,
    requests_held_per_mille: 80,
    replies_held_per_mille: 80,
    hold: Delay::Uniform { min: Duration::from_millis(1), max: Duration::from_millis(250) },
};

/// A story waits so long for each of its events, and a late vote takes so long.
const STORY: Duration = Duration::from_millis(800);
const LATE_VOTE: Duration = Duration::from_millis(350);

/// The room of an append that takes one entry at a time, in bytes.
const APPEND_BYTES: usize = 64;

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
    /// These seeds, and no others.
    #[arg(long, value_name = "SEED", value_delimiter = ',')]
    only: Vec<u64>,
    /// Writes for each seed a number that tells its run from others, and no module.
    #[arg(long)]
    digests: bool,
    /// Runs no seed: writes what the nodes of a cluster, all voters, left in this directory.
    #[arg(long, value_name = "DIR")]
    merge: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    if let Some(directory) = options.merge {
        let Merged { servers, records } = merge(&directory)?;
        println!("{}", module(&servers, &servers, &[Run { asks_first: true, records }]));
        return Ok(());
    }
    let seeds = match options.only.is_empty() {
        true => (options.first..options.first + options.seeds).collect(),
        false => options.only,
    };
    if options.digests {
        for seed in seeds {
            let mut hasher = DefaultHasher::new();
            run(seed).records.hash(&mut hasher);
            println!("{seed} {:016x}", hasher.finish());
        }
        return Ok(());
    }
    let runs: Vec<_> = seeds.into_iter().map(run).collect();
    let servers: Vec<_> = (1..=SERVERS).map(NodeId::new).collect();
    let voters: Vec<_> = (1..=VOTERS).map(NodeId::new).collect();
    println!("{}", module(&servers, &voters, &runs));
    Ok(())
}

type World = Cluster<Registers>;

/// What a world is like.
#[derive(Clone, Copy)]
struct Nature {
    /// Servers ask for pre-votes, and a leader without a quorum steps down.
    asks_first: bool,
    bad_network: bool,
    short_appends: bool,
    /// It begins with [`forget_a_candidacy`].
    forgets: bool,
}

impl Nature {
    /// The first three alone and with each other, again every eight seeds.
    fn of(seed: u64) -> Self {
        let bit = |place: u64| seed >> place & 1 == 1;
        let (asks_first, bad_network, short_appends) = (!bit(0), bit(1), bit(2));
        let forgets = !asks_first && !bad_network && bit(3);
        Self { asks_first, bad_network, short_appends, forgets }
    }

    fn configure(self, config: &mut Config) {
        config.snapshot_log_entries = SNAPSHOT_ENTRIES;
        config.log_tail_bytes = 0;
        // Without both of them, a leader that is cut off leads on until it hears of the next one.
        (config.pre_vote, config.check_quorum) = (self.asks_first, self.asks_first);
        if self.short_appends {
            (config.command_bytes_max, config.append_bytes_max) = (APPEND_BYTES, APPEND_BYTES);
        }
    }
}

/// What happened in one world.
struct Run {
    asks_first: bool,
    /// Each a TLA+ record.
    records: Vec<String>,
}

/// Runs one world. If the simulator's own observer finds a fault, or a server panics, the run ends
/// there: the specification judges what came before.
fn run(seed: u64) -> Run {
    let watch = RefCell::new(Watch::default());
    let nature = Nature::of(seed);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| live(seed, nature, &watch)));
    if let Ok(Err(failure)) = ended {
        eprintln!("{failure}");
    }
    Run { asks_first: nature.asks_first, records: watch.into_inner().records }
}

fn live(seed: u64, nature: Nature, watch: &RefCell<Watch>) -> Result<(), Box<Failure>> {
    let mut world = World::with(VOTERS, seed, move |config| nature.configure(config));
    world.start_new();
    if nature.bad_network {
        world.set_network(BAD_NETWORK);
    }
    if nature.forgets {
        forget_a_candidacy(&mut world, watch)?;
    }
    (1..=SERVERS).for_each(|id| world.set_disk_latency(NodeId::new(id), DISK));
    watch.borrow_mut().look(&world);
    for _ in 0..ACTIONS {
        act(&mut world, &mut watch.borrow_mut());
        watch.borrow_mut().look(&world);
        let span = Duration::from_millis(world.random(120));
        run_until(&mut world, watch, span, |_| false)?;
    }
    Ok(())
}

/// Runs until the condition holds or the span is over, and looks at the world after each event.
fn run_until(
    world: &mut World,
    watch: &RefCell<Watch>,
    span: Duration,
    condition: impl Fn(&World) -> bool,
) -> Result<bool, Box<Failure>> {
    let watched = world.run_until(span, |world| {
        watch.borrow_mut().look(world);
        condition(world)
    });
    watch.borrow_mut().look(world);
    watched
}

/// A candidate forgets its candidacy and the end of its log in a crash, and stands in the same term
/// again. Then the vote comes that was given to its longer log.
fn forget_a_candidacy(world: &mut World, watch: &RefCell<Watch>) -> Result<(), Box<Failure>> {
    run_until(world, watch, STORY, |world| world.followed_leader().is_some())?;
    let Some(leader) = world.leader() else { return Ok(()) };
    let mut others = (1..=VOTERS).map(NodeId::new).filter(|id| *id != leader);
    let (Some(candidate), Some(voter)) = (others.next(), others.next()) else { return Ok(()) };
    let last = |world: &World, id| world.raft(id).map(|raft| raft.status().last_log);
    let stored = |world: &World, id| world.stored(id).entries.last().map(Entry::id);
    run_until(world, watch, STORY, |world| {
        let first = last(world, leader);
        stored(world, candidate) == first && stored(world, voter) == first
    })?;
    let before = last(world, candidate);
    world.hold_disk(candidate);
    drop(world.propose(leader, Swap::new(0, 1)));
    run_until(world, watch, STORY, |world| {
        last(world, candidate) > before && last(world, candidate) == stored(world, voter)
    })?;
    world.crash(leader, Crash::Keep);
    // The voter's own timer would end the story.
    world.set_clock_rate(voter, 1);
    let has_voted = |world: &World| world.stored(voter).hard_state.voted_for == Some(candidate);
    let asks = |world: &World| {
        world.raft(voter).is_some_and(|raft| raft.status().voted_for == Some(candidate))
    };
    run_until(world, watch, STORY, asks)?;
    world.set_network(Network::reliable(LATE_VOTE));
    run_until(world, watch, STORY, has_voted)?;
    world.crash(candidate, Crash::Lose);
    world.release_disk(candidate);
    watch.borrow_mut().look(world);
    world.start(candidate);
    run_until(world, watch, STORY, |_| false)?;
    world.set_clock_rate(voter, TRUE_RATE_PPM);
    world.set_network(Network::reliable(Duration::from_millis(1)));
    Ok(())
}

/// Something that a client, an operator or a fault does. What is refused is no matter.
fn act(world: &mut World, watch: &mut Watch) {
    let server = NodeId::new(1 + world.random(SERVERS));
    let other = NodeId::new(1 + world.random(SERVERS));
    let leader = world.leader().unwrap_or(server);
    match world.random(26) {
        0..=2 => drop(world.propose(leader, Swap::new(0, 1))),
        // All servers that believe to lead take it, so that logs come to differ.
        3 | 4 => (1..=2 * SERVERS).for_each(|number| {
            drop(world.propose(NodeId::new(1 + number % SERVERS), Swap::new(0, 1)));
            watch.look(world);
        }),
        5 | 6 => drop(world.forward(server, Swap::new(0, 1))),
        7 => world.crash(server, Crash::Keep),
        8 => world.crash(server, Crash::Tear),
        9 => world.crash(leader, Crash::Lose),
        10..=12 => (1..=SERVERS).for_each(|id| {
            world.release_disk(NodeId::new(id));
            world.start(NodeId::new(id));
        }),
        13 if server != other => world.cut(server, other),
        13 | 14 => (1..=SERVERS).for_each(|id| world.connect(NodeId::new(id))),
        15 => world.disconnect(leader),
        16 => drop(world.transfer_leadership(leader, None)),
        17 => drop(world.take_snapshot(server)),
        18 => drop(world.change_membership(leader, &[change(world, leader, server)])),
        19 => world.suspect_leader(server, leader),
        20 | 21 => watch.ask(world, server),
        22 | 23 => (1..=SERVERS).for_each(|id| watch.ask(world, NodeId::new(id))),
        24 => world.hold_disk(server),
        // Its vote, and the end of its log, may not be on its disk yet.
        _ => {
            let stands = |id: &NodeId| world.raft(*id).map(Raft::role) == Some(Role::Candidate);
            let candidate = (1..=SERVERS).map(NodeId::new).find(stands);
            world.crash(candidate.unwrap_or(server), Crash::Lose);
            watch.look(world);
            world.start(candidate.unwrap_or(server));
        }
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
    /// The ends of reads that were looked at.
    ends: usize,
}

impl Watch {
    /// Asks a server to read. If it takes the read, that is a record.
    fn ask(&mut self, world: &mut World, id: NodeId) {
        if let Ok(read) = world.read(id) {
            self.records.push(record::of_asked(id, read));
        }
    }

    /// Writes a record for each server whose state has changed, and for each read that has ended.
    fn look(&mut self, world: &World) {
        self.last.resize(SERVERS as usize, String::new());
        for (id, last) in (1..=SERVERS).zip(&mut self.last) {
            let record = record_of(world, NodeId::new(id));
            if record != *last {
                self.records.push(record.clone());
                *last = record;
            }
        }
        for end in world.read_ends().skip(self.ends) {
            self.records.push(record::of_read_end(end.server, end.id, end.index));
        }
        self.ends = world.read_ends().len();
    }
}

fn record_of(world: &World, id: NodeId) -> String {
    let stored = world.stored(id);
    match world.raft(id) {
        Some(raft) => record::of_running(&raft.status(), stored),
        None => record::of_stopped(id, stored),
    }
}

/// The traces of a cluster's nodes in one.
struct Merged {
    servers: Vec<NodeId>,
    records: Vec<String>,
}

/// The records of the nodes of one cluster, each in a file of this directory, by their moments.
fn merge(directory: &Path) -> Result<Merged, Box<dyn Error>> {
    let mut lines = Vec::new();
    let mut servers = Vec::new();
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        let server: u64 = path.file_name().unwrap_or_default().to_string_lossy().parse()?;
        servers.push(NodeId::new(server));
        for line in fs::read_to_string(&path)?.lines() {
            let (moment, record) = line.split_once(' ').ok_or("a line without a moment")?;
            lines.push((moment.parse::<u128>()?, record.to_owned()));
        }
    }
    lines.sort_by_key(|(moment, _)| *moment);
    servers.sort_unstable();
    Ok(Merged { servers, records: lines.into_iter().map(|(_, record)| record).collect() })
}

/// The module that `trace.tla` extends.
fn module(servers: &[NodeId], voters: &[NodeId], runs: &[Run]) -> String {
    let mut text = String::from("---- MODULE Worlds ----\nEXTENDS Naturals\n");
    let _ = writeln!(text, "Servers == {}", record::set(servers));
    let _ = writeln!(text, "FirstVoters == {}", record::set(voters));
    for (number, run) in (1..).zip(runs) {
        let _ = writeln!(text, "Run{number} == <<\n{}>>", run.records.join(",\n"));
    }
    let asks = |run: &Run| if run.asks_first { "TRUE" } else { "FALSE" };
    let asks: Vec<_> = runs.iter().map(asks).collect();
    let _ = writeln!(text, "AsksFirst == <<{}>>", asks.join(", "));
    let names: Vec<_> = (1..=runs.len()).map(|number| format!("Run{number}")).collect();
    let _ = writeln!(text, "Runs == <<{}>>\n====", names.join(", "));
    text
}
