//! A follower that catches up beside clients, by a snapshot (§7) or by the log (§5.3): the leader
//! pauses between windows of what it sends, so that its clients have a share of what it shares with
//! the follower.

use std::time::Duration;

use crate::server::{TestServer, at, id, ms};
use raft_core::{
    Body, Entry, InstallSnapshotReply, Instant, LogId, Output, ProgressState, Role, Session, Wake,
};

/// Two of these are a window.
const CHUNK: u64 = 1 << 20;
/// How long a window takes at the least pace, 160 MiB a second.
const LEAST_PACE: Duration = Duration::from_micros(12_483);

/// A leader that has sent server 3 the first window of a snapshot.
fn leader() -> (TestServer, LogId) {
    let mut server = TestServer::restored(3, Default::default(), |config| {
        config.log_tail_bytes = 0;
        config.snapshot_chunk_bytes = CHUNK as usize;
        config.inflight_chunks_max = 2;
    });
    server.lead();
    server.propose_command();
    server.matched(2, 2);
    server.take_snapshot().expect("something was applied");
    server.poll();
    let applied = server.status().last_applied;
    server.snapshot_taken(applied);
    server.others.clear();
    server.rejected(3, 2, at(0, 0));
    server.turn();
    let last = server.status().snapshot;
    assert_eq!(send(&mut server, last), [0, CHUNK]);
    (server, last)
}

/// The host reads all chunks that the leader asks for, and they leave. Where they begin.
fn send(server: &mut TestServer, last: LogId) -> Vec<u64> {
    let mut offsets = Vec::new();
    while let Some(output) = server.others.pop() {
        let Output::ReadSnapshot(read) = output else { continue };
        offsets.push(read.offset);
        server.snapshot_read(read.to, last, read.offset, vec![7; CHUNK as usize], false);
        server.poll();
    }
    offsets
}

/// Server 3 has written so many chunks.
fn written(server: &mut TestServer, last: LogId, chunks: u64) {
    let received = chunks * CHUNK;
    let reply = InstallSnapshotReply { session: Session::new(1), snapshot: last, received };
    let term = server.term().get();
    server.hear(3, term, Body::InstallSnapshotReply(reply));
}

/// Others commit a command.
fn commit(server: &mut TestServer) {
    let index = server.propose_command();
    server.matched(2, index.get());
}

/// Server 3 has written the window that was sent first, so long after it was begun; and a client's
/// command was committed meanwhile.
fn write_window(server: &mut TestServer, last: LogId, span: Duration) {
    commit(server);
    server.pass(span);
    written(server, last, 2);
}

fn resumes_at(server: &TestServer) -> Option<Instant> {
    server.status().wake.and_then(|(at, wake)| (wake == Wake::CatchUp).then_some(at))
}

/// The pause is twice as long as the window took, and ends by itself. No answer of the follower
/// ends it sooner.
#[test]
fn a_leader_with_clients_pauses_between_windows() {
    let (mut server, last) = leader();
    write_window(&mut server, last, ms(4));
    assert_eq!(resumes_at(&server), Some(server.now + ms(8)));
    server.pass(ms(7));
    server.rejected(3, 2, at(0, 0));
    written(&mut server, last, 2);
    assert!(send(&mut server, last).is_empty(), "it pauses still");
    assert_eq!(resumes_at(&server), Some(server.now + ms(1)));
    server.sleep_until(Wake::CatchUp);
    assert_eq!(send(&mut server, last), [2 * CHUNK, 3 * CHUNK]);

    // The next window ends before the next pause.
    written(&mut server, last, 3);
    assert!(send(&mut server, last).is_empty(), "one window at a time");
    commit(&mut server);
    server.pass(ms(4));
    written(&mut server, last, 4);
    assert_eq!(resumes_at(&server), Some(server.now + ms(8)));
}

/// A leader that no client asks for anything has nothing else to do, and nor has one whose clients
/// wait for this very follower.
#[test]
fn a_leader_that_commits_nothing_does_not_pause() {
    let (mut server, last) = leader();
    server.propose_command();
    server.pass(ms(4));
    written(&mut server, last, 1);
    assert_eq!(send(&mut server, last), [2 * CHUNK]);
    written(&mut server, last, 2);
    assert_eq!((resumes_at(&server), send(&mut server, last)), (None, vec![3 * CHUNK]));
}

