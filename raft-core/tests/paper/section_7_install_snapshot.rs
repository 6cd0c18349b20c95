//! Log compaction (§7) at a follower, sentence by sentence: it installs the snapshot that its
//! leader sends.

use crate::server::{Command, TestServer, append, at, entries_after, id, index, term};
use raft_core::{
    AppendResult, Body, InstallId, InstallSnapshot, InstallSnapshotReply, LogId, Membership,
    Output, Role, Session, SnapshotMeta, WriteSnapshot,
};

fn three() -> Membership {
    Membership::of_voters([1, 2, 3].map(id))
}

fn snapshot(last: LogId) -> SnapshotMeta {
    SnapshotMeta { last, membership: three() }
}

fn writes(server: &mut TestServer) -> Vec<WriteSnapshot<Command>> {
    let write = |output| if let Output::WriteSnapshot(write) = output { Some(write) } else { None };
    std::mem::take(&mut server.others).into_iter().filter_map(write).collect()
}

fn replies(server: &mut TestServer) -> Vec<InstallSnapshotReply> {
    let reply =
        |body| if let Body::InstallSnapshotReply(reply) = body { Some(reply) } else { None };
    server.take_sent().into_iter().filter_map(|message| reply(message.body)).collect()
}

/// A chunk of the snapshot that ends at `last`, from a leader of term 2.
fn install(server: &mut TestServer, last: LogId, offset: u64, chunk: &[u8], done: bool) {
    let (session, snapshot) = (Session::new(1), Box::new(snapshot(last)));
    let chunk = chunk.to_vec();
    let body = Body::InstallSnapshot(InstallSnapshot { session, snapshot, offset, chunk, done });
    server.hear(2, 2, body);
}

/// A state machine that is slow to restore owes an answer for one snapshot at a time, whatever is
/// installed meanwhile; the newest follows, and entries follow that.
#[test]
fn a_second_restore_waits_for_the_first_and_entries_wait_for_both() {
    let mut server = TestServer::holding(3, 1, &[1, 1, 1]);
    for (attempt, last) in (1..).zip([at(2, 9), at(2, 19), at(2, 29)]) {
        install(&mut server, last, 0, b"state", true);
        server.snapshot_written(InstallId::new(attempt), 5);
        server.poll();
    }
    let restores = |server: &mut TestServer| {
        let others = core::mem::take(&mut server.others).into_iter();
        let restores = others.filter(|output| matches!(output, Output::Restore(_)));
        restores.collect::<Vec<_>>()
    };
    assert_eq!(server.status().log_base, at(2, 29), "all of them are in place of the log");
    assert_eq!(restores(&mut server), [Output::Restore(snapshot(at(2, 9)))]);
    let answer = server.appended(2, 2, at(2, 29), &[2], 30);
    assert_eq!(answer, Some(AppendResult::Matched(index(30))));
    assert_eq!((restores(&mut server).len(), server.applied_ids().len()), (0, 0));
    server.applied(index(9));
    server.poll();
    assert_eq!(restores(&mut server), [Output::Restore(snapshot(at(2, 29)))]);
    assert_eq!(server.applied_ids(), [at(2, 30)]);
}

/// "Usually the snapshot will contain new information not already in the recipient's log. In this
/// case, the follower discards its entire log."
#[test]
fn a_snapshot_replaces_the_log_once_it_is_whole() {
    let mut server = TestServer::holding(3, 1, &[1, 1, 1]);
    install(&mut server, at(2, 9), 0, b"abcd", false);
    install(&mut server, at(2, 9), 4, b"e", true);
    let wanted = writes(&mut server);
    let wanted: Vec<_> = wanted.iter().map(|w| (w.offset, &*w.chunk, w.done)).collect();
    assert_eq!(wanted, [(0, &b"abcd"[..], false), (4, &b"e"[..], true)]);
    server.snapshot_written(InstallId::new(1), 4);
    server.poll();
    assert_eq!(replies(&mut server).pop().map(|reply| reply.received), Some(4));
    assert_eq!(server.status().last_log, at(1, 3));

    server.hold_disk();
    server.snapshot_written(InstallId::new(1), 5);
    server.poll();
    let status = server.status();
    assert_eq!((status.log_base, status.last_log), (at(2, 9), at(2, 9)));
    assert!(server.append_reply().is_none(), "nothing is said before the write is durable");
    assert!(server.others.is_empty(), "and nothing restored");
    server.sync();
    assert_eq!(server.others, [Output::Restore(snapshot(at(2, 9)))]);
    let (_, reply) = server.append_reply().unwrap();
    assert_eq!(reply.result, AppendResult::Matched(index(9)));
    server.applied(index(9));
    assert_eq!(server.status().last_applied, index(9));
    server.crash();
    assert_eq!((server.status().commit_index, server.status().last_log), (index(9), at(2, 9)));
}

