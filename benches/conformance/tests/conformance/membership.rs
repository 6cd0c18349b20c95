//! Changes of membership (§6), transfer of leadership (thesis 3.10), and a node that lost its
//! memory.

use std::time::{Duration, Instant};

use raft_core::host::handshake::Refusal;
use raft_core::host::{Label, ProposeError};
use raft_core::{Change, Membership, Suffrage};

use crate::cluster::{Cluster, Stage, id, patient, until};
use crate::network::Wire;

/// A server joins as a learner, is given all there is, becomes a voter, and takes the leader's
/// place.
pub(crate) fn a_learner_joins_and_the_leader_goes(stage: Stage) {
    let mut cluster = stage.cluster_with(3, patient);
    cluster.propose("one");
    let old = cluster.elect();
    let new = cluster.join();
    let members = cluster.change(&[0, 1, 2], &[cluster.add(new)]);
    assert_eq!(members.suffrage(id(new)), Some(Suffrage::Learner));
    cluster.propose_among(&[0, 1, 2], "two");
    cluster.await_applied(b"two", 4);

    let replace = [Change::Promote(id(new)), Change::Remove(id(old))];
    cluster.change(&cluster.all(), &replace);
    let rest = cluster.others(&[old]);
    cluster.propose_among(&rest, "three");
    await_members(&cluster, &rest);
    cluster.await_applied(b"three", 3);
    for position in &rest {
        assert_eq!(distinct(&cluster, *position), ["one", "two", "three"]);
    }
    // What it was keeps it from nothing: it may not stand, and nobody hears of it again.
    let leader = cluster.elect_among(&rest);
    cluster.nodes[old].shutdown().wait("the end of the removed");
    assert_eq!(cluster.elect_among(&rest), leader);
}

/// One after the other, until no server is left of those that began. Those who came later know each
/// other by their labels alone.
pub(crate) fn every_member_is_replaced(stage: Stage) {
    let mut cluster = stage.cluster_with(3, patient);
    cluster.propose("begin");
    let mut serving = vec![0, 1, 2];
    for (old, command) in [(0, "one"), (1, "two"), (2, "three")] {
        let new = cluster.join();
        cluster.change(&serving, &[cluster.add(new)]);
        let all: Vec<_> = serving.iter().copied().chain([new]).collect();
        cluster.change(&all, &[Change::Promote(id(new)), Change::Remove(id(old))]);
        serving = all.into_iter().filter(|position| *position != old).collect();
        cluster.propose_among(&serving, command);
        cluster.nodes[old].shutdown().wait("the end of the removed");
    }
    assert_eq!(serving, [3, 4, 5]);
    await_members(&cluster, &serving);
    for position in &serving {
        cluster.nodes[*position].shutdown().wait("the end of a life");
    }
    serving.iter().for_each(|position| cluster.restart(*position));
    cluster.propose_among(&serving, "four");
    for position in serving {
        until("all commands", || {
            (distinct(&cluster, position) == ["begin", "one", "two", "three", "four"]).then_some(())
        });
    }
}

/// To the node that is named, or to the best, in less time than an election would take.
pub(crate) fn leadership_is_handed_over(stage: Stage) {
    let cluster = stage.cluster_with(3, patient);
    cluster.propose("one");
    let old = cluster.elect();
    let new = cluster.others(&[old])[0];
    let led = cluster.nodes[old].transfer_leadership(Some(id(new))).wait("an answer");
    assert_eq!(led.expect("it takes over"), id(new));
    assert_eq!(cluster.elect(), new);
    cluster.propose("two");
    let led = cluster.nodes[new].transfer_leadership(None).wait("an answer");
    let led = led.expect("somebody takes over");
    assert_ne!(led, id(new));
    assert_eq!(id(cluster.elect()), led);
    cluster.nodes[new].transfer_leadership(None).wait("an answer").expect_err("it leads no more");
    cluster.propose("three");
    assert_eq!(cluster.agreed(), ["one", "two", "three"]);
}

/// No node waits for an election timeout when a leader is shut down.
pub(crate) fn shutdown_of_a_leader_hands_over(stage: Stage) {
    const ELECTION_TIMEOUT: Duration = Duration::from_secs(2);

    let cluster = stage.cluster_with(3, |config| {
        config.raft.election_timeout_min = ELECTION_TIMEOUT;
        config.raft.election_timeout_max = ELECTION_TIMEOUT * 2;
    });
    cluster.propose("one");
    let old = cluster.elect();
    cluster.propose("two");
    let rest = cluster.others(&[old]);
    cluster.await_applied(b"two", 3);
    let start = Instant::now();
    cluster.nodes[old].shutdown().wait("the end of the leader");
    cluster.propose_among(&rest, "three");
    assert!(start.elapsed() < ELECTION_TIMEOUT / 2, "after {:?}", start.elapsed());
}

