//! The laws of time: `step` has no clock, the next tick arms what was touched and judges what
//! waited, then fires what is due.
//!
//! Laws 3 and 4 are the host's: what they forbid must at least do no harm here.

use crate::server::{TestServer, append, at, ms};
use raft_core::{Body, Instant, RequestPreVote, RequestVote, Role, Term, Wake};

fn heartbeat() -> Body<Vec<u8>> {
    Body::AppendEntries(append(at(0, 0), vec![], 0))
}

fn micros(micros: u64) -> std::time::Duration {
    std::time::Duration::from_micros(micros)
}

/// The same server in every role.
fn one_of_each_role() -> Vec<TestServer> {
    let mut follower = TestServer::new(3);
    follower.heartbeat(2, 1);
    let mut pre_candidate = TestServer::new(3);
    pre_candidate.time_out();
    let alone = TestServer::new(1);
    vec![
        TestServer::new(3),
        follower,
        pre_candidate,
        TestServer::candidate(3, 0, &[]),
        TestServer::leader(3, 0, &[]),
        alone,
    ]
}

// Law 1: after a tick, the deadline is later than now; after a step that left work, it is due at
// once.

/// A tick leaves nothing undone: whatever was touched or due, the next deadline lies in the future.
#[test]
fn after_a_tick_the_next_deadline_is_in_the_future() {
    for mut server in one_of_each_role() {
        for _ in 0..50 {
            let deadline = server.next_deadline().expect("every server wakes by itself");
            assert!(deadline > server.now, "{:?}", server.status());
            server.now = deadline;
            server.turn();
        }
    }
}

/// Also for the only voter, which stands at once: not while a vote that it gave is on its way to
/// the disk.
#[test]
fn the_only_voter_waits_for_its_disk_and_does_not_spin() {
    let mut server = TestServer::with(1, |config| {
        (config.pre_vote, config.check_quorum) = (false, false);
    });
    server.hold_disk();
    server.asked_to_vote(2, 9, at(9, 9));
    assert_eq!((server.role(), server.term()), (Role::Follower, Term::new(9)));
    for _ in 0..20 {
        let deadline = server.next_deadline().expect("every server wakes by itself");
        assert!(deadline > server.now, "{:?}", server.status());
        server.now = deadline;
        server.turn();
    }
    server.sync();
    server.pass(ms(300));
    server.sync();
    assert_eq!(server.role(), Role::Leader);
}

/// However late the tick is.
#[test]
fn after_a_late_tick_the_next_deadline_is_in_the_future() {
    for mut server in one_of_each_role() {
        for late in [1, 150, 1_000, 3_600_000] {
            server.pass(ms(late));
            assert!(server.next_deadline() > Some(server.now));
        }
    }
}

/// A leader whose disk answers nothing: whatever it does about that, a tick leaves nothing undone.
#[test]
fn after_a_tick_with_a_stuck_disk_the_next_deadline_is_in_the_future() {
    for size in [1, 3] {
        let mut server = if size == 1 { TestServer::new(1) } else { TestServer::leader(3, 0, &[]) };
        server.hold_disk();
        server.propose_command();
        for _ in 0..20 {
            server.now = server.next_deadline().unwrap().max(server.now);
            server.raft.tick(server.now);
            assert!(server.next_deadline() > Some(server.now), "{:?}", server.status());
            server.poll();
        }
    }
}

/// A message whose consequences need the time makes the server due at once.
#[test]
fn a_step_that_leaves_work_is_due_at_once() {
    let work = [
        heartbeat(),
        Body::RequestVote(RequestVote { last_log: at(0, 0), transfer: false }),
        Body::RequestPreVote(RequestPreVote { last_log: at(0, 0), campaign: 1 }),
    ];
    for body in work {
        let mut server = TestServer::new(3);
        server.pass(ms(10));
        server.step_from(2, 1, body);
        assert_eq!(server.status().wake, Some((server.now, Wake::Step)));
        server.turn();
        assert!(server.next_deadline() > Some(server.now));
    }
}

/// A server that has just started is due at once, to arm its first timer.
#[test]
fn a_server_that_starts_is_due_at_once() {
    let mut server = TestServer::new(3);
    server.forget();
    assert_eq!(server.next_deadline(), Some(Instant::ZERO));
}

