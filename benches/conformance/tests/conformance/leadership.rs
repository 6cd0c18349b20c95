//! What callers learn that relied on a leader: proposers, readers, and the holders of its guard.

use std::time::{Duration, Instant};

use raft_core::host::{ProposeError, ReadError, WaitError};
use runtimes::Answer;

use crate::cluster::{Stage, came_back, id, patient, until};
use crate::runner::disturbed;

/// A follower takes no command: it gives it back and names the leader.
pub(crate) fn followers_name_the_leader(stage: Stage) {
    let cluster = stage.cluster(3);
    until("a follower that names the leader", || {
        let leader = cluster.elect();
        let follower = &cluster.nodes[(leader + 1) % 3];
        let proposed = follower.propose("x".into()).wait("an answer");
        let named = matches!(&proposed, Err(ProposeError::NotLeader { leader: Some(named), .. }) if *named == id(leader));
        if named {
            assert_eq!(came_back(proposed.expect_err("it is one")), "x");
        }
        named.then_some(())
    });
}

/// A leader is cut off: everyone who waits for it is answered, with the truth.
pub(crate) fn a_lost_leadership_answers_all(stage: Stage) {
    let mut cluster = stage.cluster(3);
    cluster.propose("before");
    let old = cluster.elect();
    cluster.isolate(old);
    let proposals: Vec<_> = (0..20).map(|_| cluster.nodes[old].propose("in vain".into())).collect();
    let read = cluster.nodes[old].read();
    cluster.propose("after");
    let mut lost = 0;
    for proposal in proposals {
        let error = proposal.wait("an answer").expect_err("it was applied without a quorum");
        if let ProposeError::LeadershipLost { may_commit } = error {
            assert!(may_commit, "an entry in a log may always be committed");
            lost += 1;
        } else {
            assert_eq!(came_back(error), "in vain");
        }
    }
    let error = read.wait("an answer").expect_err("the state may be an old one");
    assert!(matches!(error, ReadError::LeadershipLost | ReadError::NoLeader), "{error}");
    if lost == 0 {
        disturbed("the lead was lost before it was used");
    }
    cluster.rejoin(old);
    assert_eq!(cluster.agreed(), ["before", "after"], "the others overwrote what was in vain");
    assert_eq!(cluster.status(old).proposals_waiting, 0);
}

/// A caller that waits within a time learns when it is over, on every runtime, and the command may
/// be committed nevertheless.
pub(crate) fn a_timeout_takes_nothing_back(stage: Stage) {
    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(20);
    let mut cluster = stage.cluster_with(3, patient);
    cluster.propose("before");
    let leader = cluster.elect();
    cluster.isolate(leader);
    let late = cluster.nodes[leader].propose_within("late".into(), SHORT).wait("an answer");
    cluster.rejoin(leader);
    if !matches!(late, Err(WaitError::TimedOut)) {
        disturbed("the leader was lost before the time was over");
    }
    until("an answer in time", || {
        let leader = cluster.elect();
        let answer = cluster.nodes[leader].propose_within("in time".into(), LONG);
        answer.wait("an answer").ok()
    });
    let applied = cluster.agreed();
    assert!(applied.iter().any(|command| command == "in time"), "{applied:?}");
}

/// A leader is heard and hears nothing. It cannot know that its command was taken, and says that it
/// may commit; it does.
pub(crate) fn what_may_commit_may_commit(stage: Stage) {
    let cluster = stage.cluster(3);
    cluster.propose("before");
    let old = cluster.elect();
    cluster.others(&[old]).into_iter().for_each(|other| cluster.cut(other, old));
    let proposal = cluster.nodes[old].propose("unsure".into());
    match proposal.wait("an answer") {
        Err(ProposeError::LeadershipLost { may_commit }) => assert!(may_commit),
        Err(error) => disturbed(error.to_string()),
        Ok(_) => panic!("it knew without hearing of anyone"),
    }
    cluster.mend();
    cluster.propose("after");
    assert_eq!(cluster.agreed(), ["before", "unsure", "after"]);
}

/// The guard of a leader that is cut off knows of its loss within a few timeouts, and the next
/// leader's token is higher.
pub(crate) fn a_guard_is_lost_in_time(stage: Stage) {
    let mut cluster = stage.cluster(3);
    let old = cluster.elect();
    let guard = cluster.nodes[old].lead().wait("a lead").expect("the node runs");
    let lost = {
        let guard = guard.clone();
        Answer::of(move || guard.lost().wait())
    };
    if !guard.is_leading() || lost.take().is_some() {
        disturbed("the lead was lost before it was used");
    }
    let cut_at = Instant::now();
    cluster.isolate(old);
    let rest = cluster.others(&[old]);
    let waiting: Vec<_> = rest.iter().map(|other| cluster.nodes[*other].lead()).collect();
    let now = lost.wait("word of the loss").expect("the node runs");
    let took = cut_at.elapsed();
    assert!(!guard.is_leading());
    assert!(now.term >= guard.term());
    if took > Duration::from_secs(1) {
        disturbed(format!("the loss was known only after {took:?}"));
    }

    let next = until("the next lead", || waiting.iter().find_map(Answer::take));
    let next = next.expect("the node runs");
    assert!(next.term() > guard.term(), "a fencing token rises");

    // A shutdown is a loss as well.
    let leader = cluster.elect_among(&rest);
    let guard = cluster.nodes[leader].lead().wait("a lead").expect("the node runs");
    cluster.nodes[leader].shutdown().wait("the end of the node");
    assert!(!guard.is_leading());
    let _ = Answer::of(move || guard.lost().wait()).wait("word of the loss");
}
