//! How each action of a plan is done to a cluster, and how it ends.

use core::time::Duration;

use super::action::{Action, Target};
use super::client::Clients;
use super::clock::TRUE_RATE_PPM;
use super::cluster::Cluster;
use super::delay::Delay;
use super::disk::Crash;
use super::event::{Event, Relief};
use super::network::Network;
use super::state_machine::Workload;
use super::trace::What;
use crate::message::Body;
use crate::role::Role;
use crate::types::NodeId;

/// How long a sync takes on a disk that is well.
pub const CALM_SYNC: Duration = Duration::from_micros(500);
/// How long a message travels on a network that is well.
pub const CALM_LATENCY: Duration = Duration::from_millis(1);
/// No server of a simulated cluster has this id.
const STRANGER: NodeId = NodeId::new(u64::MAX);

impl<S: Workload> Cluster<S> {
    /// Does what a step of a plan says. `number` is its place in the plan, for the trace.
    pub(super) fn act(&mut self, number: u64, action: &Action, clients: &mut Clients) {
        let server = self.target_of(action).unwrap_or(NodeId::new(0));
        if !matches!(action, Action::Ask { .. }) {
            self.trace.note(self.now, server, What::Fault(number));
        }
        match action {
            Action::Ask { client, draw } => clients.ask(self, *client, *draw),
            Action::Weather { network, span } => {
                self.counts.weather += 1;
                self.relieve_after(*span, Relief::Weather);
                self.set_network(*network);
            }
            Action::CutOneWay { from, to, span } => {
                if self.ids.contains(from) && self.ids.contains(to) {
                    self.counts.one_way_cuts += 1;
                    self.cut(*from, *to);
                    self.relieve_after(*span, Relief::Mend { from: *from, to: *to });
                }
            }
            Action::Divide { partition, span } => {
                self.counts.partitions += 1;
                self.divide(Some(partition));
                self.relieve_after(*span, Relief::Unite);
            }
            Action::PauseAll { span } => {
                self.counts.host_pauses += 1;
                for at in 0..self.ids.len() {
                    if self.servers[at].raft.is_some() {
                        self.pause(self.ids[at]);
                    }
                }
                self.relieve_after(*span, Relief::ResumeAll);
            }
            Action::ReadEverywhere => {
                for at in 0..self.ids.len() {
                    if !self.servers[at].is_paused {
                        // A server that knows no leader refuses the read.
                        let _ = self.read(self.ids[at]);
                    }
                }
            }
            Action::Change { churn, draw } => self.churn(*churn, *draw),
            Action::Transfer { draw } => self.ask_for_transfer(*draw),
            Action::Stale { draw } => self.repeat(*draw),
            Action::Misroute { draw } => self.misroute(*draw),
            Action::Stranger { draw } => self.speak_as_stranger(*draw),
            Action::Crash { .. }
            | Action::FailWrite { .. }
            | Action::SlowDisk { .. }
            | Action::StickDisk { .. }
            | Action::Pause { .. }
            | Action::CutOff { .. }
            | Action::Deafen { .. }
            | Action::ClockRate { .. }
            | Action::ClockJump { .. }
            | Action::FailFiles { .. }
            | Action::TakeSnapshot { .. }
            | Action::Hint { .. } => {
                // The step may name a server that has yet to be started or is switched off.
                let found = self.ids.binary_search(&server);
                if found.is_ok_and(|at| !self.servers[at].is_retired) {
                    self.act_on(server, action);
                }
            }
        }
    }

