//! Three servers in one image: they elect, replicate, lose their leader, go on, and take it back;
//! all by SysTick's time.
//!
//! Prints what happens and when, and ends with success only if all three state machines hold the
//! same commands.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::time::Duration;

use cortex_m::asm;
use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use firmware::board::{self, clock, heap::CountingHeap};
use raft_core::{Config, Index, Instant, Message, NodeId, Output, Payload, Raft, Restored, Role};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;

#[global_allocator]
static HEAP: CountingHeap = CountingHeap::empty();

const SERVERS: usize = 3;
const HEAP_BYTES: usize = 32 * 1024;
/// The most messages on their way; more are lost, as networks do.
const MESSAGES_MAX: usize = 32;
/// How long a leader's peers do not hear from it.
const OUTAGE: Duration = Duration::from_millis(900);
/// Longer than all of it takes; a story that has not ended by then has failed.
const DEADLINE: Duration = Duration::from_secs(20);

type Command = Rc<[u8]>;

#[entry]
fn main() -> ! {
    let memory = cortex_m::singleton!(: [u8; HEAP_BYTES] = [0; HEAP_BYTES]);
    HEAP.init(memory.expect("main runs once"));
    let peripherals = cortex_m::Peripherals::take().expect("main runs once");
    clock::start(peripherals.SYST);

    let success = Cluster::new().run();
    let usage = HEAP.usage();
    hprintln!("heap: {} bytes at most, {} allocations", usage.used_max, usage.allocations);
    hprintln!("{}", if success { "done" } else { "FAILED: the deadline has passed" });
    board::exit(success)
}

/// One server, with a disk that is always done at once and forgets nothing but when the power goes.
struct Server {
    raft: Raft<Command, Pcg32>,
    applied: Vec<Command>,
}

struct Cluster {
    servers: [Server; SERVERS],
    messages: VecDeque<Message<Command>>,
    /// The server that nobody hears, and that hears nobody.
    cut: Option<NodeId>,
}

/// What the story waits for.
#[derive(Clone, Copy)]
enum Chapter {
    /// A leader, to give it its first commands.
    Election,
    /// That these commands are applied everywhere; then the leader is cut off.
    Replication { leader: NodeId },
    /// Another leader.
    Failover { old: NodeId, mend_at: Instant },
    /// That the old leader has all commands, too.
    Healing { mend_at: Instant },
}

impl Cluster {
    fn new() -> Self {
        let server = |id| {
            let config = Config {
                append_bytes_max: 512,
                command_bytes_max: 64,
                log_bytes_max: 4096,
                snapshot_log_bytes: 2048,
                log_tail_bytes: 0,
                ..Config::new(NodeId::new(id), [1, 2, 3].map(NodeId::new))
            };
            let raft = Raft::new(config, Restored::default(), Pcg32::seed_from_u64(id));
            Server { raft: raft.expect("the configuration is sound"), applied: Vec::new() }
        };
        Self { servers: [1, 2, 3].map(server), messages: VecDeque::new(), cut: None }
    }

    /// Plays the story to its end. Returns whether it came there in time.
    fn run(mut self) -> bool {
        let mut chapter = Chapter::Election;
        while clock::now() < Instant::ZERO + DEADLINE {
            self.turn();
            match self.next_chapter(chapter) {
                Some(next) => chapter = next,
                None => return true,
            }
            self.sleep();
        }
        false
    }

