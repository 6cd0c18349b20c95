//! What a cluster promises, through [`Node`](raft_threads::Node) alone.

mod common;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{Cluster, DEADLINE, Log, alone, answer, came_back, config, until};
use raft_threads::{
    Faults, MemoryJournal, Node, NodeId, ProposeError, ReadError, Role, Term, WaitError, channel,
};

#[test]
fn three_nodes_elect_one_and_agree() {
    let cluster = Cluster::start(3);
    let leader = &cluster.nodes[cluster.leader()];
    let mut replies = thread::scope(|scope| {
        let clients: Vec<_> = (0..100u8)
            .map(|number| scope.spawn(move || leader.propose(vec![number]).wait_timeout(DEADLINE)))
            .collect();
        let replies = clients.into_iter().map(|client| answer(client.join().unwrap()).unwrap());
        replies.collect::<Vec<_>>()
    });
    replies.sort_unstable();
    assert_eq!(replies, (1..=100).collect::<Vec<_>>());
    assert_eq!(leader.read(|log| log.commands.len()).wait().unwrap(), 100);
    assert_eq!(cluster.agreed().len(), 100);
    assert_eq!(leader.status().wait().unwrap().raft.role, Role::Leader);
    cluster.shutdown();
}

#[test]
fn a_follower_names_the_leader_gives_the_command_back_and_reads() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let id = NodeId::new(leader as u64 + 1);
    let follower = &cluster.nodes[(leader + 1) % 3];
    let named = follower.leaderships().find_map(|now| now.leader);
    assert_eq!(named, Some(id));
    let error = follower.propose("x").wait().unwrap_err();
    assert!(
        matches!(error, ProposeError::NotLeader { leader: Some(leader), .. } if leader == id),
        "{error:?}"
    );
    assert_eq!(came_back(error), "x");
    // A read it serves itself, once the leader has said how far the log is committed.
    follower.read(|_| ()).wait().unwrap();
    cluster.shutdown();
}

#[test]
fn who_waits_too_long_is_told_and_takes_nothing_back() {
    let soon = Duration::from_millis(1);
    let node = alone(config(1, 1), Log::default(), MemoryJournal::new());
    let (unblock, blocked) = mpsc::channel::<()>();
    thread::scope(|scope| {
        // Holds up the state machine, not the node.
        let (holds, held) = mpsc::channel();
        let hold = move |_: &Log| holds.send(()).is_ok() && blocked.recv().is_err();
        let reading = scope.spawn(|| node.read(hold));
        held.recv_timeout(DEADLINE).expect("the read holds");
        assert!(matches!(node.propose("late").wait_timeout(soon), Err(WaitError::TimedOut)));
        assert!(matches!(node.read(|_| ()).wait_timeout(soon), Err(WaitError::TimedOut)));
        assert!(node.stopped().wait_timeout(soon).is_none());
        drop(unblock);
        assert!(reading.join().unwrap().wait().unwrap());
    });
    assert_eq!(node.read(|log| log.commands.clone()).wait().unwrap(), ["late"]);

    let network = channel::Network::new(1);
    let (log, endpoint) = (Log::default(), network.endpoint(NodeId::new(1)));
    let lonely = Node::start(config(1, 3), log, MemoryJournal::new(), endpoint).unwrap();
    assert!(matches!(lonely.lead().wait_timeout(soon), Err(WaitError::TimedOut)));
}

/// However the node ends, each function is called once.
#[test]
fn one_thread_has_many_requests_under_way_and_hears_of_each() {
    let cluster = Cluster::start(3);
    let leader = &cluster.nodes[cluster.leader()];
    let (tell, told) = mpsc::channel();
    let ask = |number: u32| {
        let tell = tell.clone();
        let command = number.to_be_bytes().to_vec();
        leader.propose(command).then(move |answer| tell.send((number, answer)).unwrap());
    };
    (0..1000).for_each(ask);
    let mut heard: Vec<_> = (0..1000).map(|_| told.recv_timeout(DEADLINE).unwrap()).collect();
    heard.sort_by_key(|(number, _)| *number);
    let counts: Vec<_> = heard.into_iter().map(|(_, answer)| answer.unwrap()).collect();
    assert!(counts.is_sorted(), "commands of one thread are applied in its order: {counts:?}");
    let reading = tell.clone();
    leader.read(|log| log.commands.len()).then(move |read| {
        reading.send((u32::MAX, Ok(read.unwrap()))).unwrap();
    });
    assert_eq!(told.recv_timeout(DEADLINE).unwrap().1.unwrap(), 1000);

    (0..1000).for_each(ask);
    drop(leader.shutdown());
    (0..1000).for_each(ask);
    drop(tell);
    let mut heard: Vec<_> = told.iter().map(|(number, _)| number).collect();
    heard.sort_unstable();
    assert_eq!(heard, (0..1000).flat_map(|number| [number; 2]).collect::<Vec<_>>());
    cluster.shutdown();
}

