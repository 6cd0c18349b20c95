//! A node on an emulated microcontroller and two servers, one on tokio and one on threads, in one
//! cluster.
//!
//! Needs `qemu-system-arm` and a bare-metal compiler; where one is missing, every story is listed
//! as ignored, and a line says what to install. Every wait has an end.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use firmware::report::{Report, digest};
use firmware::{Board, Bridge, Image, limits};
use libtest_mimic::{Arguments, Trial};
use raft_core::host::{ClusterId, Identity, Journal, MemoryJournal, NodeConfig, StoreId, tcp};
use raft_core::{Config, NodeId, Role};
use runtimes::{DEADLINE, Log, Member, Probe, Runtime, Tally, Threads, Tokio};
use tempfile::TempDir;

const CLUSTER: ClusterId = ClusterId::new(limits::CLUSTER);
const NODES: [NodeId; 3] = [NodeId::new(1), NodeId::new(2), BOARD];
/// The node on the board; the others are servers.
const BOARD: NodeId = NodeId::new(3);
const SERVERS: usize = 2;
/// A leader's role, as the board reports it.
const LEADER: u32 = 3;

/// What is told, by its name.
type Story = (&'static str, fn(&Image));

const STORIES: [Story; 10] = [
    ("it_follows", it_follows),
    ("its_vote_elects", its_vote_elects),
    ("it_leads_when_only_it_can", it_leads_when_only_it_can),
    ("it_comes_back_from_any_reset", it_comes_back_from_any_reset),
    ("it_bears_a_noisy_line", it_bears_a_noisy_line),
    ("it_bears_a_stuck_line", it_bears_a_stuck_line),
    ("it_fills_its_log_many_times", it_fills_its_log_many_times),
    ("it_was_away_for_longer_than_logs_last", it_was_away_for_longer_than_logs_last),
    ("it_sends_its_snapshot", it_sends_its_snapshot),
    ("it_runs_out_of_nothing", it_runs_out_of_nothing),
];

fn main() {
    let mut arguments = Arguments::from_args();
    // Two processors are enough for one emulated board and its cluster.
    arguments.test_threads = Some(1);
    let image = Image::build();
    if let Err(reason) = &image {
        eprintln!("skipped: no firmware in this run: {reason}");
    }
    let trials = STORIES.map(|(name, story)| {
        let image = image.clone();
        let available = image.is_ok();
        let run = move || {
            if let Ok(image) = image {
                story(&image);
            }
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(!available)
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}

/// Commands that a server accepts come to the board as well, all and in order.
fn it_follows(image: &Image) {
    let mut cluster = Cluster::start(image);
    let commands = cluster.propose(20);
    cluster.expect_everywhere(&commands);
    let report = cluster.board_has(&commands);
    assert_ne!(report.leader, 0);
    assert_eq!((report.damaged, report.overlong, report.undecodable), (0, 0, 0), "{report:?}");
}

/// With one server gone, the other leads by the board's vote and commits by the board's copy.
fn its_vote_elects(image: &Image) {
    let mut cluster = Cluster::start(image);
    let mut commands = cluster.propose(5);
    let gone = cluster.leading_server();
    cluster.stop(gone);
    assert_eq!(cluster.leading_server(), 1 - gone);
    commands.extend(cluster.propose(5));
    cluster.restart(gone);
    cluster.expect_everywhere(&commands);
}

/// The second server was away when the first and the board acknowledged commands; then the first is
/// gone. Of the two that are left, only the board may lead, for only it has what was acknowledged;
/// and it has that from its flash.
fn it_leads_when_only_it_can(image: &Image) {
    let mut cluster = Cluster::start(image);
    cluster.propose(1);
    let (first, second) = (0, 1);
    cluster.stop(second);
    let commands = [cluster.committed(), cluster.propose(20)].concat();
    cluster.board = None;
    cluster.stop(first);
    cluster.restart(second);
    cluster.power_on();
    let report = cluster.bridge.wait_for(DEADLINE, |report| report.role == LEADER);
    let report = report.expect("the board leads");
    assert_eq!(report.leader, 3);
    until("the second server has it all", || cluster.commands_of(second) == commands);

    // And it takes new ones, without any other leader.
    for command in ["from the board", "and once more"] {
        cluster.bridge.propose(command.as_bytes());
    }
    let all = until("both have the board's commands", || {
        let all = cluster.commands_of(second);
        (all.len() == commands.len() + 2).then_some(all)
    });
    cluster.board_has(&all);
    cluster.restart(first);
    cluster.expect_everywhere(&all);
}

/// Its power goes, its reset button is pressed, a write is cut short: whatever was acknowledged by
/// then, it still has.
fn it_comes_back_from_any_reset(image: &Image) {
    let mut cluster = Cluster::start(image);
    // With one server away, the board's copy is needed for every command.
    cluster.stop(1);
    let mut commands = cluster.propose(3);
    for round in 0..6 {
        let before = cluster.report();
        match round % 3 {
            0 => {
                cluster.board = None;
                cluster.power_on();
            }
            1 => cluster.reset_board(&before),
            _ => {
                cluster.board = None;
                cut_a_write_short(&cluster.flash());
                cluster.power_on();
                let torn = |report: &Report| report.torn == 1;
                cluster.bridge.wait_for(DEADLINE, torn).expect("the board finds it, and goes on");
            }
        }
        commands.extend(cluster.propose(3));
        cluster.board_has(&commands);
    }
    cluster.restart(1);
    cluster.expect_everywhere(&commands);
}

/// A tenth of all that passes the line is damaged, in both directions, and commands are committed
/// all the same.
fn it_bears_a_noisy_line(image: &Image) {
    let mut cluster = Cluster::start(image);
    cluster.stop(1);
    cluster.bridge.set_noise(10);
    let commands = cluster.propose(15);
    cluster.bridge.set_noise(0);
    let report = cluster.board_has(&commands);
    assert!(report.damaged > 0, "{report:?}");
    assert!(cluster.bridge.counts().damaged > 0);
    assert_eq!(report.undecodable, 0, "what is damaged does not pass the checksum: {report:?}");
    cluster.restart(1);
    cluster.expect_everywhere(&commands);
}

/// Nothing passes the line for longer than an election takes. The board goes on, and is back as
/// soon as the line is.
fn it_bears_a_stuck_line(image: &Image) {
    let mut cluster = Cluster::start(image);
    let mut commands = cluster.propose(5);
    let before = cluster.report();
    cluster.bridge.set_stuck(true);
    commands.extend(cluster.propose(20));
    thread::sleep(limits::config(BOARD, NODES).election_timeout_max * 2);
    cluster.bridge.set_stuck(false);
    let report = cluster.board_has(&commands);
    assert!(report.uptime > before.uptime, "the board never stopped: {before:?}, {report:?}");
    cluster.expect_everywhere(&commands);
}

/// A log of 4 KiB holds a hundred of these commands. Six times as many pass, by snapshots on all
/// sides, with resets in between.
fn it_fills_its_log_many_times(image: &Image) {
    let mut cluster = Cluster::start(image);
    // With one server away, the board's copy is needed for every command.
    cluster.stop(1);
    let mut taken = 0;
    for _ in 0..3 {
        let commands = cluster.propose(200);
        taken += cluster.board_has(&commands).taken;
        cluster.board = None;
        cluster.power_on();
        cluster.board_has(&commands);
    }
    assert!(taken >= 9, "{taken} snapshots");
    cluster.restart(1);
    cluster.expect_tally_of(0, 1);
    cluster.board_has(&[]);
    cluster.show_marks();
}

/// The servers compact their logs behind its back; it gets a snapshot and goes on from there, also
/// after the next reset.
fn it_was_away_for_longer_than_logs_last(image: &Image) {
    let mut cluster = Cluster::start(image);
    cluster.propose(3);
    for _ in 0..2 {
        cluster.board = None;
        let commands = cluster.propose(200);
        cluster.power_on();
        let report = cluster.board_has(&commands);
        assert!(report.installed > 0, "{report:?}");
        let commands = cluster.propose(5);
        cluster.board = None;
        cluster.power_on();
        let report = cluster.board_has(&commands);
        assert_eq!(report.installed, 0, "it had it in its flash: {report:?}");
    }
    // It counts as ever.
    cluster.stop(1);
    let commands = cluster.propose(5);
    cluster.board_has(&commands);
    cluster.show_marks();
}

/// One server was away while the board's log was compacted, and the other is gone: what was
/// acknowledged comes from the board's snapshot.
fn it_sends_its_snapshot(image: &Image) {
    let mut cluster = Cluster::start(image);
    let (first, second) = (0, 1);
    cluster.propose(1);
    cluster.stop(second);
    let commands = cluster.propose(200);
    cluster.board_has(&commands);
    let tally = cluster.tally_of(first);
    cluster.board = None;
    cluster.stop(first);
    cluster.restart(second);
    cluster.power_on();
    let report = cluster.bridge.wait_for(DEADLINE, |report| report.role == LEADER);
    report.unwrap_or_else(|| cluster.give_up("it does not lead"));
    until("the second server has it all", || cluster.tally_of(second) == tally);
    assert!(cluster.commands_of(second).len() < commands.len(), "by a snapshot");
    cluster.restart(first);
    cluster.expect_tally_of(second, first);
    cluster.show_marks();
}

/// Hundreds of commands on a noisy line that now and then brings a frame made to take memory:
/// nothing makes it stop.
fn it_runs_out_of_nothing(image: &Image) {
    let mut cluster = Cluster::start(image);
    cluster.propose(1);
    cluster.stop(1);
    cluster.bridge.set_noise(5);
    let before = cluster.report();
    for _ in 0..40 {
        cluster.propose(10);
        cluster.bridge.send_hostile_message();
    }
    cluster.bridge.set_noise(0);
    cluster.bridge.send_hostile_message();
    let refused = cluster.bridge.wait_for(DEADLINE, |report| report.undecodable > 0);
    let report = refused.unwrap_or_else(|| cluster.give_up("it has not seen the frame"));
    assert!(report.uptime > before.uptime, "it never stopped: {before:?}, {report:?}");
    assert!(report.heap_used_max < limits::HEAP_BYTES as u32, "{report:?}");
    cluster.restart(1);
    cluster.expect_tally_of(0, 1);
    cluster.board_has(&[]);
    cluster.show_marks();
}

/// Writes what a reset leaves of a write: its beginning. Behind the last word that is not erased,
/// where the next record goes.
fn cut_a_write_short(flash: &Path) {
    let bytes = fs::read(flash).expect("the flash is a file");
    let half = bytes.len() / 2;
    let begins = |at: usize| bytes[at..at + 4] != [0xff; 4];
    let active = if begins(0) { 0 } else { half };
    let words = (active..active + half).step_by(4);
    let end = words.rev().find(|at| begins(*at)).expect("a half has a header") + 4;
    let mut file = OpenOptions::new().write(true).open(flash).expect("it can be written");
    file.seek(SeekFrom::Start(end as u64)).expect("it is long enough");
    // Nine bytes were to follow, and two of them did.
    file.write_all(&[9, 0, !9, !0, 0x84, 0x82]).expect("it can be written");
}

/// The board, the servers, and all between them.
struct Cluster {
    board: Option<Board>,
    bridge: Bridge,
    servers: [Option<Server>; SERVERS],
    journals: [MemoryJournal; SERVERS],
    runtimes: [Box<dyn Runtime>; SERVERS],
    addresses: [SocketAddr; NODES.len()],
    /// Numbers the commands.
    proposed: usize,
    image: Image,
    directory: TempDir,
}

struct Server {
    node: Box<dyn Member>,
    probe: Arc<Probe>,
}

impl Server {
    fn leads(&self) -> bool {
        self.node.leadership().current().role == Role::Leader
    }
}

impl Cluster {
    /// All nodes, and one of the servers leads.
    fn start(image: &Image) -> Self {
        let listeners = NODES.map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
        let addresses = [0, 1, 2].map(|at| {
            let listener: &TcpListener = &listeners[at];
            listener.local_addr().expect("it is bound")
        });
        let [first, second, third] = listeners;
        let transport = Threads.tcp(BOARD, third, peers(&addresses), tcp::Config::default());
        let (transport, _) = transport.expect("the configuration is sound");
        let identity = Identity { cluster: CLUSTER, node: BOARD, store_id: StoreId::new(0xb0a2d) };
        let directory = TempDir::new().expect("there is room for files");
        let mut cluster = Self {
            board: None,
            bridge: Bridge::start(identity, transport).expect("threads are there"),
            servers: [None, None],
            journals: [MemoryJournal::new(), MemoryJournal::new()],
            runtimes: [
                Box::new(Tokio::multi_thread().expect("threads are there")),
                Box::new(Threads),
            ],
            addresses,
            proposed: 0,
            image: image.clone(),
            directory,
        };
        Board::new_flash(&cluster.flash()).expect("there is room for files");
        cluster.servers =
            [Some(cluster.start_server(0, first)), Some(cluster.start_server(1, second))];
        cluster.leading_server();
        cluster.power_on();
        let follows = cluster.bridge.wait_for(DEADLINE, |report| report.leader != 0);
        follows.unwrap_or_else(|| cluster.give_up("it does not follow"));
        cluster
    }

    fn start_server(&self, at: usize, listener: TcpListener) -> Server {
        let node = NODES[at];
        let runtime = &self.runtimes[at];
        let transport = runtime.tcp(node, listener, peers(&self.addresses), tcp::Config::default());
        let (transport, _) = transport.expect("the configuration is sound");
        let (log, probe) = Log::with_snapshots(digest);
        // Less patient than the board, so that a server leads wherever one can.
        let raft = Config {
            election_timeout_min: Duration::from_millis(400),
            election_timeout_max: Duration::from_millis(700),
            ..limits::config(node, NODES)
        };
        let config = NodeConfig::new(CLUSTER, raft);
        let journal: Box<dyn Journal> = Box::new(self.journals[at].clone());
        let node = runtime.start(config, log, journal, transport).expect("it starts");
        Server { node, probe }
    }

    fn stop(&mut self, at: usize) {
        let server = self.servers[at].take().expect("it runs");
        server.node.shutdown().wait("the end of a server");
    }

    fn restart(&mut self, at: usize) {
        let address = self.addresses[at];
        let listener = until("the port is free", || TcpListener::bind(address).ok());
        self.servers[at] = Some(self.start_server(at, listener));
    }

    /// Gives the board its power, and waits until it speaks.
    fn power_on(&mut self) {
        until("the old line has ended", || self.bridge.report().is_none());
        let (flash, line) = (self.flash(), self.bridge.line());
        let output = self.directory.path().join("output");
        let board = Board::start(&self.image, BOARD, &flash, line, &output);
        self.board = Some(board.expect("the emulator starts"));
        self.bridge.wait_for(DEADLINE, |_| true).unwrap_or_else(|| self.give_up("it is silent"));
    }

    fn flash(&self) -> PathBuf {
        self.directory.path().join("flash")
    }

    /// The newest report.
    fn report(&self) -> Report {
        self.bridge.report().unwrap_or_else(|| self.give_up("there is no report"))
    }

    /// Which of the servers leads, once one does. On a busy machine the board may be first, and
    /// would lead for good: then its reset button is pressed.
    fn leading_server(&mut self) -> usize {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let leads = |server: &Option<Server>| server.as_ref().is_some_and(Server::leads);
            if let Some(server) = self.servers.iter().position(leads) {
                return server;
            }
            let report = self.bridge.report();
            if Instant::now() >= deadline {
                self.give_up(&format!("no server leads within {DEADLINE:?}: {report:?}"));
            }
            match report.filter(|report| report.role == LEADER) {
                Some(report) => self.reset_board(&report),
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Presses its reset button, and waits until it has begun anew since this report.
    fn reset_board(&mut self, before: &Report) {
        let board = self.board.as_mut().expect("it is on");
        board.reset().expect("the emulator listens");
        let began_anew = |report: &Report| report.uptime < before.uptime;
        let report = self.bridge.wait_for(DEADLINE, began_anew);
        report.unwrap_or_else(|| self.give_up("it does not start again"));
    }

    /// Proposes to the leader until so many commands are acknowledged, and returns them.
    fn propose(&mut self, count: usize) -> Vec<Bytes> {
        let deadline = Instant::now() + DEADLINE;
        let mut acknowledged = Vec::new();
        while acknowledged.len() < count {
            assert!(Instant::now() < deadline, "{acknowledged:?} of {count} were acknowledged");
            // A command whose fate is unknown is not proposed again, so that all are told apart.
            let command = Bytes::from(format!("{:04}", self.proposed));
            self.proposed += 1;
            if self.try_propose(&command) {
                acknowledged.push(command);
            } else {
                thread::sleep(Duration::from_millis(10));
            }
        }
        acknowledged
    }

    /// Proposes to the leader, and returns whether the command was acknowledged.
    fn try_propose(&self, command: &Bytes) -> bool {
        if let Some(leader) = self.servers.iter().flatten().find(|server| server.leads()) {
            return leader.node.propose(command.clone()).wait("an answer").is_ok();
        }
        // A board that leads answers no client, but a server will show that it did.
        let Some(_) = self.bridge.report().filter(|report| report.role == LEADER) else {
            return false;
        };
        self.bridge.propose(command);
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline {
            if (0..SERVERS).any(|at| self.commands_of(at).contains(command)) {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// What a server has applied, if it runs.
    fn commands_of(&self, at: usize) -> Vec<Bytes> {
        self.servers[at].as_ref().map_or_else(Vec::new, |server| server.probe.commands())
    }

    /// What a server has applied since the first command, by snapshots or by itself.
    fn tally_of(&self, at: usize) -> Tally {
        let server = self.servers[at].as_ref().expect("it runs");
        server.probe.tally(digest)
    }

    /// Waits until a server has applied what another has, which applies nothing more.
    fn expect_tally_of(&self, source: usize, at: usize) {
        let tally = self.tally_of(source);
        until("both servers have applied the same", || self.tally_of(at) == tally);
    }

    /// What the leader has applied.
    fn committed(&mut self) -> Vec<Bytes> {
        let leader = self.leading_server();
        self.commands_of(leader)
    }

    /// Waits until both servers and the board have applied the same, among it all of
    /// `acknowledged`.
    fn expect_everywhere(&self, acknowledged: &[Bytes]) {
        let all = until("both servers have applied the same", || {
            let [first, second] = [0, 1].map(|at| self.commands_of(at));
            let complete = acknowledged.iter().all(|command| first.contains(command));
            (complete && first == second).then_some(first)
        });
        self.board_has(&all);
        self.show_marks();
    }

    /// Prints how much memory the board has used at most.
    fn show_marks(&self) {
        let Report { heap_used_max, stack_used_max, .. } = self.report();
        eprint!("(heap {heap_used_max}, stack {stack_used_max} bytes at most) ");
    }

    /// Waits until the board has applied what the servers have, among it all of `acknowledged`.
    fn board_has(&self, acknowledged: &[Bytes]) -> Report {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let source = usize::from(self.servers[0].is_none());
            let (all, expected) = (self.commands_of(source), self.tally_of(source));
            let complete = acknowledged.iter().all(|command| all.contains(command));
            let report = self.report();
            let Report { commands, digest, .. } = report;
            if complete && (Tally { commands, digest }) == expected {
                let Report { overrun, starved, unsent, .. } = report;
                assert_eq!((overrun, starved), (0, 0), "{report:?}");
                assert!(unsent == 0, "{report:?}");
                return report;
            }
            if Instant::now() >= deadline {
                self.give_up(&format!("it has not applied {expected:?}, but: {report:?}"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the test, with what the board printed.
    #[track_caller]
    fn give_up(&self, why: &str) -> ! {
        let output = fs::read_to_string(self.directory.path().join("output")).unwrap_or_default();
        panic!("the board: {why}\n{:?}\n{output}", self.bridge.counts());
    }
}

fn peers(addresses: &[SocketAddr]) -> Vec<(NodeId, String)> {
    NODES.into_iter().zip(addresses.iter().map(SocketAddr::to_string)).collect()
}

/// What `look` finds, once it finds something: `Some`, or `true`.
#[track_caller]
fn until<F: Found>(what: &str, look: impl Fn() -> F) -> F::Item {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(item) = look().found() {
            return item;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

trait Found {
    type Item;

    fn found(self) -> Option<Self::Item>;
}

impl<T> Found for Option<T> {
    type Item = T;

    fn found(self) -> Self {
        self
    }
}

impl Found for bool {
    type Item = ();

    fn found(self) -> Option<()> {
        self.then_some(())
    }
}