/// "If instead the follower receives a snapshot that describes a prefix of its log ... entries
/// following the snapshot are still valid and must be retained."
#[test]
fn a_snapshot_of_a_prefix_of_the_log_changes_nothing_but_the_commit_index() {
    let mut server = TestServer::holding(3, 1, &[1, 1, 1]);
    install(&mut server, at(1, 2), 0, b"abcd", true);
    assert!(writes(&mut server).is_empty());
    let status = server.status();
    assert_eq!((status.last_log, status.commit_index), (at(1, 3), index(2)));
    let (_, reply) = server.append_reply().unwrap();
    assert_eq!(reply.result, AppendResult::Matched(index(2)));
}

/// A snapshot of a committed index in another term cannot be: it is refused, whatever else it says.
#[test]
fn a_snapshot_of_a_committed_index_in_another_term_is_refused() {
    let mut server = TestServer::holding(3, 1, &[1, 1, 1]);
    server.appended(2, 2, at(1, 3), &[], 3);
    install(&mut server, at(2, 2), 0, b"abcd", true);
    assert!(writes(&mut server).is_empty() && server.append_reply().is_none());
    assert_eq!(server.status().counters.protocol_violations, 1);
}

/// The late completion of a snapshot, after the log has come by itself, is harmless.
#[test]
fn a_snapshot_that_is_complete_too_late_is_not_installed() {
    let mut server = TestServer::holding(3, 1, &[]);
    install(&mut server, at(2, 2), 0, b"abcd", true);
    server.appended(2, 2, at(0, 0), &[1, 2, 2], 3);
    server.snapshot_written(InstallId::new(1), 4);
    server.poll();
    assert_eq!((server.status().last_log, server.status().log_base), (at(2, 3), LogId::ZERO));
}

/// A snapshot of no bytes replaces the log as any other does. What is said of 0 bytes is the whole
/// of it, and not that it failed.
#[test]
fn a_snapshot_of_no_bytes_is_installed() {
    let mut server = TestServer::holding(3, 1, &[1]);
    install(&mut server, at(2, 9), 0, b"", true);
    install(&mut server, at(2, 9), 0, b"", true);
    assert!(replies(&mut server).is_empty(), "nothing is lost, and nothing written");
    let written = writes(&mut server);
    assert_eq!(written.iter().map(|w| (w.offset, w.chunk.len())).collect::<Vec<_>>(), [(0, 0)]);
    server.snapshot_unwritable(InstallId::new(1));
    server.poll();
    assert_eq!(replies(&mut server).pop().map(|reply| reply.received), Some(0));
    assert_eq!(server.status().last_log, at(1, 1), "a file that could not be written");

    install(&mut server, at(2, 9), 0, b"", true);
    server.snapshot_written(InstallId::new(2), 0);
    server.poll();
    assert_eq!(server.status().last_log, at(2, 9));
    let (_, reply) = server.append_reply().expect("it is durable");
    assert_eq!(reply.result, AppendResult::Matched(index(9)));
}

/// A host that could not write a piece says so by 0 as well, unless that is the whole.
#[test]
fn what_could_not_be_written_is_sent_again() {
    let mut server = TestServer::holding(3, 1, &[1]);
    install(&mut server, at(2, 9), 0, b"abcd", true);
    server.snapshot_written(InstallId::new(1), 0);
    server.poll();
    assert_eq!(replies(&mut server).pop().map(|reply| reply.received), Some(0));
    server.snapshot_written(InstallId::new(1), 4);
    server.poll();
    assert_eq!(server.status().last_log, at(1, 1), "that attempt is over");
}

