//! Servers that stand still, all at once or one alone, with drivers that are turned by hand: their
//! clocks run on, and their leader stays.

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use crate::node::{Map, config, set, until};
use raft_core::host::{Driver, Handle, InProcessNetwork, Leadership, MemoryJournal};
use raft_core::{Config, NodeId, Role};

/// How long the servers stand still: longer than the largest election timeout.
const STAND_STILL: Duration = Duration::from_millis(400);

/// Three servers that do nothing unless they are turned.
struct Servers {
    handles: Vec<Handle<Map>>,
    drivers: Vec<Arc<Mutex<Driver<Map>>>>,
}

impl Servers {
    fn start(hub: &InProcessNetwork) -> Self {
        let (mut handles, mut drivers) = (Vec::new(), Vec::new());
        for own in 1..=3 {
            let raft = Config::new(NodeId::new(own), (1..=3).map(NodeId::new));
            assert!(raft.election_timeout_max < STAND_STILL);
            let transport = Box::new(hub.endpoint(raft.id));
            let journal = Box::new(MemoryJournal::new());
            let started =
                Driver::start(config(raft), Map::default(), journal, transport, || ()).unwrap();
            handles.push(started.0);
            drivers.push(Arc::new(Mutex::new(started.1)));
        }
        Self { handles, drivers }
    }

    fn turn(&self, position: usize) {
        self.drivers[position].lock().unwrap().turn();
    }

    fn leadership(&self, position: usize) -> Leadership {
        self.handles[position].leadership().current()
    }

    /// Turns all until one leads and the others follow it; its position, and its term.
    fn settle(&self) -> (usize, u64) {
        let mut settled = None;
        until("a leader that all follow", || {
            (0..3).for_each(|position| self.turn(position));
            let seen = [0, 1, 2].map(|position| self.leadership(position));
            settled = seen.iter().position(|seen| seen.role == Role::Leader).filter(|leader| {
                let id = NodeId::new(*leader as u64 + 1);
                seen.iter().all(|one| one.leader == Some(id) && one.term == seen[*leader].term)
            });
            settled.is_some()
        });
        let leader = settled.unwrap();
        (leader, self.leadership(leader).term.get())
    }

    /// The leader leads on in that term: it commits, and the others follow.
    fn assert_leads(&self, leader: usize, term: u64, case: &str) {
        let answer = self.handles[leader].propose(set(1, b"after"));
        let mut answer = pin!(answer.into_future());
        let mut is_answered = false;
        until("an answer of the leader", || {
            (0..3).for_each(|position| self.turn(position));
            if let Poll::Ready(reply) =
                answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                reply.unwrap_or_else(|error| panic!("{case}: {error}"));
                is_answered = true;
            }
            is_answered
        });
        for position in 0..3 {
            let seen = self.leadership(position);
            let expected = (Some(NodeId::new(leader as u64 + 1)), term);
            assert_eq!((seen.leader, seen.term.get()), expected, "{case}, server {position}");
        }
    }
}

#[test]
fn all_stand_still_and_the_leader_stays() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let servers = Servers::start(&hub);
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for messages_wait in [true, false] {
            let (leader, term) = servers.settle();
            if messages_wait {
                drop(servers.handles[leader].propose(set(1, b"waits")));
                servers.turn(leader);
            }
            thread::sleep(STAND_STILL);
            order.into_iter().for_each(|position| servers.turn(position));
            let case = format!("{order:?}, leader {leader}, messages wait: {messages_wait}");
            servers.assert_leads(leader, term, &case);
        }
    }
}

/// Stands still when it is called, and then lets the leader send its heartbeats.
struct StandsStill(Arc<Mutex<Driver<Map>>>);

impl Wake for StandsStill {
    fn wake(self: Arc<Self>) {
        thread::sleep(STAND_STILL);
        self.0.lock().unwrap().turn();
    }
}

/// A follower that stood still has listened once. Then it stands still in the middle of a turn,
/// behind the look into its inbox, and a heartbeat comes meanwhile.
#[test]
fn what_comes_while_a_turn_stands_still_is_heard_before_the_leader_is_given_up() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let servers = Servers::start(&hub);
    let (leader, term) = servers.settle();
    let follower = (leader + 1) % 3;
    // What has come is taken before the stand-still, so that nothing waits after it.
    servers.turn(follower);
    thread::sleep(STAND_STILL);
    servers.turn(follower);
    assert_eq!(servers.leadership(follower).role, Role::Follower, "it listens first");

    let waker = Waker::from(Arc::new(StandsStill(Arc::clone(&servers.drivers[leader]))));
    let mut status = pin!(servers.handles[follower].status().into_future());
    assert!(status.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    servers.turn(follower);
    assert_eq!(servers.leadership(follower).role, Role::Follower, "its leader was to be heard");
    servers.assert_leads(leader, term, "a follower stood still in a turn");
}
