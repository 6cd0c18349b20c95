//! The stage: servers that only the script moves. Messages wait in flight until somebody hears
//! them, disks and clocks move when they are told to.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use rand_core::SeedableRng;
use rand_pcg::Pcg32;

use super::super::server::SimRaft;
use super::host::Host;
use super::truth::{Hosts, Truth};
use super::{Command, Told, tell};
use crate::{
    Body, Config, Entry, Index, Lease, LogId, Message, NodeId, Output, Raft, ReadId, Role,
    SnapshotMeta, Write, WriteId,
};

/// More turns than any server takes before it sleeps.
const TURNS_MAX: usize = 100;
/// More messages than any talk has.
const MESSAGES_MAX: usize = 10_000;

/// What is chosen before the servers start.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) pre_vote: bool,
    /// Servers that stand without asking, when the others ask.
    pub(super) without_pre_vote: Vec<NodeId>,
    pub(super) check_quorum: bool,
    pub(super) one_entry_per_message: bool,
    pub(super) no_log_tail: bool,
    pub(super) leases: bool,
    /// Servers whose leases differ from that.
    pub(super) with_lease: Vec<NodeId>,
    pub(super) without_lease: Vec<NodeId>,
    /// With whom the cluster begins, if not with all.
    pub(super) voters: Option<Vec<NodeId>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pre_vote: true,
            without_pre_vote: Vec::new(),
            check_quorum: true,
            one_entry_per_message: false,
            no_log_tail: false,
            leases: false,
            with_lease: Vec::new(),
            without_lease: Vec::new(),
            voters: None,
        }
    }
}

/// A read that the script has started.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) server: NodeId,
    life: u64,
    id: ReadId,
    /// The last entry that was committed when it was asked for.
    floor: Index,
    pub(super) outcome: ReadOutcome,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ReadOutcome {
    Waits,
    Served(Index),
    Lost,
}

/// Servers that only sentences move.
#[derive(Default, Debug)]
pub struct Stage {
    pub(super) settings: Settings,
    pub(super) hosts: Hosts,
    pub(super) in_flight: Vec<Message<Command>>,
    /// Messages that the script keeps, by name.
    pub(super) kept: BTreeMap<String, Message<Command>>,
    pub(super) reads: BTreeMap<String, Read>,
    /// The newest pre-vote that each server asked for.
    campaigns: BTreeMap<NodeId, u64>,
    truth: Truth,
    /// The name of the script that is played.
    pub(super) script: String,
    /// The line that was played last: its number and its text.
    pub(super) line: (usize, String),
    /// The story up to that line.
    pub(super) noted: String,
    /// What happened since.
    pub(super) events: Vec<String>,
}

impl Stage {
    /// The servers.
    pub fn hosts(&self) -> &BTreeMap<NodeId, Host> {
        &self.hosts
    }

    /// The messages that no server has heard yet, the oldest first.
    pub fn in_flight(&self) -> &[Message<Vec<u8>>] {
        &self.in_flight
    }

    /// The number of the newest pre-vote that a server asked for; 0 if it has asked for none.
    pub fn campaign_of(&self, id: NodeId) -> u64 {
        self.campaigns.get(&id).copied().unwrap_or_default()
    }

    /// The servers start for the first time.
    pub(super) fn raise(&mut self, servers: &[NodeId]) -> Told {
        self.hosts = servers.iter().map(|id| (*id, Host::new(*id))).collect();
        servers.iter().try_for_each(|id| self.start(*id))
    }

    pub(super) fn host(&self, id: NodeId) -> &Host {
        &self.hosts[&id]
    }

    pub(super) fn host_mut(&mut self, id: NodeId) -> &mut Host {
        self.hosts.get_mut(&id).expect("scripts name only servers that they have")
    }

    /// A server that must run.
    pub(super) fn raft(&self, id: NodeId) -> Result<&SimRaft<Command>, String> {
        self.host(id).raft.as_ref().ok_or_else(|| format!("{id} does not run"))
    }

    pub(super) fn raft_mut(&mut self, id: NodeId) -> Result<&mut SimRaft<Command>, String> {
        self.host_mut(id).raft.as_mut().ok_or_else(|| format!("{id} does not run"))
    }

    /// Those of the servers that run.
    pub(super) fn running(&self, among: &[NodeId]) -> Vec<NodeId> {
        among.iter().copied().filter(|id| self.host(*id).raft.is_some()).collect()
    }

