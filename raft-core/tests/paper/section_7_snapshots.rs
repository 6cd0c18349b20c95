//! Log compaction (§7), sentence by sentence: snapshots are taken and sent. How a follower installs
//! one is in `section_7_install_snapshot.rs`.

use crate::server::{Command, TestServer, append, at, entry_of, id, index, ms};
use raft_core::{
    Body, Entry, InstallSnapshot, InstallSnapshotReply, LogId, Membership, NothingToSnapshot,
    Output, Payload, ProgressState, ReadSnapshot, Session, SnapshotMeta,
};

/// A leader of three that has committed and applied its no-op and three commands.
fn leader() -> TestServer {
    let mut server = TestServer::restored(3, Default::default(), |config| {
        config.log_tail_bytes = 0;
        config.snapshot_chunk_bytes = 4;
        config.inflight_chunks_max = 2;
    });
    server.lead();
    propose(&mut server, 3);
    server.matched(2, 4);
    assert_eq!(server.status().last_applied, index(4));
    server.take_sent();
    server
}

fn propose(server: &mut TestServer, commands: usize) {
    for _ in 0..commands {
        server.propose_command();
    }
}

fn three() -> Membership {
    Membership::of_voters([1, 2, 3].map(id))
}

fn snapshot(last: LogId) -> SnapshotMeta {
    SnapshotMeta { last, membership: three() }
}

/// The server takes a snapshot of all that it has applied.
fn compact(server: &mut TestServer) -> LogId {
    server.take_snapshot().expect("something was applied");
    server.poll();
    let Some(Output::TakeSnapshot(taking)) = server.others.pop() else {
        panic!("it asks its host for a snapshot")
    };
    server.snapshot_taken(taking.last.index);
    server.poll();
    taking.last
}

/// A leader that has compacted its log, and whose follower 3 needs the snapshot.
fn leader_that_sends_a_snapshot() -> (TestServer, LogId) {
    let mut server = leader();
    let last = compact(&mut server);
    server.rejected(3, 4, at(0, 0));
    server.pass(server.config().heartbeat_interval);
    (server, last)
}

fn reads(server: &mut TestServer) -> Vec<ReadSnapshot> {
    let read = |output| if let Output::ReadSnapshot(read) = output { Some(read) } else { None };
    std::mem::take(&mut server.others).into_iter().filter_map(read).collect()
}

fn chunks(server: &mut TestServer) -> Vec<InstallSnapshot<Command>> {
    let install =
        |body| if let Body::InstallSnapshot(install) = body { Some(install) } else { None };
    server.take_sent().into_iter().filter_map(|message| install(message.body)).collect()
}

// Taking one.

/// "Each server takes snapshots independently, covering just the committed entries in its log";
/// "Raft also includes ... the last included index ... the last included term ... the latest
/// configuration in the log as of last included index".
#[test]
fn a_snapshot_covers_what_was_applied_and_names_the_members() {
    let mut server = leader();
    server.propose_command();
    server.take_snapshot().unwrap();
    server.poll();
    assert_eq!(server.others, [Output::TakeSnapshot(snapshot(at(1, 4)))]);
    assert_eq!(server.take_snapshot(), Err(NothingToSnapshot), "one at a time");
}

/// "Once a server completes writing a snapshot, it may delete all log entries up through the last
/// included index."
#[test]
fn the_log_is_compacted_once_the_snapshot_is_durable() {
    let mut server = leader();
    server.propose_command();
    server.take_snapshot().unwrap();
    server.poll();
    assert_eq!(server.status().log_base, LogId::ZERO);
    server.hold_disk();
    server.snapshot_taken(index(4));
    server.poll();
    let status = server.status();
    assert_eq!((status.log_base, status.snapshot, status.last_log), (at(1, 4), at(1, 4), at(1, 5)));
    let write = server.writes.last().unwrap();
    assert_eq!(write.snapshot.as_deref(), Some(&snapshot(at(1, 4))));
    assert_eq!(write.compact_to.as_deref(), Some(&at(1, 4)));
}

