//! A run: faults one after another, and after each the cluster must be well again in time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kv::demo::cluster::{Failure, View};
use progress::Progress;
use rustix::process::Signal;

use super::clients::{ANSWER_WAIT_MAX, Clients, ask, connect};
use super::disk;
use super::history::{Call, History, Recorder};
use super::judge::Court;
use super::namespaces::Namespaces;
use super::options::{Network, Options};
use super::schedule::{Kind, Schedule, Step, Target};
use super::servers::{Place, Servers};
use super::switch::Packets;
use super::timeline::Timeline;

/// How often a condition is looked at that someone waits for.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How many reads are on their way at once when everything is read back.
const READ_BACK: usize = 256;
/// The clients with these numbers, and behind them, ask once per server: those that probe, and
/// those that read everything back.
const PROBERS: u32 = 10_000;
const READERS: u32 = 20_000;
/// The flags of a rolling restart: longer timeouts, and no ranks.
const OTHER_FLAGS: [&str; 3] =
    ["--election-timeout-min=300", "--election-timeout-max=600", "--rank-slot=0"];
/// What a server whose disk is full must say: what is wrong, and what to do.
const FULL_DISK_WORDS: [&str; 2] = ["no room to write", "free some space"];

/// A run while it goes on.
#[derive(Debug)]
pub struct Run {
    pub(super) recovery_max: Duration,
    interrupted: Arc<AtomicBool>,
    timeline: Timeline,
    recorder: Arc<Recorder>,
    court: Court,
    clients: Option<Clients>,
    pub(super) servers: Servers,
    tally: Tally,
    probes: u64,
}

/// What a run did.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// How often each fault came.
    pub faults: BTreeMap<Kind, u64>,
    /// How many of them came in bad weather.
    pub in_weather: u64,
    /// From each heal until a write went through every server.
    pub recoveries: Vec<Duration>,
    /// From each fault that leaves a majority until a write went through the others.
    pub failovers: Vec<Duration>,
    /// Packets between hosts, where there are hosts.
    pub packets: Option<Packets>,
    /// How many histories were judged at the end, each with what every server said last.
    pub judged: usize,
}

impl Tally {
    /// How many faults came.
    pub fn count(&self) -> u64 {
        self.faults.values().sum()
    }
}

impl Run {
    /// Starts servers, whose logs and journals will be in `folder`, and clients.
    pub fn start(
        options: &Options,
        seed: u64,
        program: &Path,
        folder: &Path,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let mut timeline = Timeline::start(&folder.join("timeline.txt"));
        let place = place(options, seed, &mut timeline)?;
        let runtimes = options.runtime.names();
        let records = options.records(folder);
        let servers = Servers::start(
            program,
            options.servers,
            runtimes,
            folder,
            &records,
            place,
            options.tls,
        )?;
        for id in servers.ids() {
            let (runtime, address) = (servers.runtime(id), servers.client_address(id));
            timeline.tell("start", &format!("server {id} on {runtime}, for clients at {address}"));
        }
        let groups = usize::from(options.groups);
        let (left, histories) = mpsc::channel();
        let recorder = Arc::new(Recorder::new(groups, left));
        let mut run = Self {
            recovery_max: options.recovery_max(),
            interrupted,
            timeline,
            recorder,
            court: Court::open(histories, 1),
            clients: None,
            servers,
            tally: Tally::default(),
            probes: 0,
        };
        let everyone = run.servers.ids();
        run.await_writes(&everyone)?;
        let addresses: Vec<SocketAddr> =
            everyone.iter().map(|id| run.servers.client_address(*id)).collect();
        run.clients =
            Some(Clients::start(groups, &addresses, &run.recorder, seed, options.pause_max()));
        Ok(run)
    }

    /// Lets faults come for `span`. The first violation ends it.
    pub fn torture(&mut self, seed: u64, only: &[Kind], span: Duration) -> Result<(), Failure> {
        let with_links = self.servers.switch().is_some();
        let end = self.timeline.since() + span;
        let count = self.servers.ids().len();
        let schedule = match only {
            [] => Schedule::new(seed, count, with_links),
            kinds => Schedule::of(kinds.to_vec(), seed, count),
        };
        let progress = Progress::span("torture", end.saturating_duration_since(Instant::now()));
        for step in schedule {
            if Instant::now() >= end {
                break;
            }
            progress.detail(format!("fault {}, {}", self.tally.count() + 1, step.kind));
            self.take(step)?;
        }
        Ok(())
    }