/// A chunk out of order is not written; the follower says what it wants.
#[test]
fn a_chunk_out_of_order_is_not_written() {
    let mut server = TestServer::holding(3, 1, &[]);
    install(&mut server, at(2, 9), 4, b"e", true);
    assert_eq!(replies(&mut server).pop().map(|reply| reply.received), Some(0));
    install(&mut server, at(2, 9), 0, b"abcd", false);
    install(&mut server, at(2, 9), 8, b"e", true);
    install(&mut server, at(2, 9), 0, b"abcd", false);
    assert_eq!(writes(&mut server).len(), 1);
}

/// A server that follows no more does not install what its earlier leader sent.
#[test]
fn a_snapshot_is_installed_only_as_follower_of_the_one_that_sent_it() {
    let mut server = TestServer::holding(3, 1, &[1]);
    install(&mut server, at(2, 9), 0, b"abcd", true);
    server.time_out();
    assert_eq!(server.role(), Role::PreCandidate);
    server.snapshot_written(InstallId::new(1), 4);
    server.poll();
    assert_eq!(server.status().last_log, at(1, 1));

    let mut server = TestServer::holding(3, 1, &[1]);
    install(&mut server, at(2, 9), 0, b"abcd", true);
    server.hear(3, 3, Body::AppendEntries(append(at(1, 1), entries_after(1, &[3]), 0)));
    server.snapshot_written(InstallId::new(1), 4);
    server.poll();
    assert_eq!((server.term(), server.status().last_log), (term(3), at(3, 2)));
}

/// Another leader may cut a snapshot of the same entry into other pieces: what is said of the first
/// attempt counts for nothing in the second.
#[test]
fn the_end_of_an_earlier_attempt_installs_nothing() {
    let mut server = TestServer::holding(3, 1, &[]);
    install(&mut server, at(2, 9), 0, b"abcd", false);
    let first = writes(&mut server).pop().map(|write| write.install).unwrap();
    let whole = InstallSnapshot {
        session: Session::new(1),
        snapshot: Box::new(snapshot(at(2, 9))),
        offset: 0,
        chunk: b"abcd".to_vec(),
        done: true,
    };
    server.hear(3, 3, Body::InstallSnapshot(whole));
    server.snapshot_written(first, 4);
    server.poll();
    assert_eq!(server.status().last_log, LogId::ZERO);
    let second = writes(&mut server).pop().map(|write| write.install).unwrap();
    server.snapshot_written(second, 4);
    server.poll();
    assert_eq!(server.status().last_log, at(2, 9));
}

/// Entries behind the snapshot follow it, and what lies below it is committed: a leader may send it
/// again.
#[test]
fn the_log_goes_on_behind_the_snapshot() {
    let mut server = TestServer::holding(3, 1, &[1, 1, 1]);
    install(&mut server, at(2, 9), 0, b"abcd", true);
    server.snapshot_written(InstallId::new(1), 4);
    server.poll();
    let answer = server.appended(2, 2, at(1, 7), &[2, 2, 2, 2], 10);
    assert_eq!(answer, Some(AppendResult::Matched(index(11))));
    assert_eq!(server.status().commit_index, index(10));
    assert_eq!(server.applied_ids(), [at(2, 10)]);
}

/// A leader sends no more chunks at a time than it may; one that sends more is not heard, however
/// slow the disk.
#[test]
fn chunks_that_are_not_written_are_bounded() {
    let mut server = TestServer::restored(3, Default::default(), |config| {
        config.inflight_chunks_max = 2;
    });
    for offset in 0..9 {
        install(&mut server, at(2, 9), offset, b"a", false);
    }
    assert_eq!(writes(&mut server).len(), 2);
    server.snapshot_written(InstallId::new(1), 1);
    install(&mut server, at(2, 9), 2, b"a", true);
    server.snapshot_written(InstallId::new(1), 3);
    install(&mut server, at(2, 9), 3, b"", true);
    assert_eq!(writes(&mut server).len(), 1, "nothing comes behind the last");
}

/// Entries below the log's first are not looked at; what follows them must still be possible.
#[test]
fn an_append_that_contradicts_what_was_compacted_is_not_taken() {
    let mut server = TestServer::holding(3, 2, &[]);
    install(&mut server, at(2, 2), 0, b"abcd", true);
    server.snapshot_written(InstallId::new(1), 4);
    server.poll();
    server.appended(2, 2, at(1, 1), &[1, 1], 0);
    let status = server.status();
    assert_eq!((status.last_log, status.counters.protocol_violations), (at(2, 2), 1));
}
