//! What the thesis adds to elections: pre-vote (9.6), stickiness to a live leader (4.2.3),
//! check-quorum (6.2).

use core::time::Duration;

use crate::pump::{Cluster, id as node, us};
use crate::server::{TestServer, at, id, ms, term};
use raft_core::{
    Body, Instant, RequestPreVote, RequestPreVoteReply, RequestVoteReply, Restored, Role, Wake,
};

// Pre-vote (9.6).

/// A server asks before it stands: neither its term nor its vote changes, and the disk has nothing
/// to do.
#[test]
fn a_pre_vote_changes_nothing_at_who_asks() {
    let mut server = TestServer::holding(3, 4, &[4]);
    server.time_out();
    assert_eq!((server.role(), server.term()), (Role::PreCandidate, term(4)));
    assert_eq!(server.status().voted_for, None);
    assert_eq!(server.stored.hard_state.current_term, term(4));
    let is_pre_vote = |body: &Body<_>| matches!(body, Body::RequestPreVote(_));
    assert!(server.take_sent().iter().all(|message| is_pre_vote(&message.body)));
}

/// Nothing changes at who is asked either: neither term, nor vote, nor timer.
#[test]
fn a_pre_vote_changes_nothing_at_who_is_asked() {
    let mut server = TestServer::new(3);
    let before = server.raft.clone();
    assert_eq!(server.asked_to_pre_vote(2, 9, at(0, 0)), Some(true));
    assert_eq!(server.raft, before);
}

/// A server stands once a majority, itself included, would vote for it.
#[test]
fn a_majority_of_pre_votes_lets_a_server_stand() {
    let mut server = TestServer::new(5);
    server.time_out();
    let campaign = server.campaign().unwrap();
    server.pre_granted(2, campaign);
    server.pre_granted(2, campaign);
    assert_eq!(server.role(), Role::PreCandidate);
    server.pre_granted(3, campaign);
    assert_eq!((server.role(), server.term()), (Role::Candidate, term(1)));
}

/// A pre-vote is refused to a log that is behind.
#[test]
fn a_pre_vote_is_refused_to_a_log_that_is_behind() {
    let mut server = TestServer::holding(3, 2, &[1, 2]);
    assert_eq!(server.asked_to_pre_vote(2, 2, at(2, 1)), Some(false));
    assert_eq!(server.asked_to_pre_vote(2, 2, at(1, 9)), Some(false));
    assert_eq!(server.asked_to_pre_vote(2, 2, at(2, 2)), Some(true));
}

/// A pre-vote is refused in an earlier term, and the refusal tells the current one.
#[test]
fn a_pre_vote_of_an_earlier_term_is_refused() {
    let mut server = TestServer::holding(3, 5, &[]);
    let request = RequestPreVote { last_log: at(0, 0), campaign: 1 };
    server.hear(2, 4, Body::RequestPreVote(request));
    assert_eq!(server.pre_vote_reply(), Some((term(5), false)));
    assert_eq!(server.asked_to_pre_vote(2, 5, at(0, 0)), Some(true));
}

/// A pre-vote binds nobody: it may be given to several, and leaves the vote free.
#[test]
fn a_pre_vote_is_no_vote() {
    let mut server = TestServer::new(5);
    assert_eq!(server.asked_to_pre_vote(2, 0, at(0, 0)), Some(true));
    assert_eq!(server.asked_to_pre_vote(3, 0, at(0, 0)), Some(true));
    assert_eq!(server.asked_to_vote(4, 1, at(0, 0)), Some(true));
}

/// A server whose vote is on its way to the disk lets nobody else stand: on disks slower
/// than the election timeout both would be said in the same moment, and no vote would ever count.
#[test]
fn a_vote_on_its_way_to_the_disk_is_not_undone_by_a_pre_vote() {
    let mut server = TestServer::new(3);
    server.hold_disk();
    assert_eq!(server.asked_to_vote(2, 2, at(0, 0)), None);
    assert_eq!(server.asked_to_pre_vote(3, 2, at(0, 0)), None);
    server.sync();
    let said = server.take_sent().into_iter().map(|message| {
        let vote = matches!(message.body, Body::RequestVoteReply(reply) if reply.granted);
        let pre_vote = matches!(message.body, Body::RequestPreVoteReply(reply) if reply.granted);
        (message.to, vote, pre_vote)
    });
    assert_eq!(said.collect::<Vec<_>>(), [(id(2), true, false), (id(3), false, false)]);
    assert_eq!(server.asked_to_pre_vote(3, 2, at(0, 0)), Some(true));
}

