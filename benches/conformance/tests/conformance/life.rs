//! How nodes begin and end, and what callers learn who still wait.

use std::net::TcpListener;

use raft_core::NodeId;
use raft_core::host::{MemoryJournal, ProposeError, ReadError, StartError, StopReason};
use runtimes::{Answer, Log, POISON};

use crate::cluster::{Stage, came_back, id};
use crate::network::Wire;

/// A node lives as long as any handle to it, and not longer.
pub(crate) fn dropping_the_last_handle(stage: Stage) {
    let mut cluster = stage.cluster(1);
    cluster.propose("one");
    let watch = cluster.nodes[0].leadership();
    let now = watch.current();
    let another = cluster.nodes[0].another();
    cluster.nodes.clear();
    assert_eq!(another.propose("two".into()).wait("a reply").expect("the node lives"), 2);
    drop(another);
    let error = Answer::of(move || watch.changed_from(now).wait()).wait("word of the end");
    let reason = error.expect_err("the node has ended").reason;
    assert!(matches!(reason, StopReason::Shutdown), "{reason}");
    cluster.await_port(0);
    cluster.probes.clear();
    cluster.restart(0);
    cluster.propose("three");
    assert_eq!(cluster.agreed(), ["one", "two", "three"]);
}

/// Every verb says that the node has stopped, and none hangs.
pub(crate) fn asking_after_a_shutdown(stage: Stage) {
    let cluster = stage.cluster(1);
    cluster.elect();
    let node = &cluster.nodes[0];
    let watch = node.leadership();
    assert!(node.stop_reason().is_none());
    let others = [node.another(), node.another()];
    let ends = [node.stopped(), node.shutdown(), others[0].shutdown(), others[1].stopped()];
    for end in ends {
        let reason = end.wait("the end");
        assert!(matches!(reason, StopReason::Shutdown), "{reason}");
    }
    let error = node.propose("x".into()).wait("an answer").expect_err("the node has ended");
    assert!(matches!(error, ProposeError::Stopped { reason: StopReason::Shutdown, .. }), "{error}");
    assert_eq!(came_back(error), "x");
    let error = node.read().wait("an answer").expect_err("the node has ended");
    assert!(matches!(error, ReadError::Stopped { reason: StopReason::Shutdown }), "{error}");
    let error = node.status().wait("an answer").expect_err("the node has ended");
    assert!(matches!(error, ReadError::Stopped { reason: StopReason::Shutdown }), "{error}");
    let error = node.lead().wait("an answer").expect_err("the node has ended");
    assert!(matches!(error.reason, StopReason::Shutdown), "{error}");
    assert!(matches!(node.stop_reason(), Some(StopReason::Shutdown)));
    assert!(matches!(node.shutdown().wait("the end"), StopReason::Shutdown));
    let now = watch.current();
    assert_eq!(now.leader, None);
    Answer::of(move || watch.changed_from(now).wait()).wait("an answer").expect_err("it has ended");
}

/// A state machine panics on one node: that node stops and names the command, and the others go on.
/// Corrected, it comes back.
pub(crate) fn a_sick_state_machine(stage: Stage) {
    let mut cluster = stage.cluster(3);
    cluster.propose("before");
    let sick = cluster.others(&[cluster.elect()])[0];
    cluster.probes[sick].poison();
    let rest = cluster.others(&[sick]);
    cluster.propose_among(&rest, POISON);
    let reason = cluster.nodes[sick].stopped().wait("the end of the sick");
    let StopReason::StateMachinePanicked { index, message } = &reason else { panic!("{reason}") };
    assert_eq!(&**message, "poisoned");
    cluster.await_applied(POISON.as_bytes(), 2);
    let entries = cluster.probes[rest[0]].entries();
    assert!(entries.iter().any(|(at, command)| at == index && command == POISON));
    assert!(reason.to_string().contains(&format!("index {}", index.get())), "{reason}");
    let error = cluster.nodes[sick].propose("x".into()).wait("an answer").expect_err("it stopped");
    assert!(matches!(
        &error,
        ProposeError::Stopped { reason: StopReason::StateMachinePanicked { .. }, .. }
    ));

    cluster.propose_among(&rest, "after");
    assert!(rest.iter().all(|position| cluster.nodes[*position].stop_reason().is_none()));
    cluster.restart(sick);
    assert_eq!(cluster.agreed(), ["before", POISON, "after"]);
}

/// A node that cannot run says why, and leaves the place to one that can.
pub(crate) fn what_cannot_run_does_not_start(stage: Stage) {
    let wire = stage.wire;
    let mut cluster = stage.idle(1, |_| ());
    let mut config = cluster.config(0);
    config.raft.id = NodeId::new(9);
    let hub = cluster.runtime.network(1);
    let start = |config, endpoint| {
        let (log, _) = Log::new(true);
        let (journal, endpoint) =
            (Box::new(MemoryJournal::new()), Box::new(hub.endpoint(endpoint)));
        cluster.runtime.start(config, log, journal, endpoint)
    };
    let Err(StartError::Config(error)) = start(config, NodeId::new(9)) else {
        panic!("a node that is no voter starts")
    };
    assert!(error.to_string().contains("not among the voters"), "{error}");
    let Err(StartError::Transport(_)) = start(cluster.config(0), NodeId::new(2)) else {
        panic!("a node starts on the endpoint of another")
    };
    if wire != Wire::Channel {
        let address = cluster.address(0);
        TcpListener::bind(address).expect_err("the cluster holds the port");
    }
    assert_eq!(id(0), cluster.config(0).raft.id);
    cluster.restart(0);
    cluster.propose("one");
}