    /// Stops the clients, reads every key back through every server, and judges all histories.
    pub fn finish(&mut self) -> Result<Tally, Failure> {
        if let Some(clients) = self.clients.take() {
            clients.stop()?;
        }
        self.timeline
            .tell("read back", "the clients have stopped; every key is read through every server");
        let progress = Progress::of("read back", self.servers.ids().len() as u64, "servers");
        for id in self.servers.ids() {
            self.read_back(id)?;
            progress.advance(1);
        }
        drop(progress);
        self.await_agreement()?;
        let histories = self.recorder.histories();
        self.timeline.tell("judge", &format!("{} histories", histories.len()));
        self.tally.judged = judge_all(histories)?;
        self.tally.packets = self.servers.switch().map(super::switch::Switch::packets);
        Ok(self.tally.clone())
    }

    /// What clients saw.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Ends all servers.
    pub fn end_servers(&mut self) {
        for id in self.servers.ids() {
            let _ = self.servers.signal(id, Signal::KILL);
            let _ = self.servers.wait_for_end(id, ANSWER_WAIT_MAX);
        }
    }

    /// Ends all servers, and leaves copies of their journals in `folder`.
    pub fn leave_journals(&mut self, folder: &Path) {
        self.end_servers();
        if let Err(e) = self.servers.copy_journals(folder) {
            self.timeline.tell("evidence", &format!("without all journals: {e}"));
        }
    }

    /// Says something in the timeline.
    pub fn tell(&mut self, label: &str, text: &str) {
        self.timeline.tell(label, text);
    }

    /// One fault, from the blow to the recovery.
    fn take(&mut self, step: Step) -> Result<(), Failure> {
        let victims = self.victims(step);
        self.announce(step, &victims);
        *self.tally.faults.entry(step.kind).or_default() += 1;
        self.tally.in_weather += u64::from(step.weather.is_some());
        if let Some(switch) = self.servers.switch() {
            switch.set_weather(step.weather);
        }
        let struck = Instant::now();
        self.strike(step.kind, &victims)?;
        if step.kind.leaves_a_majority() && step.weather.is_none() {
            let others: Vec<_> =
                self.servers.ids().into_iter().filter(|id| !victims.contains(id)).collect();
            self.await_writes(&others)?;
            self.tally.failovers.push(struck.elapsed());
        }
        self.watch_for(step.hold)?;

        self.heal(step.kind, &victims)?;
        let everyone = self.servers.ids();
        let recovered = self.await_writes(&everyone)?;
        self.tally.recoveries.push(recovered);
        self.timeline
            .tell("recovered", &format!("writes go through every server, after {recovered:.3?}"));
        self.watch_for(step.calm)
    }

    fn victims(&self, step: Step) -> Vec<u8> {
        let ids = self.servers.ids();
        if step.kind.meets_all() {
            return ids;
        }
        let place = match step.target {
            Target::Server(place) => place,
            Target::Leader(place) => {
                let leader = self.servers.leader();
                leader.and_then(|id| ids.iter().position(|other| *other == id)).unwrap_or(place)
            }
        };
        let count = if step.kind == Kind::CutPair { 2 } else { 1 };
        ids.iter().copied().cycle().skip(place % ids.len()).take(count).collect()
    }

    fn announce(&mut self, step: Step, victims: &[u8]) {
        let leader = self.servers.leader();
        let whom: Vec<_> = victims
            .iter()
            .map(|id| {
                let leads = if Some(*id) == leader { ", the leader" } else { "" };
                format!("server {id}{leads}")
            })
            .collect();
        let whom = if step.kind.meets_all() { "everyone".to_owned() } else { whom.join("; ") };
        let weather = step.weather.map_or_else(String::new, |weather| format!("; {weather}"));
        let text = format!("{whom}, for {:.1?}{weather}", step.hold);
        self.timeline.tell(&step.kind.to_string(), &text);
    }

    fn strike(&mut self, kind: Kind, victims: &[u8]) -> Result<(), Failure> {
        match kind {
            Kind::Kill | Kind::KillAll => self.end(victims, Signal::KILL),
            Kind::Restart | Kind::RestartAll => self.end(victims, Signal::TERM),
            Kind::Pause | Kind::PauseAll => {
                victims.iter().try_for_each(|id| self.servers.signal(*id, Signal::STOP))
            }
            Kind::FullDisk => victims.iter().try_for_each(|id| self.starve(*id)),
            Kind::Isolate | Kind::Deafen | Kind::Mute | Kind::CutPair => {
                let directions = directions(kind, victims, &self.servers.ids());
                if let Some(switch) = self.servers.switch() {
                    switch.cut(directions);
                }
                Ok(())
            }
            Kind::Transfer => {
                // Refused if there is no leader, or no successor is known.
                let _ = self.servers.order(&["TRANSFER".to_owned()]);
                Ok(())
            }
            Kind::Remove => victims.iter().try_for_each(|id| self.remove(*id)),
            Kind::Wipe => victims.iter().try_for_each(|id| self.wipe(*id)),
            Kind::Foreign => victims.iter().try_for_each(|id| self.bring_foreign_store(*id)),
            Kind::Move => victims.iter().try_for_each(|id| {
                self.end(&[*id], Signal::TERM)?;
                self.servers.move_server(*id)?;
                self.servers.start_server(*id)
            }),
            Kind::Hang => victims.iter().try_for_each(|id| self.servers.hold(*id)),
            Kind::SlowRestore => victims.iter().try_for_each(|id| self.restore_slowly(*id)),
            Kind::Reflag => self.restart_with(&OTHER_FLAGS),
            Kind::Storm => Ok(()),
        }
    }