/// A refusal is no pre-vote.
#[test]
fn a_refused_pre_vote_does_not_count() {
    let mut server = TestServer::new(3);
    server.time_out();
    let campaign = server.campaign().unwrap();
    let reply = RequestPreVoteReply { granted: false, campaign };
    server.hear(2, 0, Body::RequestPreVoteReply(reply));
    server.hear(3, 0, Body::RequestPreVoteReply(reply));
    assert_eq!((server.role(), server.term()), (Role::PreCandidate, term(0)));
}

/// A pre-vote that comes late, for an earlier attempt, counts for nothing.
#[test]
fn a_late_pre_vote_does_not_count() {
    let mut server = TestServer::new(3);
    server.time_out();
    let first = server.campaign().unwrap();
    server.time_out();
    server.pre_granted(2, first);
    assert_eq!(server.role(), Role::PreCandidate);
}

/// Nor does one that was asked for in an earlier life.
#[test]
fn a_pre_vote_asked_for_before_a_crash_does_not_count() {
    let mut server = TestServer::new(3);
    server.time_out();
    let first = server.campaign().unwrap();
    server.crash();
    server.time_out();
    server.pre_granted(2, first);
    assert_eq!(server.role(), Role::PreCandidate);
}

/// A pre-vote never counts as a vote.
#[test]
fn a_pre_vote_does_not_elect() {
    let mut server = TestServer::new(5);
    server.time_out();
    let campaign = server.campaign().unwrap();
    (2..=5).for_each(|peer| server.pre_granted(peer, campaign));
    assert_eq!(server.role(), Role::Candidate);
}

/// Nor does a vote count as a pre-vote.
#[test]
fn a_vote_does_not_count_as_a_pre_vote() {
    let mut server = TestServer::new(3);
    server.time_out();
    let reply = RequestVoteReply { granted: true, last_log: at(0, 0) };
    server.hear(2, 0, Body::RequestVoteReply(reply));
    assert_eq!((server.role(), server.term()), (Role::PreCandidate, term(0)));
}

/// A refusal tells of a higher term, which is adopted: or two live servers would never elect.
#[test]
fn the_higher_term_of_a_refusal_is_adopted() {
    let mut server = TestServer::holding(3, 1, &[]);
    server.time_out();
    let campaign = server.campaign().unwrap();
    let reply = RequestPreVoteReply { granted: false, campaign };
    server.hear(2, 5, Body::RequestPreVoteReply(reply));
    assert_eq!((server.role(), server.term()), (Role::Follower, term(5)));
    server.time_out();
    assert_eq!(server.role(), Role::PreCandidate, "it tries again in the new term");
}

/// A voter of an earlier term may grant.
#[test]
fn a_pre_vote_from_an_earlier_term_counts() {
    let mut server = TestServer::holding(3, 5, &[]);
    server.time_out();
    let campaign = server.campaign().unwrap();
    let reply = RequestPreVoteReply { granted: true, campaign };
    server.hear(2, 1, Body::RequestPreVoteReply(reply));
    assert_eq!((server.role(), server.term()), (Role::Candidate, term(6)));
}

/// A server that asks, and meanwhile hears from the leader, follows it.
#[test]
fn a_leader_that_speaks_ends_a_pre_vote() {
    let mut server = TestServer::holding(3, 1, &[]);
    server.time_out();
    let campaign = server.campaign().unwrap();
    server.heartbeat(3, 1);
    server.pre_granted(2, campaign);
    assert_eq!((server.role(), server.leader()), (Role::Follower, Some(id(3))));
}

/// Two servers live, of terms 1 and 5, the longer log at term 1: they elect.
#[test]
fn two_live_servers_of_terms_one_and_five_elect() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(3, seed);
        cluster.ids().for_each(|id| cluster.crash(id));
        let of_term = |current_term: u64, log: &[u64]| -> Restored<_> {
            TestServer::holding(3, current_term, log).stored
        };
        cluster.hosts[0].stored = of_term(1, &[1, 1]);
        cluster.hosts[1].stored = of_term(5, &[1]);
        cluster.start(node(1));
        cluster.start(node(2));
        assert_eq!(cluster.elect(), node(1), "the longer log leads");
        cluster.agree(b"x", 2);
    }
}

