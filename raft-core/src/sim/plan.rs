//! A run as a list: who takes part, what the world is like, and every step that is done to it.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::client::{CLIENT_PATIENCE, Clients};
use super::cluster::Cluster;
use super::counts::Counts;
use super::delay::Delay;
use super::faults::{Action, CALM_LATENCY, CALM_SYNC, Step};
use super::history::Outcome;
use super::network::Network;
use super::state_machine::{Request, Workload};
use super::violation::{Failure, Property, Violation};
use crate::config::Config;
use crate::time::Instant;

/// How many election timeouts a cluster gets, once all faults are over, to elect a leader who stays. Each attempt fails only if
/// two servers time out within a latency of each other, which is one in fifty or so.
pub const CALM_ELECTIONS_MAX: u32 = 10;

/// How long it takes to send a snapshot in the smallest pieces, and to take one.
pub const CALM_SNAPSHOT: Duration = Duration::from_secs(1);

/// How often the run asks, once all faults are over, whether the cluster is there again.
const CALM_STEP: Duration = Duration::from_millis(10);

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
    /// What is done, in the order of time.
    pub steps: Vec<Step>,
    /// When all faults end.
    pub heal_at: Instant,
}

impl Plan {
    /// How long the cluster may take, once all faults are over, until it has a leader, commits a new command, and every server
    /// has applied all that is committed: ten election timeouts, for each entry two round trips and two syncs, one client's
    /// patience, and the time to send a snapshot.
    pub fn calm_max(&self, entries: u64) -> Duration {
        let entries = u32::try_from(entries).unwrap_or(u32::MAX);
        let each = (CALM_LATENCY * 4).saturating_add(CALM_SYNC * 2);
        let elections = self.config.election_timeout_max.saturating_mul(CALM_ELECTIONS_MAX);
        let clients = CLIENT_PATIENCE.saturating_add(CALM_SNAPSHOT);
        elections.saturating_add(each.saturating_mul(entries)).saturating_add(clients)
    }

    /// The plan with fewer steps: those that this failure does not need. `fails` runs a plan and says whether it fails in the
    /// same way. What is left fails still, and without any one of its steps it does not.
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
        let Self { seed, servers, clients, network, disk, heal_at, .. } = self;
        writeln!(f, "seed {seed}: {servers} servers, {clients} clients, heals at {heal_at}")?;
        writeln!(f, "network {network:?}")?;
        writeln!(f, "disk {disk:?}")?;
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
    plan: Plan,
    cluster: Cluster<S>,
    clients: Clients,
}

impl<S: Workload> Simulation<S> {
    /// Gets ready to run this plan.
    pub fn new(plan: &Plan) -> Self {
        let config = plan.config.clone();
        let mut cluster = Cluster::with(plan.servers, plan.seed, move |own| {
            *own = Config { id: own.id, voters: own.voters.clone(), ..config.clone() };
        });
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

    /// Runs the plan; then all faults end, and the cluster must make progress within [`Plan::calm_max`].
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
        self.cluster.heal();
        self.cluster.retire_removed();
        self.await_progress()
    }

    /// The cluster, as the run left it.
    pub fn cluster(&self) -> &Cluster<S> {
        &self.cluster
    }

    /// What happened, in numbers.
    pub fn counts(&self) -> Counts {
        self.cluster.counts()
    }

    fn await_progress(&mut self) -> Result<(), Box<Failure>> {
        let healed_at = self.cluster.now();
        let entries = self.cluster.servers.iter().filter_map(|server| server.raft.as_ref());
        let entries = entries.map(|raft| raft.log.last().index.get()).max().unwrap_or_default();
        let bound = self.plan.calm_max(entries);
        let first_new = self.cluster.history().len();
        let mut draw = self.plan.seed;
        while self.cluster.now() < healed_at + bound {
            self.cluster.run_for(CALM_STEP)?;
            draw = super::draw::mix(draw);
            if !self.has_committed_since(first_new) {
                self.clients.ask(&mut self.cluster, self.plan.clients, draw);
            } else if self.is_settled() {
                return Ok(());
            }
        }
        let late = format!("no new command is committed and applied everywhere within {bound:?}");
        self.cluster.note_verdict(Err(Box::new(Violation::new(Property::Progress, late))));
        self.cluster.verdict()
    }

    fn has_committed_since(&self, operation: usize) -> bool {
        self.cluster.history()[operation..].iter().any(|operation| {
            matches!(operation.request, Request::Command(_))
                && matches!(operation.outcome, Outcome::Returned { .. })
        })
    }

    /// Whether no change of membership is under way, and every member has applied all that is committed and follows one leader.
    fn is_settled(&self) -> bool {
        let cluster = &self.cluster;
        let (committed, membership) = (cluster.observer.committed(), cluster.observer.membership());
        let leader = cluster.followed_leader();
        let in_force = leader.and_then(|leader| cluster.raft(leader)).map(crate::Raft::membership);
        let is_complete = in_force == Some(membership) && !membership.is_joint();
        is_complete
            && membership.members().iter().all(|member| {
                let raft = cluster.raft(member.id);
                cluster.applied(member.id) == committed
                    && raft.is_some_and(|raft| raft.leader() == leader)
            })
    }
}
