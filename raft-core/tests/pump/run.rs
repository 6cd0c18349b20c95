//! The event loop: messages, disks and timers, in the order of virtual time.

use std::time::Duration;

use raft_core::{Entry, Instant, Message, NodeId, Output, Payload, Role, WriteId};

use super::{Cluster, Command, Server, network, slot};

/// More than any turn here can ask for.
const OUTPUTS_PER_TURN_MAX: u32 = 2000;

pub(super) enum Event {
    Arrive(Message<Command>),
    Written { server: usize, life: u64, id: WriteId },
}

impl Cluster {
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(span, |_| false);
    }

    /// Runs until the condition holds; returns false if it does not within `span`.
    pub fn run_until(&mut self, span: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + span;
        loop {
            if condition(self) {
                return true;
            }
            if !self.next_event(end) {
                self.now = end;
                return condition(self);
            }
        }
    }

    /// All hosts stand still while the clock runs on; what was to arrive meanwhile arrives right
    /// after.
    pub fn stand_still(&mut self, span: Duration) {
        self.now = self.now + span;
        let asleep: Vec<_> = self.hosts.iter().map(|host| host.deadline).collect();
        for (id, deadline) in self.ids().zip(asleep) {
            // A host that is late wakes before any message arrives.
            if deadline.is_some_and(|at| at <= self.now) {
                self.turn(id);
            }
        }
        let late = self.events.keys().copied().filter(|(at, _)| *at < self.now).collect::<Vec<_>>();
        for key in late {
            if let Some(event) = self.events.remove(&key) {
                self.events.insert((self.now, key.1), event);
            }
        }
    }

    /// Lets the next event happen, unless it is after `end`. Arrivals come before the timers of the
    /// same moment.
    fn next_event(&mut self, end: Instant) -> bool {
        let arrival = self.events.first_key_value().map(|((at, _), _)| *at);
        let hosts = self.hosts.iter().enumerate();
        let timer = hosts.filter_map(|(server, host)| Some((host.deadline?, server))).min();
        let moments = [arrival, timer.map(|(at, _)| at)];
        let Some(at) = moments.into_iter().flatten().min().filter(|at| *at <= end) else {
            return false;
        };
        self.now = at;
        if arrival == Some(at) {
            let (_, event) = self.events.pop_first().expect("it was just seen");
            self.happen(event);
        } else if let Some((_, server)) = timer {
            self.turn(NodeId::new(server as u64 + 1));
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(message) => self.arrive(message),
            Event::Written { server, life, id } => {
                let host = &self.hosts[server];
                if host.life == life && !host.disk_stuck {
                    self.on_written(server, id);
                    self.turn(NodeId::new(server as u64 + 1));
                }
            }
        }
    }

    fn arrive(&mut self, message: Message<Command>) {
        let to = message.to;
        if !self.reaches(&message) {
            return;
        }
        if let Some(raft) = self.hosts[slot(to)].raft.as_mut() {
            raft.step(message);
            self.turn(to);
        }
    }

    fn reaches(&self, message: &Message<Command>) -> bool {
        let Message { from, to, .. } = *message;
        self.host(from).connected && self.host(to).connected && !self.cut.contains(&(from, to))
    }

    pub(super) fn on_written(&mut self, server: usize, id: WriteId) {
        let host = &mut self.hosts[server];
        let count = host.pending.partition_point(|(_, write)| write.id <= id);
        for (_, write) in host.pending.drain(..count) {
            host.stored.replay(write);
        }
        if let Some(raft) = host.raft.as_mut() {
            raft.persisted(id);
        }
    }

    /// One turn of the host's loop: tick, do what is asked, sleep until the deadline.
    pub(super) fn turn(&mut self, id: NodeId) {
        let server = slot(id);
        let now = self.now;
        let Some(mut raft) = self.hosts[server].raft.take() else { return };
        raft.tick(now);
        let deadline = raft.next_deadline();
        assert!(deadline.is_none_or(|at| at > now), "server {id} is due again after its tick");
        let mut outputs = 0;
        while let Some(output) = raft.poll_outbox() {
            self.carry_out(server, &mut raft, output);
            outputs += 1;
            assert!(outputs <= OUTPUTS_PER_TURN_MAX, "server {id} never runs out of outputs");
        }
        let deadline = raft.next_deadline();
        assert!(deadline.is_none_or(|at| at > now), "server {id} is due again after its polls");
        self.checks.after_turn(server, &raft, &self.hosts, self.tolerates_oddities);
        let host = &mut self.hosts[server];
        host.deadline = deadline;
        host.raft = Some(raft);
    }

    fn carry_out(&mut self, server: usize, raft: &mut Server, output: Output<Command>) {
        match output {
            Output::Persist(write) => {
                let host = &mut self.hosts[server];
                self.checks.on_write(server, raft, &host.log, &write);
                if let Some(from) = write.truncate_from {
                    host.log.truncate(from.get() as usize - 1);
                }
                host.log.extend(write.entries.iter().cloned());
                let (life, id) = (host.life, write.id);
                let written_at = self.now + host.disk_latency.unwrap_or(self.disk_latency);
                host.pending.push((self.now, write));
                self.schedule(written_at, Event::Written { server, life, id });
            }
            Output::Send(message) => self.send(message),
            Output::Apply { from, through } => {
                let entries = raft.entries(from, through);
                entries.for_each(|entry| self.apply(server, raft, entry));
                raft.applied(through);
            }
            Output::ReadReady { id, index } => {
                assert!(self.hosts[server].last_applied >= index, "a read before its entries");
                self.hosts[server].reads_ready.push((id, index));
            }
            Output::ReadLost { id } => self.hosts[server].reads_lost.push(id),
            Output::RoleChanged { role, term, .. } => {
                if role == Role::Leader {
                    self.hosts[server].elections += 1;
                    self.checks.on_leader(raft.id(), term);
                }
            }
            Output::MembershipChanged(_) => {}
            output @ (Output::TakeSnapshot(_)
            | Output::ReadSnapshot(_)
            | Output::WriteSnapshot(_)
            | Output::Restore(_)
            | Output::Forwarded { .. }
            | _) => panic!("the pump does not know {output:?}"),
        }
    }

    fn send(&mut self, message: Message<Command>) {
        let is_request = network::is_request(&message);
        self.messages += 1;
        self.requests += u64::from(is_request);
        self.bytes += network::size(&message);
        if self.keep_log {
            self.log.push((self.now, message.clone()));
        }
        let (host, peer) = (&self.hosts[slot(message.from)], &self.hosts[slot(message.to)]);
        self.checks.on_send(host, peer, &message);

        let network = self.network.clone();
        let fate = network.fate(is_request, |end| self.random(end));
        let is_taken = self.sieve.as_ref().is_some_and(|takes| takes(&message));
        if let Some(delay) = fate.filter(|_| self.reaches(&message) && !is_taken) {
            self.schedule(self.now + delay, Event::Arrive(message));
        }
    }

    fn apply(&mut self, server: usize, raft: &Server, entry: &Entry<Command>) {
        let host = &mut self.hosts[server];
        self.checks.on_apply(host, raft, entry);
        host.last_applied = entry.index;
        if let Payload::Command(command) = &entry.payload {
            host.applied.push((entry.index, command.clone()));
        }
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }
}