/// A server that becomes leader, by its disk's answer or by a vote, is due at once, to arm its
/// heartbeats.
#[test]
fn a_new_leader_is_due_at_once() {
    let mut server = TestServer::candidate(3, 0, &[]);
    let last_log = at(0, 0);
    let granted = raft_core::RequestVoteReply { granted: true, last_log };
    server.step_from(2, 1, Body::RequestVoteReply(granted));
    assert_eq!(server.role(), Role::Leader);
    assert_eq!(server.status().wake, Some((server.now, Wake::Step)));

    let mut server = TestServer::with(3, |config| config.pre_vote = false);
    server.hold_disk();
    server.time_out();
    server.granted(2);
    server.sync();
    assert_eq!(server.role(), Role::Leader);
    assert_eq!(server.status().wake, Some((server.now, Wake::Step)));
}

/// A disk that has answered for some of its writes makes the server due at once, to note when.
#[test]
fn an_answer_of_the_disk_is_noted_at_once() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.hold_disk();
    server.propose_command();
    server.propose_command();
    server.persist_next();
    assert_eq!(server.status().wake, Some((server.now, Wake::Step)));
}

// Law 2: an early tick changes nothing; time never goes back.

/// A tick at the same moment changes nothing at all.
#[test]
fn a_second_tick_at_the_same_moment_changes_nothing() {
    for mut server in one_of_each_role() {
        let before = server.raft.clone();
        server.raft.tick(server.now);
        assert_eq!(server.raft, before);
    }
}

/// A tick before the deadline fires nothing, and moves no deadline.
#[test]
fn an_early_tick_fires_nothing_and_moves_nothing() {
    for mut server in one_of_each_role() {
        let (deadline, role) = (server.next_deadline().unwrap(), server.role());
        let halfway = deadline.saturating_duration_since(server.now) / 2;
        for early in [server.now + halfway, Instant::from_micros(deadline.as_micros() - 1)] {
            server.raft.tick(early);
            assert_eq!((server.next_deadline(), server.role()), (Some(deadline), role));
            assert_eq!(server.raft.poll_outbox(), None);
        }
    }
}

/// A clock that jumps back stands still: nothing fires early, and nothing is put off.
#[test]
fn a_clock_that_jumps_back_stands_still() {
    for mut server in one_of_each_role() {
        server.pass(micros(1));
        let before = server.raft.clone();
        server.raft.tick(Instant::ZERO);
        assert_eq!(server.raft, before);
    }
}

/// What a heartbeat arms while the clock stands back is armed from the latest time that was known.
#[test]
fn a_heartbeat_under_a_clock_that_jumped_back_arms_from_the_latest_time() {
    let mut server = TestServer::new(3);
    server.pass(ms(100));
    server.step_from(2, 1, heartbeat());
    server.raft.tick(Instant::ZERO);
    assert!(server.next_deadline() >= Some(server.now + ms(150)));
}

// Law 3: the host passes the real clock, and not the deadline.

/// A timer is armed from the time that the host tells: a late tick puts the next deadline off with
/// it.
#[test]
fn timers_are_armed_from_the_real_clock() {
    let mut server = TestServer::leader(3, 0, &[]);
    let deadline = server.next_deadline().unwrap();
    server.now = deadline + ms(7);
    server.turn();
    assert_eq!(server.next_deadline(), Some(deadline + ms(57)));
}

// Law 4: the inbox is emptied before the tick.

/// An election never starts while the heartbeat that forbids it sits in the inbox: it is stepped
/// first, and then the timer is armed before anything fires, however late.
#[test]
fn a_heartbeat_in_the_inbox_forbids_the_election() {
    for late in [0, 1, 10_000] {
        let mut server = TestServer::new(3);
        server.heartbeat(2, 1);
        server.now = server.next_deadline().unwrap() + ms(late);
        server.step_from(2, 1, heartbeat());
        server.turn();
        assert_eq!((server.role(), server.term().get()), (Role::Follower, 1));
        assert!(server.next_deadline() >= Some(server.now + ms(150)));
    }
}

/// Neither does it start while a vote request sits there that is granted.
#[test]
fn a_vote_request_in_the_inbox_forbids_the_election() {
    let mut server = TestServer::new(3);
    server.now = server.next_deadline().unwrap() + ms(1);
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
    assert_eq!((server.role(), server.term().get()), (Role::Follower, 1));
}

/// One that is refused does not keep the server from standing.
#[test]
fn a_vote_request_that_is_refused_does_not_forbid_the_election() {
    let mut server = TestServer::holding(3, 1, &[1]);
    server.now = server.next_deadline().unwrap();
    server.step_from(2, 1, Body::RequestVote(RequestVote { last_log: at(0, 0), transfer: false }));
    server.turn();
    assert_eq!(server.role(), Role::PreCandidate);
}

