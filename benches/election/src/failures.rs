//! What befalls the leader, and how the cluster is made whole again.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use raft_core::{NodeId, Term};

use super::load::Load;
use super::setting::Failure;
use super::trial::{Cluster, Node, Outcome, PATIENCE, position};

/// So many heartbeats pass before the leader fails: every follower has heard its rank.
const HEARTBEATS: u32 = 2;

/// And so many when followers are away: until their leader has noticed and ranks those that it
/// still hears.
const HEARTBEATS_AFTER_LOSS: u32 = 6;

/// How long a client writes before its leader goes.
const LOAD_SPAN: Duration = Duration::from_millis(20);

impl Cluster {
    /// The leader fails as the setting says, and another is elected. For a cold start it is
    /// silence.
    ///
    /// It fails so long after a heartbeat; all other moments are the runtime's and the seed's.
    /// Afterwards all servers are back.
    ///
    /// # Errors
    ///
    /// As of [`Cluster::start`]; or a command is lost that the leader had accepted.
    pub fn fail_leader(&mut self, phase: Duration) -> io::Result<Outcome> {
        let quiet = self.quiet.clone();
        let heartbeat = self.setting.timing.heartbeat;
        let (leader, mut gone, measuring) = loop {
            let leader = self.settle()?;
            let settled_at = Instant::now();
            let gone = self.leave_bare_majority(leader);
            let heartbeats = if gone.is_empty() { HEARTBEATS } else { HEARTBEATS_AFTER_LOSS };
            let at = settled_at + heartbeat * heartbeats + phase;
            let measuring = quiet.measure_at(at, heartbeat);
            if self.leader(&gone) == Some(leader) {
                break (leader, gone, measuring);
            }
            // With the shortest timeouts a leader is now and then lost before it is to fail.
            gone.iter().for_each(|node| self.tape.rejoin(*node));
        };
        gone.push(leader);
        let outcome = match self.setting.failure {
            Failure::Cold | Failure::Silence | Failure::BareMajority => self.silence(leader, &gone),
            Failure::WithSuccessor => {
                let first = self.deadlines(&gone).into_iter().min();
                gone.extend(first.map(|(_, successor)| successor));
                self.silence(leader, &gone)
            }
            Failure::Kill => self.kill(leader),
            Failure::Handover => self.hand_over(leader),
            Failure::LoadedHandover => self.hand_over_under_load(leader),
            Failure::Sigkill | Failure::Sigstop => {
                let error =
                    "servers of one process get no signals of their own: use `processes::Cluster`";
                Err(io::Error::new(io::ErrorKind::Unsupported, error))
            }
        }?;
        drop(measuring);
        self.mend(leader, &gone)?;
        Ok(outcome)
    }

    /// Silences so many followers, if the setting says so, that without the leader a majority is
    /// just left.
    fn leave_bare_majority(&self, leader: NodeId) -> Vec<NodeId> {
        if self.setting.failure != Failure::BareMajority {
            return vec![];
        }
        let servers = self.setting.servers;
        let spare = servers.saturating_sub(servers / 2 + 2);
        let ids = (1..=servers as u64).map(NodeId::new);
        let gone: Vec<_> = ids.filter(|id| *id != leader).take(spare).collect();
        gone.iter().for_each(|follower| self.tape.cut_off(*follower));
        gone
    }

    fn silence(&self, leader: NodeId, gone: &[NodeId]) -> io::Result<Outcome> {
        self.watch(leader);
        let failed_at = Instant::now();
        gone.iter().for_each(|node| self.tape.cut_off(*node));
        let deadline = self.first_deadline(gone);
        self.observe()?.outcome(failed_at, deadline)
    }

    /// Nobody is asked for its deadline: the question would come into the middle of an election
    /// that began at once.
    fn kill(&self, leader: NodeId) -> io::Result<Outcome> {
        self.watch(leader);
        let failed_at = Instant::now();
        self.tape.cut_off(leader);
        if let Some(node) = &self.nodes[position(leader)] {
            node.plug.pull();
        }
        self.observe()?.outcome(failed_at, None)
    }

