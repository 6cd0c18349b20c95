//! What the hosts of a run are like: limits, configurations that differ, slow state machines, disks
//! that stay slow.

use core::time::Duration;

use super::delay::Delay;
use super::draw::{Draw, purpose};
use super::themes::Theme;
use crate::config::{Config, Lease};
use crate::entries::Entry;
use crate::types::NodeId;

/// What is the same for all servers of a run, or differs by rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hosts {
    /// How long a state machine takes for a batch of entries, and for a snapshot; none if
    /// everything is done at once.
    pub machine: Option<MachinePace>,
    /// How configurations differ; none if all servers have the same.
    pub mixed: Option<Mixed>,
    /// A server that joined and has a past is restarted with flags that name itself alone as a
    /// voter.
    pub joiners_name_themselves: bool,
    /// How long a sync takes when all faults are over; none: as long as on a disk that is well.
    pub calm_sync: Option<Duration>,
    /// This server receives no message when all other faults are over, and its own messages arrive;
    /// the rest must go on all the same.
    pub deaf: Option<NodeId>,
}

/// How long a state machine takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachinePace {
    /// For a batch of entries.
    pub apply: Delay,
    /// For a snapshot, to take its state over.
    pub restore: Delay,
}

/// Configurations that differ from server to server, and from one life of a server to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mixed {
    /// The seed of all differences.
    pub seed: u64,
    /// Some have a lease, and some do not.
    pub leases: bool,
}

/// A life of a server that is about to begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life {
    /// The number of the life, from 0.
    pub number: u64,
    /// The server was there when the cluster began.
    pub is_founder: bool,
    /// The disk holds a term: the server has heard of a cluster.
    pub has_past: bool,
}

impl Hosts {
    /// Hosts that do everything at once, with one configuration.
    pub const ALIKE: Self = Self {
        machine: None,
        mixed: None,
        joiners_name_themselves: false,
        calm_sync: None,
        deaf: None,
    };

    pub(super) fn draw(seed: u64, wanted: Option<Theme>, servers: u64, config: &Config) -> Self {
        let mut hosts = Self::ALIKE;
        let themed = |theme: Theme| theme.draws(seed, wanted);
        if let Some(draw) = &mut themed(Theme::SlowMachines) {
            hosts.machine = Some(MachinePace::draw(draw));
        }
        let leases = themed(Theme::MixedLeases);
        if let Some(draw) = &mut leases.clone().or(themed(Theme::Mixed)) {
            hosts.mixed = Some(Mixed { seed: draw.number(), leases: leases.is_some() });
        }
        hosts.joiners_name_themselves = themed(Theme::EarlyJoiners).is_some();
        if let Some(draw) = &mut themed(Theme::SlowDisks) {
            // Without pre-votes, servers that stand while the disks write make each election
            // fail: that is the paper's timing requirement (§5.6).
            let quarters = if config.pre_vote { [3, 6, 9] } else { [1, 1, 2] };
            hosts.calm_sync = Some(config.election_timeout_min * *draw.pick(&quarters) / 4);
        }
        if let Some(draw) = &mut themed(Theme::Deaf) {
            hosts.deaf = (servers >= 3).then(|| NodeId::new(draw.between(1, servers)));
        }
        hosts
    }

    /// Changes the configuration with which a server begins a life.
    pub(super) fn configure(&self, config: &mut Config, life: Life) {
        if let Some(mixed) = self.mixed {
            mixed.configure(config, life);
        }
        if self.joiners_name_themselves && !life.is_founder && life.has_past {
            config.voters = [config.id].into();
        }
    }
}

impl MachinePace {
    fn draw(draw: &mut Draw) -> Self {
        let millis = Duration::from_millis;
        let apply = match draw.below(3) {
            0 => Delay::Constant(millis(draw.between(1, 20))),
            1 => Delay::Exponential { min: Duration::ZERO, mean: millis(10) },
            _ => Delay::Spikes { usual: millis(1), spike: millis(2000), spikes_per_mille: 20 },
        };
        let restore = Delay::Uniform { min: millis(1), max: millis(*draw.pick(&[10, 100, 1000])) };
        Self { apply, restore }
    }
}

impl Mixed {
    fn configure(&self, config: &mut Config, life: Life) {
        let number = config.id.get() << 32 | life.number;
        let draw = &mut Draw::new(self.seed, purpose::SWARM, number);
        if draw.one_in(2) {
            // Heartbeats stay what they are, and every timeout allows for two of them.
            let min = config.election_timeout_min;
            let longer = min * *draw.pick(&[4, 5, 8]) / 4;
            config.election_timeout_max += longer - min;
            config.election_timeout_min = longer;
        }
        config.pre_vote ^= draw.one_in(3);
        if self.leases {
            let lease = Lease { drift_ppm_max: 10_000 };
            config.check_quorum = true;
            config.lease = draw.one_in(2).then_some(lease);
        } else if config.lease.is_none() {
            config.check_quorum ^= draw.one_in(3);
        }
        if draw.one_in(2) {
            config.rank_slot = None;
        }
        if config.validate().is_err() {
            // Timeouts adapt only under some of these.
            config.adaptive = None;
        }
    }
}

/// Small limits, under which a cluster can live: the snapshots of a log begin long before it is
/// full.
pub(super) fn draw_limits(draw: &mut Draw, config: &Config) -> Config {
    let entry = Entry::<()>::OVERHEAD_BYTES;
    let log_bytes_max = entry * *draw.pick(&[64, 256, 4096]);
    let limited = Config {
        log_bytes_max,
        snapshot_log_bytes: log_bytes_max / *draw.pick(&[4, 8]),
        log_tail_bytes: config.log_tail_bytes.min(log_bytes_max / 8),
        uncommitted_bytes_max: *draw.pick(&[1, 4 * entry, 64 * entry]),
        inflight_bytes_max: *draw.pick(&[1, 4 * entry, 1 << 16]),
        reads_waiting_max: *draw.pick(&[1, 2, 8]),
        ..config.clone()
    };
    let limited = Config { forwards_waiting_max: limited.reads_waiting_max, ..limited };
    if limited.validate().is_ok() { limited } else { config.clone() }
}