    pub(super) fn all(&self) -> Vec<NodeId> {
        self.hosts.keys().copied().collect()
    }

    /// For messages that no server sent, and acknowledgements that no host would give.
    pub(super) fn tolerate_oddities(&mut self) {
        self.truth.tolerates_oddities = true;
    }

    // Lives.

    /// A server starts from what its disk holds.
    pub(super) fn start(&mut self, id: NodeId) -> Told {
        let voters = self.settings.voters.clone().unwrap_or_else(|| self.all());
        let mut config = match voters.contains(&id) {
            true => Config::new(id, voters),
            false => Config::new(id, []),
        };
        if self.settings.no_log_tail {
            config.log_tail_bytes = 0;
        }
        let Settings { leases, with_lease, without_lease, .. } = &self.settings;
        let leases = with_lease.contains(&id) || (*leases && !without_lease.contains(&id));
        config.lease = leases.then_some(Lease { drift_ppm_max: 500 });
        config.pre_vote = self.settings.pre_vote && !self.settings.without_pre_vote.contains(&id);
        config.check_quorum = self.settings.check_quorum;
        if self.settings.one_entry_per_message {
            config.command_bytes_max = 8;
            config.append_bytes_max = Entry::<Command>::OVERHEAD_BYTES + config.command_bytes_max;
        }
        let host = self.host_mut(id);
        if host.raft.is_some() {
            return Err(format!("{id} runs already"));
        }
        host.life += 1;
        host.stopped = false;
        let rng = Pcg32::seed_from_u64(id.get() * 1000 + host.life);
        let raft = Raft::new(config, host.stored.clone(), rng);
        host.raft = Some(raft.map_err(|error| format!("{id} cannot start: {error}"))?);
        let last = host.stored.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        host.restore(last)?;
        self.turn(id)
    }

    /// A server is killed; of the writes that its disk has not done, the first `kept` are done all
    /// the same.
    pub(super) fn crash(&mut self, id: NodeId, kept: usize) -> Told {
        self.raft(id)?;
        let waiting = self.host(id).writes.len();
        if kept > waiting {
            return Err(format!("only {waiting} writes wait at the disk of {id}"));
        }
        self.host_mut(id).end(kept);
        Ok(())
    }

    /// A server that is down gets a new disk.
    pub(super) fn wipe(&mut self, id: NodeId) -> Told {
        let host = self.host_mut(id);
        if host.raft.is_some() {
            return Err(format!("{id} runs"));
        }
        let (life, now) = (host.life, host.now);
        *host = Host { life, now, ..Host::new(id) };
        Ok(())
    }

    // The loop of a host.

    /// Turns of a server's loop, until it would sleep.
    pub(super) fn turn(&mut self, id: NodeId) -> Told {
        for _ in 0..TURNS_MAX {
            let host = self.host_mut(id);
            let Some(raft) = host.raft.as_mut().filter(|_| !host.paused) else { return Ok(()) };
            raft.tick(host.now);
            while let Some(output) = self.host_mut(id).raft.as_mut().and_then(Raft::poll_outbox) {
                self.carry_out(id, output)?;
            }
            self.truth.look(&self.hosts, id)?;
            let host = self.host(id);
            let deadline = host.raft.as_ref().and_then(Raft::next_deadline);
            if deadline.is_none_or(|deadline| deadline > host.now) {
                return Ok(());
            }
        }
        Err(format!("{id} never sleeps"))
    }

    fn carry_out(&mut self, id: NodeId, output: Output<Command>) -> Told {
        match output {
            Output::Persist(write) => self.on_persist(id, write),
            Output::Send(message) => {
                self.truth.on_send(&self.hosts, &message)?;
                self.events.push(tell::message(&message));
                if let Body::RequestPreVote(request) = &message.body {
                    self.campaigns.insert(id, request.campaign);
                }
                self.in_flight.push(message);
                Ok(())
            }
            Output::Apply { from, through } => self.on_apply(id, from, through),
            Output::ReadReady { id: read, index } => {
                self.on_read(id, read, ReadOutcome::Served(index))
            }
            Output::ReadLost { id: read } => self.on_read(id, read, ReadOutcome::Lost),
            Output::RoleChanged { role, term, leader } => {
                let leader = leader.filter(|leader| *leader != id);
                let leader = leader.map_or(String::new(), |leader| format!(", follows {leader}"));
                let role = tell::role(role);
                self.events.push(format!("{id} is {role} in term {term}{leader}"));
                Ok(())
            }
            Output::TakeSnapshot(snapshot) => self.on_take_snapshot(id, snapshot),
            Output::ReadSnapshot(read) => self.on_read_snapshot(id, read),
            Output::WriteSnapshot(write) => self.on_write_snapshot(id, write),
            Output::Restore(snapshot) => {
                self.truth.on_restore(id, snapshot.last)?;
                self.events.push(format!("{id} restores the snapshot {}", snapshot.last));
                self.host_mut(id).restore(snapshot.last)?;
                self.raft_mut(id)?.applied(snapshot.last.index);
                Ok(())
            }
            Output::MembershipChanged(membership) => {
                self.events.push(format!("{id} knows {}", tell::membership(&membership)));
                Ok(())
            }
            output @ Output::Forwarded { .. } => {
                Err(format!("the stage does not know the output {output:?}"))
            }
        }
    }

