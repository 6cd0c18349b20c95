//! Backpressure: what is slow delays nothing else, what is full says so.

use std::time::{Duration, Instant};

use raft_core::host::{MemoryJournal, ProposeError, ReadError};

use crate::cluster::{Stage, came_back, patient, until};
use crate::runner::disturbed;

/// Commands of 100 ms each, for longer than the longest election timeout: nobody misses a
/// heartbeat.
pub(crate) fn a_slow_state_machine_costs_no_election(stage: Stage) {
    const COMMANDS: u32 = 20;
    const SLOWNESS: Duration = Duration::from_millis(100);
    let cluster = stage.cluster_with(3, patient);
    let leader = cluster.elect();
    let term = cluster.leadership(leader).term;
    // The followers are quick, so that they would notice a leader that is late.
    cluster.probes[leader].slow_down(SLOWNESS);
    let start = Instant::now();
    let answers: Vec<_> =
        (0..COMMANDS).map(|_| cluster.nodes[leader].propose("slow".into())).collect();
    for answer in answers {
        if let Err(error) = answer.wait("a reply") {
            disturbed(error.to_string());
        }
    }
    assert!(start.elapsed() >= SLOWNESS * COMMANDS, "it was slow for many timeouts");
    if cluster.all().into_iter().any(|position| cluster.leadership(position).term != term) {
        disturbed("an election though nothing failed");
    }
}

/// A node that is stuck takes as many requests as its inbox holds; it refuses the others at once
/// and gives the commands back.
pub(crate) fn a_full_inbox_refuses(stage: Stage) {
    const INBOX_MAX: usize = 8;
    const TOO_MANY: usize = 5;
    let mut cluster = stage.idle(1, |config| config.inbox_max = INBOX_MAX);
    // Called by the node's loop, which is stuck with it.
    cluster.restart_with(0, MemoryJournal::new(), false).expect("it can run");
    cluster.elect();
    cluster.probes[0].shut_gate();
    let stuck = cluster.nodes[0].propose("stuck".into());
    until("a node that is stuck", || cluster.probes[0].is_stuck().then_some(()));

    let mut waiting: Vec<_> =
        (0..INBOX_MAX + TOO_MANY).map(|_| cluster.nodes[0].propose("x".into())).collect();
    let mut refused = 0;
    until("refusals", || {
        waiting.retain(|answer| match answer.take() {
            Some(Err(error)) => {
                assert!(matches!(error, ProposeError::Busy { .. }), "{error}");
                assert_eq!(came_back(error), "x");
                refused += 1;
                false
            }
            Some(Ok(_)) => panic!("a node that is stuck answered"),
            None => true,
        });
        (refused == TOO_MANY).then_some(())
    });
    let error = cluster.nodes[0].read().wait("an answer").expect_err("the inbox is full");
    assert!(matches!(error, ReadError::Busy), "{error}");

    cluster.probes[0].open_gate();
    stuck.wait("a reply").expect("it was taken");
    assert_eq!(waiting.len(), INBOX_MAX);
    for answer in waiting {
        answer.wait("a reply").expect("it was taken");
    }
    assert_eq!(cluster.status(0).requests_refused, TOO_MANY as u64 + 1);
    assert_eq!(cluster.agreed().len(), 2, "one kind behind the other");
    cluster.nodes[0].propose("again".into()).wait("a reply").expect("there is room again");
}