    /// Actions that are for one server.
    fn act_on(&mut self, id: NodeId, action: &Action) {
        let at = self.at(id);
        let life = self.servers[at].life;
        let runs = self.servers[at].raft.is_some();
        match action {
            Action::Crash { crash, span, .. } if runs => self.crash_for(id, *crash, *span),
            Action::FailWrite { span, .. } if runs => self.fail_write_for(id, *span),
            Action::SlowDisk { latency, span, .. } => {
                self.counts.slow_disks += 1;
                self.relieve_after(*span, Relief::DiskLatency(id));
                self.set_disk_latency(id, *latency);
            }
            Action::StickDisk { span, .. } => {
                self.counts.stuck_disks += 1;
                self.hold_disk(id);
                self.relieve_after(*span, Relief::ReleaseDisk(id));
            }
            Action::Pause { span, .. } if runs => {
                self.counts.pauses += 1;
                self.pause(id);
                self.relieve_after(*span, Relief::Resume { id, life });
            }
            Action::CutOff { span, .. } => {
                self.counts.cut_off += 1;
                self.disconnect(id);
                self.relieve_after(*span, Relief::Connect(id));
            }
            Action::Deafen { span, .. } => {
                self.counts.deafened += 1;
                self.set_deaf(id, true);
                self.relieve_after(*span, Relief::Hearing(id));
            }
            Action::ClockRate { rate_ppm, span, .. } => {
                self.counts.clock_rates += 1;
                self.set_clock_rate(id, *rate_ppm);
                self.relieve_after(*span, Relief::ClockRate(id));
            }
            Action::ClockJump { by_micros, .. } => {
                self.counts.clock_jumps += 1;
                self.jump_clock(id, *by_micros);
            }
            Action::FailFiles { span, .. } => {
                self.fail_files(id, true);
                self.relieve_after(*span, Relief::Files(id));
            }
            Action::TakeSnapshot { .. } => {
                // It may have nothing new to say, which is fine.
                let _ = self.take_snapshot(id);
            }
            Action::Hint { .. } if runs => self.hint(at),
            Action::Crash { .. }
            | Action::FailWrite { .. }
            | Action::Pause { .. }
            | Action::Hint { .. }
            | Action::Change { .. }
            | Action::Transfer { .. }
            | Action::Ask { .. }
            | Action::Weather { .. }
            | Action::CutOneWay { .. }
            | Action::Divide { .. }
            | Action::PauseAll { .. }
            | Action::ReadEverywhere
            | Action::Stale { .. }
            | Action::Misroute { .. }
            | Action::Stranger { .. } => {}
        }
    }

    /// Ends the process, and what its disk has not synced by that way of crashing, for so long.
    fn crash_for(&mut self, id: NodeId, crash: Crash, span: Duration) {
        let life = self.servers[self.at(id)].life + 1;
        *match crash {
            Crash::Keep => &mut self.counts.crashes_keep,
            Crash::Lose => &mut self.counts.crashes_lose,
            Crash::Tear | Crash::KeepFirst(_) => &mut self.counts.crashes_tear,
        } += 1;
        self.crash(id, crash);
        if crash == Crash::Keep {
            self.reset_connections(id);
        }
        self.relieve_after(span, Relief::Start { id, life });
    }

    fn fail_write_for(&mut self, id: NodeId, span: Duration) {
        let life = self.servers[self.at(id)].life + 1;
        self.fail_next_sync(id);
        self.relieve_after(span, Relief::Start { id, life });
    }

    /// Tells a server that the connection to its leader died, which it may not have.
    fn hint(&mut self, at: usize) {
        let raft = self.servers[at].raft.as_mut();
        if let Some((leader, raft)) = raft.and_then(|raft| Some((raft.leader()?, raft))) {
            self.counts.hints += 1;
            raft.suspect_leader(leader);
            self.turn(at);
        }
    }

    fn target_of(&self, action: &Action) -> Option<NodeId> {
        let target = match action {
            Action::Crash { target, .. }
            | Action::FailWrite { target, .. }
            | Action::SlowDisk { target, .. }
            | Action::StickDisk { target, .. }
            | Action::Pause { target, .. }
            | Action::CutOff { target, .. }
            | Action::Deafen { target, .. }
            | Action::ClockRate { target, .. }
            | Action::ClockJump { target, .. }
            | Action::FailFiles { target, .. }
            | Action::TakeSnapshot { target }
            | Action::Hint { target } => *target,
            Action::CutOneWay { from, .. } => Target::Server(*from),
            Action::Ask { .. }
            | Action::Change { .. }
            | Action::Transfer { .. }
            | Action::Weather { .. }
            | Action::Divide { .. }
            | Action::PauseAll { .. }
            | Action::ReadEverywhere
            | Action::Stale { .. }
            | Action::Misroute { .. }
            | Action::Stranger { .. } => return None,
        };
        match target {
            Target::Server(id) => Some(id),
            Target::Leader => self.newest_leader(),
            Target::Newest => self.ids.last().copied(),
        }
    }

    fn remembered(&self, draw: u64) -> Option<crate::Message<S::Command>> {
        let count = self.memory.len() as u64;
        let at = draw.checked_rem(count)?;
        self.memory.get(at as usize).cloned()
    }

    fn repeat(&mut self, draw: u64) {
        let Some(message) = self.remembered(draw) else { return };
        self.counts.stale += 1;
        self.arrive(self.at(message.to), message);
    }

    fn misroute(&mut self, draw: u64) {
        let Some(message) = self.remembered(draw) else { return };
        let to = (draw >> 32) as usize % self.ids.len();
        if self.ids[to] != message.to {
            self.counts.misrouted += 1;
            self.arrive(to, message);
        }
    }