    /// As in `host`, the first write that fails ends the node.
    fn on_persist(&mut self, id: NodeId, write: Write<Command>) -> Told {
        self.truth.on_write(&self.hosts[&id], &write)?;
        let host = self.host_mut(id);
        let words = tell::write(&write);
        if host.disk_fails {
            host.end(0);
            host.stopped = true;
            self.events.push(format!("{id}'s disk fails to write: {words}; {id} stops"));
            return Ok(());
        }
        host.written.replay(write.clone());
        host.writes.push_back(write);
        let held = host.disk_held;
        let verb = if held { "is to write" } else { "writes" };
        self.events.push(format!("{id}'s disk {verb}: {words}"));
        if held { Ok(()) } else { self.write_next(id).and_then(|write| self.report(id, write)) }
    }

    fn on_apply(&mut self, id: NodeId, from: Index, through: Index) -> Told {
        let entries: Vec<_> = self.raft_mut(id)?.entries(from, through).cloned().collect();
        for entry in entries {
            self.truth.on_apply(&self.hosts[&id], &entry)?;
            let host = self.host_mut(id);
            host.handed_out = entry.index;
            host.handed.push_back(entry);
        }
        let handed = self.host(id).handed.len();
        if self.host(id).state_machine_held { Ok(()) } else { self.apply(id, handed) }
    }

    fn on_read(&mut self, server: NodeId, id: ReadId, outcome: ReadOutcome) -> Told {
        let life = self.host(server).life;
        let is_it = |read: &Read| read.server == server && read.life == life && read.id == id;
        let Some((name, read)) = self.reads.iter_mut().find(|(_, read)| is_it(read)) else {
            return Err(format!("{server} answers a read that nobody asked for"));
        };
        if read.outcome != ReadOutcome::Waits {
            return Err(format!("{server} answers read {name} twice"));
        }
        read.outcome = outcome;
        self.events.push(format!("{server}: read {name}: {outcome:?}"));
        match outcome {
            ReadOutcome::Served(index) => self.truth.on_read_ready(server, index, read.floor),
            ReadOutcome::Lost | ReadOutcome::Waits => Ok(()),
        }
    }

    /// A server is to take this snapshot.
    pub(super) fn on_snapshot(&mut self, id: NodeId, snapshot: &SnapshotMeta) -> Told {
        self.events.push(format!("{id} takes a snapshot that ends at {}", snapshot.last));
        self.truth.on_take_snapshot(&self.hosts[&id], snapshot)
    }

    // Disks and state machines.

    /// The disk does its next write, and does not say so.
    pub(super) fn write_next(&mut self, id: NodeId) -> Result<WriteId, String> {
        let host = self.host_mut(id);
        let write = host.writes.pop_front();
        let write = write.ok_or_else(|| format!("no write waits at the disk of {id}"))?;
        let write_id = write.id;
        host.stored.replay(write);
        host.unreported = Some(write_id);
        Ok(write_id)
    }

    /// The disk reports this write, and with it all before.
    pub(super) fn report(&mut self, id: NodeId, write: WriteId) -> Told {
        self.host_mut(id).unreported = None;
        self.raft_mut(id)?.persisted(write);
        Ok(())
    }

    /// The state machine applies so many of the entries that it was handed.
    pub(super) fn apply(&mut self, id: NodeId, count: usize) -> Told {
        for _ in 0..count {
            let host = self.host_mut(id);
            let entry = host.handed.pop_front();
            let entry =
                entry.ok_or_else(|| format!("the state machine of {id} has no entry left"))?;
            let index = entry.index;
            if let crate::Payload::Command(command) = entry.payload {
                self.events.push(format!("{id} applies {index}: {}", tell::command(&command)));
                self.host_mut(id).applied.push(command);
            }
            self.raft_mut(id)?.applied(index);
        }
        Ok(())
    }