/// A cluster in which only some servers ask for pre-votes elects, again and again.
#[test]
fn a_cluster_in_which_only_some_have_pre_vote_elects() {
    for seed in 0..20 {
        let mut cluster = Cluster::with(5, seed, |config| {
            config.pre_vote = config.id.get() % 2 == 0;
            config.check_quorum = config.id.get() < 4;
        });
        for _ in 0..3 {
            let leader = cluster.elect();
            cluster.agree(b"x", 4);
            cluster.disconnect(leader);
            cluster.elect();
            cluster.agree(b"y", 4);
            cluster.connect(leader);
        }
        cluster.agree(b"z", 5);
    }
}

/// A server that was cut off disturbs nobody when it comes back.
#[test]
fn a_server_that_comes_back_disturbs_nobody() {
    let mut cluster = Cluster::new(3, 4);
    let leader = cluster.elect();
    let term = cluster.raft(leader).term();
    let away = cluster.ids().find(|id| *id != leader).unwrap();
    cluster.disconnect(away);
    cluster.run_for(ms(3000));
    cluster.connect(away);
    cluster.run_for(ms(3000));
    assert_eq!((cluster.leader(), cluster.raft(away).term()), (Some(leader), term));
}

// Stickiness (4.2.3).

/// Who heard from a leader within the smallest timeout neither votes nor adopts the candidate's
/// term, nor answers.
#[test]
fn a_follower_of_a_live_leader_does_not_hear_candidates() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    server.pass(ms(149));
    assert_eq!(server.asked_to_vote(3, 9, at(9, 9)), None);
    assert_eq!((server.term(), server.leader()), (term(1), Some(id(2))));
    assert_eq!(server.status().counters.sticky_refusals, 1);
}

/// It refuses pre-votes, too, but says so.
#[test]
fn a_follower_of_a_live_leader_refuses_pre_votes() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    server.pass(ms(149));
    assert_eq!(server.asked_to_pre_vote(3, 9, at(9, 9)), Some(false));
}

/// Pre-vote asks for stickiness by itself (9.6), whether or not votes are refused for it.
#[test]
fn pre_votes_are_refused_for_a_live_leader_without_check_quorum() {
    let mut server = TestServer::with(3, |config| config.check_quorum = false);
    server.heartbeat(2, 1);
    server.pass(ms(149));
    assert_eq!(server.asked_to_pre_vote(3, 1, at(9, 9)), Some(false));
}

/// Stickiness ends the smallest timeout after the leader was last heard of.
#[test]
fn stickiness_ends_with_the_smallest_timeout() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    server.raft.tick(server.now + ms(150));
    assert_eq!(server.asked_to_pre_vote(3, 1, at(9, 9)), Some(true));
    assert_eq!(server.asked_to_vote(3, 2, at(9, 9)), Some(true));
}

/// Only a leader makes sticky: another candidate, or a leader of an earlier term, does not.
#[test]
fn only_the_leader_of_the_term_makes_sticky() {
    let mut server = TestServer::new(3);
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
    assert_eq!(server.asked_to_vote(3, 2, at(0, 0)), Some(true));
    server.heartbeat(2, 1);
    assert_eq!(server.asked_to_vote(2, 3, at(0, 0)), Some(true));
}

/// A leader that hears from a quorum hears no candidate either.
#[test]
fn a_leader_with_a_quorum_does_not_hear_candidates() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.pass(ms(100));
    server.matched(2, 1);
    server.pass(ms(140));
    assert_eq!(server.asked_to_vote(3, 9, at(9, 9)), None);
    assert_eq!(server.asked_to_pre_vote(3, 9, at(9, 9)), Some(false));
    assert_eq!(server.role(), Role::Leader);
}

/// Without check-quorum a server hears every candidate, as in the paper.
#[test]
fn without_check_quorum_every_candidate_is_heard() {
    let mut server = TestServer::with(3, |config| config.check_quorum = false);
    server.heartbeat(2, 1);
    assert_eq!(server.asked_to_vote(3, 2, at(0, 0)), Some(true));
}

// Check-quorum (6.2).

