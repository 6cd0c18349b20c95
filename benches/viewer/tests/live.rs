//! The cluster of the page: what is done to it, and the way back.

use viewer::{Action, Live, Position, Scene, Setup};

const SETUP: Setup = Setup { servers: 5, seed: 1 };
const SECOND: u64 = 1_000_000;

/// A cluster that has a leader, and its number.
fn with_leader() -> (Live, u64) {
    let mut live = Live::new(SETUP);
    let leader = await_leader(&mut live, |_| true);
    (live, leader)
}

fn await_leader(live: &mut Live, is_right: impl Fn(u64) -> bool) -> u64 {
    for _ in 0..1000 {
        match live.scene().leader.filter(|leader| is_right(*leader)) {
            Some(leader) => return leader,
            None => live.run(SECOND / 100),
        }
    }
    panic!("no leader after ten seconds: {:?}", live.scene());
}

#[test]
fn a_leader_that_is_cut_off_has_a_successor_and_follows_it_later() {
    let (mut live, first) = with_leader();
    live.act(Action::Isolate { id: first });
    let second = await_leader(&mut live, |leader| leader != first);
    assert_eq!(live.scene().cut.len(), 4);
    live.act(Action::Propose { id: second });
    live.run(SECOND);
    live.act(Action::MendAll);
    live.run(SECOND);
    let scene = live.scene();
    assert!(scene.cut.is_empty());
    let logs: Vec<_> = scene.servers.iter().map(|server| (&server.log, server.commit)).collect();
    assert!(logs.windows(2).all(|pair| pair[0] == pair[1]), "{logs:?}");
    assert!(live.story().iter().any(|line| line.text.contains(&format!("S{second} leads term"))));
    assert_eq!(live.failure(), None);
}

#[test]
fn every_step_back_leads_to_the_state_that_was() {
    let (mut live, leader) = with_leader();
    live.act(Action::Propose { id: leader });
    let mut passed = vec![(live.hash(), live.scene())];
    for step in 0..40 {
        match step {
            10 => live.act(Action::Cut { a: 1, b: 2 }),
            20 => live.act(Action::Kill { id: leader }),
            30 => live.act(Action::Timeouts { min: 100, max: 200 }),
            _ => live.step(),
        }
        passed.push((live.hash(), live.scene()));
    }
    let farthest = live.scene().end;
    // What is done at a position belongs to it, so its last scene counts.
    passed.reverse();
    passed.dedup_by_key(|(_, scene)| scene.at);
    assert!(passed.len() > 30);
    for (hash, scene) in passed {
        live.go_to(scene.at);
        assert_eq!(live.hash(), hash);
        assert_eq!(live.scene(), Scene { end: farthest, ..scene });
    }
}

#[test]
fn the_way_back_and_forth_is_the_same_run() {
    let (mut live, leader) = with_leader();
    live.run(12_345);
    live.act(Action::Disk { id: leader, ms: 80 });
    live.act(Action::Propose { id: leader });
    live.run(SECOND);
    live.act(Action::Network { ms: 20, loss: 10 });
    live.run(SECOND);
    let (hash, scene, story) = (live.hash(), live.scene(), live.story().to_vec());
    live.run_back(SECOND / 2);
    assert_eq!(live.scene().at.micros, scene.at.micros - SECOND / 2);
    live.go_to(Position { micros: 0, events: 0 });
    assert_eq!(live.scene().told, 0);
    live.run(scene.at.micros);
    assert_eq!((live.hash(), live.scene()), (hash, scene.clone()));
    live.step_back();
    assert_eq!(live.position().events, scene.at.events - 1);
    live.go_to(scene.at);
    assert_eq!((live.hash(), live.scene()), (hash, scene));
    assert_eq!(live.story(), story);
}

#[test]
fn another_action_in_the_past_makes_another_future() {
    let (mut live, leader) = with_leader();
    let here = live.position();
    live.act(Action::Kill { id: leader });
    live.run(SECOND);
    live.go_to(here);
    live.step_back();
    live.act(Action::Propose { id: leader });
    assert_eq!(live.end(), live.position());
    live.run(SECOND);
    assert_eq!(live.scene().leader, Some(leader), "the leader was killed in another run");
}

#[test]
fn replies_wait_at_the_gate_of_a_slow_disk() {
    let (mut live, leader) = with_leader();
    let slow = leader % 5 + 1;
    live.act(Action::Disk { id: slow, ms: 400 });
    live.run(SECOND);
    live.act(Action::Propose { id: leader });
    live.run(SECOND / 10);
    let scene = live.scene();
    let server = &scene.servers[slow as usize - 1];
    let leads = &scene.servers[leader as usize - 1];
    assert!(server.writes > 0 && server.durable < leads.commit, "{server:?}");
    live.run(SECOND);
    let server = &live.scene().servers[slow as usize - 1];
    assert_eq!((server.writes, server.durable), (0, leads.commit));
}

#[test]
fn nonsense_from_the_page_does_no_harm() {
    let mut live = Live::new(Setup { servers: 99, seed: 0 });
    assert_eq!(live.scene().servers.len(), 7);
    for action in [
        Action::Kill { id: 0 },
        Action::Start { id: 99 },
        Action::Cut { a: 8, b: 8 },
        Action::Disk { id: 1, ms: 0 },
        Action::Timeouts { min: 0, max: u64::MAX },
        Action::Network { ms: 0, loss: 1000 },
        Action::Propose { id: 1 },
        Action::Resume { id: 3 },
        Action::Pause { id: 1 },
    ] {
        live.act(action);
        live.run(SECOND / 10);
    }
    live.go_to(Position { micros: u64::MAX, events: 10 });
    live.run(u64::MAX);
    assert!(live.is_over());
    assert_eq!(live.failure(), None);
}