/// "One simple strategy is to take a snapshot when the log reaches a fixed size in bytes."
#[test]
fn a_snapshot_is_due_after_so_many_bytes_or_entries() {
    let limits: [fn(&mut raft_core::Config); 2] = [
        |config| config.snapshot_log_entries = 4,
        |config| config.snapshot_log_bytes = 4 * 32 + 2 * 7,
    ];
    for limit in limits {
        let mut server = TestServer::restored(1, Default::default(), limit);
        server.turn();
        propose(&mut server, 2);
        assert!(server.others.is_empty());
        server.propose_command();
        assert_eq!(server.others.len(), 1, "{:?}", server.status());
        propose(&mut server, 9);
        assert_eq!(server.others.len(), 1, "one at a time");
        server.snapshot_failed();
        server.poll();
        assert_eq!(server.others.len(), 2, "much has come since it was asked for");
    }
}

/// A host that cannot take a snapshot is asked again when as much again has come, and not before.
#[test]
fn a_snapshot_that_failed_is_not_due_at_once() {
    let few = |config: &mut raft_core::Config| config.snapshot_log_entries = 2;
    let mut server = TestServer::restored(1, Default::default(), few);
    server.turn();
    propose(&mut server, 1);
    for asked in 1..4 {
        assert_eq!(server.others.len(), asked);
        let (through, _) = (server.status().last_applied, server.snapshot_failed());
        server.poll();
        assert_eq!(server.others.len(), asked, "nothing has come since {through}");
        propose(&mut server, 2);
    }
}

/// Snapshots fail until the log is full, and nothing can be applied any more. One is tried again
/// after a second, after two, and so on, up to a minute: when the disk is well again, the log is
/// compacted, and the cluster goes on.
#[test]
fn a_snapshot_that_failed_is_tried_again_when_the_log_is_full() {
    let size = 32 + 7;
    let mut server = TestServer::with(1, |config| {
        config.command_bytes_max = 7;
        config.snapshot_log_bytes = 4 * size;
        config.log_tail_bytes = 0;
        config.log_bytes_max = 14 * size;
    });
    server.turn();
    while server.propose(b"command".to_vec()).is_ok() {
        server.poll();
        if server.others.pop().is_some() {
            server.snapshot_failed();
        }
    }
    assert!(server.status().snapshot == LogId::ZERO && server.status().last_log.index > index(12));
    let mut waits = Vec::new();
    for _ in 0..8 {
        let failed_at = server.now;
        while server.others.pop().is_none() {
            server.pass(ms(100));
        }
        waits.push(server.now.saturating_duration_since(failed_at).as_secs());
        server.snapshot_failed();
    }
    // How many failed before the log was full makes no wait longer.
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    server.pass(ms(60_000));
    let Some(Output::TakeSnapshot(taking)) = server.others.pop() else { panic!("tried again") };
    server.snapshot_taken(taking.last.index);
    server.poll();
    assert!(server.propose(b"command".to_vec()).is_ok());
}

/// A snapshot that was asked for and was not due is not tried again if it fails.
#[test]
fn a_snapshot_that_was_asked_for_is_tried_once() {
    let mut server = leader();
    server.take_snapshot().unwrap();
    server.poll();
    assert_eq!(server.others.len(), 1);
    server.snapshot_failed();
    for _ in 0..10 {
        server.matched(2, 4);
        server.pass(ms(120));
    }
    assert_eq!(server.others.len(), 1);
}

/// The log does not say with which members the cluster began: a server that joins takes no snapshot
/// before it comes to itself.
#[test]
fn a_server_that_joins_takes_no_snapshot_before_it_knows_the_members() {
    let mut server = TestServer::with(3, |config| config.voters.clear());
    server.appended(2, 1, at(0, 0), &[1, 1], 2);
    server.take_snapshot().unwrap();
    server.poll();
    assert_eq!((server.applied.len(), server.others.len()), (2, 0));
    let configuration = Payload::Configuration(three().into());
    let entries = vec![entry_of(1, 3, configuration)];
    server.hear(2, 1, Body::AppendEntries(append(at(1, 2), entries, 3)));
    assert!(server.others.contains(&Output::TakeSnapshot(snapshot(at(1, 3)))));
}

