//! Swarm testing: every seed draws which faults there are in its run, how strong they are, and when
//! they strike.
//!
//! A run with all faults at once breaks little: each hides the others, for a cluster that is always
//! down does nothing wrong. So each seed enables a random subset.

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::action::{Action, Step};
use super::delay::Delay;
use super::draw::{Draw, purpose};
use super::hosts::{Hosts, draw_limits};
use super::network::{Network, Partition};
use super::plan::Plan;
use super::themes::Theme;
use crate::config::Adaptive;
use crate::config::{Config, Lease};
use crate::time::{Instant, micros};
use crate::types::NodeId;

/// How long the faults of a run last.
const FAULTS_SPAN: Duration = Duration::from_secs(20);
/// The most often that a fault strikes, and the most seldom, on average.
const EVERY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(8));
/// The shortest and the longest that a fault lasts, on average.
pub(super) const LASTS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(3));

/// The most often that a client asks, and the most seldom, on average.
const ASK_EVERY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// The world of one seed: a cluster, a network, disks, and the faults that strike.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swarm {
    /// The seed from which everything is drawn.
    pub seed: u64,
    /// How many servers there are.
    pub servers: u64,
    /// How many clients ask for something.
    pub clients: u64,
    /// How long a client waits on average before it asks again.
    pub ask_every: Duration,
    /// The configuration of every server, but for its id and the voters.
    pub config: Config,
    /// What the network is like at all times.
    pub network: Network,
    /// How long a sync takes.
    pub disk: Delay,
    /// What the hosts are like.
    pub hosts: Hosts,
    /// The faults that strike again and again.
    pub faults: Vec<Fault>,
}

/// A fault that strikes again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// How long it is from one time to the next, on average.
    pub every: Duration,
    /// How long it lasts, on average.
    pub lasts: Duration,
}

/// The faults that can strike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FaultKind {
    /// The network gets much worse.
    Weather,
    /// One server is not heard by another.
    OneWayCut,
    /// The cluster is divided: halves, one alone, a bridge, a chain.
    Partition,
    /// A server crashes; its writes are kept, lost or torn.
    Crash,
    /// A sync fails, which stops the server.
    FailedWrite,
    /// A disk is slow.
    SlowDisk,
    /// A disk says nothing.
    StuckDisk,
    /// A disk says nothing, and then its server dies and loses all that it wrote meanwhile.
    DyingDisk,
    /// A server stands still.
    Pause,
    /// A clock goes fast or slow.
    ClockRate,
    /// A clock jumps.
    ClockJump,
    /// Servers are told that the connection to their leader died, although it did not.
    Hint,
    /// Snapshot files cannot be written or read.
    FailedFiles,
    /// Servers are asked for snapshots.
    Snapshot,
    /// New servers join as learners.
    Join,
    /// Learners become voters.
    Promote,
    /// Voters become learners.
    Demote,
    /// Members leave.
    Remove,
    /// Several changes of membership at once.
    Replace,
    /// Members get other priorities.
    Prioritise,
    /// The leader is asked to hand over.
    Transfer,
    /// Old messages come again.
    Stale,
    /// Messages come to the wrong server.
    Misrouted,
    /// Messages come from a server that is no member.
    Stranger,
    /// All servers stand still at once.
    HostPause,
    /// A server receives no message, and its own messages arrive.
    Deafness,
    /// A candidate waits for its chance, the leader is cut off, and the voters restart.
    LeaseRestart,
    /// A new server joins, and restarts at once.
    EarlyJoiner,
}

const KINDS: [FaultKind; 24] = [
    FaultKind::Weather,
    FaultKind::OneWayCut,
    FaultKind::Partition,
    FaultKind::Crash,
    FaultKind::FailedWrite,
    FaultKind::SlowDisk,
    FaultKind::StuckDisk,
    FaultKind::DyingDisk,
    FaultKind::Pause,
    FaultKind::ClockRate,
    FaultKind::ClockJump,
    FaultKind::Hint,
    FaultKind::FailedFiles,
    FaultKind::Snapshot,
    FaultKind::Join,
    FaultKind::Promote,
    FaultKind::Demote,
    FaultKind::Remove,
    FaultKind::Replace,
    FaultKind::Prioritise,
    FaultKind::Transfer,
    FaultKind::Stale,
    FaultKind::Misrouted,
    FaultKind::Stranger,
];

impl Swarm {
    /// The world that this seed makes.
    pub fn draw(seed: u64) -> Self {
        Self::draw_with(seed, None)
    }

