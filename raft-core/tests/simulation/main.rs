//! The simulator: a short search; runs that repeat to the bit; and, for each property that is checked, a history that breaks it.

#[path = "../../examples/simulate/linear/mod.rs"]
mod linear;

use std::time::Duration;

use raft_core::sim::{
    Action, Cluster, Crash, Delay, Failure, MachinePace, Observer, Plan, Property, Registers,
    Simulation, StateMachine, Step, Swap, Swarm, Target, Theme, Verdict,
};
use raft_core::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Change, Config, Entry, HardState, Index,
    Instant, Lease, LogId, Membership, Message, NodeId, Output, Payload, Raft, ReadId,
    RequestVoteReply, Restored, Role, Round, Session, SnapshotMeta, Term, Write, WriteId,
};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;

/// Seeds of the short search; the example `simulate` runs as many as one likes.
const SEEDS: u64 = 100;

type Command = Vec<u8>;

fn run(seed: u64) -> Simulation<Registers> {
    let mut simulation = Simulation::new(&Swarm::draw(seed).plan());
    simulation.run().unwrap_or_else(|failure| panic!("{failure}"));
    simulation
}

#[test]
fn a_short_search_finds_nothing() {
    for seed in 0..SEEDS {
        let simulation = run(seed);
        let checked = linear::check(simulation.cluster().history());
        checked.unwrap_or_else(|text| panic!("seed {seed}: {text}"));
    }
}