/// However long windows take, no pause makes a snapshot slower than the least pace.
#[test]
fn a_pause_ends_with_the_least_pace() {
    for took in [6, 8, 12] {
        let (mut server, last) = leader();
        write_window(&mut server, last, ms(took));
        let pause = LEAST_PACE - ms(took);
        assert_eq!(resumes_at(&server), Some(server.now + pause), "after {took} ms");
    }
    for took in [13, 14, 40] {
        let (mut server, last) = leader();
        write_window(&mut server, last, ms(took));
        assert_eq!(resumes_at(&server), None);
        assert_eq!(send(&mut server, last), [2 * CHUNK, 3 * CHUNK], "after {took} ms");
    }
}

/// A follower that has lost its file while the leader paused gets all of it.
#[test]
fn a_file_that_is_lost_in_a_pause_is_sent_again() {
    let (mut server, last) = leader();
    write_window(&mut server, last, ms(4));
    written(&mut server, last, 0);
    assert!(send(&mut server, last).is_empty());
    server.sleep_until(Wake::CatchUp);
    assert_eq!(send(&mut server, last), [0]);
    written(&mut server, last, 1);
    assert_eq!(send(&mut server, last), [CHUNK], "one window at a time");
    written(&mut server, last, 2);
    assert_eq!(send(&mut server, last), [2 * CHUNK, 3 * CHUNK]);
}

/// What is lost of a window behind a pause is sent again after an election timeout, and the
/// snapshot goes on.
#[test]
fn what_is_lost_behind_a_pause_is_sent_again() {
    let (mut server, last) = leader();
    write_window(&mut server, last, ms(4));
    server.sleep_until(Wake::CatchUp);
    assert_eq!(send(&mut server, last), [2 * CHUNK, 3 * CHUNK]);
    written(&mut server, last, 3);
    for _ in 0..5 {
        server.matched(2, 3);
        server.rejected(3, 2, at(0, 0));
        server.pass(server.config().heartbeat_interval);
    }
    assert_eq!(send(&mut server, last), [3 * CHUNK]);
    written(&mut server, last, 4);
    assert_eq!(send(&mut server, last), [4 * CHUNK, 5 * CHUNK]);
}

/// A follower that is silent from the pause on is sent nothing, and the rest when it is back.
#[test]
fn a_follower_that_goes_in_a_pause_is_sent_the_rest_when_it_is_back() {
    let (mut server, last) = leader();
    write_window(&mut server, last, ms(4));
    for _ in 0..8 {
        server.matched(2, 3);
        server.pass(server.config().heartbeat_interval);
        assert_eq!(resumes_at(&server), None);
    }
    server.rejected(3, 2, at(0, 0));
    assert_eq!(send(&mut server, last).first(), Some(&(2 * CHUNK)));
    written(&mut server, last, 3);
    assert_eq!(send(&mut server, last).first(), Some(&(3 * CHUNK)));
}

/// A pause ends with its leader, and with the snapshot.
#[test]
fn a_pause_ends_with_what_it_paused() {
    let (mut server, last) = leader();
    write_window(&mut server, last, ms(4));
    server.heartbeat(2, 9);
    assert_eq!((server.role(), resumes_at(&server)), (Role::Follower, None));

    let (mut server, last) = leader();
    write_window(&mut server, last, ms(4));
    server.matched(3, 3);
    assert_eq!(server.status().peers[1].state, ProgressState::Replicate);
    assert_eq!(resumes_at(&server), None);
    assert_eq!(server.status().peers[1].id, id(3));
}

/// Two of these are a window as well, of four that may be on their way.
const ENTRY: u64 = 1 << 20;
/// The leader's log when server 3 comes back.
const BACKLOG: u64 = 17;

/// A leader whose server 3 was away while the others filled their logs, and that has sent it the
/// first two windows.
fn leader_with_backlog() -> TestServer {
    let mut server = TestServer::with(3, |config| {
        config.append_bytes_max = ENTRY as usize;
        config.inflight_bytes_max = 4 * ENTRY as usize;
    });
    server.lead();
    while propose_entry(&mut server) < BACKLOG {}
    server.matched(2, BACKLOG);
    server.take_sent();
    server.matched(3, 1);
    server.turn();
    assert_eq!(entries_sent(&mut server), [2, 3, 4, 5]);
    server
}

fn propose_entry(server: &mut TestServer) -> u64 {
    let bytes = ENTRY as usize - Entry::<Vec<u8>>::OVERHEAD_BYTES;
    let (_, index) = server.propose(vec![7; bytes]).expect("it leads");
    server.poll();
    index.get()
}

/// The entries that server 3 was sent since somebody looked.
fn entries_sent(server: &mut TestServer) -> Vec<u64> {
    let appends = server.appends_to(3).into_iter();
    appends.flat_map(|append| append.entries).map(|entry| entry.index.get()).collect()
}

