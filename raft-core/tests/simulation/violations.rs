//! For each property that the observer checks, a history that breaks it.

use std::time::Duration;

use raft_core::sim::{
    Action, Observer, Property, Registers, Simulation, StateMachine, Step, Swap, Swarm, Target,
    Verdict,
};
use raft_core::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Config, Entry, HardState, Index,
    Instant, LogId, Membership, Message, NodeId, Output, Payload, Raft, ReadId, RequestVoteReply,
    Restored, Role, Round, Session, SnapshotMeta, Term, Write, WriteId,
};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;

type Command = Vec<u8>;

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
        takes_proposals: false,
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

/// A follower is told of no commit that it does not hold, but of the one that removes it: also
/// before the end of the turn in which it is removed.
#[test]
fn a_commit_that_a_follower_does_not_hold_is_seen_but_for_its_own_removal() {
    let disk = restored(3, 1, vec![entry(1, 1, b"a")]);
    let seen = || {
        let mut observer = observer(&[disk.clone(), disk.clone()]);
        let mut server = raft(1, 2, &disk);
        server.tick(Instant::ZERO);
        observer.after_turn(&server, Instant::ZERO).expect("it knows the members");
        observer
    };
    let tells = |payload| {
        let next = Entry { payload, ..entry(3, 2, b"") };
        let mut body = append((1, 1), vec![next]);
        if let Body::AppendEntries(append) = &mut body {
            append.leader_commit = Index::new(2);
        }
        message(1, 2, 3, body)
    };
    let removal = Payload::Configuration(Box::new(Membership::of_voters([id(1)])));
    seen().on_send(&tells(removal)).expect("a notice of removal");
    breaks(seen().on_send(&tells(Payload::Noop)), Property::Durability);
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
