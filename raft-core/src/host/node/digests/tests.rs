use super::*;
use crate::membership::Membership;

fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

fn state(index: u64, digest: u64) -> StateDigest {
    StateDigest { index: Index::new(index), digest }
}

fn server(own: u64, states: &[(u64, u64)]) -> (Comparison, Arc<OwnDigests>) {
    let digests = Arc::new(OwnDigests::default());
    states.iter().for_each(|(index, digest)| digests.add(state(*index, *digest)));
    (Comparison::new(id(own), Arc::clone(&digests)), digests)
}

fn members() -> Membership {
    Membership::of_voters([1, 2, 3].map(NodeId::new))
}

/// An answer to AppendEntries without a digest.
fn reply(from: u64, to: u64, term: u64) -> Message<Bytes> {
    let body = Body::AppendEntriesReply(AppendEntriesReply {
        session: Session::new(1),
        round: Round::new(1),
        result: AppendResult::Matched(Index::new(9)),
        promise_micros: 0,
        state: None,
    });
    Message { from: id(from), to: id(to), term: Term::new(term), body }
}

fn state_in(message: &Message<Bytes>) -> Option<StateDigest> {
    let Body::AppendEntriesReply(reply) = &message.body else { return None };
    reply.state
}

fn told(server: &mut Comparison, to: u64, term: u64, round: u64) -> Option<StateDigest> {
    let mut message = reply(server.node.get(), to, term);
    if let Body::AppendEntriesReply(reply) = &mut message.body {
        reply.round = Round::new(round);
    }
    server.tell(&mut message);
    state_in(&message)
}

/// What `from` says, in term 5.
fn saying(from: u64, said: StateDigest) -> Message<Bytes> {
    let mut message = reply(from, 1, 5);
    if let Body::AppendEntriesReply(reply) = &mut message.body {
        reply.state = Some(said);
    }
    message
}

#[test]
fn a_digest_is_told_once_to_each_leader_and_one_in_each_round() {
    let (mut follower, own) = server(2, &[]);
    assert_eq!(told(&mut follower, 1, 5, 1), None);
    own.add(state(64, 7));
    assert_eq!(told(&mut follower, 1, 5, 1), Some(state(64, 7)));
    own.add(state(65, 8));
    assert_eq!(told(&mut follower, 1, 5, 1), None, "another one in the same round");
    assert_eq!(told(&mut follower, 1, 5, 2), Some(state(65, 8)));
    assert_eq!(told(&mut follower, 1, 5, 3), None, "nothing is new");
    assert_eq!(told(&mut follower, 1, 6, 3), Some(state(65, 8)), "it may have lost its disk since");
    assert_eq!(told(&mut follower, 3, 7, 3), Some(state(65, 8)));
    assert_eq!(told(&mut follower, 3, 7, 4), None);
}

#[test]
fn what_all_servers_have_is_told_first() {
    let (mut follower, _) = server(2, &[(250, 1), (DIGEST_INTERVAL, 2), (300, 3), (301, 4)]);
    assert_eq!(told(&mut follower, 1, 5, 1), Some(state(DIGEST_INTERVAL, 2)));
    assert_eq!(told(&mut follower, 1, 5, 2), Some(state(301, 4)));
    assert_eq!(told(&mut follower, 1, 5, 3), None);
}

#[test]
fn both_ends_learn_of_a_difference_and_the_exchange_ends() {
    let (mut leader, _) = server(1, &[(64, 7)]);
    let (mut follower, _) = server(2, &[(64, 8)]);
    let answer = leader.hear(&saying(2, state(64, 8)), &members()).unwrap();
    assert_eq!(
        (answer.to, answer.term, state_in(&answer)),
        (id(2), Term::ZERO, Some(state(64, 7)))
    );
    assert_eq!(follower.hear(&answer, &members()), None);
    let difference =
        |peer, own, theirs| StateDifference { peer: id(peer), index: Index::new(64), own, theirs };
    assert_eq!(leader.differences(), [difference(2, 7, 8)]);
    assert_eq!(follower.differences(), [difference(1, 8, 7)]);
    // A follower that has restarted since is told again.
    assert!(leader.hear(&saying(2, state(64, 8)), &members()).is_some());
    // One that was replaced is not the odd one out any more.
    assert_eq!(leader.hear(&saying(2, state(64, 7)), &members()), None);
    assert_eq!((leader.differences().len(), leader.compared()), (0, 3));
}

#[test]
fn a_digest_waits_until_this_server_has_applied_its_entry() {
    let (mut leader, own) = server(1, &[]);
    assert_eq!(leader.hear(&saying(2, state(64, 8)), &members()), None);
    // The first waits, whatever follows.
    assert_eq!(leader.hear(&saying(2, state(128, 9)), &members()), None);
    assert_eq!(leader.look(), []);
    own.add(state(64, 7));
    assert_eq!(leader.look().first().and_then(state_in), Some(state(64, 7)));
    assert_eq!(leader.look(), []);
    assert_eq!(leader.differences().len(), 1);
}

#[test]
fn nothing_below_a_restored_snapshot_is_compared() {
    let (mut leader, own) = server(1, &[(64, 7)]);
    own.clear();
    assert_eq!(leader.hear(&saying(2, state(64, 8)), &members()), None);
    own.add(state(192, 9));
    assert_eq!(leader.look(), []);
    assert_eq!(leader.hear(&saying(3, state(128, 8)), &members()), None);
    assert_eq!((leader.differences().len(), leader.compared()), (0, 0));
}

#[test]
fn memory_is_bounded() {
    let (mut leader, own) = server(1, &[]);
    (1..=1000).for_each(|n| own.add(state(n * DIGEST_INTERVAL, n)));
    assert_eq!(own.lock().len(), KEPT_MAX);
    assert_eq!(leader.hear(&saying(9, state(1000 * DIGEST_INTERVAL, 8)), &members()), None);
    assert!(leader.peers.is_empty(), "9 is no member");
    assert!(leader.hear(&saying(2, state(1000 * DIGEST_INTERVAL, 8)), &members()).is_some());
    let others = Membership::of_voters([1, 3].map(NodeId::new));
    leader.members(&others);
    assert!(leader.peers.is_empty(), "2 has left");
}