/// A tail of the log stays for followers that are a little behind.
#[test]
fn a_tail_of_the_log_stays() {
    let mut server = TestServer::with(1, |config| config.log_tail_bytes = 2 * (32 + 7));
    server.turn();
    propose(&mut server, 5);
    let last = compact(&mut server);
    assert_eq!((last, server.status().log_base.index), (at(1, 6), index(4)));
}

/// A restart begins with the snapshot: what it includes is applied already.
#[test]
fn a_restart_begins_with_the_snapshot() {
    let mut server = leader();
    server.propose_command();
    compact(&mut server);
    server.crash();
    let status = server.status();
    assert_eq!((status.commit_index, status.last_applied), (index(4), index(4)));
    assert_eq!((status.log_base, status.last_log), (at(1, 4), at(1, 5)));
    server.lead();
    server.matched(2, 6);
    assert_eq!(server.applied.first().map(Entry::id), Some(at(1, 5)));
}

// Sending one.

/// "The leader must occasionally send snapshots to followers that lag behind ... when the leader
/// has already discarded the next log entry that it needs to send."
#[test]
fn a_follower_that_needs_what_is_compacted_gets_the_snapshot_in_chunks() {
    let (mut server, last) = leader_that_sends_a_snapshot();
    assert_eq!(server.status().peers[1].state, ProgressState::Snapshot);

    let read = reads(&mut server).pop().unwrap();
    let asked = (read.to, read.snapshot, read.offset, read.bytes_max);
    assert_eq!(asked, (id(3), last, 0, 4));
    server.take_sent();
    server.snapshot_read(id(3), last, 0, b"abcd".to_vec(), false);
    server.poll();
    let sent = chunks(&mut server).pop().unwrap();
    assert_eq!(*sent.snapshot, snapshot(last));
    assert_eq!((sent.offset, &*sent.chunk, sent.done), (0, &b"abcd"[..], false));

    // A window of two chunks.
    assert_eq!(reads(&mut server).pop().unwrap().offset, 4);
    server.snapshot_read(id(3), last, 4, b"efgh".to_vec(), false);
    server.poll();
    assert!(reads(&mut server).is_empty(), "the window is full");
    received(&mut server, last, 4);
    assert_eq!(reads(&mut server).pop().unwrap().offset, 8);
    server.snapshot_read(id(3), last, 8, b"i".to_vec(), true);
    server.poll();
    assert!(chunks(&mut server).pop().unwrap().done);
    received(&mut server, last, 9);
    assert!(reads(&mut server).is_empty());

    server.matched(3, 4);
    assert_eq!(server.status().peers[1].state, ProgressState::Replicate);
}

/// A window is as many chunks as a follower takes, also if some are short. A host reads less than a
/// whole chunk where a block of its file ends; and one chunk too many would be lost, and all that
/// follows it.
#[test]
fn a_window_of_short_chunks_is_not_one_chunk_longer() {
    let (mut server, last) = leader_that_sends_a_snapshot();
    server.snapshot_read(id(3), last, 0, b"abc".to_vec(), false);
    server.poll();
    server.snapshot_read(id(3), last, 3, b"def".to_vec(), false);
    server.poll();
    assert_eq!(chunks(&mut server).len(), 2);
    let asked: Vec<_> = reads(&mut server).iter().map(|read| read.offset).collect();
    assert_eq!(asked, [0, 3], "two chunks are on their way");
    server.snapshot_read(id(3), last, 6, b"ghi".to_vec(), false);
    server.poll();
    assert!(chunks(&mut server).is_empty(), "nobody asked for this one");
    received(&mut server, last, 3);
    assert_eq!(reads(&mut server).pop().map(|read| read.offset), Some(6));
}

/// The leader reads the end of its snapshot, which is no bytes from `offset` on, and sends it.
fn send_the_end(server: &mut TestServer, last: LogId, offset: u64, attempt: u32) {
    let asked: Vec<_> = reads(server).iter().map(|read| read.offset).collect();
    assert_eq!(asked, [offset], "attempt {attempt}");
    server.snapshot_read(id(3), last, offset, Vec::new(), true);
    server.poll();
    let sent = chunks(server).pop().expect("the end of it");
    assert_eq!((sent.offset, sent.chunk.len(), sent.done), (offset, 0, true));
    assert!(reads(server).is_empty(), "nothing is left of it");
}

