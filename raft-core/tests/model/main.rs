//! Small worlds, exhausted: every behaviour of the real core within the bounds that each test names
//! (`world/mod.rs` says what is in the model). The example `model_check` searches larger ones.

mod world;

use stateright::{Checker, Expectation, HasDiscoveries, Model};
use world::{Bounds, Cluster};

/// Three servers with disks that are done at once, of which two stand in one term; nothing else
/// happens.
const SMALLEST: Bounds = Bounds {
    candidates: 2,
    slow_disks: 0,
    terms: 1,
    commands: 0,
    crashes: 0,
    heartbeats: 0,
    pre_votes: 0,
};

/// Searches all there is; fails with the shortest story that breaks a rule, or if something never
/// happens that should.
fn exhaust(bounds: Bounds) {
    let checker = Cluster::new(bounds).checker().finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.threads(1).spawn_bfs().join();
    let (states, turns) = (checker.unique_state_count(), checker.model().turns());
    println!("{bounds:?}: {states} states, depth {}, {turns} turns", checker.max_depth());
    let discoveries = checker.discoveries();
    for property in checker.model().properties() {
        let found = discoveries.get(property.name);
        match property.expectation {
            Expectation::Sometimes => assert!(found.is_some(), "never: {}", property.name),
            Expectation::Always | Expectation::Eventually => {
                if let Some(path) = found {
                    panic!("{}: {:#?}", property.name, path.clone().into_actions());
                }
            }
        }
    }
}

/// §5.2 with every disk slow: votes, their writes, and the first commit.
#[test]
fn an_election_on_slow_disks() {
    exhaust(Bounds { slow_disks: 3, ..SMALLEST });
}

/// §5.3, §5.4.2: a command on its way to a commit.
#[test]
fn a_command_on_slow_disks() {
    exhaust(Bounds { candidates: 1, slow_disks: 3, commands: 1, ..SMALLEST });
}

/// A candidate crashes at any time, and so between its request for votes and the write of its own
/// vote.
#[test]
fn a_crash_in_an_election() {
    exhaust(Bounds { slow_disks: 1, crashes: 1, ..SMALLEST });
}

/// Thesis 9.6: pre-vote.
#[test]
fn an_election_with_pre_vote() {
    exhaust(Bounds { slow_disks: 1, pre_votes: 1, ..SMALLEST });
}

/// §5.4: two leaders, one after the other, and what the first has left behind.
#[test]
fn a_second_term() {
    exhaust(Bounds { terms: 2, ..SMALLEST });
}
