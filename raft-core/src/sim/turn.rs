//! The event loop: messages, disks and timers, in the order of virtual time; and the turn of a
//! server's own loop.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::time::Duration;

use super::cluster::{Cluster, READ_ENDS_MAX, ReadEnd};
use super::counts::Counts;
use super::disk::{Crash, Synced};
use super::draw::Draw;
use super::event::Event;
use super::files::Job;
use super::network::{Links, Network, is_request, wire_bytes};
use super::queue::Queue;
use super::server::INBOX_MAX;
use super::state_machine::StateMachine;
use super::trace::{Gist, Trace, What};
use super::violation::{Failure, Verdict, Violation, hold};
use super::worker::Work;
use crate::entries::Entries;
use crate::message::{Message, SnapshotMeta};
use crate::output::{Output, Write};
use crate::raft::Raft;
use crate::time::Instant;
use crate::types::{Index, NodeId, ReadId};

/// More outputs than any turn can have. A server with more would never stop.
const OUTPUTS_PER_TURN_MAX: u32 = 100_000;

/// How long after waking a server has read the messages that wait in its sockets.
const SOCKET_LATENCY: Duration = Duration::from_micros(100);

/// The messages of the past that are kept, to come again.
const MEMORY_MAX: usize = 64;

impl<S: StateMachine> Cluster<S> {
    /// Lets the given time pass.
    ///
    /// # Errors
    ///
    /// If a check failed, now or earlier.
    pub fn run_for(&mut self, span: Duration) -> Result<(), Box<Failure>> {
        self.run_until_time(self.after(span))
    }

    /// Runs until the condition holds, which is asked after every event; returns false if it does
    /// not within `span`.
    ///
    /// # Errors
    ///
    /// If a check failed, now or earlier.
    pub fn run_until(
        &mut self,
        span: Duration,
        condition: impl Fn(&Self) -> bool,
    ) -> Result<bool, Box<Failure>> {
        let end = self.after(span);
        loop {
            self.verdict()?;
            if condition(self) {
                return Ok(true);
            }
            if !self.next_event(end.as_micros()) {
                self.now = end;
                return Ok(condition(self));
            }
        }
    }

    /// Runs until `end`, including all events that are planned for that moment.
    pub(super) fn run_until_time(&mut self, end: Instant) -> Result<(), Box<Failure>> {
        while self.failure.is_none() && self.next_event(end.as_micros()) {}
        self.now = self.now.max(end);
        self.verdict()
    }

    /// Lets the next event happen, unless it is after `end`. Arrivals come before the timers of the
    /// same moment.
    #[inline]
    pub(super) fn next_event(&mut self, end: u64) -> bool {
        let planned = self.queue.next_at();
        let timer = self.due.iter().copied().min().unwrap_or(u64::MAX);
        let next = planned.min(timer);
        if next > end || next == u64::MAX {
            return false;
        }
        self.now = self.now.max(Instant::from_micros(next));
        self.counts.events += 1;
        if planned <= timer {
            if let Some(event) = self.queue.pop() {
                self.happen(event);
            }
        } else if let Some(at) = self.due.iter().position(|due| *due == timer) {
            self.trace.note(self.now, self.ids[at], What::Woke);
            self.turn(at);
        }
        true
    }

    #[inline]
    fn happen(&mut self, event: Event<S::Command>) {
        match event {
            Event::Arrival(message) => {
                // A sender that is no server has no link that could be cut.
                let from = self.ids.binary_search(&message.from).ok();
                let to = self.at(message.to);
                if from.is_none_or(|from| self.links.passes(from, to)) {
                    self.arrive(to, message);
                } else {
                    self.counts.stopped += 1;
                }
            }
            Event::SyncEnds { at, life } => {
                if self.servers[at].life == life {
                    self.on_sync_end(at);
                }
            }
            Event::FileDone { at, life, job } => {
                if self.servers[at].life == life {
                    self.on_file_done(at, *job);
                }
            }
            Event::WorkDone { at, life } => {
                if self.servers[at].life == life {
                    self.on_work_done(at);
                }
            }
            Event::Relief(relief) => self.relieve(relief),
        }
    }