/// Each theme makes worlds of its own, the same every time, and nothing is found in those that are
/// drawn.
#[test]
fn a_theme_makes_a_world_of_its_own() {
    for (theme, share) in Theme::ALL {
        let plan = |seed| Swarm::draw_with(seed, Some(theme)).plan();
        assert!((0..9).any(|seed| plan(seed) != Swarm::draw(seed).plan()), "{theme}");
        for seed in 0..3 {
            let plan = plan(seed);
            if share > 0 {
                let mut simulation = Simulation::<Registers>::new(&plan);
                simulation.run().unwrap_or_else(|failure| panic!("{theme}: {failure}"));
            }
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_run() {
    for seed in 0..20 {
        let [first, second] = [run(seed), run(seed)];
        assert_eq!(first.cluster().trace_hash(), second.cluster().trace_hash());
        assert_eq!(first.cluster().history(), second.cluster().history());
        assert_ne!(first.cluster().trace_hash(), run(seed + 1).cluster().trace_hash());
    }
}

/// What was dropped has nothing to do with the failure, and what is left has.
#[test]
fn a_plan_is_cut_down_to_what_its_failure_needs() {
    let plan = Swarm::draw(3).plan();
    let crashes = |plan: &Plan| {
        plan.steps.iter().filter(|step| matches!(step.action, Action::Ask { .. })).count()
    };
    assert!(crashes(&plan) > 2);
    let mut runs = 0;
    let story = plan.shrink(|plan| {
        runs += 1;
        crashes(plan) >= 2
    });
    assert_eq!(story.steps.len(), 2, "after {runs} runs");
}

/// The strings of a cluster do what they say.
#[test]
fn a_cluster_is_held_by_its_strings() {
    let second = Duration::from_secs(1);
    let mut cluster = Cluster::<Registers>::new(3, 5);
    let elected = cluster.run_until(second, |cluster| cluster.followed_leader().is_some());
    assert!(elected.expect("no violation"));
    let leader = cluster.leader().expect("just seen");

    let read = cluster.read(leader).expect("it leads");
    cluster.run_for(second).expect("no violation");
    assert!(cluster.read_end(leader, read).is_some_and(|end| end.index.is_some()));

    cluster.hold_disk(leader);
    let (_, held) = cluster.propose(leader, Swap::new(1, 1)).expect("it leads");
    cluster.run_for(Duration::from_millis(50)).expect("no violation");
    assert_eq!(cluster.pending_writes(leader), 1);
    assert!(cluster.applied(leader) < held, "applied what is not on the leader's disk");
    cluster.release_disk(leader);
    cluster.run_for(Duration::from_millis(50)).expect("no violation");
    assert_eq!((cluster.pending_writes(leader), cluster.applied(leader)), (0, held));

    cluster.disconnect(leader);
    let replaced = cluster.run_until(second, |cluster| {
        cluster.followed_leader().is_some_and(|other| other != leader)
    });
    assert!(replaced.expect("no violation"));
    cluster.connect(leader);
    let next = cluster.leader().expect("just seen");
    cluster.pause(next);
    cluster.crash(leader, Crash::Lose);
    cluster.run_for(second).expect("no violation");
    assert!(cluster.raft(leader).is_none() && cluster.followed_leader().is_none());
    cluster.start(leader);
    cluster.resume(next);
    cluster.run_for(second).expect("no violation");
    assert!(cluster.followed_leader().is_some());
}

/// A server that hears nobody is heard; all servers stand still at once and go on; a slow state
/// machine answers later.
#[test]
fn hosts_are_as_they_are_told_to_be() {
    let (second, tenth) = (Duration::from_secs(1), Duration::from_millis(100));
    let mut cluster = Cluster::<Registers>::new(3, 5);
    cluster.run_for(second).expect("no violation");
    let leader = cluster.followed_leader().expect("nothing fails");
    let deaf = cluster.ids().iter().copied().find(|id| *id != leader).expect("there are three");
    cluster.set_deaf(deaf, true);
    let (_, first) = cluster.propose(leader, Swap::new(0, 1)).expect("it leads");
    cluster.run_for(tenth).expect("no violation");
    assert!(cluster.applied(leader) >= first && cluster.applied(deaf) < first);
    cluster.set_deaf(deaf, false);
    cluster.run_for(second).expect("no violation");
    assert!(cluster.applied(deaf) >= first);

    let leader = cluster.followed_leader().expect("nothing fails");
    let pace = MachinePace { apply: Delay::Constant(tenth), restore: Delay::Constant(tenth) };
    cluster.set_machine_pace(Some(pace));
    let (_, second_index) = cluster.propose(leader, Swap::new(0, 2)).expect("it leads");
    cluster.run_for(tenth / 2).expect("no violation");
    assert!(cluster.raft(leader).expect("it runs").commit_index() >= second_index);
    assert!(cluster.applied(leader) < second_index, "it takes a tenth of a second");
    cluster.run_for(tenth).expect("no violation");
    assert!(cluster.applied(leader) >= second_index);

    cluster.ids().to_vec().into_iter().for_each(|id| cluster.pause(id));
    let messages = cluster.counts().messages;
    cluster.run_for(tenth).expect("no violation");
    assert_eq!(cluster.counts().messages, messages, "somebody did something");
    cluster.resume_all();
    cluster.run_for(second).expect("no violation");
    assert!(cluster.followed_leader().is_some());
}

/// A leader with a lease is cut off, and its clock runs at this rate; another leads and commits; then the first is asked to read.
fn reads_of_a_leader_cut_off(rate_ppm: u32) -> Result<(), Box<Failure>> {
    let second = Duration::from_secs(1);
    let mut cluster = Cluster::<Registers>::with(3, 1, |config| {
        config.lease = Some(Lease { drift_ppm_max: 10_000 });
    });
    cluster.run_until(second, |cluster| cluster.followed_leader().is_some())?;
    cluster.run_for(second)?;
    let old = cluster.leader().expect("just seen");
    cluster.set_clock_rate(old, rate_ppm);
    cluster.disconnect(old);
    cluster.run_until(second, |cluster| cluster.followed_leader().is_some())?;
    let new = cluster.leader().expect("the others elect one");
    let (_, index) = cluster.propose(new, Swap::new(0, 1)).expect("it leads");
    cluster.run_until(second, |cluster| cluster.applied(new) >= index)?;
    // It may have stepped down by now, and refuse.
    let _ = cluster.read(old);
    cluster.verdict()
}

/// Lease reads are as good as the clocks: within the bound they are fresh, and beyond it the stale one is seen.
#[test]
fn a_lease_is_as_good_as_the_clocks() {
    reads_of_a_leader_cut_off(995_000).expect("the clock is within its bound");
    let failure = reads_of_a_leader_cut_off(300_000).expect_err("the clock is far too slow");
    assert_eq!(failure.violation.property, Property::FreshReads, "{failure}");
}

/// New servers join and take the place of the old, by snapshots and the log behind them; and one that lost its disk comes back.
#[test]
fn every_member_is_replaced() {
    let second = Duration::from_secs(1);
    let mut cluster = Cluster::<Registers>::with(3, 7, |config| {
        config.log_tail_bytes = 0;
        config.snapshot_chunk_bytes = 5;
    });
    let settled = |cluster: &Cluster<Registers>, change: &[Change]| {
        let leader = cluster.followed_leader()?;
        cluster.raft(leader)?.membership().after(change).ok().map(|_| leader)
    };
    let change = |cluster: &mut Cluster<Registers>, change: Change| {
        for _ in 0..1000 {
            let leader = settled(cluster, std::slice::from_ref(&change));
            if leader.is_some_and(|leader| {
                cluster.change_membership(leader, std::slice::from_ref(&change)).is_ok()
            }) {
                return;
            }
            cluster.run_for(Duration::from_millis(10)).expect("no violation");
        }
        panic!("nobody accepts {change:?}");
    };
    cluster.run_for(second).expect("no violation");
    for old in 1..=3 {
        let leader = cluster.followed_leader().expect("nothing fails");
        cluster.propose(leader, Swap::new(0, old)).expect("it leads");
        cluster.run_for(second).expect("no violation");
        cluster.take_snapshot(leader).expect("something was applied");
        cluster.run_for(second).expect("no violation");
        let new = cluster.start_new();
        change(&mut cluster, Change::add_learner(new, "new"));
        change(&mut cluster, Change::Promote(new));
        change(&mut cluster, Change::Remove(NodeId::new(old)));
        cluster.run_for(second).expect("no violation");
        cluster.retire(NodeId::new(old));
    }
    let leader = cluster.followed_leader().expect("the new ones elect");
    assert_eq!(cluster.machine(leader).query(&0), 3);
    assert!(cluster.counts().restores > 0);

    let lost = cluster.ids()[3..].iter().copied().find(|id| *id != leader).expect("there are two");
    let behind = cluster.applied(lost);
    cluster.take_snapshot(leader).expect("something was applied");
    cluster.run_for(second).expect("no violation");
    change(&mut cluster, Change::Remove(lost));
    cluster.run_for(second).expect("no violation");
    cluster.wipe(lost);
    cluster.start(lost);
    change(&mut cluster, Change::add_learner(lost, "again"));
    cluster.run_for(second).expect("no violation");
    assert!(cluster.applied(lost) >= behind, "it has caught up again");
}

// Histories that break a property.

fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

fn entry(term: u64, index: u64, command: &[u8]) -> Entry<Command> {
    let payload = Payload::Command(command.to_vec());
    Entry { term: Term::new(term), index: Index::new(index), payload }
}

fn restored(term: u64, vote: u64, entries: Vec<Entry<Command>>) -> Restored<Command> {
    let hard_state = HardState {
        current_term: Term::new(term),
        voted_for: Some(id(vote)),
        ..Default::default()
    };
    Restored { hard_state, entries, ..Restored::default() }
}

/// The members with which its cluster began, which a voter has on its disk from its first write on.
fn with_beginning(stored: &Restored<Command>, config: &Config) -> Restored<Command> {
    let mut stored = stored.clone();
    if stored != Restored::default() {
        let membership = Membership::of_voters(config.voters.iter().copied());
        stored.snapshot.get_or_insert(SnapshotMeta { last: LogId::ZERO, membership });
    }
    stored
}

fn raft(own: u64, voters: u64, from: &Restored<Command>) -> Raft<Command, Pcg32> {
    let config = Config::new(id(own), (1..=voters).map(NodeId::new));
    let from = with_beginning(from, &config);
    Raft::new(config, from, Pcg32::seed_from_u64(own)).expect("valid")
}

/// A cluster of one, which leads, and whose disk and state machine have done what it asked.
fn leader(own: u64, from: &Restored<Command>) -> Raft<Command, Pcg32> {
    let config = Config::new(id(own), [id(own)]);
    let from = with_beginning(from, &config);
    let mut raft = Raft::new(config, from, Pcg32::seed_from_u64(own)).expect("valid");
    while raft.role() != Role::Leader {
        raft.tick(raft.next_deadline().unwrap_or(Instant::ZERO));
        while let Some(output) = raft.poll_outbox() {
            if let Output::Persist(write) = output {
                raft.persisted(write.id);
            }
        }
    }
    raft.tick(raft.next_deadline().unwrap_or(Instant::ZERO));
    raft
}

fn observer(disks: &[Restored<Command>]) -> Observer<Command> {
    let ids = (1..=disks.len() as u64).map(NodeId::new);
    let mut observer = Observer::new(ids.clone());
    for (id, disk) in ids.zip(disks) {
        observer.on_start(id, disk).expect("the first start");
    }
    observer
}

fn message(from: u64, to: u64, term: u64, body: Body<Command>) -> Message<Command> {
    Message { from: id(from), to: id(to), term: Term::new(term), body }
}

fn append(prev: (u64, u64), entries: Vec<Entry<Command>>) -> Body<Command> {
    Body::AppendEntries(AppendEntries {
        session: Session::new(1),
        round: Round::new(1),
        prev_log: LogId::new(Term::new(prev.0), Index::new(prev.1)),
        entries: entries.into(),
        leader_commit: Index::ZERO,
        rank: None,
        election_timeout_micros: None,
    })
}

fn vote() -> Body<Command> {
    Body::RequestVoteReply(RequestVoteReply { granted: true, last_log: LogId::ZERO })
}

fn matched(index: u64) -> Body<Command> {
    let result = AppendResult::Matched(Index::new(index));
    let (session, round) = (Session::new(1), Round::new(1));
    Body::AppendEntriesReply(AppendEntriesReply {
        session,
        round,
        result,
        promise_micros: 0,
        state: None,
    })
}

fn write(id: u64, hard_state: Option<HardState>) -> Write<Command> {
    Write { id: WriteId::new(id), hard_state, ..Write::default() }
}

#[track_caller]
fn breaks(verdict: Verdict, property: Property) {
    let violation = verdict.expect_err("the observer must see it");
    assert_eq!(violation.property, property, "{violation}");
}

#[test]
fn two_leaders_of_one_term_are_seen() {
    let mut observer = observer(&[restored(3, 1, vec![]), restored(3, 2, vec![])]);
    observer.on_send(&message(1, 2, 3, append((0, 0), vec![]))).expect("one leader");
    breaks(observer.on_send(&message(2, 1, 3, append((0, 0), vec![]))), Property::ElectionSafety);
}

#[test]
fn a_second_vote_is_seen() {
    let none = restored(3, 3, vec![]);
    let mut observer = observer(&[none.clone(), none.clone(), restored(3, 1, vec![])]);
    observer.on_send(&message(3, 1, 3, vote())).expect("the first vote");
    // It says another vote than its disk holds ...
    breaks(observer.on_send(&message(3, 2, 3, vote())), Property::Durability);
    // ... or writes another one in the same term.
    let other =
        HardState { current_term: Term::new(3), voted_for: Some(id(2)), ..Default::default() };
    observer.on_write(&raft(3, 3, &none), &write(1, Some(other))).expect("not synced yet");
    breaks(observer.on_synced(id(3), WriteId::new(1)), Property::Monotonicity);
}

#[test]
fn a_leader_that_removes_from_its_log_is_seen() {
    let disk = restored(1, 1, vec![entry(1, 1, b"a")]);
    let mut observer = observer(std::slice::from_ref(&disk));
    let leader = leader(1, &disk);
    let hard_state =
        HardState { current_term: Term::new(2), voted_for: Some(id(1)), ..Default::default() };
    let noop = Entry { term: Term::new(2), index: Index::new(2), payload: Payload::Noop };
    let first = Write { entries: vec![noop].into(), ..write(1, Some(hard_state)) };
    observer.on_write(&leader, &first).expect("it appends");
    observer.on_synced(id(1), WriteId::new(1)).expect("it appends");
    observer.after_turn(&leader, Instant::ZERO).expect("it leads");
    let removes = Write { truncate_from: Some(Index::new(2)), ..write(2, None) };
    breaks(observer.on_write(&leader, &removes), Property::LeaderAppendOnly);
}

#[test]
fn two_entries_of_one_name_are_seen() {
    let disk = restored(1, 1, vec![]);
    let mut observer = observer(&[disk.clone(), disk]);
    let sends = |observer: &mut Observer<Command>, prev, entry| {
        observer.on_send(&message(1, 2, 1, append(prev, vec![entry])))
    };
    sends(&mut observer, (0, 0), entry(1, 1, b"a")).expect("the first");
    breaks(sends(&mut observer, (0, 0), entry(1, 1, b"b")), Property::LogMatching);
    sends(&mut observer, (1, 1), entry(1, 2, b"c")).expect("the second");
    breaks(sends(&mut observer, (0, 1), entry(1, 2, b"c")), Property::LogMatching);
}

#[test]
fn a_leader_without_a_committed_entry_is_seen() {
    let full = restored(1, 1, vec![entry(1, 1, b"a")]);
    let empty = restored(1, 1, vec![]);
    let mut observer = observer(&[full.clone(), empty.clone()]);
    observer.on_apply(&raft(1, 2, &full), &entry(1, 1, b"a")).expect("it is on the disk");
    let verdict = observer.after_turn(&leader(2, &empty), Instant::ZERO);
    breaks(verdict, Property::LeaderCompleteness);
}

#[test]
fn a_commit_without_a_majority_is_seen() {
    // What it commits alone, in a cluster of its own, is on one disk of none that are watched.
    let empty = Restored::default();
    let mut leader = leader(1, &empty);
    while let Some(output) = leader.poll_outbox() {
        if let Output::Persist(write) = output {
            leader.persisted(write.id);
        }
    }
    let mut observer = observer(&[empty]);
    breaks(observer.after_turn(&leader, Instant::ZERO), Property::LeaderCompleteness);
}

#[test]
fn the_loss_of_a_committed_entry_is_seen() {
    let disk = restored(1, 1, vec![entry(1, 1, b"a")]);
    let mut observer = observer(&[disk.clone(), disk.clone()]);
    observer.on_apply(&raft(1, 2, &disk), &entry(1, 1, b"a")).expect("it is on the disk");
    let removes = Write { truncate_from: Some(Index::new(1)), ..write(1, None) };
    observer.on_write(&raft(2, 2, &disk), &removes).expect("it does not know of the commit");
    breaks(observer.on_synced(id(2), WriteId::new(1)), Property::LeaderCompleteness);
}

#[test]
fn two_entries_applied_at_one_index_are_seen() {
    let one = restored(1, 1, vec![entry(1, 1, b"a")]);
    let other = restored(2, 2, vec![entry(2, 1, b"b")]);
    let mut observer = observer(&[one.clone(), other.clone()]);
    observer.on_apply(&raft(1, 2, &one), &entry(1, 1, b"a")).expect("the first");
    let verdict = observer.on_apply(&raft(2, 2, &other), &entry(2, 1, b"b"));
    breaks(verdict, Property::StateMachineSafety);
}

#[test]
fn gaps_and_undurable_entries_in_what_is_applied_are_seen() {
    let disk = restored(1, 1, vec![entry(1, 1, b"a"), entry(1, 2, b"b")]);
    let mut observer = observer(std::slice::from_ref(&disk));
    let raft = raft(1, 1, &disk);
    breaks(observer.on_apply(&raft, &entry(1, 2, b"b")), Property::StateMachineSafety);
    observer.on_apply(&raft, &entry(1, 1, b"a")).expect("in order");
    observer.on_apply(&raft, &entry(1, 2, b"b")).expect("in order");
    breaks(observer.on_apply(&raft, &entry(1, 3, b"c")), Property::StateMachineSafety);
}

#[test]
fn what_could_be_forgotten_is_seen() {
    let disk = restored(3, 1, vec![entry(1, 1, b"a")]);
    let mut observer = observer(&[disk.clone(), disk]);
    let mut says = |message| breaks(observer.on_send(&message), Property::Durability);
    says(message(2, 1, 4, matched(0)));
    says(message(2, 1, 3, matched(2)));
    says(message(2, 2, 3, vote()));
    says(message(2, 1, 3, append((0, 0), vec![])));
}

#[test]
fn a_restart_with_less_than_was_stored_is_seen() {
    let mut observer = observer(&[restored(3, 1, vec![entry(1, 1, b"a")])]);
    observer.on_crash(id(1), 0).expect("a crash");
    breaks(observer.on_start(id(1), &restored(3, 1, vec![])), Property::Durability);
}

#[test]
fn a_term_that_falls_is_seen() {
    let disk = restored(5, 1, vec![]);
    let mut observer = observer(&[disk.clone(), disk]);
    let mut young = raft(1, 2, &restored(4, 1, vec![]));
    young.tick(Instant::ZERO);
    breaks(observer.after_turn(&young, Instant::ZERO), Property::Monotonicity);
}

#[test]
fn a_log_beyond_its_limit_is_seen() {
    let entries = (1..=10).map(|index| entry(1, index, &[0; 100]));
    let disk = restored(1, 1, entries.collect());
    let config = Config {
        log_bytes_max: 100,
        log_tail_bytes: 0,
        snapshot_log_bytes: 1,
        command_bytes_max: 1,
        append_bytes_max: 1,
        ..Config::new(id(1), [id(1), id(2)])
    };
    let mut full = Raft::new(config, disk.clone(), Pcg32::seed_from_u64(1)).expect("valid");
    full.tick(Instant::ZERO);
    let mut observer = observer(&[disk]);
    breaks(observer.after_turn(&full, Instant::ZERO), Property::BoundedMemory);
}

fn snapshot(term: u64, index: u64, voters: &[u64]) -> SnapshotMeta {
    let last = LogId::new(Term::new(term), Index::new(index));
    SnapshotMeta { last, membership: Membership::of_voters(voters.iter().copied().map(id)) }
}

#[test]
fn a_snapshot_of_something_else_is_seen() {
    let disk = restored(1, 1, vec![entry(1, 1, b"a"), entry(1, 2, b"b")]);
    let mut observer = observer(&[disk.clone(), disk.clone()]);
    let raft = raft(1, 2, &disk);
    let first = Write { snapshot: Some(snapshot(0, 0, &[1, 2]).into()), ..write(1, None) };
    observer.on_write(&raft, &first).expect("the cluster begins");
    observer.on_apply(&raft, &entry(1, 1, b"a")).expect("committed");
    let takes = |observer: &mut Observer<Command>, snapshot, state: &[u8]| {
        observer.on_take_snapshot(id(1), &snapshot, Index::new(1), state)
    };
    breaks(takes(&mut observer, snapshot(1, 2, &[1, 2]), b"a"), Property::SnapshotContent);
    breaks(takes(&mut observer, snapshot(1, 1, &[1, 3]), b"a"), Property::SnapshotContent);
    takes(&mut observer, snapshot(1, 1, &[1, 2]), b"a").expect("this is right");
    breaks(takes(&mut observer, snapshot(1, 1, &[1, 2]), b"x"), Property::SnapshotContent);
    // What is not on the disk is not restored, and nothing goes back.
    let last = snapshot(1, 1, &[1, 2]);
    breaks(observer.on_restore(id(2), &last, Some(b"a")), Property::Durability);
    breaks(observer.on_restore(id(1), &last, Some(b"a")), Property::StateMachineSafety);
}

#[test]
fn states_that_differ_at_one_index_are_seen() {
    let disk = restored(1, 1, vec![]);
    let mut observer = observer(&[disk.clone(), disk]);
    let [mut one, mut other] = [Registers::default(), Registers::default()];
    one.apply(Index::new(1), &Swap::new(0, 7));
    other.apply(Index::new(1), &Swap::new(0, 8));
    observer.on_applied(id(1), Index::new(1), &one).expect("the first");
    observer.on_applied(id(2), Index::new(1), &one).expect("the same");
    breaks(observer.on_applied(id(2), Index::new(1), &other), Property::StateMachineSafety);
}

#[test]
fn an_install_of_what_was_applied_is_seen() {
    let disk = restored(1, 1, vec![entry(1, 1, b"a")]);
    let mut observer = observer(&[disk.clone(), disk.clone()]);
    let raft = raft(1, 2, &disk);
    observer.on_apply(&raft, &entry(1, 1, b"a")).expect("committed");
    let install = Write { snapshot: Some(snapshot(2, 1, &[1, 2]).into()), ..write(1, None) };
    breaks(observer.on_write(&raft, &install), Property::StateMachineSafety);
}

#[test]
fn a_deadline_that_a_tick_left_behind_is_seen() {
    let disk = restored(1, 1, vec![]);
    let mut observer = observer(&[disk.clone(), disk.clone()]);
    let mut late = raft(1, 2, &disk);
    late.tick(Instant::ZERO);
    let deadline = late.next_deadline().expect("an election");
    observer.after_turn(&late, Instant::ZERO).expect("it sleeps");
    breaks(observer.after_turn(&late, deadline), Property::LawsOfTime);
}

#[test]
fn a_stale_read_is_seen() {
    let disk = restored(1, 1, vec![entry(1, 1, b"a")]);
    let mut observer = observer(&[disk.clone(), disk.clone()]);
    observer.on_apply(&raft(1, 2, &disk), &entry(1, 1, b"a")).expect("committed");
    observer.on_read(id(2), ReadId::new(1));
    let verdict = observer.on_read_ready(id(2), ReadId::new(1), Index::ZERO);
    breaks(verdict, Property::FreshReads);
}

#[test]
fn an_impossible_input_is_seen() {
    let disk = restored(1, 1, vec![]);
    let mut observer = observer(&[disk.clone(), disk.clone()]);
    let mut misled = raft(1, 2, &disk);
    misled.step(message(9, 1, 1, vote()));
    misled.tick(Instant::ZERO);
    breaks(observer.after_turn(&misled, Instant::ZERO), Property::NoImpossibleInput);
    observer.tolerate_strangers();
    observer.after_turn(&misled, Instant::ZERO).expect("a stranger is tolerated now");
}

/// A cluster that takes no command that a client has elects, but commits nothing new.
#[test]
fn a_cluster_that_makes_no_progress_is_seen() {
    let calm = Swarm { faults: vec![], ..Swarm::draw(2) };
    let mut plan = calm.plan();
    plan.config.command_bytes_max = 1;
    let target = Target::Leader;
    let action = Action::Pause { target, span: Duration::from_millis(10) };
    plan.steps.push(Step { at: plan.heal_at, action });
    let failure = Simulation::<Registers>::new(&plan).run().expect_err("no progress");
    assert_eq!(failure.violation.property, Property::Progress, "{failure}");
}

/// A swap that returns what was there before another, which had returned, is not linearizable.
#[test]
fn a_history_that_is_not_linearizable_is_seen() {
    use raft_core::sim::{Outcome, Request};
    let simulation = run(0);
    let mut history = simulation.cluster().history().to_vec();
    assert!(linear::check(&history).expect("it is linearizable") > 10);
    let swaps = history.iter_mut().filter(|operation| {
        matches!(operation.request, Request::Command(_))
            && matches!(operation.outcome, Outcome::Returned { .. })
    });
    let last = swaps.last().expect("there are swaps");
    if let Outcome::Returned { reply, .. } = &mut last.outcome {
        *reply ^= 1 << 40;
    }
    linear::check(&history).expect_err("no such value was ever written");
}
