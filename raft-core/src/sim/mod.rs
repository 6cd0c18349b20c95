//! A deterministic simulator: a cluster in virtual time, your state machine, our faults.
//!
//! From one seed comes one run, bit for bit: servers with disks that forget, a network that loses,
//! repeats and reorders, clocks that disagree. The cores that run in it are the ones that run
//! anywhere. After every event an omniscient [`Observer`] checks the five properties of the paper's
//! Figure 3, that nothing is said which could be forgotten, that terms and indexes only grow, that
//! queues keep within their limits, and the laws of time.
//!
//! There are three ways to use it:
//!
//! - **Search.** [`Swarm::draw`] makes a world from a seed, [`Swarm::plan`] lists what will happen
//!   in it, and [`Simulation::run`] runs the list, ends all faults and demands progress within
//!   [`Plan::calm_max`]. What clients asked and were told is in [`Cluster::history`], for a checker
//!   of linearizability. A plan that fails is cut down to what it takes by [`Plan::shrink`].
//! - **Stories.** [`Cluster`] lets a test control everything: cut and mend links, crash and start
//!   servers, hold disks, propose, read, count messages, and run until a condition holds.
//! - **Scripts.** [`scenario`] plays sentences in which nothing happens by itself: which message a
//!   server hears, when its disk answers, what must be true then.
//!
//! With the feature `std`, `Hosted` runs the state machine of a node. If user
//! code panics, the seed of its run is printed.
//!
//! # Example
//!
//! A state machine of one's own, under a hundred worlds' faults:
//!
//! ```
//! use raft_core::Index;
//! use raft_core::sim::{Request, Simulation, StateMachine, Swarm, Workload};
//!
//! #[derive(Default)]
//! struct Total(u64);
//!
//! impl StateMachine for Total {
//!     type Command = Vec<u8>;
//!     type Query = ();
//!     type Reply = u64;
//!
//!     fn apply(&mut self, _index: Index, command: &Vec<u8>) -> u64 {
//!         self.0 += u64::from(command[0]);
//!         self.0
//!     }
//!
//!     fn query(&self, _query: &()) -> u64 {
//!         self.0
//!     }
//!
//!     fn snapshot(&self) -> Vec<u8> {
//!         self.0.to_be_bytes().to_vec()
//!     }
//!
//!     fn restore(&mut self, snapshot: &[u8]) {
//!         self.0 = snapshot.iter().fold(0, |total, byte| total << 8 | u64::from(*byte));
//!     }
//!
//!     fn chunk(snapshot: &[u8]) -> Vec<u8> {
//!         snapshot.to_vec()
//!     }
//! }
//!
//! impl Workload for Total {
//!     fn request(_client: u64, draw: u64) -> Request<Vec<u8>, ()> {
//!         match draw % 4 {
//!             0 => Request::Query(()),
//!             _ => Request::Command(vec![draw as u8]),
//!         }
//!     }
//! }
//!
//! for seed in 0..3 {
//!     Simulation::<Total>::new(&Swarm::draw(seed).plan()).run()?;
//! }
//! # Ok::<(), Box<raft_core::sim::Failure>>(())
//! ```
//!
//! # What is simulated
//!
//! | | File |
//! |---|---|
//! | loss, duplication, reordering, delay; one-way cuts and partitions | `network.rs`, `delay.rs` |
//! | group commit, slow disks, failed syncs, crashes that keep, lose or tear | `disk.rs` |
//! | snapshot files: slow, failing, gone with a crash | `files.rs`, `file_jobs.rs` |
//! | changes of membership, new servers, transfers of leadership | `members.rs`, `churn.rs` |
//! | clocks that go fast, slow, or jump | `clock.rs` |
//! | servers: one turn of the host's loop for each input, pauses | `turn.rs`, `server.rs` |
//! | clients that ask one thing at a time | `client.rs`, `application.rs`, `history.rs` |
//! | state machines that are slow to apply and to restore | `worker.rs`, `work.rs` |
//! | hosts: limits, configurations that differ by server and by life | `hosts.rs` |
//! | a node's own state machine, and the seed of a panic | `hosted.rs`, `seed_note.rs` |
//! | which faults there are, and when they strike | `swarm.rs`, `strikes.rs`, `plan.rs` |
//! | each action of a plan, and its end | `action.rs`, `faults.rs`, `event.rs` |
//! | what a share of the worlds has beyond that, and a search can ask for | `themes.rs` |
//! | what must hold once all faults are over | `calm.rs` |
//! | what is checked | `observer/` |
//! | what a picture shows | `view.rs` |
//! | scripts, and a stage of their own on which they play | `scenario/` |

mod action;
mod application;
mod calm;
mod churn;
mod client;
mod clock;
mod cluster;
mod counts;
mod delay;
mod disk;
mod draw;
mod event;
mod faults;
mod file_jobs;
mod files;
mod forward;
mod history;
#[cfg(feature = "std")]
mod hosted;
mod hosts;
mod members;
mod network;
mod observer;
mod plan;
mod queue;
pub mod scenario;
mod seed_note;
mod server;
mod state_machine;
mod strikes;
mod swarm;
mod themes;
mod trace;
mod turn;
mod view;
mod violation;
mod work;
mod worker;

pub use action::{Action, Churn, Step, Target};
pub use calm::{CALM_ELECTIONS_MAX, CALM_SNAPSHOT};
pub use client::CLIENT_PATIENCE;
pub use clock::TRUE_RATE_PPM;
pub use cluster::{Cluster, ReadEnd};
pub use counts::Counts;
pub use delay::Delay;
pub use disk::Crash;
pub use faults::{CALM_LATENCY, CALM_SYNC};
pub use history::{Moment, Operation, OperationOf, Outcome};
#[cfg(feature = "std")]
pub use hosted::{Hosted, HostedWorkload};
pub use hosts::{Hosts, Life, MachinePace, Mixed};
pub use network::{Network, Partition};
pub use observer::Observer;
pub use plan::{Plan, Simulation};
pub use server::SimRaft;
pub use state_machine::{REGISTERS, Registers, Request, StateMachine, Swap, Workload};
pub use swarm::{Fault, FaultKind, Swarm};
pub use themes::Theme;
pub use trace::{Gist, RECENT_RECORDS, Record, What};
pub use view::InFlight;
pub use violation::{Failure, Property, Verdict, Violation};
