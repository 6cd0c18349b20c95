//! Three servers of the firmware on a line that loses, in a time of their own.

use super::*;
use crate::journal::Journal;
use crate::limits::LOG_ENTRIES_MAX;
use crate::ram_flash::{PowerLoss, RamFlash};
use core::time::Duration;
use raft_core::{AppendEntries, Body, Entry, Index, Role, Round, Session, Term};
use rand_core::Rng;
use std::vec;
use std::vec::Vec;

const FLASH_BYTES: usize = 32 * 1024;
/// The longest that anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(node: u64, flash: RamFlash) -> Server<RamFlash> {
    let opened = Journal::open(flash).unwrap();
    Server::new(NodeId::new(node), opened, node).unwrap_or_else(|error| panic!("{error}"))
}

struct Cluster {
    servers: [Server<RamFlash>; 3],
    line: Vec<(NodeId, NodeId, Vec<u8>)>,
    now: Instant,
    rng: Pcg32,
    /// How many of a hundred messages are lost.
    loss: u32,
    /// Nobody hears this server, and it hears nobody.
    cut: Option<usize>,
    commands: Vec<Vec<u8>>,
}

impl Cluster {
    fn new() -> Self {
        let servers = [1, 2, 3].map(|node| start(node, RamFlash::new(FLASH_BYTES)));
        let (line, now, rng) = (Vec::new(), Instant::ZERO, Pcg32::seed_from_u64(3));
        Self { servers, line, now, rng, loss: 0, cut: None, commands: Vec::new() }
    }

    /// Everyone's turn, a millisecond later. Returns who lost power in it.
    fn turn(&mut self) -> Option<usize> {
        self.now = self.now + Duration::from_millis(1);
        for (from, to, body) in core::mem::take(&mut self.line) {
            let cut = self.cut.map(|at| NodeId::new(at as u64 + 1));
            if cut != Some(from) && cut != Some(to) && self.rng.next_u32() % 100 >= self.loss {
                self.servers[to.get() as usize - 1].hear(&body, true);
            }
        }
        let mut failed = None;
        for (at, server) in self.servers.iter_mut().enumerate() {
            let (from, line) = (server.raft().id(), &mut self.line);
            match server.turn(self.now, |to, body| line.push((from, to, body.to_vec()))) {
                Ok(()) => {}
                Err(Stopped::Journal(JournalError::Flash(PowerLoss))) => failed = Some(at),
                Err(error) => panic!("{error}"),
            }
            let (base, last) = server.raft().log_range();
            assert!(last.index.get() - base.index.get() <= LOG_ENTRIES_MAX as u64);
        }
        failed
    }

    fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.now + PATIENCE;
        while !done(self) {
            assert!(self.now < end, "{what}: {:?}", [0, 1, 2].map(|at| self.servers[at].state()));
            assert_eq!(self.turn(), None, "{what}");
        }
    }

    fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| self.servers[*at].raft().role() == Role::Leader;
        (0..3).filter(|at| self.cut != Some(*at)).find(leads)
    }

    /// Proposes until so many more commands have been applied by who leads.
    fn commit(&mut self, count: usize) {
        for _ in 0..count {
            self.run_until("somebody leads", |cluster| cluster.leader().is_some());
            let leader = self.leader().unwrap();
            let before = self.servers[leader].state().commands;
            let command = vec![self.commands.len() as u8; self.commands.len() % 65];
            let refused = self.servers[leader].counts().refused;
            self.servers[leader].propose(&command, true);
            if self.servers[leader].counts().refused == refused {
                self.commands.push(command);
            }
            let end = self.now + Duration::from_secs(3);
            while self.servers[leader].state().commands == before && self.now < end {
                self.turn();
            }
        }
    }

    fn expect_same(&mut self) {
        self.run_until("all have applied the same", |cluster| {
            let [first, second, third] = [0, 1, 2].map(|at| cluster.servers[at].state());
            first == second && second == third
        });
    }

    /// All that was ever proposed was applied, everywhere.
    fn expect_all(&mut self) {
        let digest = self.commands.iter().fold(0, |before, command| digest(before, command));
        let expected = (self.commands.len() as u32, digest);
        self.run_until("all have applied all", |cluster| {
            cluster.servers.iter().map(Server::state).all(|s| (s.commands, s.digest) == expected)
        });
    }

    fn restart(&mut self, at: usize) {
        let power =
            |server: Server<RamFlash>| RamFlash { changes_left: usize::MAX, ..server.into_flash() };
        // An erased chip stands in while the server is away.
        let away = start(at as u64 + 1, RamFlash::new(FLASH_BYTES));
        let server = core::mem::replace(&mut self.servers[at], away);
        self.servers[at] = start(at as u64 + 1, power(server));
    }
}

/// A log of 4 KiB takes commands for ever, and a restart finds the same state.
#[test]
fn the_log_is_filled_many_times_over() {
    let mut cluster = Cluster::new();
    cluster.commit(600);
    cluster.expect_all();
    for at in 0..3 {
        let server = &cluster.servers[at];
        assert!(server.counts().taken >= 10, "{:?}", server.counts());
        assert!(server.rewrites() >= 1);
        assert_eq!(server.counts().starved, 0);
        cluster.restart(at);
    }
    cluster.commit(1);
    cluster.expect_all();
}

