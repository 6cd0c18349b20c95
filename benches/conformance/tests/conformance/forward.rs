//! Commands that any node takes, and that followers forward to their leader.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::host::ProposeError;

use crate::cluster::{Stage, came_back, until};
use crate::runner::disturbed;

/// How many commands each node gets at a time.
const COMMANDS: usize = 20;

/// Every node takes commands. Each command is applied once, and its answer is the reply of the
/// node's own state machine to that command.
pub(crate) fn any_node_takes_commands(stage: Stage) {
    let cluster = stage.cluster(3);
    cluster.propose("first");
    let asked: Vec<_> = (0..3 * COMMANDS)
        .map(|number| {
            let command = Bytes::from(format!("command {number}"));
            (command.clone(), cluster.nodes[number % 3].propose_anywhere(command))
        })
        .collect();
    let mut places = BTreeMap::new();
    for (command, answer) in asked {
        match answer.wait("an answer") {
            Ok(place) => drop(places.insert(place, command)),
            Err(error) => disturbed(error.to_string()),
        }
    }
    let applied = cluster.agreed();
    assert_eq!(applied.len(), 1 + 3 * COMMANDS, "each is applied once");
    for (place, command) in places {
        assert_eq!(applied[place - 1], command, "the reply to another command");
    }
}

/// A leader is cut off while commands are on their way to it: every client is answered. What was
/// acknowledged is there, what was certainly not committed is not, and nothing is there twice.
pub(crate) fn a_lost_leader_answers_all(stage: Stage) {
    let mut cluster = stage.cluster(3);
    cluster.propose("before");
    let old = cluster.elect();
    let mut asked = Vec::new();
    for number in 0..3 * COMMANDS {
        if number == 2 * COMMANDS {
            cluster.isolate(old);
        }
        let command = Bytes::from(format!("command {number}"));
        asked.push((command.clone(), cluster.nodes[number % 3].propose_anywhere(command)));
    }
    let answers: Vec<_> =
        asked.into_iter().map(|(command, answer)| (command, answer.wait("an answer"))).collect();
    cluster.rejoin(old);
    until("a new leader that commits", || {
        let leader = cluster.elect();
        cluster.nodes[leader].propose_anywhere("after".into()).wait("an answer").ok()
    });
    let applied = cluster.agreed();
    for (command, answer) in answers {
        let times = applied.iter().filter(|one| **one == command).count();
        assert!(times <= 1, "{command:?} is there {times} times");
        match answer {
            Ok(_) => assert_eq!(times, 1, "{command:?} was acknowledged"),
            Err(error) if error.may_commit() => {}
            Err(error @ ProposeError::ForwardLost { .. }) => assert_eq!(times, 0, "{error}"),
            Err(error) => {
                assert_eq!(times, 0, "{error}");
                assert_eq!(came_back(error), command);
            }
        }
    }
}