/// Server 3 holds the log up to here, so long after the last pause, and others have committed a
/// command meanwhile.
fn take(server: &mut TestServer, matched: u64, span: Duration) {
    commit(server);
    server.pass(span);
    server.matched(3, matched);
    server.turn();
}

/// The pause is twice as long as the window took; the next window begins behind what was on its way
/// at that time.
#[test]
fn a_leader_with_clients_pauses_within_the_log_as_well() {
    let mut server = leader_with_backlog();
    take(&mut server, 3, ms(4));
    assert_eq!(resumes_at(&server), Some(server.now + ms(8)));
    server.pass(ms(7));
    server.matched(3, 5);
    server.turn();
    assert!(entries_sent(&mut server).is_empty(), "it pauses still");
    server.sleep_until(Wake::CatchUp);
    assert_eq!(entries_sent(&mut server), [6, 7]);

    take(&mut server, 6, ms(2));
    assert!(entries_sent(&mut server).is_empty(), "one window at a time");
    take(&mut server, 7, ms(2));
    assert_eq!(resumes_at(&server), Some(server.now + ms(8)));
    server.sleep_until(Wake::CatchUp);
    assert_eq!(entries_sent(&mut server), [8, 9]);
}

/// Of what was on its way when the pause began, too, the least pace is kept.
#[test]
fn a_pause_within_the_log_ends_with_the_least_pace() {
    let mut server = leader_with_backlog();
    take(&mut server, 3, ms(20));
    assert_eq!(resumes_at(&server), Some(server.now + (2 * LEAST_PACE - ms(20))));

    let mut server = leader_with_backlog();
    take(&mut server, 3, ms(25));
    assert_eq!(resumes_at(&server), None);
    assert_eq!(entries_sent(&mut server), [6, 7]);
}

/// Clients that wait for this very follower are not made to wait for a pause, and nobody else
/// needs one.
#[test]
fn a_leader_that_commits_nothing_sends_its_log_without_a_pause() {
    let mut server = leader_with_backlog();
    server.propose_command();
    server.pass(ms(4));
    server.matched(3, 3);
    server.turn();
    assert_eq!(resumes_at(&server), None);
    assert_eq!(entries_sent(&mut server), [6, 7]);
}

/// A leader that pauses while its log grows as fast as the follower takes it would never have sent
/// it all.
#[test]
fn a_log_that_grows_fast_is_sent_without_a_pause() {
    let mut server = leader_with_backlog();
    propose_entry(&mut server);
    propose_entry(&mut server);
    take(&mut server, 3, ms(4));
    assert_eq!(resumes_at(&server), None);
    assert_eq!(entries_sent(&mut server), [6, 7]);
}

/// A leader keeps more log than usual for a follower that was sent a snapshot, so it is not to take
/// longer than it must.
#[test]
fn what_follows_a_snapshot_is_sent_without_a_pause() {
    let (mut server, last) = leader();
    // Three windows.
    for _ in 0..24 {
        propose_entry(&mut server);
    }
    commit(&mut server);
    server.take_sent();
    server.matched(3, last.index.get());
    server.turn();
    let sent = entries_sent(&mut server);
    take(&mut server, sent[8], ms(4));
    assert_eq!(resumes_at(&server), None);
    assert!(!entries_sent(&mut server).is_empty());
}

/// A follower that was sent all that is committed catches up no more, and never waits.
#[test]
fn a_follower_that_keeps_up_is_sent_everything_at_once() {
    let mut server = leader_with_backlog();
    for matched in 5..=BACKLOG {
        server.matched(3, matched);
        server.turn();
    }
    assert_eq!(entries_sent(&mut server).last(), Some(&BACKLOG), "without commits no pause");
    for _ in 0..9 {
        let last = propose_entry(&mut server);
        assert_eq!(entries_sent(&mut server), [last]);
        take(&mut server, last, ms(1));
        assert_eq!(resumes_at(&server), None);
        entries_sent(&mut server);
    }
}

/// A pause within the log ends with its leader; and with what it rests on, when the follower turns
/// out to hold less than was thought.
#[test]
fn a_pause_within_the_log_ends_with_what_it_paused() {
    let mut server = leader_with_backlog();
    take(&mut server, 3, ms(4));
    server.heartbeat(2, 9);
    assert_eq!((server.role(), resumes_at(&server)), (Role::Follower, None));

    let mut server = leader_with_backlog();
    take(&mut server, 3, ms(4));
    server.rejected(3, 5, at(1, 3));
    server.turn();
    assert_eq!(resumes_at(&server), None);
    assert_eq!(entries_sent(&mut server), [4], "a probe");
}
