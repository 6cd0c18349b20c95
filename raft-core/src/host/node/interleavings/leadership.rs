//! The watch over who leads: nobody waits for what has happened, and nobody is forgotten.

use std::sync::Arc;
use std::vec::Vec;

use shuttle::future::block_on;
use shuttle::sync::mpsc;
use shuttle::thread;

use super::explore;
use crate::host::error::{StopReason, Stopped};
use crate::host::node::leadership::{Leadership, LeadershipState, LeadershipWatch};
use crate::host::threads::lifecycle::Lifecycle;
use crate::role::Role;
use crate::types::{NodeId, Term};

fn follower(term: u64) -> Leadership {
    let leader = Some(NodeId::new(2));
    Leadership { role: Role::Follower, term: Term::new(term), leader, leader_address: None }
}

fn leader(term: u64) -> Leadership {
    let leader = Some(NodeId::new(1));
    Leadership { role: Role::Leader, term: Term::new(term), leader, leader_address: None }
}

fn state() -> (Arc<LeadershipState>, Arc<Lifecycle>) {
    let lifecycle = Arc::<Lifecycle>::default();
    (Arc::new(LeadershipState::new(Arc::clone(&lifecycle))), lifecycle)
}

#[test]
fn a_watch_sees_the_last_change_and_never_an_older_one() {
    explore(|| {
        let (state, _lifecycle) = state();
        let watches: Vec<_> = (0..2)
            .map(|_| {
                let watch = LeadershipWatch::new(Arc::clone(&state));
                thread::spawn(move || {
                    let mut now = watch.current();
                    while now != leader(3) {
                        let next = block_on(watch.changed_from(now.clone())).unwrap();
                        assert!(next.term > now.term, "{now:?}, then {next:?}");
                        now = next;
                    }
                })
            })
            .collect();
        for leadership in [follower(1), leader(2), leader(3)] {
            state.publish(leadership);
        }
        for watch in watches {
            watch.join().unwrap();
        }
    });
}

#[test]
fn a_lead_is_won_and_lost_in_any_order() {
    explore(|| {
        let (state, _lifecycle) = state();
        let node = Arc::clone(&state);
        let (won, leads) = mpsc::channel();
        let client = thread::spawn(move || {
            let lead = block_on(node.wait_to_lead()).unwrap();
            won.send(lead.term()).unwrap();
            let after = block_on(lead.lost()).unwrap();
            assert!(after.term > lead.term() && !lead.is_leading(), "{after:?}");
        });
        for leadership in [leader(1), follower(2), leader(3)] {
            state.publish(leadership);
        }
        // The node leads from now on, so the client has its lead whenever it asked.
        let term = leads.recv().unwrap();
        assert!([1, 3].contains(&term.get()));
        state.publish(follower(4));
        client.join().unwrap();
    });
}

#[test]
fn all_clients_that_watch_a_node_that_stops_are_told_why() {
    explore(|| {
        let (state, lifecycle) = state();
        let node = Arc::clone(&state);
        let leads = thread::spawn(move || {
            let lead = block_on(node.wait_to_lead())?;
            let first = block_on(lead.lost())?;
            Ok::<_, Stopped>(first)
        });
        let watch = LeadershipWatch::new(Arc::clone(&state));
        let watches = thread::spawn(move || {
            let mut now = watch.current();
            loop {
                now = match block_on(watch.changed_from(now)) {
                    Ok(next) => next,
                    Err(stopped) => return stopped,
                };
            }
        });
        state.publish(leader(1));
        lifecycle.end(StopReason::Shutdown);
        state.close();
        let stopped = [leads.join().unwrap().unwrap_err(), watches.join().unwrap()];
        assert!(stopped.iter().all(|stopped| matches!(stopped.reason, StopReason::Shutdown)));
        assert_eq!(LeadershipWatch::new(state).current().role, Role::Follower);
    });
}