    /// The same, but the world has this theme in any case.
    pub fn draw_with(seed: u64, wanted: Option<Theme>) -> Self {
        let draw = &mut Draw::new(seed, purpose::SWARM, 0);
        let servers = *draw.pick(&[3, 5, 3, 5, 3, 5, 7, 4, 2, 1]);
        // From few faults to most of them.
        let chances = *draw.pick(&[100, 250, 500, 750]);
        let kinds = KINDS.into_iter().filter(|_| draw.per_mille(chances)).collect::<Vec<_>>();
        let faults = kinds.into_iter().map(|kind| Fault {
            kind,
            every: wide(draw, EVERY),
            lasts: wide(draw, LASTS),
        });
        let mut faults: Vec<_> = faults.collect();
        let mut config = draw_config(draw, servers);
        config.adaptive = draw_adaptive(seed, &config);
        config = draw_themed_config(seed, wanted, config);
        faults.extend(draw_themed_faults(seed, wanted, &config));
        let hosts = Hosts::draw(seed, wanted, servers, &config);
        if let Some(sync) = hosts.calm_sync {
            // As its documentation asks for: a leader gives up a disk that is slower than that.
            config.disk_timeout = config.disk_timeout.max(sync * 10);
        }
        if config.lease.is_some() || hosts.mixed.is_some_and(|mixed| mixed.leases) {
            // A lease trusts that clocks do not jump.
            faults.retain(|fault| fault.kind != FaultKind::ClockJump);
        }
        Self {
            seed,
            servers,
            clients: draw.between(1, 4),
            ask_every: wide(draw, ASK_EVERY),
            network: draw_network(draw, chances),
            disk: draw_themed_disk(seed, wanted, &hosts, draw_disk(draw)),
            config,
            hosts,
            faults,
        }
    }

    /// The plan of this world: the steps of all faults and clients, in the order of time.
    pub fn plan(&self) -> Plan {
        let mut steps = Vec::new();
        for fault in &self.faults {
            let draw = &mut Draw::new(self.seed, purpose::SWARM, 1 + fault.kind as u64);
            for at in times(draw, fault.every) {
                let action = self.strike(draw, *fault);
                self.follow_up(draw, *fault, at, &action, &mut steps);
                steps.push(Step { at, action });
            }
        }
        for client in 0..self.clients {
            let draw = &mut Draw::new(self.seed, purpose::SWARM, 1000 + client);
            for at in times(draw, self.ask_every) {
                steps.push(Step { at, action: Action::Ask { client, draw: draw.number() } });
            }
        }
        let heal_at = Instant::ZERO + FAULTS_SPAN;
        steps.retain(|step| step.at < heal_at);
        steps.sort_by_key(|step| step.at);
        Plan {
            seed: self.seed,
            servers: self.servers,
            clients: self.clients,
            config: self.config.clone(),
            network: self.network,
            disk: self.disk,
            hosts: self.hosts,
            steps,
            heal_at,
        }
    }

    /// Any server, which may be one that joins later.
    pub(super) fn any(&self, draw: &mut Draw) -> NodeId {
        NodeId::new(draw.between(1, self.servers + self.joiners()))
    }

    /// How many servers are expected to join.
    pub(super) fn joiners(&self) -> u64 {
        let joins = |fault: &&Fault| {
            matches!(fault.kind, FaultKind::Join | FaultKind::Replace | FaultKind::EarlyJoiner)
        };
        match self.faults.iter().find(joins) {
            Some(fault) => (micros(FAULTS_SPAN) / micros(fault.every).max(1)).clamp(1, 8),
            None => 0,
        }
    }

    pub(super) fn draw_partition(&self, draw: &mut Draw) -> Partition {
        let mut ids: Vec<_> = (1..=self.servers + self.joiners()).map(NodeId::new).collect();
        for at in (1..ids.len()).rev() {
            ids.swap(at, draw.below(at as u64 + 1) as usize);
        }
        let half = ids.len() / 2;
        match draw.below(4) {
            0 => Partition::Halves(ids[..half].into()),
            1 => Partition::Isolated(ids[0]),
            2 => Partition::Bridge { side: ids[..half].into(), bridge: ids[ids.len() - 1] },
            _ => Partition::Chain(ids),
        }
    }
}

impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, servers, clients, ask_every, config, network, disk, hosts, faults } = self;
        writeln!(f, "seed {seed}: {servers} servers; {clients} clients ask every {ask_every:?}")?;
        writeln!(
            f,
            "  timeouts {:?} to {:?}, heartbeats {:?}, pre-vote {}, check-quorum {}, ranks {:?}, lease {:?}, {:?}",
            config.election_timeout_min,
            config.election_timeout_max,
            config.heartbeat_interval,
            config.pre_vote,
            config.check_quorum,
            config.rank_slot,
            config.lease,
            config.adaptive
        )?;
        writeln!(
            f,
            "  snapshots every {} entries, tail of {} bytes, chunks of {} bytes",
            config.snapshot_log_entries, config.log_tail_bytes, config.snapshot_chunk_bytes
        )?;
        writeln!(
            f,
            "  log of {} bytes at most, {} uncommitted, {} on their way, {} reads",
            config.log_bytes_max,
            config.uncommitted_bytes_max,
            config.inflight_bytes_max,
            config.reads_waiting_max
        )?;
        writeln!(f, "  {hosts:?}")?;
        writeln!(f, "  network {network:?}")?;
        writeln!(f, "  disk {disk:?}")?;
        for Fault { kind, every, lasts } in faults {
            writeln!(f, "  {kind:?} every {every:?}, for {lasts:?}")?;
        }
        Ok(())
    }
}

/// Moments within the time of faults, this far apart on average.
fn times(draw: &mut Draw, every: Duration) -> Vec<Instant> {
    let end = Instant::ZERO + FAULTS_SPAN;
    let mut at = Instant::ZERO;
    let mut times = Vec::new();
    loop {
        at = at + draw.exponential(every).max(Duration::from_micros(1));
        if at >= end {
            return times;
        }
        times.push(at);
    }
}

/// A span within these bounds, in which short and long are equally likely: each doubling has the
/// same chance.
pub(super) fn wide(draw: &mut Draw, (min, max): (Duration, Duration)) -> Duration {
    let (min, max) = (micros(min).max(1), micros(max).max(1));
    let doublings = u64::from((max / min).max(1).ilog2());
    let base = min << draw.between(0, doublings);
    Duration::from_micros(draw.between(base, base * 2).min(max))
}

fn draw_config(draw: &mut Draw, servers: u64) -> Config {
    let min = Duration::from_millis(*draw.pick(&[50, 150, 150, 300]));
    let base = Config::new(NodeId::new(1), (1..=servers).map(NodeId::new));
    let entry = crate::Entry::<()>::OVERHEAD_BYTES;
    let few = |draw: &mut Draw| *draw.pick(&[1, 2, 8, 64]);
    let bytes = |draw: &mut Draw| *draw.pick(&[entry, 4 * entry, 1 << 16]);
    let is_few = draw.one_in(2);
    let rarely = |few: u64, usual: u64| if is_few { few } else { usual };
    let check_quorum = !draw.one_in(3);
    let lease = draw
        .one_in(4)
        .then(|| Lease { drift_ppm_max: *draw.pick(&[500, 10_000, 100_000, 300_000]) });
    Config {
        rank_slot: draw.one_in(2).then(|| min / *draw.pick(&[4, 8, 30])),
        snapshot_log_entries: rarely(*draw.pick(&[1, 3, 10, 50]), base.snapshot_log_entries),
        log_tail_bytes: *draw.pick(&[0, 3 * entry, base.log_tail_bytes]),
        snapshot_chunk_bytes: *draw.pick(&[1, 5, 64]),
        inflight_chunks_max: few(draw),
        promotion_lag_max: *draw.pick(&[0, 10, base.promotion_lag_max]),
        lease: lease.filter(|_| check_quorum),
        election_timeout_min: min,
        election_timeout_max: min * 2,
        heartbeat_interval: min / 3,
        pre_vote: !draw.one_in(3),
        check_quorum,
        command_bytes_max: entry,
        append_bytes_max: bytes(draw),
        inflight_appends_max: few(draw),
        write_bytes_max: bytes(draw),
        inflight_writes_max: few(draw),
        apply_bytes_max: bytes(draw),
        inflight_applies_max: few(draw),
        ..base
    }
}

/// From a stream of its own: worlds without the option are the same as before there was one.
fn draw_adaptive(seed: u64, config: &Config) -> Option<Adaptive> {
    let draw = &mut Draw::new(seed, purpose::SWARM, 2000);
    let fits = config.pre_vote && config.check_quorum && config.lease.is_none();
    let election_timeout_floor = config.election_timeout_min / *draw.pick(&[1, 2, 5, 10]);
    (fits && draw.one_in(2)).then_some(Adaptive { election_timeout_floor })
}

