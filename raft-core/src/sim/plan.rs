//! A run as a list: the servers and clients, what the world is like, and every step.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::action::{Action, Step};
use super::client::Clients;
use super::cluster::Cluster;
use super::counts::Counts;
use super::delay::Delay;
use super::faults::CALM_LATENCY;
use super::hosts::Hosts;
use super::network::Network;
use super::state_machine::Workload;
use super::violation::Failure;
use crate::config::Config;
use crate::time::Instant;

/// Everything that a run depends on. The same plan, the same run, bit for bit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// What all random draws come from.
    pub seed: u64,
    /// How many servers there are.
    pub servers: u64,
    /// How many clients.
    pub clients: u64,
    /// The configuration of every server, but for its id and the voters.
    pub config: Config,
    /// What the network is like, as long as no step makes it worse.
    pub network: Network,
    /// How long a sync takes, as long as no step makes it slower.
    pub disk: Delay,
    /// What the hosts are like.
    pub hosts: Hosts,
    /// What is done, in the order of time.
    pub steps: Vec<Step>,
    /// When all faults end.
    pub heal_at: Instant,
}

impl Plan {
    /// The plan without the steps that this failure does not need. `fails` runs a plan and returns
    /// whether it fails in the same way. The plan that is returned still fails, and would not fail
    /// without any one of its steps.
    pub fn shrink(&self, mut fails: impl FnMut(&Self) -> bool) -> Self {
        let mut plan = self.clone();
        let calm = Self { network: Network::reliable(CALM_LATENCY), ..plan.clone() };
        if fails(&calm) {
            plan = calm;
        }
        let mut chunk = plan.steps.len();
        while chunk > 0 {
            let before = plan.steps.len();
            let mut from = 0;
            while from < plan.steps.len() {
                let mut fewer = plan.clone();
                fewer.steps.drain(from..(from + chunk).min(plan.steps.len()));
                if fails(&fewer) {
                    plan = fewer;
                } else {
                    from += chunk;
                }
            }
            // Single steps are tried again until none can be left out.
            if chunk > 1 || plan.steps.len() == before {
                chunk /= 2;
            }
        }
        plan
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, servers, clients, network, disk, hosts, heal_at, .. } = self;
        writeln!(f, "seed {seed}: {servers} servers, {clients} clients, heals at {heal_at}")?;
        writeln!(f, "network {network:?}")?;
        writeln!(f, "disk {disk:?}")?;
        writeln!(f, "{hosts:?}")?;
        writeln!(f, "{:?}", self.config)?;
        self.steps
            .iter()
            .enumerate()
            .try_for_each(|(number, step)| writeln!(f, "{number:5} {step}"))
    }
}

/// A plan and the cluster on which it runs.
///
/// # Example
///
/// ```
/// use raft_core::sim::{Registers, Simulation, Swarm};
///
/// let plan = Swarm::draw(7).plan();
/// let mut simulation = Simulation::<Registers>::new(&plan);
/// simulation.run()?;
/// assert!(simulation.cluster().counts().elections > 0);
/// # Ok::<(), Box<raft_core::sim::Failure>>(())
/// ```
pub struct Simulation<S: Workload> {
    pub(super) plan: Plan,
    pub(super) cluster: Cluster<S>,
    pub(super) clients: Clients,
}

impl<S: Workload> fmt::Debug for Simulation<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl<S: Workload> Simulation<S> {
    /// Gets ready to run this plan.
    pub fn new(plan: &Plan) -> Self {
        let (config, hosts) = (plan.config.clone(), plan.hosts);
        let mut cluster = Cluster::with_lives(plan.servers, plan.seed, move |own, life| {
            *own = Config { id: own.id, voters: own.voters.clone(), ..config.clone() };
            hosts.configure(own, life);
        });
        cluster.set_machine_pace(hosts.machine);
        cluster.set_usual_network(plan.network);
        cluster.set_usual_disks(plan.disk);
        for step in &plan.steps {
            match step.action {
                Action::Misroute { .. } | Action::Stranger { .. } => {
                    cluster.observer.tolerate_strangers();
                    cluster.remembers = true;
                }
                Action::Stale { .. } => cluster.remembers = true,
                Action::Ask { .. }
                | Action::Change { .. }
                | Action::Transfer { .. }
                | Action::TakeSnapshot { .. }
                | Action::FailFiles { .. }
                | Action::Weather { .. }
                | Action::CutOneWay { .. }
                | Action::Divide { .. }
                | Action::Crash { .. }
                | Action::FailWrite { .. }
                | Action::SlowDisk { .. }
                | Action::StickDisk { .. }
                | Action::Pause { .. }
                | Action::PauseAll { .. }
                | Action::CutOff { .. }
                | Action::Deafen { .. }
                | Action::ReadEverywhere
                | Action::ClockRate { .. }
                | Action::ClockJump { .. }
                | Action::Hint { .. } => {}
            }
        }
        // One client more, for the time when all faults are over.
        Self { plan: plan.clone(), cluster, clients: Clients::new(plan.clients + 1) }
    }

    /// Keeps a record of everything that happens.
    pub fn keep_trace(&mut self) {
        self.cluster.keep_trace();
    }

    /// Runs the plan; then all faults end, and the cluster must make progress within
    /// [`Plan::calm_max`].
    ///
    /// # Errors
    ///
    /// If a property was broken.
    pub fn run(&mut self) -> Result<(), Box<Failure>> {
        for (number, step) in self.plan.steps.iter().enumerate() {
            self.cluster.run_until_time(step.at)?;
            self.cluster.act(number as u64, &step.action, &mut self.clients);
        }
        self.cluster.run_until_time(self.plan.heal_at)?;
        self.cluster.heal_but(self.plan.calm_sync());
        self.cluster.retire_removed();
        self.await_progress()?;
        self.await_progress_despite_deaf()?;
        self.watch_calm()
    }

    /// The cluster, as the run left it.
    pub fn cluster(&self) -> &Cluster<S> {
        &self.cluster
    }

    /// What happened, in numbers.
    pub fn counts(&self) -> Counts {
        self.cluster.counts()
    }
}
