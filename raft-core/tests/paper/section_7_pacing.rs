//! A snapshot on its way (§7) beside clients: the leader pauses between windows of chunks, so that
//! its clients have a share of what it shares with the follower.

use std::time::Duration;

use crate::server::{TestServer, at, id, ms};
use raft_core::{
    Body, InstallSnapshotReply, Instant, LogId, Output, ProgressState, Role, Session, Wake,
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

/// Server 3 has written the window that was sent first, so long after it was begun; and a client's
/// command came meanwhile.
fn write_window(server: &mut TestServer, last: LogId, span: Duration) {
    server.propose_command();
    server.pass(span);
    written(server, last, 2);
}

fn resumes_at(server: &TestServer) -> Option<Instant> {
    server.status().wake.and_then(|(at, wake)| (wake == Wake::Snapshot).then_some(at))
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
    server.sleep_until(Wake::Snapshot);
    assert_eq!(send(&mut server, last), [2 * CHUNK, 3 * CHUNK]);

    // The next window ends before the next pause.
    written(&mut server, last, 3);
    assert!(send(&mut server, last).is_empty(), "one window at a time");
    server.propose_command();
    server.pass(ms(4));
    written(&mut server, last, 4);
    assert_eq!(resumes_at(&server), Some(server.now + ms(8)));
}

/// A leader that no client asks for anything has nothing else to do.
#[test]
fn an_idle_leader_does_not_pause() {
    let (mut server, last) = leader();
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
    server.sleep_until(Wake::Snapshot);
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
    server.sleep_until(Wake::Snapshot);
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