    pub(super) fn start_read(&mut self, server: NodeId, name: String) -> Told {
        let floor = self.truth.committed();
        let life = self.host(server).life;
        let id = self.raft_mut(server)?.read().map_err(|refused| refused.to_string())?;
        let outcome = ReadOutcome::Waits;
        self.reads.insert(name, Read { server, life, id, floor, outcome });
        self.turn(server)
    }

    // Clocks.

    /// The clock of a server that must run jumps ahead, and its loop takes a turn.
    pub(super) fn jump(&mut self, id: NodeId, span: Duration) -> Told {
        self.raft(id)?;
        let host = self.host_mut(id);
        host.now = host.now + span;
        self.turn(id)
    }

    /// Time passes for these, from deadline to deadline; what they send is heard at once among them
    /// if `heard`.
    pub(super) fn pass(&mut self, span: Duration, among: &[NodeId], heard: bool) -> Told {
        let mut left = span;
        loop {
            if heard {
                self.talk(among)?;
            }
            let waits = self.running(among).into_iter().filter_map(|id| self.sleeps(id));
            let step = waits.min().unwrap_or(left).min(left);
            left -= step;
            for id in self.running(among) {
                self.jump(id, step)?;
            }
            if left.is_zero() {
                return if heard { self.talk(among) } else { Ok(()) };
            }
        }
    }

    fn sleeps(&self, id: NodeId) -> Option<Duration> {
        let host = self.host(id);
        let deadline = host.raft.as_ref().filter(|_| !host.paused)?.next_deadline()?;
        Some(deadline.saturating_duration_since(host.now))
    }

    /// The election timer of a server fires, and no other timer before it.
    pub(super) fn campaign(&mut self, id: NodeId) -> Told {
        let raft = self.raft(id)?;
        if raft.role() == Role::Leader {
            return Err(format!("{id} leads: it has no election timer"));
        }
        let span = raft.config().election_timeout_max;
        self.jump(id, span)?;
        // A server whose clock jumps listens first.
        match self.sleeps(id) {
            Some(left) if self.raft(id)?.role() == Role::Follower => self.jump(id, left),
            _ => Ok(()),
        }
    }

    /// So much time passes that a server no longer takes its leader for alive, and not so much that
    /// it stands for election.
    pub(super) fn miss_leader(&mut self, id: NodeId) -> Told {
        let raft = self.raft(id)?;
        let span = raft.config().election_timeout_min;
        let until_it_stands = match raft.role() {
            Role::Follower => self.sleeps(id).map(|left| left - Duration::from_micros(1)),
            Role::PreCandidate | Role::Candidate | Role::Leader => None,
        };
        self.jump(id, until_it_stands.map_or(span, |left| left.min(span)))
    }

    // Messages.

    /// A server hears a message, whatever came before it. One that does not run hears nothing.
    pub(super) fn deliver(&mut self, message: Message<Command>) -> Told {
        let to = message.to;
        let words = tell::message(&message);
        match self.host_mut(to).raft.as_mut() {
            Some(raft) => {
                raft.step(message);
                self.events.push(format!("heard: {words}"));
            }
            None => self.events.push(format!("lost, for {to} does not run: {words}")),
        }
        self.turn(to)
    }

    /// Takes messages out of the network.
    pub(super) fn take(
        &mut self,
        is_it: impl Fn(&Message<Command>) -> bool,
    ) -> Vec<Message<Command>> {
        let in_flight = core::mem::take(&mut self.in_flight);
        let (taken, left) = in_flight.into_iter().partition(is_it);
        self.in_flight = left;
        taken
    }

    /// What these say to each other is heard, until they have nothing more to say.
    pub(super) fn talk(&mut self, among: &[NodeId]) -> Told {
        let between = |m: &Message<Command>| among.contains(&m.from) && among.contains(&m.to);
        for _ in 0..MESSAGES_MAX {
            let Some(at) = self.in_flight.iter().position(between) else { return Ok(()) };
            let message = self.in_flight.remove(at);
            self.deliver(message)?;
        }
        Err(format!("they still talk after {MESSAGES_MAX} messages"))
    }
}