/// A leader that hears from no quorum for an election timeout steps down, in its own term.
#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut server = TestServer::leader(5, 0, &[]);
    let elected_at = server.now;
    server.run_until_it_steps_down(|server| server.matched(2, 1));
    assert_eq!(server.now, elected_at + ms(150));
    assert_eq!((server.term(), server.leader()), (term(1), None));
}

/// Any quorum will do: its members may take turns.
#[test]
fn a_leader_that_hears_from_a_quorum_goes_on() {
    let mut server = TestServer::leader(5, 0, &[]);
    for turn in 0..40 {
        server.pass(ms(50));
        server.matched(2 + turn % 4, 1);
        server.matched(2 + (turn + 1) % 4, 1);
    }
    assert_eq!(server.role(), Role::Leader);
}

/// Without check-quorum and pre-vote a leader leads until it hears of a higher term, as in the
/// paper.
#[test]
fn without_check_quorum_a_leader_leads_alone() {
    let mut server = TestServer::with(3, |config| {
        config.check_quorum = false;
        config.pre_vote = false;
    });
    server.lead();
    (0..100).for_each(|_| server.pass(ms(50)));
    assert_eq!(server.role(), Role::Leader);
}

/// A leader whose own disk answers nothing for that disk's timeout steps down, because it could
/// keep the others from electing a leader that works. Its best follower stands at once.
#[test]
fn a_leader_whose_disk_is_stuck_steps_down() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    server.matched(3, 1);
    server.hold_disk();
    server.propose_command();
    let stuck_since = server.now;
    let patience = server.config().disk_timeout;
    let beat = |server: &mut TestServer, until: Instant| {
        while server.now < until {
            server.matched(2, 2);
            server.matched(3, 2);
            server.now = (server.now + ms(50)).min(until);
            server.turn();
        }
    };
    beat(&mut server, stuck_since + (patience - us(1)));
    assert_eq!((server.role(), server.commit_index()), (Role::Leader, 2), "two disks work");
    server.take_sent();
    beat(&mut server, stuck_since + patience);
    assert_eq!(server.role(), Role::Follower);
    let told = |body: &Body<_>| matches!(body, Body::TimeoutNow(_));
    assert_eq!(server.sent.iter().filter(|message| told(&message.body)).count(), 1);
}

/// A disk that owes nothing is not silent, and one timeout of a quorum is not one of the disk.
#[test]
fn a_leader_never_gives_up_its_disk_sooner_than_its_quorum() {
    let mut server = TestServer::with(3, |config| config.disk_timeout = us(1));
    server.lead();
    let beat = |server: &mut TestServer, span: Duration| {
        let until = server.now + span;
        while server.now < until {
            server.matched(2, 1);
            server.matched(3, 1);
            server.pass(ms(1));
        }
    };
    beat(&mut server, ms(100));
    server.hold_disk();
    server.propose_command();
    beat(&mut server, ms(149));
    assert_eq!(server.role(), Role::Leader);
    beat(&mut server, ms(1));
    assert_eq!(server.role(), Role::Follower);
}

/// A cluster of one has nobody to step down for: it waits for its disk, however long, and keeps
/// what was proposed.
#[test]
fn a_cluster_of_one_leads_through_a_slow_disk() {
    let mut server = TestServer::new(1);
    server.hold_disk();
    let index = server.propose_command();
    (0..20).for_each(|_| server.pass(ms(50)));
    assert_eq!((server.role(), server.term()), (Role::Leader, term(1)));
    server.sync();
    assert_eq!(server.commit_index(), index.get());
}

/// A disk that is slow but answers keeps its leader in office.
#[test]
fn a_leader_whose_disk_is_slow_but_answers_goes_on() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.hold_disk();
    for _ in 0..20 {
        server.propose_command();
        server.propose_command();
        server.matched(2, 1);
        server.pass(ms(70));
        server.persist_next();
    }
    assert_eq!(server.role(), Role::Leader);
    assert!(server.status().writes_in_flight > 0, "it never catches up");
}

/// A cut-off leader steps down about when the others elect, and follows the new leader when it is
/// back.
#[test]
fn a_cut_off_leader_steps_down() {
    let mut cluster = Cluster::new(3, 5);
    let first = cluster.elect();
    cluster.disconnect(first);
    cluster.run_for(ms(200));
    assert_ne!(cluster.raft(first).role(), Role::Leader);
    let second = cluster.elect();
    cluster.connect(first);
    cluster.run_for(ms(500));
    assert_eq!(cluster.raft(first).leader(), Some(second));
}