#[test]
fn a_leader_that_is_cut_off_loses_its_lead_and_tells_everyone_who_waits() {
    let cluster = Cluster::start(3);
    cluster.propose("before");
    let old = cluster.leader();
    let node = &cluster.nodes[old];
    let lead = answer(node.lead().wait_timeout(DEADLINE)).unwrap();
    assert!(lead.is_leading());
    cluster.network.isolate(NodeId::new(old as u64 + 1));
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| answer(node.propose("in vain").wait_timeout(DEADLINE))))
            .collect();
        let reader = scope.spawn(|| answer(node.read(|_| ()).wait_timeout(DEADLINE)));

        let others: Vec<_> = (0..3).filter(|position| *position != old).collect();
        let new = cluster.leader_among(&others);
        answer(cluster.nodes[new].propose("after").wait_timeout(DEADLINE)).unwrap();

        for waiter in waiters {
            let error = waiter.join().unwrap().unwrap_err();
            assert!(
                matches!(
                    error,
                    ProposeError::LeadershipLost { may_commit: true }
                        | ProposeError::NotLeader { .. }
                ),
                "{error:?}"
            );
        }
        let error = reader.join().unwrap().unwrap_err();
        assert!(matches!(error, ReadError::LeadershipLost | ReadError::NoLeader), "{error:?}");
    });
    answer(lead.lost().wait_timeout(DEADLINE)).unwrap();
    assert!(!lead.is_leading());

    cluster.network.heal();
    assert_eq!(cluster.agreed(), ["before", "after"]);
    let newer = answer(cluster.nodes[cluster.leader()].lead().wait_timeout(DEADLINE)).unwrap();
    assert!(newer.term() > lead.term(), "a fencing token rises");
    cluster.shutdown();
}

#[test]
fn a_cluster_keeps_everything_over_a_restart_of_all() {
    let mut cluster = Cluster::start(3);
    for command in ["one", "two", "three"] {
        cluster.propose(command);
    }
    let before = cluster.nodes[0].leadership().current().term;
    for node in &cluster.nodes {
        node.shutdown().wait_timeout(DEADLINE).unwrap();
    }
    for position in 0..3 {
        cluster.nodes[position] = cluster.start_node(position);
    }
    cluster.propose("four");
    assert_eq!(cluster.agreed(), ["one", "two", "three", "four"]);
    assert!(cluster.nodes[0].leadership().current().term > before, "terms survive too");
    cluster.shutdown();
}

#[test]
fn what_was_acknowledged_survives_a_bad_network() {
    let cluster = Cluster::start(3);
    cluster.network.set_faults(Faults {
        drop: 0.05,
        duplicate: 0.1,
        reorder: 0.2,
        reorder_by: Duration::from_millis(10),
        delay_min: Duration::from_micros(100),
        delay_max: Duration::from_millis(2),
    });
    let mut acknowledged = Vec::new();
    until("the last answer", || {
        let command = format!("command {}", acknowledged.len()).into_bytes();
        let leader = &cluster.nodes[cluster.leader()];
        if answer(leader.propose(command.clone()).wait_timeout(DEADLINE)).is_ok() {
            acknowledged.push(command);
        }
        (acknowledged.len() == 50).then_some(())
    });
    cluster.network.set_faults(Faults::default());
    let mut commands = cluster.agreed();
    commands.dedup();
    assert_eq!(commands, acknowledged);
    let traffic = cluster.network.traffic();
    assert!(traffic.dropped > 0 && traffic.duplicated > 0);
    cluster.shutdown();
}

#[test]
fn leaderships_begin_with_now_and_end_with_the_node() {
    let node = alone(config(1, 1), Log::default(), MemoryJournal::new());
    let mut leaderships = node.leaderships();
    let now = leaderships.next().unwrap();
    assert_eq!((now.role, now.leader), (Role::Leader, Some(NodeId::new(1))));
    assert!(now.term > Term::ZERO);
    drop(node);
    assert_eq!(leaderships.next(), None);
}