/// A heartbeat interval in which both followers answer, and server 3 still lacks the snapshot.
fn hear_again(server: &mut TestServer) {
    server.matched(2, 4);
    server.rejected(3, 4, at(0, 0));
    server.pass(server.config().heartbeat_interval);
}

/// A snapshot of a state that takes no bytes is one empty chunk, which is sent again if it is lost.
#[test]
fn a_snapshot_of_no_bytes_is_one_chunk() {
    let (mut server, last) = leader_that_sends_a_snapshot();
    for attempt in 1..=2 {
        send_the_end(&mut server, last, 0, attempt);
        (0..3).for_each(|_| hear_again(&mut server));
    }
    server.matched(3, 4);
    assert_eq!(server.status().peers[1].state, ProgressState::Replicate);
}

/// Some hosts notice the end of a snapshot only behind its last byte: an empty chunk, without which
/// the follower installs nothing.
#[test]
fn an_empty_last_chunk_that_is_lost_is_sent_again() {
    let (mut server, last) = leader_that_sends_a_snapshot();
    assert_eq!(reads(&mut server).pop().map(|read| read.offset), Some(0));
    server.snapshot_read(id(3), last, 0, b"abcd".to_vec(), false);
    server.poll();
    received(&mut server, last, 4);
    for attempt in 1..=3 {
        send_the_end(&mut server, last, 4, attempt);
        (0..4).for_each(|_| hear_again(&mut server));
    }
    server.matched(3, 4);
    assert_eq!(server.status().peers[1].state, ProgressState::Replicate);
}

/// A follower that is down is sent its first window at most, and none while it is silent; it is
/// sent the rest once it answers a heartbeat.
#[test]
fn a_follower_that_is_not_heard_of_is_sent_no_snapshot() {
    let mut server = leader();
    let last = compact(&mut server);
    let mut sent = 0;
    let mut heartbeats = 0;
    for _ in 0..200 {
        for read in reads(&mut server) {
            sent += 1;
            server.snapshot_read(id(3), last, read.offset, b"abcd".to_vec(), false);
            server.poll();
        }
        heartbeats += server.appends_to(3).len();
        server.matched(2, 4);
        server.pass(server.config().heartbeat_interval);
    }
    assert!(sent <= server.config().inflight_chunks_max, "{sent} chunks to nobody");
    assert!(
        (190..=210).contains(&heartbeats),
        "{heartbeats} heartbeats: it is asked whether it lives"
    );
    server.rejected(3, 4, at(0, 0));
    server.pass(server.config().heartbeat_interval);
    assert_eq!(reads(&mut server).pop().map(|read| read.offset), Some(0));
}

/// A follower that writes nothing, for its disk is full, is not sent one window after the other:
/// one chunk in each election timeout.
#[test]
fn a_follower_that_cannot_write_a_snapshot_is_not_flooded() {
    let (mut server, last) = leader_that_sends_a_snapshot();
    let mut sent = 0;
    for _ in 0..200 {
        for read in reads(&mut server) {
            sent += 1;
            server.snapshot_read(id(3), last, read.offset, b"abcd".to_vec(), false);
            server.poll();
        }
        received(&mut server, last, 0);
        server.matched(2, 4);
        server.pass(server.config().heartbeat_interval / 10);
    }
    let timeouts = 200 / 10 / 3;
    assert!((timeouts / 2..=timeouts + 4).contains(&sent), "{sent} chunks");
    for read in reads(&mut server) {
        server.snapshot_read(id(3), last, read.offset, b"abcd".to_vec(), false);
    }
    received(&mut server, last, 4);
    assert_eq!(reads(&mut server).last().map(|read| read.offset), Some(4), "it goes on at once");
}

/// A leader whose follower 3 is sent a snapshot, and that takes a newer one meanwhile. The two
/// snapshots.
fn overtake(server: &mut TestServer, before: impl FnOnce(&mut TestServer)) -> (LogId, LogId) {
    let old = compact(server);
    server.rejected(3, 4, at(0, 0));
    server.pass(server.config().heartbeat_interval);
    reads(server);
    server.snapshot_read(id(3), old, 0, b"old".to_vec(), true);
    server.poll();
    propose(server, 2);
    server.matched(2, 6);
    before(server);
    let new = compact(server);
    assert!(new > old);
    (old, new)
}