    /// A message reaches a server, which need not be the one it is for.
    pub(super) fn arrive(&mut self, at: usize, message: Message<S::Command>) {
        let server = &mut self.servers[at];
        let Some(raft) = &mut server.raft else { return };
        if server.is_paused {
            if server.inbox.len() < INBOX_MAX {
                server.inbox.push_back(message);
            }
            return;
        }
        self.trace.note(self.now, server.id, What::Received(Gist::of(&message, message.from)));
        raft.step(message);
        self.turn(at);
    }

    fn on_sync_end(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let id = server.id;
        match server.disk.end_sync() {
            Synced::Silent => {}
            Synced::Failed => {
                self.counts.failed_writes += 1;
                self.crash(id, Crash::Tear);
            }
            Synced::Through(write) => {
                self.counts.syncs += 1;
                self.trace.note(self.now, id, What::Synced(write));
                let verdict = self.observer.on_synced(id, write);
                server.files.tidy(&server.disk.stored, server.worker.restoring());
                if server.is_paused {
                    server.synced_in_pause = Some(write);
                } else if let Some(raft) = &mut server.raft {
                    raft.persisted(write);
                }
                self.note_verdict(verdict);
                self.begin_sync(at);
                self.turn(at);
            }
        }
    }

    /// Resumes a paused server. Its inbox holds the messages that came meanwhile.
    pub fn resume(&mut self, id: NodeId) {
        let at = self.at(id);
        let server = &mut self.servers[at];
        let Some(raft) = server.raft.as_mut().filter(|_| server.is_paused) else { return };
        server.is_paused = false;
        self.trace.note(self.now, id, What::Resumed);
        if let Some(write) = server.synced_in_pause.take() {
            raft.persisted(write);
        }
        for message in server.inbox.drain(..) {
            let gist = Gist::of(&message, message.from);
            self.trace.note(self.now, id, What::Received(gist));
            raft.step(message);
        }
        self.turn(at);
        self.answer_jobs(at);
        self.answer_late_work(at);
    }

    /// Resumes all paused servers, as when a machine wakes. Each server reads its clock first. The
    /// messages that came meanwhile arrive a little later, because they wait in sockets.
    pub fn resume_all(&mut self) {
        for at in 0..self.ids.len() {
            let server = &mut self.servers[at];
            if !server.is_paused {
                continue;
            }
            server.is_paused = false;
            let Some(raft) = server.raft.as_mut() else { continue };
            let waiting: Vec<_> = server.inbox.drain(..).collect();
            if let Some(write) = server.synced_in_pause.take() {
                raft.persisted(write);
            }
            self.trace.note(self.now, self.ids[at], What::Resumed);
            self.turn(at);
            self.answer_jobs(at);
            self.answer_late_work(at);
            for message in waiting {
                self.queue.push(self.now + SOCKET_LATENCY, Event::Arrival(message));
            }
        }
    }

    /// One turn of a server's loop: tick, carry out all outputs, sleep until the deadline.
    pub(super) fn turn(&mut self, at: usize) {
        let mut jobs = Vec::new();
        let verdict = self.try_turn(at, &mut jobs);
        if verdict.is_err() {
            self.note_verdict(verdict);
        }
        if !jobs.is_empty() {
            self.begin_jobs(at, &mut jobs);
        }
        self.begin_work(at);
        self.begin_sync(at);
        self.note_deadline(at);
    }

    #[inline]
    fn try_turn(&mut self, at: usize, jobs: &mut Vec<Job<S::Command>>) -> Verdict {
        let server = &mut self.servers[at];
        if server.is_paused {
            return Ok(());
        }
        let Some(raft) = server.raft.as_mut() else { return Ok(()) };
        let (id, local) = (server.id, server.clock.local(self.now));
        raft.tick(local);
        let mut outputs = 0;
        while let Some(output) = self.servers[at].raft.as_mut().and_then(Raft::poll_outbox) {
            outputs += 1;
            hold!(outputs < OUTPUTS_PER_TURN_MAX, BoundedMemory, "server {id} never stops asking");
            self.carry_out(at, output, jobs)?;
        }
        if self.reads.len() > READ_ENDS_MAX {
            self.reads.pop_front();
        }
        let Some(raft) = self.servers[at].raft.as_mut() else { return Ok(()) };
        self.observer.after_turn(raft, local)?;
        let deadline = raft.next_deadline();
        raft.tick(Instant::ZERO);
        let idle = raft.next_deadline() == deadline && raft.poll_outbox().is_none();
        hold!(idle, LawsOfTime, "a tick too early changes server {id}");
        Ok(())
    }

