//! A node's own state machine in the simulator: client sessions under every fault.

use std::collections::BTreeMap;
use std::env;
use std::process::Command as Process;

use bytes::Bytes;
use raft_core::Index;
use raft_core::host::{
    CommandNumber, Format, Postcard, SessionCommand, SessionId, SessionLimits, SessionReply,
    Sessions, Typed, TypedStateMachine,
};
use raft_core::sim::{Hosted, HostedWorkload, Outcome, Request, Simulation, Swarm};

/// Counts the increments of each session's serial numbers.
#[derive(Clone, Default)]
struct Counters(BTreeMap<(u64, u64), u64>);

impl TypedStateMachine for Counters {
    type Command = (u64, u64);
    type Reply = u64;
    type Snapshot = BTreeMap<(u64, u64), u64>;

    fn apply(&mut self, index: Index, name: (u64, u64)) -> u64 {
        *self.0.entry(name).or_default() += 1;
        index.get()
    }

    fn snapshot(&self) -> Option<Self::Snapshot> {
        Some(self.0.clone())
    }

    fn restore(&mut self, snapshot: Self::Snapshot) {
        self.0 = snapshot;
    }
}

/// Clients that open sessions and send the same commands again and again.
struct Repeating;

impl HostedWorkload for Repeating {
    type Machine = Sessions<Typed<Counters>>;
    type Query = ();

    fn machine() -> Self::Machine {
        Sessions::default()
    }

    fn query(_: &Self::Machine, (): &()) -> SessionReply<u64> {
        SessionReply::Closed
    }

    fn request(_client: u64, draw: u64) -> Request<Bytes, ()> {
        // Opened are the first entries that ask for it, so their indexes are small.
        let (session, serial) = (1 + draw / 8 % 24, 1 + draw / 256 % 6);
        let answered_below = 1 + draw / 2048 % serial;
        let number = CommandNumber { session: SessionId::new(session), serial, answered_below };
        let mut command = Vec::new();
        Postcard::encode(&(session, serial), &mut command).expect("numbers are encoded");
        Request::Command(match draw % 8 {
            0 | 1 => SessionCommand::Open(SessionLimits::default()).encode(),
            _ => SessionCommand::Apply { number, command: command.into() }.encode(),
        })
    }
}

#[test]
fn what_is_sent_again_takes_effect_once_whatever_fails() {
    let (mut answers, mut repeated) = (0, 0);
    for seed in 0..40 {
        let mut simulation = Simulation::<Hosted<Repeating>>::new(&Swarm::draw(seed).plan());
        simulation.run().unwrap();
        let cluster = simulation.cluster();
        let mut first = BTreeMap::new();
        for operation in cluster.history() {
            let Request::Command(command) = &operation.request else { continue };
            let Ok(SessionCommand::Apply { number, .. }) = SessionCommand::decode(command) else {
                continue;
            };
            let Outcome::Returned { reply: SessionReply::Applied(reply), .. } = &operation.outcome
            else {
                continue;
            };
            answers += 1;
            let name = (number.session.get(), number.serial);
            match first.insert(name, *reply) {
                Some(told) => {
                    assert_eq!(told, *reply, "seed {seed}: {name:?}");
                    repeated += 1;
                }
                None => assert!(*reply > 0),
            }
        }
        for id in cluster.ids() {
            let counters = &cluster.machine(*id).0;
            assert!(counters.values().all(|count| *count == 1), "seed {seed}: {counters:?}");
        }
        let most = cluster.ids().iter().max_by_key(|id| cluster.applied(**id)).unwrap();
        let counters = &cluster.machine(*most).0;
        assert!(first.keys().all(|name| counters.contains_key(name)), "seed {seed}");
    }
    assert!(answers > 200 && repeated > 100, "{answers} answers, {repeated} of them again");
}

/// A state machine that panics, in a process of its own.
struct Panicking;

impl HostedWorkload for Panicking {
    type Machine = Typed<Bomb>;
    type Query = ();

    fn machine() -> Self::Machine {
        Typed::default()
    }

    fn query(_: &Self::Machine, (): &()) {}

    fn request(_client: u64, _draw: u64) -> Request<Bytes, ()> {
        Request::Command(Bytes::from_static(&[1]))
    }
}

#[derive(Default)]
struct Bomb;

impl TypedStateMachine for Bomb {
    type Command = u8;
    type Reply = ();
    type Snapshot = ();

    fn apply(&mut self, _index: Index, _command: u8) {
        panic!("by the user's mistake");
    }

    fn snapshot(&self) -> Option<()> {
        None
    }

    fn restore(&mut self, (): ()) {}
}

#[test]
#[ignore = "it panics; the test below runs it in a process of its own"]
fn panics() {
    drop(Simulation::<Hosted<Panicking>>::new(&Swarm::draw(42).plan()).run());
}

#[test]
fn a_panic_of_the_state_machine_prints_the_seed() {
    let mut child = Process::new(env::current_exe().unwrap());
    child.args(["hosted::panics", "--exact", "--ignored", "--nocapture"]);
    let output = child.output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("by the user's mistake"), "{told}");
    assert!(told.contains("had seed 42"), "{told}");
}