/// A leader does not step down while the answers that prove its quorum sit in the inbox.
#[test]
fn an_answer_in_the_inbox_keeps_a_leader_in_office() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.now = server.now + ms(10_000);
    let result = raft_core::AppendResult::Matched(crate::server::index(1));
    let (session, round) = (raft_core::Session::new(1), raft_core::Round::new(1));
    let reply =
        raft_core::AppendEntriesReply { session, round, result, promise_micros: 0, state: None };
    server.step_from(2, 1, Body::AppendEntriesReply(reply));
    server.turn();
    assert_eq!(server.role(), Role::Leader);
}

// What depends on the time is judged at the tick.

/// A vote request changes and says nothing before the tick that judges it.
#[test]
fn a_vote_request_waits_for_the_tick() {
    let mut server = TestServer::new(3);
    server.step_from(2, 1, Body::RequestVote(RequestVote { last_log: at(0, 0), transfer: false }));
    assert_eq!(server.raft.poll_outbox(), None);
    assert_eq!((server.term().get(), server.status().voted_for), (0, None));
    server.turn();
    assert_eq!(server.vote_reply().map(|(_, granted)| granted), Some(true));
}

/// Of two requests of one server that wait for the same tick, the later term is judged, even if the
/// earlier one comes last.
#[test]
fn a_vote_request_that_comes_late_does_not_replace_a_later_one() {
    let mut server = TestServer::new(3);
    for number in [6, 5] {
        server.step_from(
            2,
            number,
            Body::RequestVote(RequestVote { last_log: at(0, 0), transfer: false }),
        );
    }
    server.turn();
    assert_eq!(server.vote_reply(), Some((crate::server::term(6), true)));
}

/// A follower that slept since the last heartbeat does not believe its dead leader fresh: by the
/// true clock it was heard of long ago, and the candidate gets the vote.
#[test]
fn a_follower_that_slept_votes_against_its_dead_leader() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    server.step_from(3, 2, Body::RequestVote(RequestVote { last_log: at(0, 0), transfer: false }));
    server.pass(ms(10_000));
    assert_eq!(server.vote_reply().map(|(_, granted)| granted), Some(true));
}

/// A heartbeat that came with the vote request, before the tick, keeps the follower sticky, in
/// whichever order they came.
#[test]
fn a_heartbeat_that_came_with_the_vote_request_keeps_sticky() {
    for heartbeat_first in [true, false] {
        let mut server = TestServer::new(3);
        server.heartbeat(2, 1);
        server.now = server.now + ms(10_000);
        if heartbeat_first {
            server.step_from(2, 1, heartbeat());
        }
        server.step_from(
            3,
            2,
            Body::RequestVote(RequestVote { last_log: at(9, 9), transfer: false }),
        );
        if !heartbeat_first {
            server.step_from(2, 1, heartbeat());
        }
        server.turn();
        assert_eq!((server.term().get(), server.vote_reply()), (1, None));
    }
}

/// The timers of a term's end do not survive it: a leader that steps down waits for a whole
/// election timeout.
#[test]
fn a_leader_that_steps_down_waits_a_whole_timeout() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.hear(2, 9, heartbeat());
    let (deadline, wake) = server.status().wake.unwrap();
    assert_eq!(wake, Wake::Election);
    assert!((server.now + ms(150)..server.now + ms(300)).contains(&deadline));
}

// A host that stood still.

/// All servers stand still for 250 ms, at 150-300 ms timeouts, and the clock runs on: nobody is
/// replaced.
#[test]
fn a_pause_of_all_servers_costs_no_leader() {
    for seed in 0..40 {
        for ranks in [true, false] {
            let mut cluster = crate::pump::Cluster::with(3, seed, move |config| {
                if !ranks {
                    config.rank_slot = None;
                }
            });
            let leader = cluster.elect();
            cluster.run_for(ms(200) + micros(seed * 1250));
            let term = cluster.raft(leader).term();
            cluster.stand_still(ms(250));
            cluster.run_for(ms(1000));
            assert_eq!((cluster.leader(), cluster.raft(leader).term()), (Some(leader), term));
        }
    }
}

/// It listens once: a leader that is gone is given up after as much time again as the tick was
/// late, and at most a heartbeat interval.
#[test]
fn a_late_follower_listens_once() {
    for (late, listens) in [(ms(20), ms(20)), (ms(10_000), ms(50))] {
        let mut server = TestServer::new(3);
        server.heartbeat(2, 1);
        server.now = server.next_deadline().unwrap() + late;
        server.turn();
        assert_eq!(server.role(), Role::Follower);
        assert_eq!(server.next_deadline(), Some(server.now + listens));
        server.pass(listens + ms(20));
        assert_eq!(server.role(), Role::PreCandidate);
    }
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    server.now = server.next_deadline().unwrap() + micros(999);
    server.turn();
    assert_eq!(server.role(), Role::PreCandidate, "a host that is a little late is well");
}