    /// Does what a server asks. Work on snapshot files is added to `jobs` and begins after the
    /// turn.
    #[inline]
    fn carry_out(
        &mut self,
        at: usize,
        output: Output<S::Command>,
        jobs: &mut Vec<Job<S::Command>>,
    ) -> Verdict {
        match output {
            Output::Persist(write) => self.persist(at, write)?,
            Output::Send(message) => self.send(at, message)?,
            Output::Apply { from, through } => self.apply(at, from, through)?,
            Output::TakeSnapshot(meta) => jobs.extend(self.capture(at, meta)?),
            Output::ReadSnapshot(read) => jobs.push(Job::Read(read)),
            Output::WriteSnapshot(write) => jobs.push(Job::Write(write)),
            Output::Restore(meta) => self.restore(at, meta)?,
            Output::MembershipChanged(membership) => {
                let voters = membership.voters().count();
                let members = membership.members().len();
                self.trace.note(self.now, self.ids[at], What::HasMembers { members, voters });
            }
            Output::Forwarded { id, outcome } => self.end_forward(at, id, outcome)?,
            Output::ReadReady { id, index } => self.serve_read(at, id, index)?,
            Output::ReadLost { id } => self.lose_read(at, id),
            Output::RoleChanged { role, term, leader } => {
                self.trace.note(self.now, self.ids[at], What::Became(role, term, leader));
            }
        }
        Ok(())
    }

    #[inline]
    fn persist(&mut self, at: usize, write: Write<S::Command>) -> Verdict {
        let server = &mut self.servers[at];
        let Some(raft) = &server.raft else { return Ok(()) };
        let last = write.entries.last().map_or(Index::ZERO, |last| last.index);
        self.trace.note(self.now, server.id, What::Wrote(write.id, last));
        self.observer.on_write(raft, &write)?;
        server.disk.write(write);
        Ok(())
    }

    #[inline]
    fn send(&mut self, at: usize, message: Message<S::Command>) -> Verdict {
        self.observer.on_send(&message)?;
        let Ok(to) = self.ids.binary_search(&message.to) else {
            // The answer to a message of no server.
            self.counts.lost += 1;
            return Ok(());
        };
        if self.remembers {
            remember(&mut self.memory, &mut self.draw, &message);
        }
        let is_taken = self.sieve.as_ref().is_some_and(|takes| takes(&message));
        let mut post = Post {
            now: self.now,
            from: at,
            to,
            network: &self.network,
            links: &self.links,
            draw: &mut self.link_draws[at][to],
            queue: &mut self.queue,
            trace: &mut self.trace,
            counts: &mut self.counts,
        };
        post.send(message, is_taken);
        Ok(())
    }

    #[inline]
    fn apply(&mut self, at: usize, from: Index, through: Index) -> Verdict {
        let server = &mut self.servers[at];
        let Some(raft) = &mut server.raft else { return Ok(()) };
        let entries: Entries<_> = raft.entries(from, through).cloned().collect();
        for entry in &entries {
            self.observer.on_apply(raft, entry)?;
        }
        if server.worker.is_slow() {
            server.worker.push(Work::Apply(entries));
            return Ok(());
        }
        let (history, counts) = (&mut self.history, &mut self.counts);
        let last = server.application.apply(self.now, entries, history, counts);
        self.trace.note(self.now, server.id, What::Applied(last));
        raft.applied(last);
        self.observer.on_applied(server.id, last, &server.application.machine)
    }

    /// Takes a snapshot. Returns the job that stores it, unless the state machine is slow.
    fn capture(
        &mut self,
        at: usize,
        meta: SnapshotMeta,
    ) -> Result<Option<Job<S::Command>>, Box<Violation>> {
        let server = &mut self.servers[at];
        if server.worker.is_slow() {
            server.worker.push(Work::Take(meta));
            return Ok(None);
        }
        let bytes: Rc<[u8]> = server.application.machine.snapshot().into();
        let applied = server.application.applied;
        self.observer.on_take_snapshot(server.id, &meta, applied, &bytes)?;
        Ok(Some(Job::Take(meta, bytes)))
    }

