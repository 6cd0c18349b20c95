//! Leadership transfer (thesis 3.10), and peer priority by it.

use crate::pump::{Cluster, seeds, us};
use crate::server::{TestServer, at, id, index, ms};
use raft_core::{
    AppendResult, Body, Change, Entry, ProposeError, Role, TimeoutNow, TransferRefused, Wake,
};

/// A leader of three in term 1 that replicates to all, with its no-op committed.
fn leader() -> TestServer {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    server.matched(3, 1);
    server.take_sent();
    server
}

/// Whom the server told to stand, and what they must hold, since somebody looked.
fn told(server: &mut TestServer) -> Vec<(u64, TimeoutNow)> {
    let request = |body| if let Body::TimeoutNow(request) = body { Some(request) } else { None };
    let sent = server.take_sent().into_iter();
    sent.filter_map(|message| Some((message.to.get(), request(message.body)?))).collect()
}

/// "1. The prior leader stops accepting new client requests."
#[test]
fn a_leader_that_hands_over_refuses_commands() {
    let mut server = leader();
    assert_eq!(server.transfer_leadership(Some(id(3))), Ok(id(3)));
    let refused = server.propose(b"command".to_vec());
    assert!(matches!(refused, Err(ProposeError::Transferring { to, .. }) if to == id(3)));
}

/// "2. The prior leader fully updates the target server's log": TimeoutNow goes right behind the
/// last append, without waiting for an answer.
#[test]
fn the_successor_is_told_behind_the_last_entry() {
    let mut server = leader();
    server.propose(b"command".to_vec()).unwrap();
    server.transfer_leadership(Some(id(3))).unwrap();
    server.poll();
    let to_successor: Vec<_> =
        server.sent.iter().filter(|message| message.to == id(3)).map(|m| &m.body).collect();
    let [Body::AppendEntries(append), Body::TimeoutNow(request)] = to_successor[..] else {
        panic!("the entry, and then the request: {to_successor:?}");
    };
    assert_eq!(append.entries.last().map(Entry::id), Some(request.last_log));
}

/// A successor that is far behind is told when everything has been sent.
#[test]
fn a_successor_that_is_behind_is_told_later() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    server.take_sent();
    server.transfer_leadership(Some(id(3))).unwrap();
    server.poll();
    assert!(told(&mut server).is_empty(), "nobody knows what it holds");
    server.matched(3, 1);
    assert_eq!(told(&mut server), [(3, TimeoutNow { last_log: at(1, 1) })]);
}

/// The message may be lost, or overtake the entry: it is sent again with the heartbeats.
#[test]
fn the_successor_is_told_again_with_each_heartbeat() {
    let mut server = leader();
    server.transfer_leadership(Some(id(3))).unwrap();
    server.poll();
    assert_eq!(told(&mut server).len(), 1);
    server.turn();
    server.sleep_until(Wake::Heartbeat);
    assert_eq!(told(&mut server).len(), 1);
}

/// "3. The target server ... starts a new election": at once, without asking first, and nobody
/// needs to stick to its leader.
#[test]
fn the_successor_stands_at_once() {
    let mut server = TestServer::new(3);
    server.appended(2, 1, at(0, 0), &[1], 0);
    server.take_sent();
    server.hear(2, 1, Body::TimeoutNow(TimeoutNow { last_log: at(1, 1) }));
    assert_eq!((server.role(), server.term().get()), (Role::Candidate, 2));
    let transfer = |body: &Body<_>| matches!(body, Body::RequestVote(request) if request.transfer);
    assert!(server.sent.iter().all(|message| transfer(&message.body)));
    assert_eq!(server.sent.len(), 2);
}

#[test]
fn a_server_that_lacks_an_entry_does_not_stand_nor_for_another_leader() {
    let mut server = TestServer::new(3);
    server.appended(2, 1, at(0, 0), &[1], 0);
    server.hear(2, 1, Body::TimeoutNow(TimeoutNow { last_log: at(1, 2) }));
    assert_eq!(server.role(), Role::Follower);
    server.hear(3, 1, Body::TimeoutNow(TimeoutNow { last_log: at(1, 1) }));
    assert_eq!(server.role(), Role::Follower);
}

/// A voter that hears from its leader grants a vote which that leader asked for (thesis 4.2.3).
#[test]
fn a_sticky_voter_grants_what_the_leader_asked_for() {
    let mut server = TestServer::new(3);
    server.appended(2, 1, at(0, 0), &[1], 0);
    assert_eq!(server.asked_to_vote(3, 2, at(1, 1)), None);
    assert_eq!(server.asked_to_take_over(3, 2, at(1, 1)), Some(true));
}

/// "If leadership transfer does not complete after about an election timeout, the prior leader
/// aborts."
#[test]
fn an_attempt_that_does_not_succeed_is_given_up() {
    let mut server = leader();
    server.transfer_leadership(Some(id(3))).unwrap();
    server.poll();
    assert_eq!(server.transferring(), Some(id(3)));
    let until = server.now + server.config().election_timeout_min;
    while server.now < until {
        server.answered(2, server.newest_round(), AppendResult::Matched(index(1)));
        server.now = server.next_deadline().unwrap();
        server.turn();
    }
    assert_eq!((server.role(), server.transferring()), (Role::Leader, None));
    assert!(server.propose(b"command".to_vec()).is_ok());
}

#[test]
fn without_a_name_the_one_that_is_furthest_takes_over() {
    let mut server = leader();
    server.propose_command();
    server.matched(2, 2);
    assert_eq!(server.transfer_leadership(None), Ok(id(2)));
}