    fn hand_over(&mut self, leader: NodeId) -> io::Result<Outcome> {
        self.watch(leader);
        let failed_at = Instant::now();
        let node = self.nodes[position(leader)].take();
        let stopping = node.as_ref().map(|node| node.member.shutdown());
        let moments = self.observe()?;
        if let Some(stopping) = stopping {
            stopping.wait("the end of the node");
        }
        moments.outcome(failed_at, Some(failed_at))
    }

    /// The time is from the last command that the leader accepted.
    fn hand_over_under_load(&mut self, leader: NodeId) -> io::Result<Outcome> {
        let Some(node) = &self.nodes[position(leader)] else { return self.hand_over(leader) };
        self.clients += 1;
        let load = Load::begin(node.member.another(), self.clients);
        thread::sleep(LOAD_SPAN);
        self.watch(leader);
        let told_at = Instant::now();
        let node = self.nodes[position(leader)].take();
        let stopping = node.as_ref().map(|node| node.member.shutdown());
        let moments = self.observe()?;
        let served = load.end()?;
        if let Some(stopping) = stopping {
            stopping.wait("the end of the node");
        }
        let leads = moments.leads.and_then(|leads| self.nodes[position(leads.leader)].as_ref());
        if let Some(successor) = leads {
            served.hold_to_it(&successor.log, PATIENCE)?;
        }
        let failed_at = served.last_accepted.unwrap_or(told_at);
        let outcome = moments.outcome(failed_at, Some(failed_at))?;
        Ok(Outcome { unanswered: served.unanswered, ..outcome })
    }

    /// Servers that ended start again, and silent servers are heard again.
    fn mend(&mut self, leader: NodeId, gone: &[NodeId]) -> io::Result<()> {
        let failure = self.setting.failure;
        if !failure.closes_connections() && !failure.is_planned() {
            gone.iter().for_each(|node| self.tape.rejoin(*node));
            return Ok(());
        }
        // Cut off, it waits in vain for a successor: that is long, but no noise.
        self.stop_node(position(leader))?;
        let quiet = self.quiet.clone();
        let _noise = quiet.make_noise();
        self.tape.rejoin(leader);
        self.start_node(position(leader))
    }

    fn watch(&self, leader: NodeId) {
        let node = self.nodes[position(leader)].as_ref();
        let term = node.map_or(Term::ZERO, Node::term);
        self.tape.watch(term, self.setting.servers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disk, Link, On, Setting, Timing, Wire};

    fn cluster(failure: Failure, wire: Wire) -> Cluster {
        let timing = Timing::paper(50, 100).ranked(Duration::from_millis(5));
        let (disk, link) = (Disk::Memory, Link::PERFECT);
        let setting = Setting { servers: 5, failure, wire, disk, timing, link };
        Cluster::start(setting, On::Threads, 1).unwrap().0
    }

    #[test]
    fn every_failure_ends_in_an_election_and_leaves_a_whole_cluster() {
        for failure in Failure::ALL {
            if matches!(failure, Failure::Sigkill | Failure::Sigstop) {
                continue;
            }
            let wire = if failure.closes_connections() { Wire::Tcp } else { Wire::Channels };
            let mut cluster = cluster(failure, wire);
            for _ in 0..2 {
                let outcome = cluster.fail_leader(Duration::ZERO).unwrap();
                let Outcome { detection, slop, election, downtime, .. } = outcome;
                assert!(downtime <= detection + slop + election, "{failure:?}: {outcome:?}");
            }
            assert_eq!(cluster.nodes.iter().flatten().count(), 5, "{failure:?}");
            cluster.settle().unwrap();
        }
    }

    #[test]
    fn signals_are_for_processes() {
        let error = cluster(Failure::Sigstop, Wire::Channels).fail_leader(Duration::ZERO);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}