    fn heal(&mut self, kind: Kind, victims: &[u8]) -> Result<(), Failure> {
        if let Some(switch) = self.servers.switch() {
            switch.cut([]);
            switch.set_weather(None);
        }
        match kind {
            Kind::Kill | Kind::KillAll | Kind::Restart | Kind::RestartAll | Kind::FullDisk => {
                for id in victims {
                    self.servers.free_disk(*id)?;
                    self.servers.start_server(*id)?;
                }
                Ok(())
            }
            Kind::Pause | Kind::PauseAll => {
                victims.iter().try_for_each(|id| self.servers.signal(*id, Signal::CONT))
            }
            Kind::Remove | Kind::Wipe | Kind::Foreign => {
                victims.iter().try_for_each(|id| self.bring_back(*id))
            }
            Kind::Hang | Kind::SlowRestore => {
                victims.iter().for_each(|id| self.servers.release(*id));
                Ok(())
            }
            Kind::Reflag => self.restart_with(&[]),
            Kind::Transfer
            | Kind::Move
            | Kind::Isolate
            | Kind::Deafen
            | Kind::Mute
            | Kind::CutPair
            | Kind::Storm => Ok(()),
        }
    }

    /// Ends servers. A server that is asked to end must end well.
    pub(super) fn end(&mut self, victims: &[u8], signal: Signal) -> Result<(), Failure> {
        victims.iter().try_for_each(|id| self.servers.signal(*id, signal))?;
        for id in victims {
            let status = self.servers.wait_for_end(*id, self.recovery_max)?;
            if signal == Signal::TERM && !status.success() {
                return Err(Failure(format!(
                    "server {id} was told to stop and ended with {status}"
                )));
            }
        }
        Ok(())
    }

    /// Fills a server's disk: with the first write that fails it must end, and say what to do.
    fn starve(&mut self, id: u8) -> Result<(), Failure> {
        let logged = self.servers.log_bytes(id);
        self.servers.fill_disk(id)?;
        let status = self.servers.wait_for_end(id, self.recovery_max)?;
        let said = self.servers.log_since(id, logged);
        let clear = FULL_DISK_WORDS.iter().all(|word| said.contains(word));
        if status.code() != Some(1) || !clear {
            let text = format!("server {id}, its disk full, ended with {status} and said: {said}");
            return Err(Failure(text));
        }
        let last = said.lines().last().unwrap_or_default();
        self.timeline.tell("stopped", &format!("server {id}: {last}"));
        Ok(())
    }

    /// Waits until a write has gone through each of these servers, and says how long that took.
    pub(super) fn await_writes(&mut self, through: &[u8]) -> Result<Duration, Failure> {
        let begin = Instant::now();
        for id in through {
            while !self.probe(*id)? {
                self.watch()?;
                if begin.elapsed() > self.recovery_max {
                    let text =
                        format!("no write went through server {id} within {:?}", self.recovery_max);
                    return Err(Failure(text));
                }
                thread::sleep(POLL_INTERVAL);
            }
        }
        Ok(begin.elapsed())
    }

    /// Whether a write goes through this server now. Each has a key of its own.
    fn probe(&mut self, id: u8) -> Result<bool, Failure> {
        let mut connection = connect(self.servers.client_address(id));
        if connection.is_none() {
            return Ok(false);
        }
        self.probes += 1;
        let (key, client) = (format!("probe-{}", self.probes), PROBERS + u32::from(id));
        let ticket = self.recorder.begin_alone(&key, client, Call::Increment);
        let end = ask(&self.recorder, ticket, &mut connection, Call::Increment, &key)?;
        Ok(end.is_ok())
    }

    fn read_back(&mut self, id: u8) -> Result<(), Failure> {
        let address = self.servers.client_address(id);
        let unread =
            |e: String| Failure(format!("keys cannot be read back through server {id}: {e}"));
        let mut client = connect(address).ok_or_else(|| unread("no connection".into()))?;
        client
            .set_answer_wait(self.recovery_max.max(ANSWER_WAIT_MAX))
            .map_err(|e| unread(e.to_string()))?;
        for first in (0..).step_by(READ_BACK) {
            let looks =
                self.recorder.begin_looks(first..first + READ_BACK, READERS + u32::from(id));
            if looks.is_empty() {
                break;
            }
            let requests: Vec<_> = looks.iter().map(|(_, key)| Call::Get.words(key)).collect();
            let replies = client.pipeline(&requests).map_err(|e| unread(e.to_string()))?;
            for ((ticket, key), reply) in looks.into_iter().zip(replies) {
                let end = Call::Get.understand(&reply)?;
                if end.is_err() {
                    return Err(unread(format!("{key}: {reply:?}")));
                }
                self.recorder.end(ticket, end);
            }
        }
        Ok(())
    }