    fn restore(&mut self, at: usize, meta: SnapshotMeta) -> Verdict {
        let server = &mut self.servers[at];
        let bytes = server.files.get(meta.last);
        self.observer.on_restore(server.id, &meta, bytes.as_deref())?;
        if server.worker.is_slow() {
            server.worker.push(Work::Restore(meta));
            return Ok(());
        }
        let Some(raft) = &mut server.raft else { return Ok(()) };
        server.application.restore(meta.last.index, &bytes.unwrap_or_default());
        self.counts.restores += 1;
        self.trace.note(self.now, server.id, What::Restored(meta.last.index));
        raft.applied(meta.last.index);
        Ok(())
    }

    fn serve_read(&mut self, at: usize, read: ReadId, index: Index) -> Verdict {
        let server = &mut self.servers[at];
        self.observer.on_read_ready(server.id, read, index)?;
        if server.worker.is_slow() {
            server.worker.push(Work::Serve(read, index));
            return Ok(());
        }
        let (history, counts) = (&mut self.history, &mut self.counts);
        if !server.application.serve_read(self.now, read, history, counts) {
            let end = ReadEnd { server: server.id, id: read, index: Some(index) };
            self.reads.push_back(end);
        }
        Ok(())
    }

    fn lose_read(&mut self, at: usize, read: ReadId) {
        let server = &mut self.servers[at];
        self.observer.on_read_lost(server.id, read);
        match server.application.take_read(read) {
            Some(operation) => {
                self.history.lost(operation);
                self.counts.lost_operations += 1;
            }
            None => self.reads.push_back(ReadEnd { server: server.id, id: read, index: None }),
        }
    }

    pub(super) fn begin_sync(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if let Some(ends) = server.disk.begin_sync(self.now) {
            let life = server.life;
            self.queue.push(ends, Event::SyncEnds { at, life });
        }
    }

    /// Notes when a server's timer is due.
    #[inline]
    pub(super) fn note_deadline(&mut self, at: usize) {
        let server = &self.servers[at];
        let raft = server.raft.as_ref().filter(|_| !server.is_paused);
        let deadline = raft.and_then(Raft::next_deadline);
        self.due[at] = deadline.map_or(u64::MAX, |deadline| server.clock.global(deadline));
    }
}

/// What a message passes on its way into the queue.
struct Post<'a, C> {
    now: Instant,
    from: usize,
    to: usize,
    network: &'a Network,
    links: &'a Links,
    draw: &'a mut Draw,
    queue: &'a mut Queue<Event<C>>,
    trace: &'a mut Trace,
    counts: &'a mut Counts,
}

impl<C: crate::Command> Post<'_, C> {
    #[inline]
    fn send(&mut self, message: Message<C>, is_taken: bool) {
        let is_request = is_request(&message.body);
        self.counts.messages += 1;
        self.counts.requests += u64::from(is_request);
        self.counts.bytes += wire_bytes(&message);
        let gist = Gist::of(&message, message.to);
        let fate = self.network.fate(is_request, self.draw);
        let passes = self.links.passes(self.from, self.to);
        let what = match fate.arrives_after {
            Some(_) if passes && !is_taken => What::Sent(gist),
            Some(_) | None => What::Lost(gist),
        };
        self.trace.note(self.now, message.from, what);
        self.counts.stopped += u64::from(!passes);
        if !passes || is_taken {
            return;
        }
        let Some(delay) = fate.arrives_after else {
            self.counts.lost += 1;
            return;
        };
        self.counts.held += u64::from(fate.held);
        if let Some(again) = fate.again_after {
            self.counts.duplicated += 1;
            self.queue.push(self.now + again, Event::Arrival(message.clone()));
        }
        self.queue.push(self.now + delay, Event::Arrival(message));
    }
}

/// Keeps one message in eight. Once the memory is full, it replaces a random one.
#[cold]
fn remember<C: Clone>(memory: &mut Vec<C>, draw: &mut Draw, message: &C) {
    if !draw.one_in(8) {
        return;
    }
    if memory.len() < MEMORY_MAX {
        memory.push(message.clone());
    } else {
        let at = draw.below(MEMORY_MAX as u64) as usize;
        memory[at] = message.clone();
    }
}