/// Server 3 is not heard of for more than an election timeout.
fn silence(server: &mut TestServer) {
    for _ in 0..8 {
        server.matched(2, 6);
        server.pass(server.config().heartbeat_interval);
    }
}

/// A follower that was sent a snapshot finds what follows it in the leader's log, whatever the
/// leader has compacted meanwhile.
#[test]
fn the_log_behind_a_snapshot_on_its_way_stays() {
    let mut server = leader();
    let (old, new) = overtake(&mut server, |_| {});
    let status = server.status();
    assert_eq!((status.log_base, status.snapshot), (old, new));
    assert_eq!(server.stored.base, old, "on the disk, too");

    server.take_sent();
    server.matched(3, old.index.get());
    assert!(reads(&mut server).is_empty(), "it needs no other snapshot");
    let sent: Vec<_> = server.appends_to(3).iter().flat_map(|a| a.entries.clone()).collect();
    assert_eq!(sent.iter().map(Entry::id).collect::<Vec<_>>(), [at(1, 5), at(1, 6)]);

    // It has a part of them when the next snapshot is taken.
    server.matched(3, 5);
    propose(&mut server, 1);
    server.matched(2, 7);
    compact(&mut server);
    assert_eq!(server.status().log_base, at(1, 5));
    // It has caught up, and falls behind like any other.
    server.matched(3, 7);
    server.pass(server.config().heartbeat_interval);
    assert_eq!(server.status().log_base, at(1, 7));
    propose(&mut server, 2);
    server.matched(2, 9);
    let newest = compact(&mut server);
    assert_eq!((newest, server.status().log_base), (at(1, 9), at(1, 9)));
}

/// No log is kept for a follower that is not heard of. It may find, once it holds the snapshot that
/// was on its way, that it lacks what follows: then it is sent the newer one.
#[test]
fn a_follower_whose_snapshot_is_outdated_when_it_is_whole_gets_the_newer_one() {
    let mut server = leader();
    let (old, new) = overtake(&mut server, silence);
    assert_eq!(server.status().log_base, new);

    reads(&mut server);
    server.matched(3, old.index.get());
    let read = reads(&mut server).pop().expect("it is sent another one");
    assert_eq!((read.to, read.snapshot, read.offset), (id(3), new, 0));
    server.snapshot_read(id(3), new, 0, b"new".to_vec(), true);
    server.poll();
    server.matched(3, new.index.get());
    assert_eq!(server.status().peers[1].state, ProgressState::Replicate);
}

/// The leader lets go of the log when the follower for which it kept it is not heard of any more.
#[test]
fn the_log_behind_a_snapshot_goes_when_its_follower_does() {
    let mut server = leader();
    let (old, new) = overtake(&mut server, |_| {});
    assert_eq!(server.status().log_base, old);
    silence(&mut server);
    assert_eq!(server.status().log_base, new);
    server.crash();
    assert_eq!(server.status().log_base, new, "the disk held more, which is for nothing");
}

/// A leader that keeps its log for a follower that catches up, and has no room for another command.
/// With it the newest snapshot.
fn leader_with_a_full_log() -> (TestServer, LogId) {
    let mut server = TestServer::restored(3, Default::default(), |config| {
        config.log_tail_bytes = 0;
        config.command_bytes_max = 7;
        config.snapshot_log_bytes = 7 * (32 + 7);
        config.log_bytes_max = 10 * (32 + 7);
    });
    server.lead();
    for index in 2..=4 {
        propose(&mut server, 1);
        server.matched(2, index);
    }
    let (old, new) = overtake(&mut server, |_| {});
    assert_eq!(server.status().log_base, old);
    for index in 7..=14 {
        propose(&mut server, 1);
        server.matched(2, index);
        server.others.retain(|output| !matches!(output, Output::TakeSnapshot(_)));
    }
    assert_eq!(server.status().log_base, old, "as long as there is room");
    (server, new)
}