    /// Waits until all servers hold the same.
    fn await_agreement(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + self.recovery_max;
        loop {
            let ids = self.servers.ids();
            let views: Vec<_> = ids.iter().filter_map(|id| self.servers.view(*id)).collect();
            let content = |view: &View| (view.applied, view.keys, view.digest.clone());
            let agreed = views.len() == ids.len()
                && views.iter().all(|view| content(view) == content(&views[0]));
            if agreed {
                let (applied, keys, digest) = content(&views[0]);
                let text = format!(
                    "all servers hold {keys} keys with digest {digest}, up to entry {applied}"
                );
                self.timeline.tell("agreed", &text);
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Failure(format!("the servers' stores differ: {views:?}")));
            }
            self.watch()?;
            thread::sleep(POLL_INTERVAL);
        }
    }

    pub(super) fn watch_for(&mut self, span: Duration) -> Result<(), Failure> {
        let end = Instant::now() + span;
        while Instant::now() < end {
            self.watch()?;
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Fails if something has gone wrong.
    pub(super) fn watch(&mut self) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure("interrupted".into()));
        }
        self.court.check()?;
        self.clients.as_ref().map_or(Ok(()), Clients::check)?;
        self.servers.check()
    }
}

/// Where the servers will be, which is said.
fn place(options: &Options, seed: u64, timeline: &mut Timeline) -> Result<Place, Failure> {
    if options.network == Network::Loopback {
        timeline.tell("network", "loopback: no faults on links");
        return Ok(Place::Loopback);
    }
    disk::remove_stale();
    let hosts: Vec<_> = (1..=options.servers).collect();
    match Namespaces::create(&hosts, seed) {
        Ok(namespaces) => {
            timeline.tell("network", "a namespace for each server, links through this process");
            Ok(Place::Namespaces(namespaces))
        }
        Err(e) if options.network == Network::Auto => {
            timeline.tell("network", &format!("SKIPPED faults on links, servers on loopback: {e}"));
            Ok(Place::Loopback)
        }
        Err(e) => Err(e),
    }
}

/// In which directions, from and to, packets are lost.
fn directions(kind: Kind, victims: &[u8], ids: &[u8]) -> Vec<(u8, u8)> {
    let pairs = ids.iter().flat_map(|from| ids.iter().map(move |to| (*from, *to)));
    let is_met = |id: &u8| victims.contains(id);
    pairs
        .filter(|(from, to)| match kind {
            Kind::Isolate => is_met(from) != is_met(to),
            Kind::Deafen => is_met(to) && !is_met(from),
            Kind::Mute => is_met(from) && !is_met(to),
            Kind::CutPair => is_met(from) && is_met(to),
            Kind::Kill
            | Kind::KillAll
            | Kind::Restart
            | Kind::RestartAll
            | Kind::Pause
            | Kind::PauseAll
            | Kind::FullDisk
            | Kind::Transfer
            | Kind::Remove
            | Kind::Wipe
            | Kind::Foreign
            | Kind::Move
            | Kind::Hang
            | Kind::SlowRestore
            | Kind::Reflag
            | Kind::Storm => false,
        })
        .collect()
}

/// Judges all of these, on as many processors as there are.
pub fn judge_all(histories: Vec<History>) -> Result<usize, Failure> {
    let (send, receive) = mpsc::channel();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let court = Court::open(receive, threads);
    let progress = Progress::of("judge", histories.len() as u64, "histories");
    for history in histories {
        if send.send(history).is_err() {
            break;
        }
    }
    drop(send);
    court.close(|judged| progress.reach(judged as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_have_the_directions_that_their_names_say() {
        let cut = |kind, victims: &[u8]| directions(kind, victims, &[1, 2, 3]);
        assert_eq!(cut(Kind::Isolate, &[1]), [(1, 2), (1, 3), (2, 1), (3, 1)]);
        assert_eq!(cut(Kind::Deafen, &[1]), [(2, 1), (3, 1)]);
        assert_eq!(cut(Kind::Mute, &[1]), [(1, 2), (1, 3)]);
        assert!(cut(Kind::Storm, &[1, 2, 3]).is_empty());
        let pair = cut(Kind::CutPair, &[1, 2]);
        assert!(
            pair.contains(&(1, 2))
                && pair.contains(&(2, 1))
                && pair.iter().all(|(a, b)| a + b <= 4)
        );
    }
}