/// A network with each of its faults at these chances of 1000.
pub(super) fn draw_network(draw: &mut Draw, chances: u32) -> Network {
    let chance = |draw: &mut Draw, max: u64| match draw.per_mille(chances) {
        true => draw.between(1, max) as u32,
        false => 0,
    };
    let base = wide(draw, (Duration::from_micros(50), Duration::from_millis(10)));
    let delay = match draw.below(4) {
        0 => Delay::Constant(base),
        1 => Delay::Uniform { min: base / 4, max: base * 2 },
        2 => Delay::Exponential { min: base / 4, mean: base },
        _ => Delay::Spikes {
            usual: base,
            spike: Duration::from_millis(500),
            spikes_per_mille: chance(draw, 50),
        },
    };
    let longest_hold = wide(draw, (Duration::from_millis(5), Duration::from_secs(3)));
    Network {
        delay,
        request_loss_per_mille: chance(draw, 300),
        reply_loss_per_mille: chance(draw, 300),
        duplicates_per_mille: chance(draw, 300),
        requests_held_per_mille: chance(draw, 400),
        replies_held_per_mille: chance(draw, 400),
        hold: Delay::Uniform { min: Duration::ZERO, max: longest_hold },
    }
}

fn draw_disk(draw: &mut Draw) -> Delay {
    let usual = wide(draw, (Duration::from_micros(20), Duration::from_millis(10)));
    match draw.below(3) {
        0 => Delay::Constant(usual),
        1 => Delay::Exponential { min: usual / 4, mean: usual },
        _ => Delay::Spikes { usual, spike: Duration::from_millis(200), spikes_per_mille: 20 },
    }
}

fn draw_themed_config(seed: u64, wanted: Option<Theme>, mut config: Config) -> Config {
    if let Some(draw) = &mut Theme::Limits.draws(seed, wanted) {
        config = draw_limits(draw, &config);
    }
    if let Some(draw) = &mut Theme::Deaf.draws(seed, wanted) {
        // A deaf server that asks before it stands disturbs nobody, and without check-quorum a deaf
        // leader leads for ever.
        config.check_quorum = true;
        if draw.one_in(2) {
            (config.pre_vote, config.adaptive) = (false, None);
        }
    }
    if Theme::LeaseRestarts.draws(seed, wanted).is_some() && config.lease.is_none() {
        config.check_quorum = true;
        config.adaptive = None;
        config.lease = Some(Lease { drift_ppm_max: 10_000 });
    }
    config
}

fn draw_themed_faults(seed: u64, wanted: Option<Theme>, config: &Config) -> Vec<Fault> {
    let millis = Duration::from_millis;
    let mut faults = Vec::new();
    let mut strikes = |theme: Theme, every: (Duration, Duration), lasts, kinds: &[FaultKind]| {
        if let Some(draw) = &mut theme.draws(seed, wanted) {
            faults.extend(kinds.iter().map(|kind| Fault {
                kind: *kind,
                every: wide(draw, every),
                lasts: wide(draw, lasts),
            }));
        }
    };
    let timeout = config.election_timeout_min;
    let around = (timeout / 2, timeout * 4);
    let seldom = (millis(500), millis(4000));
    strikes(Theme::HostPauses, seldom, around, &[FaultKind::HostPause]);
    strikes(Theme::Deaf, seldom, LASTS, &[FaultKind::Deafness]);
    let joins = [FaultKind::LeaseRestart, FaultKind::Join, FaultKind::Promote, FaultKind::Remove];
    strikes(Theme::LeaseRestarts, (millis(500), millis(2000)), around, &joins);
    strikes(Theme::MixedLeases, (millis(500), millis(2000)), around, &joins[..1]);
    let joins = [FaultKind::EarlyJoiner, FaultKind::Promote, FaultKind::Remove];
    strikes(Theme::EarlyJoiners, (millis(300), millis(2000)), around, &joins);
    faults
}

fn draw_themed_disk(seed: u64, wanted: Option<Theme>, hosts: &Hosts, usual: Delay) -> Delay {
    if let Some(sync) = hosts.calm_sync {
        return Delay::Constant(sync);
    }
    let Some(draw) = &mut Theme::Hiccups.draws(seed, wanted) else { return usual };
    let usual = wide(draw, (Duration::from_micros(20), Duration::from_millis(2)));
    let long = wide(draw, (Duration::from_millis(50), Duration::from_millis(800)));
    Delay::Hiccups { usual, long, per_mille: *draw.pick(&[1, 1, 10]) }
}