    /// The loop's body, once for each server: what came in, the time, what is to be done.
    fn turn(&mut self) {
        for _ in 0..self.messages.len() {
            let Some(message) = self.messages.pop_front() else { break };
            if self.cut != Some(message.from) && self.cut != Some(message.to) {
                if let Some(server) = self.servers.get_mut(position(message.to)) {
                    server.raft.step(message);
                }
            }
        }
        for server in &mut self.servers {
            server.raft.tick(clock::now());
            while let Some(output) = server.raft.poll_outbox() {
                match output {
                    Output::Persist(write) => server.raft.persisted(write.id),
                    Output::Send(message) if self.messages.len() < MESSAGES_MAX => {
                        self.messages.push_back(message);
                    }
                    Output::Apply { from, through } => server.apply(from, through),
                    Output::RoleChanged { role, term, leader } => {
                        log(server.raft.id(), format_args!("{}", Change { role, term, leader }));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Does what is next in the story, once what it waits for has come; `None` at the end.
    fn next_chapter(&mut self, chapter: Chapter) -> Option<Chapter> {
        let next = match chapter {
            Chapter::Election => match self.propose(None, &[b"red", b"green", b"blue"]) {
                Some(leader) => Chapter::Replication { leader },
                None => chapter,
            },
            Chapter::Replication { leader } if self.all_applied(3) => {
                log(leader, format_args!("is cut off from the others"));
                self.cut = Some(leader);
                Chapter::Failover { old: leader, mend_at: clock::now() + OUTAGE }
            }
            Chapter::Failover { old, mend_at } => match self.propose(Some(old), &[b"white"]) {
                Some(_) => Chapter::Healing { mend_at },
                None => chapter,
            },
            Chapter::Healing { mend_at } if clock::now() >= mend_at => {
                if let Some(node) = self.cut.take() {
                    log(node, format_args!("is back"));
                }
                if self.all_applied(4) {
                    return None;
                }
                chapter
            }
            Chapter::Replication { .. } | Chapter::Healing { .. } => chapter,
        };
        Some(next)
    }

    /// Gives commands to the leader, if there is one other than `old`.
    fn propose(&mut self, old: Option<NodeId>, commands: &[&[u8]]) -> Option<NodeId> {
        let mut servers = self.servers.iter_mut();
        let leads = |server: &Server| server.raft.role() == Role::Leader;
        let leader = servers.find(|server| leads(server) && Some(server.raft.id()) != old)?;
        for command in commands {
            let text = core::str::from_utf8(command).unwrap_or("?");
            match leader.raft.propose((*command).into()) {
                Ok((term, index)) => {
                    log(leader.raft.id(), format_args!("appends {term}.{index} {text}"));
                }
                Err(error) => log(leader.raft.id(), format_args!("refuses {text}: {error}")),
            }
        }
        Some(leader.raft.id())
    }

    /// Whether all servers have applied so many commands, and the same.
    fn all_applied(&self, count: usize) -> bool {
        let [first, rest @ ..] = &self.servers;
        first.applied.len() == count && rest.iter().all(|server| server.applied == first.applied)
    }

    /// Until a message is there or a deadline has come; SysTick wakes us once in a millisecond to
    /// look.
    fn sleep(&self) {
        let deadlines = self.servers.iter().filter_map(|server| server.raft.next_deadline());
        let deadline = deadlines.min();
        if self.messages.is_empty() && deadline.is_none_or(|deadline| deadline > clock::now()) {
            asm::wfi();
        }
    }
}

impl Server {
    fn apply(&mut self, from: Index, through: Index) {
        for entry in self.raft.entries(from, through) {
            if let Payload::Command(command) = &entry.payload {
                let text = core::str::from_utf8(command).unwrap_or("?");
                log(self.raft.id(), format_args!("applies {} {text}", entry.index));
                self.applied.push(command.clone());
            }
        }
        self.raft.applied(through);
    }
}

/// A change of role, as the timeline tells it.
struct Change {
    role: Role,
    term: raft_core::Term,
    leader: Option<NodeId>,
}

impl core::fmt::Display for Change {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { role, term, leader } = self;
        match (role, leader) {
            (Role::Follower, Some(leader)) => write!(f, "follows node {leader} in term {term}"),
            (Role::Follower, None) => write!(f, "knows no leader in term {term}"),
            (Role::PreCandidate, _) => write!(f, "asks who would vote for it after term {term}"),
            (Role::Candidate, _) => write!(f, "stands for election in term {term}"),
            (Role::Leader, _) => write!(f, "leads term {term}"),
            (role, _) => write!(f, "is a {role} in term {term}"),
        }
    }
}

fn position(node: NodeId) -> usize {
    usize::try_from(node.get()).unwrap_or(0).wrapping_sub(1)
}

fn log(node: NodeId, what: core::fmt::Arguments<'_>) {
    hprintln!("{:>10}  node {} {}", clock::now(), node, what);
}