/// A follower that catches up keeps no client waiting: a leader whose log is full lets go of what
/// it kept for it.
#[test]
fn what_is_kept_for_a_follower_makes_room_for_commands() {
    let (mut server, new) = leader_with_a_full_log();
    propose(&mut server, 1);
    assert_eq!(server.status().log_base, new);
}

/// The same in a leader that has lost its office: as a follower it has room for what comes.
#[test]
fn what_was_kept_for_a_follower_makes_room_under_the_next_leader() {
    let (mut server, new) = leader_with_a_full_log();
    server.appended(2, 9, at(1, 14), &[9, 9], 14);
    assert_eq!((server.status().log_base, server.status().last_log), (new, at(9, 16)));
}

fn received(server: &mut TestServer, last: LogId, received: u64) {
    let reply = InstallSnapshotReply { session: Session::new(1), snapshot: last, received };
    let term = server.term().get();
    server.hear(3, term, Body::InstallSnapshotReply(reply));
}

/// Chunks that are lost are sent again from where the follower's file ends; a follower that lost
/// its file gets all of it.
#[test]
fn what_is_lost_of_a_snapshot_is_sent_again() {
    let (mut server, last) = leader_that_sends_a_snapshot();
    server.snapshot_read(id(3), last, 0, b"abcd".to_vec(), false);
    server.poll();
    server.snapshot_read(id(3), last, 4, b"efgh".to_vec(), false);
    received(&mut server, last, 4);
    reads(&mut server);
    for _ in 0..8 {
        // The other keeps the leader in office, and this one answers heartbeats.
        server.matched(2, 4);
        server.rejected(3, 4, at(0, 0));
        server.pass(server.config().heartbeat_interval);
    }
    assert_eq!(reads(&mut server).first().map(|read| read.offset), Some(4));
    received(&mut server, last, 0);
    server.snapshot_read(id(3), last, 4, b"late".to_vec(), false);
    server.poll();
    assert_eq!(reads(&mut server).last().map(|read| read.offset), Some(0));
}

/// A follower that was restarted and began anew has less than it said before: the leader goes back
/// to where it is.
#[test]
fn a_follower_that_has_less_than_it_had_gets_the_snapshot_from_there() {
    let (mut server, last) = leader_that_sends_a_snapshot();
    server.snapshot_read(id(3), last, 0, b"abcd".to_vec(), false);
    server.poll();
    server.snapshot_read(id(3), last, 4, b"efgh".to_vec(), false);
    received(&mut server, last, 8);
    received(&mut server, last, 4);
    reads(&mut server);
    for _ in 0..8 {
        server.snapshot_read(id(3), last, 8, b"ijkl".to_vec(), false);
        server.matched(2, 4);
        received(&mut server, last, 4);
        server.pass(server.config().heartbeat_interval);
    }
    assert!(reads(&mut server).iter().any(|read| read.offset == 4));
}

/// A follower that is sent a snapshot may yet acknowledge what it got before: that is news, and not
/// enough.
#[test]
fn a_late_acknowledgement_does_not_end_a_snapshot() {
    let mut server = leader();
    compact(&mut server);
    server.rejected(3, 4, at(0, 0));
    server.pass(server.config().heartbeat_interval);
    server.matched(3, 2);
    let peers = server.status().peers;
    let peer = peers.iter().find(|peer| peer.id == id(3)).unwrap();
    assert_eq!((peer.state, peer.match_index), (ProgressState::Snapshot, index(2)));
}

/// The host cannot read the snapshot for a while, and there is no other: it is asked again.
#[test]
fn a_snapshot_that_could_not_be_read_is_asked_for_again() {
    let (mut server, last) = leader_that_sends_a_snapshot();
    assert_eq!(reads(&mut server).len(), 1);
    server.snapshot_unreadable(id(3), last);
    server.poll();
    assert!(reads(&mut server).is_empty(), "not at once");
    for _ in 0..8 {
        server.matched(2, 4);
        server.rejected(3, 4, at(0, 0));
        server.pass(server.config().heartbeat_interval);
    }
    assert_eq!(reads(&mut server).first().map(|read| read.offset), Some(0));
}