/// A node comes back under its id without its memory: it is refused on both sides, says what to do,
/// and counts for nothing. It is removed and added again, catches up, and counts.
pub(crate) fn a_wiped_node_is_refused(stage: Stage) {
    let wire = stage.wire;
    let mut cluster = stage.cluster_with(3, patient);
    cluster.propose("one");
    let leader = cluster.elect();
    let wiped = cluster.others(&[leader])[0];
    let rest = cluster.others(&[wiped]);
    until("the record of all stores", || {
        let known = |position| store(&members(&cluster, position), wiped).is_some();
        cluster.all().into_iter().all(known).then_some(())
    });
    cluster.nodes[wiped].shutdown().wait("the end of its memory");
    cluster.wipe(wiped);
    cluster.restart(wiped);
    let refusal = Refusal::OtherStore { node: id(wiped) };
    for position in &rest {
        until("a refusal", || {
            cluster.status(*position).refused_peers.contains(&(id(wiped), refusal)).then_some(())
        });
    }
    until("it is told", || cluster.status(wiped).told_not_to_vote.then_some(()));
    let counts = cluster.all().into_iter().map(|position| cluster.counters[position].read());
    let counts: Vec<_> = counts.map(|counts| counts.refused_other_store).collect();
    assert!(wire == Wire::Channel || counts.iter().all(|count| *count > 0), "{counts:?}");
    cluster.propose_among(&rest, "two");
    let raft = cluster.status(wiped).raft;
    assert_eq!((raft.voted_for, raft.last_log.index.get(), raft.leader), (None, 0, None));

    cluster.change(&rest, &[Change::Remove(id(wiped))]);
    cluster.nodes[wiped].shutdown().wait("the end of the wiped");
    cluster.rejoin_empty(wiped);
    cluster.change(&rest, &[cluster.add(wiped)]);
    cluster.change(&rest, &[Change::Promote(id(wiped))]);
    cluster.nodes[rest[1]].shutdown().wait("the end of another");
    // Now its vote and its copy are needed.
    cluster.propose_among(&[rest[0], wiped], "three");
    until("all commands", || (distinct(&cluster, wiped) == ["one", "two", "three"]).then_some(()));
}

/// A member comes back at another address. It says where it is, the leader reaches it there and
/// corrects its label, and every member dials it there.
pub(crate) fn a_member_that_moves_is_found(stage: Stage) {
    let mut cluster = stage.cluster_with(3, patient);
    let new = cluster.join();
    cluster.change(&[0, 1, 2], &[cluster.add(new)]);
    cluster.change(&[0, 1, 2], &[Change::Promote(id(new))]);
    cluster.nodes[new].shutdown().wait("the end of its life here");
    let before = cluster.label(new).address;
    cluster.move_away(new);
    let now = cluster.label(new).address;
    assert_ne!(now, before);
    cluster.restart(new);
    let address = |position| {
        let members = members(&cluster, position);
        let label = &members.member(id(new)).expect("a member").label;
        Label::decode(label).expect("a label").address
    };
    for position in cluster.all() {
        until("its address", || (address(position) == now).then_some(()));
    }
}

/// The members with which a cluster begins are in the configuration with their addresses, and who
/// turns to a follower learns where the leader is.
pub(crate) fn founders_are_known_by_their_addresses(stage: Stage) {
    let cluster = stage.cluster_with(3, patient);
    let address = |members: &Membership, position| {
        let label = &members.member(id(position)).expect("a member").label;
        Label::decode(label).expect("a label").address
    };
    for position in cluster.all() {
        until("all addresses", || {
            let members = members(&cluster, position);
            let known = |of| address(&members, of) == cluster.label(of).address;
            cluster.all().into_iter().all(known).then_some(())
        });
    }
    until("a follower that names the leader's address", || {
        let leader = cluster.elect();
        let expected = cluster.label(leader).address;
        let follower = &cluster.nodes[cluster.others(&[leader])[0]];
        let error = follower.propose("x".into()).wait("an answer").expect_err("it follows");
        let ProposeError::NotLeader { leader: Some(named), address, .. } = error else {
            return None;
        };
        if named != id(leader) {
            return None;
        }
        let named = address;
        assert_eq!(named.as_deref(), expected.as_deref());
        let change = follower.change_membership(vec![Change::Remove(id(leader))]);
        let refused = change.wait("an answer").expect_err("it follows").to_string();
        assert!(
            refused.ends_with(&format!(", at {}", expected.expect("it is known"))),
            "{refused}"
        );
        let known = follower.leadership().current();
        (known.leader == Some(id(leader)) && known.leader_address == named).then_some(())
    });
}

fn members(cluster: &Cluster, position: usize) -> Membership {
    cluster.nodes[position].membership()
}

/// The store of a member, if the members know it.
fn store(members: &Membership, position: usize) -> Option<u64> {
    members.member(id(position))?.store.recorded()
}

/// Waits until each of these knows that they are the voters, and that there is no other member.
fn await_members(cluster: &Cluster, positions: &[usize]) {
    let voters: Vec<_> =
        positions.iter().map(|position| (id(*position), Suffrage::Voter)).collect();
    for position in positions {
        until("the new members", || {
            let members = members(cluster, *position);
            let suffrages = members.members().iter().map(|member| (member.id, member.suffrage));
            suffrages.eq(voters.iter().copied()).then_some(())
        });
    }
}

/// What a node has applied. What was proposed again because its answer was lost is there once.
fn distinct(cluster: &Cluster, position: usize) -> Vec<bytes::Bytes> {
    let mut commands = cluster.probes[position].commands();
    commands.dedup();
    commands
}
