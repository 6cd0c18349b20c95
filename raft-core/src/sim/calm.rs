//! The calm phase of a run: all faults are over, and the cluster must live again within a bound.
//!
//! - A leader is elected, a new command is committed, and every member applies all that is
//!   committed and follows that leader.
//! - No change of membership and no transfer is left under way, and every read that waits is
//!   answered or lost.
//! - If one server receives no message, the others go on without it.
//! - After that no server stands for election. A leader that is lost is counted.

use alloc::boxed::Box;
use alloc::format;
use core::time::Duration;

use super::client::CLIENT_PATIENCE;
use super::cluster::Cluster;
use super::faults::{CALM_LATENCY, CALM_SYNC};
use super::history::Outcome;
use super::plan::{Plan, Simulation};
use super::state_machine::{Request, Workload};
use super::violation::{Failure, Property, Violation};
use crate::membership::Suffrage;
use crate::state::roles::RoleState;
use crate::types::NodeId;

/// How many election timeouts a cluster gets, once all faults are over, to elect a leader that
/// stays. Each attempt fails only if two servers time out within a latency of each other, which is
/// one in fifty or so.
pub const CALM_ELECTIONS_MAX: u32 = 10;

/// How long it takes to send a snapshot in the smallest pieces, and to take one.
pub const CALM_SNAPSHOT: Duration = Duration::from_secs(1);

/// How often the run asks, once all faults are over, whether the cluster is there again.
const CALM_STEP: Duration = Duration::from_millis(10);

/// One run of so many continues after the cluster has recovered, to check that it stays healthy.
const CALM_WATCH_ONE_IN: u64 = 4;
/// For how long that run continues.
const CALM_WATCH: Duration = Duration::from_secs(3);

impl Plan {
    /// How long a sync takes when all faults are over.
    pub fn calm_sync(&self) -> Duration {
        self.hosts.calm_sync.unwrap_or(CALM_SYNC)
    }

    /// How long the cluster may take, once all faults are over, until it has a leader, commits a
    /// new command, and every server has applied all that is committed: ten election timeouts, for
    /// each entry two round trips and two syncs, one client's patience, and the time to send a
    /// snapshot. A run adds the time until a snapshot that failed is tried again, because a full
    /// log waits for that.
    pub fn calm_max(&self, entries: u64) -> Duration {
        let entries = u32::try_from(entries).unwrap_or(u32::MAX);
        let sync = self.calm_sync();
        let each = (CALM_LATENCY * 4).saturating_add(sync * 2);
        let timeout = match self.hosts.mixed {
            None => self.config.election_timeout_max,
            Some(_) => self.config.election_timeout_max + self.config.election_timeout_min,
        };
        let elections = timeout.saturating_add(sync * 4).saturating_mul(CALM_ELECTIONS_MAX);
        let clients = CLIENT_PATIENCE.saturating_add(CALM_SNAPSHOT);
        elections.saturating_add(each.saturating_mul(entries)).saturating_add(clients)
    }
}

impl<S: Workload> Simulation<S> {
    /// Waits until the cluster is well.
    pub(super) fn await_progress(&mut self) -> Result<(), Box<Failure>> {
        self.await_commit("everywhere", Self::is_settled)
    }

    /// One server receives no message, and its own messages arrive. The others must go on without
    /// it.
    pub(super) fn await_progress_despite_deaf(&mut self) -> Result<(), Box<Failure>> {
        let Some(deaf) = self.plan.hosts.deaf.filter(|deaf| self.can_spare(*deaf)) else {
            return Ok(());
        };
        self.cluster.set_deaf(deaf, true);
        self.cluster.counts.deafened += 1;
        self.await_commit(&format!("while server {deaf} hears nobody"), |_| true)?;
        self.cluster.set_deaf(deaf, false);
        self.await_progress()
    }

    /// Whether all other voters are a majority that can elect and commit.
    fn can_spare(&self, id: NodeId) -> bool {
        let membership = self.cluster.observer.membership();
        let voters =
            membership.members().iter().filter(|member| member.suffrage == Suffrage::Voter);
        let voters = voters.count();
        self.plan.hosts.mixed.is_none()
            && membership.suffrage(id) == Some(Suffrage::Voter)
            && !membership.is_joint()
            && voters >= 3
    }

    /// Continues for a while in some runs. No fault strikes, so no server should stand for
    /// election.
    pub(super) fn watch_calm(&mut self) -> Result<(), Box<Failure>> {
        if self.plan.seed % CALM_WATCH_ONE_IN != 0 {
            return Ok(());
        }
        let before = self.cluster.counts().elections;
        self.cluster.run_for(CALM_WATCH)?;
        self.cluster.counts.calm_watches += 1;
        self.cluster.counts.needless_elections += self.cluster.counts().elections - before;
        Ok(())
    }

    /// Waits until a command that is asked for from now on is committed, and the cluster is `done`.
    fn await_commit(
        &mut self,
        place: &str,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), Box<Failure>> {
        let healed_at = self.cluster.now();
        let entries = self.cluster.servers.iter().filter_map(|server| server.raft.as_ref());
        let entries =
            entries.map(|raft| raft.server.log.last().index.get()).max().unwrap_or_default();
        let servers = self.cluster.servers.iter().filter_map(|server| server.raft.as_ref());
        let retries = servers.map(|raft| raft.server.snapshots.tried_again_after(raft.server.now));
        let bound = self.plan.calm_max(entries) + retries.max().unwrap_or_default();
        let first_new = self.cluster.history().len();
        let mut draw = self.plan.seed;
        while self.cluster.now() < healed_at + bound {
            self.cluster.run_for(CALM_STEP)?;
            draw = super::draw::mix(draw);
            if !self.has_committed_since(first_new) {
                self.clients.ask(&mut self.cluster, self.plan.clients, draw);
            } else if done(self) {
                return Ok(());
            }
        }
        let late = format!("no new command is committed and applied {place} within {bound:?}");
        self.cluster.note_verdict(Err(Box::new(Violation::new(Property::Progress, late))));
        self.cluster.verdict()
    }

    fn has_committed_since(&self, operation: usize) -> bool {
        self.cluster.history()[operation..].iter().any(|operation| {
            matches!(operation.request, Request::Command(_))
                && matches!(operation.outcome, Outcome::Returned { .. })
        })
    }

    /// Whether no change of membership is under way, and every member has applied all that is
    /// committed and follows one leader.
    fn is_settled(&self) -> bool {
        let cluster = &self.cluster;
        let (committed, membership) = (cluster.observer.committed(), cluster.observer.membership());
        let leader = cluster.followed_leader();
        let in_force = leader.and_then(|leader| cluster.raft(leader)).map(crate::Raft::membership);
        let is_complete = in_force == Some(membership) && !membership.is_joint();
        is_complete
            && is_at_rest(cluster, leader)
            && membership.members().iter().all(|member| {
                let raft = cluster.raft(member.id);
                cluster.applied(member.id) == committed
                    && raft.is_some_and(|raft| raft.leader() == leader)
            })
    }
}

/// Whether no transfer of leadership is under way, and no member has a read that waits.
fn is_at_rest<S: Workload>(cluster: &Cluster<S>, leader: Option<NodeId>) -> bool {
    let leader = leader.and_then(|leader| cluster.raft(leader));
    let hands_over = leader.is_some_and(|raft| match &raft.role {
        RoleState::Leader(leader) => leader.transfer.is_some(),
        RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => false,
    });
    let members = cluster.observer.membership().members();
    !hands_over && members.iter().all(|member| cluster.observer.reads_waiting(member.id) == 0)
}