/// The host cannot read the snapshot any more: the newest is sent from its beginning.
#[test]
fn a_newer_snapshot_takes_the_place_of_one_that_cannot_be_read() {
    let mut server = leader();
    let old = compact(&mut server);
    server.rejected(3, 4, at(0, 0));
    server.pass(server.config().heartbeat_interval);
    server.propose_command();
    server.matched(2, 5);
    reads(&mut server);
    let new = compact(&mut server);
    server.snapshot_unreadable(id(3), old);
    server.poll();
    assert_eq!(reads(&mut server).pop().map(|read| (read.snapshot, read.offset)), Some((new, 0)));
}

/// The leader has compacted up to its last entry, is idle, and knows nothing of a follower: the
/// heartbeats tell it.
#[test]
fn a_follower_of_an_idle_leader_gets_the_snapshot() {
    let mut server = leader();
    compact(&mut server);
    server.crash();
    server.lead();
    server.matched(2, 5);
    compact(&mut server);
    server.rejected(3, 4, at(0, 0));
    server.pass(server.config().heartbeat_interval);
    assert_eq!(reads(&mut server).pop().map(|read| read.to), Some(id(3)));
}

/// A follower lost its file, and its word of how much it had comes late: it gets what it says that
/// it needs.
#[test]
fn a_late_word_of_a_file_that_is_lost_holds_nothing_up() {
    let (mut server, last) = leader_that_sends_a_snapshot();
    received(&mut server, last, 0);
    received(&mut server, last, 8);
    let mut offsets = Vec::new();
    for _ in 0..12 {
        for read in reads(&mut server) {
            offsets.push(read.offset);
            server.snapshot_read(id(3), last, read.offset, b"abcd".to_vec(), false);
            server.poll();
        }
        server.matched(2, 4);
        received(&mut server, last, 4);
        server.pass(server.config().heartbeat_interval);
    }
    assert!(offsets.contains(&4), "only {offsets:?}");
}

/// A server that joins takes no snapshot before its log has told it of the members: a restart from
/// there would know none.
#[test]
fn a_snapshot_waits_until_the_members_are_known() {
    let mut server = TestServer::restored(1, Default::default(), |config| config.voters.clear());
    server.appended(2, 1, at(0, 0), &[1], 1);
    server.take_snapshot().expect("something was applied");
    server.poll();
    assert!(server.others.is_empty());
    let members = Payload::Configuration(three().into());
    server.hear(2, 1, Body::AppendEntries(append(at(1, 1), vec![entry_of(1, 2, members)], 2)));
    let taken = server.others.pop();
    assert!(matches!(taken, Some(Output::TakeSnapshot(taken)) if taken.last == at(1, 2)));
}

/// A follower is taken to hold no more than it was sent, whatever it says: what is read next
/// follows what was sent.
#[test]
fn a_follower_holds_no_more_than_it_was_sent() {
    let mut server = leader();
    let last = compact(&mut server);
    server.rejected(3, 4, at(0, 0));
    assert_eq!(reads(&mut server).pop().unwrap().offset, 0);
    server.snapshot_read(id(3), last, 0, b"abcd".to_vec(), false);
    server.poll();
    received(&mut server, last, 1 << 40);
    assert_eq!(reads(&mut server).pop().unwrap().offset, 4, "asked before it spoke");
    server.snapshot_read(id(3), last, 4, b"efgh".to_vec(), false);
    server.poll();
    assert_eq!(reads(&mut server).pop().unwrap().offset, 8);
}

/// A leader whose newest snapshot is damaged takes another one, be it of the same entry: its state
/// machine is whole.
#[test]
fn a_damaged_snapshot_is_taken_again() {
    let mut server = leader();
    let last = compact(&mut server);
    assert_eq!(server.take_snapshot(), Err(NothingToSnapshot));
    server.snapshot_damaged(at(1, 1));
    server.poll();
    assert!(server.others.is_empty(), "another one's damage is no concern");
    server.snapshot_damaged(last);
    server.poll();
    let taken = server.others.pop();
    let Some(Output::TakeSnapshot(again)) = taken else { panic!("{taken:?}") };
    assert_eq!(again.last, last);
    server.snapshot_taken(last.index);
    server.poll();
    assert_eq!(server.take_snapshot(), Err(NothingToSnapshot), "it is whole again");
}