/// Without pre-vote a wrong hint would depose a leader that lives: such servers take none.
#[test]
fn without_pre_vote_no_hint_is_taken() {
    let mut server = TestServer::with(3, |config| config.pre_vote = false);
    server.heartbeat(2, 1);
    server.suspect_leader(id(2));
    assert_eq!(server.leader(), Some(id(2)));
}

/// A server that asks its leader whether it could win hears at once that it leads.
#[test]
fn a_leader_that_is_asked_sends_a_heartbeat() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    server.take_sent();
    assert_eq!(server.asked_to_pre_vote(2, 1, at(1, 1)), Some(false));
    server.hear(3, 1, Body::RequestPreVote(RequestPreVote { last_log: at(1, 1), campaign: 1 }));
    assert_eq!(server.appends_to(3).len(), 1);
}

/// Of two who notice the end of their leader the first asks the second too early: it is answered
/// once the second has noticed as well.
#[test]
fn who_was_refused_for_a_leader_that_is_gone_is_answered_anew() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    assert_eq!(server.asked_to_pre_vote(3, 1, at(9, 9)), Some(false));
    server.suspect_leader(id(2));
    server.turn();
    assert_eq!(server.pre_vote_reply().map(|(_, granted)| granted), Some(true));

    // Nothing is granted to a log that was too short.
    let mut server = TestServer::holding(3, 1, &[1]);
    server.heartbeat(2, 1);
    assert_eq!(server.asked_to_pre_vote(3, 1, at(0, 0)), Some(false));
    server.suspect_leader(id(2));
    server.turn();
    assert_eq!(server.pre_vote_reply(), None);
}

/// What was refused and kept does not take the place of what the same server asks in the same turn:
/// only the newest question counts.
#[test]
fn a_kept_pre_vote_gives_way_to_a_newer_one() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    assert_eq!(server.asked_to_pre_vote(3, 1, at(9, 9)), Some(false));
    let newer = RequestPreVote { last_log: at(9, 9), campaign: 8 };
    server.step_from(3, 1, Body::RequestPreVote(newer));
    server.suspect_leader(id(2));
    server.turn();
    let replies = server.take_sent().into_iter().filter_map(|message| {
        if let Body::RequestPreVoteReply(reply) = message.body { Some(reply) } else { None }
    });
    let newest = RequestPreVoteReply { granted: true, campaign: 8 };
    assert_eq!(replies.collect::<Vec<_>>(), [newest]);
}

/// With pre-vote a leader that hears no quorum steps down without check-quorum, too: the others ask
/// nobody to vote while they hear it.
#[test]
fn with_pre_vote_a_leader_without_a_quorum_steps_down() {
    let mut server = TestServer::with(3, |config| config.check_quorum = false);
    server.lead();
    server.run_until_it_steps_down(|_| {});
    assert_eq!(server.role(), Role::Follower);
}

/// A hint about somebody else says nothing; one about the leader makes a follower ask, without
/// waiting for the timeout.
#[test]
fn a_hint_makes_a_follower_ask_before_its_timeout() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    server.suspect_leader(id(3));
    assert_eq!(server.leader(), Some(id(2)));
    server.suspect_leader(id(2));
    assert_eq!(server.leader(), None);
    let heard_at = server.now;
    server.turn();
    server.sleep_until(Wake::Election);
    assert_eq!(server.role(), Role::PreCandidate);
    assert!(server.now < heard_at + server.config().election_timeout_min);
    server.heartbeat(2, 1);
    assert_eq!((server.role(), server.leader()), (Role::Follower, Some(id(2))));
}

/// With the defaults, heartbeats of a third of the smallest timeout, a lost round elects nobody.
#[test]
fn one_lost_round_elects_nobody() {
    for seed in 0..50 {
        let mut cluster = Cluster::new(5, seed);
        let leader = cluster.elect();
        cluster.agree(b"command", 5);
        cluster.run_for(ms(200) + us(seed * 1000));
        let term = cluster.raft(leader).term();
        cluster.lose_if(|message| matches!(message.body, Body::AppendEntries(_)));
        cluster.run_for(cluster.raft(leader).config().heartbeat_interval);
        cluster.lose_nothing();
        cluster.run_for(ms(1000));
        assert_eq!((cluster.leader(), cluster.raft(leader).term()), (Some(leader), term));
    }
}
