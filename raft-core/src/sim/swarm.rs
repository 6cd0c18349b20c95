//! Swarm testing: every seed draws which faults there are in its run, how strong they are, and when they strike.
//!
//! A run with all faults at once breaks little: each hides the others, for a cluster that is always down does nothing wrong. So
//! each seed enables a random subset.

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::churn::Churn;
use super::clock::TRUE_RATE_PPM;
use super::cluster::purpose;
use super::delay::Delay;
use super::disk::Crash;
use super::draw::Draw;
use super::faults::{Action, Step, Target};
use super::network::{Network, Partition};
use super::plan::Plan;
use crate::adaptive::Adaptive;
use crate::config::{Config, Lease};
use crate::time::{Instant, micros};
use crate::types::NodeId;

/// How long the faults of a run last.
const FAULTS_SPAN: Duration = Duration::from_secs(20);
/// The most often that a fault strikes, and the most seldom, on average.
const EVERY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(8));
/// The shortest and the longest that a fault lasts, on average.
const LASTS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(3));

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
    /// Servers are told that the connection to their leader died, which it did not.
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
    /// Messages come from who is no member.
    Stranger,
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
        if config.lease.is_some() {
            // A lease trusts that clocks do not jump.
            faults.retain(|fault| fault.kind != FaultKind::ClockJump);
        }
        Self {
            seed,
            servers,
            clients: draw.between(1, 4),
            ask_every: wide(draw, ASK_EVERY),
            config,
            network: draw_network(draw, chances),
            disk: draw_disk(draw),
            faults,
        }
    }

    /// When what strikes whom.
    pub fn plan(&self) -> Plan {
        let mut steps = Vec::new();
        for fault in &self.faults {
            let draw = &mut Draw::new(self.seed, purpose::SWARM, 1 + fault.kind as u64);
            for at in times(draw, fault.every) {
                let action = self.strike(draw, *fault);
                if let (FaultKind::DyingDisk, Action::StickDisk { target, span }) =
                    (fault.kind, &action)
                {
                    let (target, crash) = (*target, Crash::Lose);
                    let down = draw.exponential(LASTS.0);
                    let dies = Action::Crash { target, crash, span: down };
                    steps.push(Step { at: at + *span, action: dies });
                }
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
            steps,
            heal_at,
        }
    }

    fn strike(&self, draw: &mut Draw, fault: Fault) -> Action {
        let span = draw.exponential(fault.lasts);
        let target = match draw.one_in(3) {
            true => Target::Leader,
            false => Target::Server(self.any(draw)),
        };
        match fault.kind {
            FaultKind::Weather => Action::Weather { network: draw_network(draw, 700), span },
            FaultKind::OneWayCut => {
                Action::CutOneWay { from: self.any(draw), to: self.any(draw), span }
            }
            FaultKind::Partition => Action::Divide { partition: self.draw_partition(draw), span },
            FaultKind::Crash => {
                let crash = *draw.pick(&[Crash::Keep, Crash::Lose, Crash::Tear]);
                Action::Crash { target, crash, span }
            }
            FaultKind::FailedWrite => Action::FailWrite { target, span },
            FaultKind::SlowDisk => {
                let latency = Delay::Constant(draw.exponential(Duration::from_millis(50)));
                Action::SlowDisk { target, latency, span }
            }
            FaultKind::StuckDisk => Action::StickDisk { target, span },
            FaultKind::DyingDisk => {
                let target = Target::Server(self.any(draw));
                Action::StickDisk { target, span: span.saturating_add(Duration::from_millis(1)) }
            }
            FaultKind::Pause => Action::Pause { target, span },
            FaultKind::ClockRate => {
                let rates = [500_000, 800_000, 990_000, 1_010_000, 1_500_000, 3_000_000];
                let mut rate_ppm = *draw.pick(&rates);
                if let Some(lease) = self.config.lease {
                    let off = lease.drift_ppm_max / 2;
                    rate_ppm =
                        if draw.one_in(2) { TRUE_RATE_PPM + off } else { TRUE_RATE_PPM - off };
                }
                Action::ClockRate { target, rate_ppm, span }
            }
            FaultKind::ClockJump => {
                let by = i64::try_from(micros(span)).unwrap_or(i64::MAX);
                let by_micros = if draw.one_in(2) { by } else { -by };
                Action::ClockJump { target, by_micros }
            }
            FaultKind::FailedFiles => Action::FailFiles { target, span },
            FaultKind::Snapshot => Action::TakeSnapshot { target },
            FaultKind::Join => Action::Change { churn: Churn::Join, draw: draw.number() },
            FaultKind::Promote => Action::Change { churn: Churn::Promote, draw: draw.number() },
            FaultKind::Demote => Action::Change { churn: Churn::Demote, draw: draw.number() },
            FaultKind::Remove => Action::Change { churn: Churn::Remove, draw: draw.number() },
            FaultKind::Replace => Action::Change { churn: Churn::Replace, draw: draw.number() },
            FaultKind::Prioritise => {
                Action::Change { churn: Churn::Prioritise, draw: draw.number() }
            }
            FaultKind::Transfer => Action::Transfer { draw: draw.number() },
            FaultKind::Hint => Action::Hint { target: Target::Server(self.any(draw)) },
            FaultKind::Stale => Action::Stale { draw: draw.number() },
            FaultKind::Misrouted => Action::Misroute { draw: draw.number() },
            FaultKind::Stranger => Action::Stranger { draw: draw.number() },
        }
    }

    /// Any server, one that joins later among them.
    fn any(&self, draw: &mut Draw) -> NodeId {
        NodeId::new(draw.between(1, self.servers + self.joiners()))
    }

    /// How many servers are expected to join.
    fn joiners(&self) -> u64 {
        let joins = |fault: &&Fault| matches!(fault.kind, FaultKind::Join | FaultKind::Replace);
        match self.faults.iter().find(joins) {
            Some(fault) => (micros(FAULTS_SPAN) / micros(fault.every).max(1)).clamp(1, 8),
            None => 0,
        }
    }

    fn draw_partition(&self, draw: &mut Draw) -> Partition {
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
        let Self { seed, servers, clients, ask_every, config, network, disk, faults } = self;
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

/// A span within these bounds, in which short and long are equally likely: each doubling has the same chance.
fn wide(draw: &mut Draw, (min, max): (Duration, Duration)) -> Duration {
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
fn draw_network(draw: &mut Draw, chances: u32) -> Network {
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