#[test]
fn what_is_refused_says_why() {
    let mut follower = TestServer::new(3);
    let refused = follower.transfer_leadership(None);
    assert_eq!(refused, Err(TransferRefused::NotLeader { leader: None }));
    let mut server = leader();
    for to in [1, 9] {
        let refused = server.transfer_leadership(Some(id(to)));
        assert_eq!(refused, Err(TransferRefused::NoSuccessor));
    }
    server.transfer_leadership(Some(id(2))).unwrap();
    let again = server.transfer_leadership(Some(id(3)));
    assert_eq!(again, Err(TransferRefused::Transferring { to: id(2) }));
    let mut alone = TestServer::new(1);
    alone.turn();
    assert_eq!(alone.transfer_leadership(None), Err(TransferRefused::NoSuccessor));
}

/// The leader hands over to a server of higher priority, once that one holds all that is
/// committed and is alive.
#[test]
fn leadership_goes_where_it_is_preferred() {
    let mut server = leader();
    server.change_membership(&[Change::Prioritise { id: id(3), priority: 5 }]).unwrap();
    server.poll();
    server.matched(2, 2);
    server.sleep_until(Wake::Heartbeat);
    assert_eq!(server.transferring(), None, "it is behind");
    server.matched(3, 2);
    server.take_sent();
    server.sleep_until(Wake::Heartbeat);
    assert_eq!(told(&mut server).first().map(|(to, _)| *to), Some(3));
}

/// An attempt that failed is not repeated at once: commands would be refused half of the time.
#[test]
fn a_preferred_server_that_does_not_take_over_is_left_alone_for_a_while() {
    let mut server = leader();
    server.change_membership(&[Change::Prioritise { id: id(3), priority: 5 }]).unwrap();
    server.poll();
    let mut transfers = 0;
    let mut transferring = false;
    for _ in 0..40 {
        server.matched(2, 2);
        server.matched(3, 2);
        server.pass(ms(50));
        transfers += u32::from(server.transferring().is_some() && !transferring);
        transferring = server.transferring().is_some();
    }
    assert_eq!(transfers, 1);
}

/// A favourite that is dead keeps the leader from no other voter that is preferred.
#[test]
fn a_dead_favourite_bars_no_other_hand_over() {
    let mut server = TestServer::leader(4, 0, &[]);
    (2..=4).for_each(|peer| server.matched(peer, 1));
    let prioritise = |peer, priority| Change::Prioritise { id: id(peer), priority };
    server.change_membership(&[prioritise(4, 9), prioritise(3, 5), prioritise(2, 4)]).unwrap();
    server.poll();
    // From here on server 4 is silent.
    let until = server.now + ms(400);
    while server.now < until && server.transferring().is_none() {
        server.matched(2, 2);
        server.matched(3, 2);
        server.pass(ms(10));
    }
    assert_eq!(server.transferring(), Some(id(3)));
}

// While a joint configuration is in force.

/// A leader of three in term 1, with a joint configuration at index 2 that demotes server 3.
fn joint_leader() -> TestServer {
    let mut server = leader();
    server.change_membership(&[Change::Demote(id(3))]).expect("it leads");
    server.poll();
    server
}

/// The entry that leaves a joint configuration would make the leader's log longer than its
/// successor's: the leader would refuse its vote, which may be the one that is needed.
#[test]
fn a_leader_that_hands_over_appends_nothing() {
    let mut server = joint_leader();
    server.transfer_leadership(Some(id(2))).unwrap();
    server.poll();
    server.matched(2, 2);
    assert_eq!((server.commit_index(), server.status().last_log), (2, at(1, 2)));
    assert!(server.membership().is_joint());
    assert_eq!(server.asked_to_take_over(2, 2, at(1, 2)), Some(true));
}

/// An attempt that is given up leaves the joint configuration to the leader again.
#[test]
fn a_transfer_that_is_given_up_leaves_the_joint_configuration() {
    let mut server = joint_leader();
    server.transfer_leadership(Some(id(2))).unwrap();
    server.poll();
    server.matched(2, 2);
    while server.transferring().is_some() {
        server.answered(2, server.newest_round(), AppendResult::Matched(index(2)));
        server.now = server.next_deadline().unwrap();
        server.turn();
    }
    assert_eq!((server.role(), server.status().last_log), (Role::Leader, at(1, 3)));
    assert!(!server.membership().is_joint());
}

/// Whenever a transfer begins while the membership changes, the successor leads after two round
/// trips.
#[test]
fn a_transfer_succeeds_at_any_moment_of_a_change() {
    for seed in seeds(200) {
        let mut cluster = Cluster::with(3, seed, |_| {});
        let first = cluster.elect();
        cluster.agree(b"command", 3);
        let others = cluster.others(&[first]);
        let (successor, demoted) = (others[0], others[1]);
        cluster
            .with_raft(first, |raft| raft.change_membership(&[Change::Demote(demoted)]))
            .unwrap();
        cluster.run_for(us(seed * 5000 / 200));
        cluster.with_raft(first, |raft| raft.transfer_leadership(Some(successor))).unwrap();
        let leads = |cluster: &Cluster| cluster.leader() == Some(successor);
        assert!(cluster.run_until(ms(12), leads), "seed {seed}");
        let left = |cluster: &Cluster| !cluster.raft(successor).membership().is_joint();
        assert!(cluster.run_until(ms(12), left), "seed {seed}: the new leader leaves it");
    }
}