/// Who begins late is sent a snapshot, and so is who was away for longer than the others' logs
/// reach back. And goes on from there.
#[test]
fn who_was_away_gets_a_snapshot() {
    let mut cluster = Cluster::new();
    for round in 1..=3 {
        cluster.cut = Some(2);
        cluster.commit(150);
        cluster.cut = None;
        cluster.expect_all();
        assert_eq!(cluster.servers[2].counts().installed, 1, "round {round}");
        cluster.restart(2);
        cluster.commit(20);
        cluster.expect_all();
    }
}

/// The line loses a fifth, the power fails at any word, and nothing that was applied anywhere is
/// ever another.
#[test]
fn it_survives_loss_and_power_failures() {
    let mut cluster = Cluster::new();
    cluster.loss = 20;
    let mut failures = 0;
    for _ in 0..150 {
        let at = cluster.rng.next_u32() as usize % 3;
        cluster.servers[at].fail_power_after(&mut cluster.rng);
        let end = cluster.now + Duration::from_secs(1);
        while cluster.now < end {
            if let Some(leader) = cluster.leader() {
                cluster.servers[leader].propose(&cluster.now.as_micros().to_le_bytes(), true);
            }
            if let Some(failed) = cluster.turn() {
                failures += 1;
                cluster.restart(failed);
            }
        }
        cluster.restart(at);
    }
    cluster.loss = 0;
    cluster.expect_same();
    assert!(failures > 50, "{failures}");
    // It has lost nothing of what it takes to go on: the counts are of the last lives alone.
    cluster.commit(300);
    let [taken, installed] = [|c: Counts| c.taken, |c: Counts| c.installed]
        .map(|count| cluster.servers.iter().map(|server| count(server.counts())).sum::<u32>());
    assert!(taken > 3, "{taken} taken, {installed} installed");
}

impl Server<RamFlash> {
    fn fail_power_after(&mut self, rng: &mut Pcg32) {
        self.journal.flash_mut().changes_left = rng.next_u32() as usize % 2000;
    }
}

/// Terms that begin and commit nothing, one after the other, fill the log to its bound and no
/// further; what takes their place, or is committed, ends that.
#[test]
fn a_log_full_of_terms_is_the_end_of_it() {
    let mut server = start(3, RamFlash::new(FLASH_BYTES));
    let mut now = Instant::ZERO;
    let mut hear = |server: &mut Server<RamFlash>,
                    term: u64,
                    prev: LogId,
                    entries: Vec<Entry<Command>>,
                    commit| {
        let append = AppendEntries {
            session: Session::new(1),
            round: Round::new(term),
            prev_log: prev,
            entries: entries.into(),
            leader_commit: Index::new(commit),
            rank: None,
            election_timeout_micros: None,
            takes_proposals: true,
        };
        let (from, to, term) = (NodeId::new(1), NodeId::new(3), Term::new(term));
        let body = Body::AppendEntries(append);
        let mut bytes = Vec::new();
        codec::encode_message(&Message { from, to, term, body }, &mut bytes);
        server.hear(&bytes, true);
        now = now + Duration::from_millis(1);
        assert!(server.turn(now, |_, _| {}).is_ok());
    };
    let noop = |term, index| Entry {
        term: Term::new(term),
        index: Index::new(index),
        payload: Payload::Noop,
    };
    let mut last = LogId::ZERO;
    for term in 1..=500 {
        let entry = noop(term, last.index.get() + 1);
        let next = entry.id();
        hear(&mut server, term, last, vec![entry], 0);
        last = server.raft().log_range().1;
        assert!(last == next || server.counts().starved > 0);
    }
    assert_eq!(last.index.get(), LOG_ENTRIES_MAX as u64);
    assert_eq!(server.counts().starved, 500 - LOG_ENTRIES_MAX as u32);
    // A leader that holds less of it replaces the rest.
    hear(&mut server, 501, LogId::new(Term::new(100), Index::new(100)), vec![noop(501, 101)], 0);
    assert_eq!(server.raft().log_range().1, LogId::new(Term::new(501), Index::new(101)));
    // And what is committed makes room.
    hear(&mut server, 501, LogId::new(Term::new(501), Index::new(101)), vec![], 101);
    assert_eq!(server.state().applied, 101);
    assert!(server.counts().taken > 0);
    assert!(server.raft().log_range().0.index.get() > 80);
}

/// A body of nothing but empty entries would take 24 bytes of memory for each of its own.
#[test]
fn bodies_of_many_parts_are_not_decoded() {
    let mut server = start(3, RamFlash::new(FLASH_BYTES));
    let mut body = vec![0x85, 1, 3, 1, 4, 0x86, 1, 1, 0x82, 0, 0, 0, 0x98, 100, 1];
    body.extend([0xf6; 99]);
    body.push(0xf6);
    assert!(codec::decode_message(&body, |_| ()).is_ok());
    server.hear(&body, true);
    assert_eq!((server.counts().undecodable, server.raft().log_range().1), (1, LogId::ZERO));
}