    fn speak_as_stranger(&mut self, draw: u64) {
        let Some(message) = self.remembered(draw) else { return };
        // A server that is behind may not know its leader as a member. So a message that only a
        // leader sends would be a forgery.
        if speaks_as_leader(&message.body) {
            return;
        }
        self.counts.strangers += 1;
        self.arrive(self.at(message.to), crate::Message { from: STRANGER, ..message });
    }
}

impl<S: super::StateMachine> Cluster<S> {
    /// The leader of the newest term, cut off or not.
    pub(super) fn newest_leader(&self) -> Option<NodeId> {
        let rafts = self.servers.iter().filter_map(|server| server.raft.as_ref());
        let leaders = rafts.filter(|raft| raft.role() == Role::Leader);
        leaders.max_by_key(|raft| raft.term()).map(crate::Raft::id)
    }

    /// A process died. Most of its followers learn that from their connections, and some do not.
    fn reset_connections(&mut self, of: NodeId) {
        for at in 0..self.ids.len() {
            let id = self.ids[at];
            let follows = self.servers[at].raft.as_ref().is_some_and(|r| r.leader() == Some(of));
            if follows && self.draw.per_mille(700) {
                let after = self.network.delay.draw(&mut self.draw);
                self.relieve_after(after, Relief::Hint { id, of });
            }
        }
    }

    fn relieve_after(&mut self, span: Duration, relief: Relief) {
        self.queue.push(self.after(span), Event::Relief(relief));
    }

    pub(super) fn relieve(&mut self, relief: Relief) {
        match relief {
            Relief::Weather => self.set_network(self.usual_network),
            Relief::Mend { from, to } => self.mend(from, to),
            Relief::Unite => self.divide(None),
            Relief::Start { id, life } => {
                if self.servers[self.at(id)].life == life {
                    self.start(id);
                }
            }
            Relief::DiskLatency(id) => {
                let at = self.at(id);
                self.set_disk_latency(id, self.servers[at].disk.usual_latency);
            }
            Relief::ReleaseDisk(id) => self.release_disk(id),
            Relief::Files(id) => self.fail_files(id, false),
            Relief::Hint { id, of } => {
                self.counts.true_hints += 1;
                if !self.servers[self.at(id)].is_paused {
                    self.suspect_leader(id, of);
                }
            }
            Relief::Resume { id, life } => {
                if self.servers[self.at(id)].life == life {
                    self.resume(id);
                }
            }
            Relief::ResumeAll => self.resume_all(),
            Relief::Connect(id) => self.connect(id),
            Relief::Hearing(id) => self.set_deaf(id, false),
            Relief::ClockRate(id) => self.set_clock_rate(id, TRUE_RATE_PPM),
        }
    }

    /// Ends all faults: links mended, disks and clocks well, every server running, the network fast
    /// and reliable.
    pub fn heal(&mut self) {
        self.heal_but(CALM_SYNC);
    }

    /// The same, with disks on which a sync takes this long.
    pub(super) fn heal_but(&mut self, calm_sync: Duration) {
        self.trace.note(self.now, NodeId::new(0), What::Healed);
        self.links.heal();
        self.sieve = None;
        // A fault that ends later restores the usual network and disks, which are calm from now on.
        self.set_usual_network(Network::reliable(CALM_LATENCY));
        self.set_usual_disks(Delay::Constant(calm_sync));
        self.set_machine_pace(None);
        self.remembers = false;
        for at in 0..self.ids.len() {
            let id = self.ids[at];
            self.servers[at].files.fail = false;
            let server = &mut self.servers[at];
            server.disk.fails = false;
            server.clock.set_rate(self.now, TRUE_RATE_PPM);
            // A clock that was set back catches up with the last time that it returned.
            if let Some(told) = server.raft.as_ref().map(|raft| raft.server.now) {
                server.clock.advance_to(self.now, told);
            }
            self.release_disk(id);
            self.resume(id);
            self.start(id);
            self.note_deadline(at);
        }
    }
}

/// Whether only the leader of a term sends this message.
const fn speaks_as_leader<C>(body: &Body<C>) -> bool {
    match body {
        Body::AppendEntries(_) | Body::InstallSnapshot(_) | Body::TimeoutNow(_) => true,
        Body::ProposeReply(_) => true,
        Body::RequestPreVote(_)
        | Body::RequestPreVoteReply(_)
        | Body::RequestVote(_)
        | Body::RequestVoteReply(_)
        | Body::AppendEntriesReply(_)
        | Body::InstallSnapshotReply(_)
        | Body::ReadIndex(_)
        | Body::ReadIndexReply(_)
        | Body::Propose(_) => false,
    }
}
