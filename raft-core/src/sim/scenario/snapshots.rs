//! Snapshots (§7): sentences about them, and what a host does for them.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::sentence::{Sentence, sentence};
use super::stage::Stage;
use super::{Command, Told, tell};
use crate::{Index, NodeId, ProgressState, ReadSnapshot, SnapshotMeta, WriteSnapshot};

pub(super) const SNAPSHOTS: &[Sentence] = &[
    sentence(
        "N takes a snapshot",
        "Of all that its state machine was handed; it is durable at once.",
        |stage, values| take_snapshot(stage, values.server()),
    ),
    sentence("N starts a snapshot", "The same, but the host is not done yet.", |stage, values| {
        let id = values.server();
        stage.host_mut(id).snapshots_held = true;
        take_snapshot(stage, id)
    }),
    sentence("N's snapshot is done", "And durable: the one that was started.", |stage, values| {
        let id = values.server();
        stage.finish_snapshot(id)?;
        stage.turn(id)
    }),
    sentence(
        "expect N's snapshot ends at COUNT",
        "The newest that it would begin with.",
        |stage, values| {
            let (id, index) = (values.server(), values.count());
            is(&format!("the snapshot of {id}"), stage.raft(id)?.status().snapshot.index, index)
        },
    ),
    sentence(
        "expect N's log begins after COUNT",
        "What lies before is compacted.",
        |stage, values| {
            let (id, index) = (values.server(), values.count());
            is(
                &format!("the log of {id} begins after"),
                stage.raft(id)?.status().log_base.index,
                index,
            )
        },
    ),
    sentence(
        "expect N sends snapshots to N",
        "The leader knows that this follower needs one.",
        |stage, values| {
            let (id, to) = (values.server(), values.server());
            sends_snapshots(stage, id, &[to])
        },
    ),
    sentence("expect N sends snapshots to nobody", "No follower needs one.", |stage, values| {
        sends_snapshots(stage, values.server(), &[])
    }),
];

impl Stage {
    pub(super) fn on_take_snapshot(&mut self, id: NodeId, snapshot: SnapshotMeta) -> Told {
        self.on_snapshot(id, &snapshot)?;
        let host = self.host_mut(id);
        host.taking = Some((snapshot, host.encode()));
        if host.snapshots_held { Ok(()) } else { self.finish_snapshot(id) }
    }

    /// The snapshot that a server was taking is done, and durable.
    pub(super) fn finish_snapshot(&mut self, id: NodeId) -> Told {
        let taken = self.host_mut(id).taking.take();
        let (snapshot, bytes) = taken.ok_or_else(|| format!("{id} is taking no snapshot"))?;
        self.host_mut(id).snapshots.insert(snapshot.last, bytes);
        self.raft_mut(id)?.snapshot_taken(snapshot.last.index);
        Ok(())
    }

    pub(super) fn on_read_snapshot(&mut self, id: NodeId, read: ReadSnapshot) -> Told {
        let bytes = self.host(id).snapshots.get(&read.snapshot).cloned();
        let Some(bytes) = bytes else {
            self.raft_mut(id)?.snapshot_unreadable(read.to, read.snapshot);
            return Ok(());
        };
        let rest = &bytes[(read.offset as usize).min(bytes.len())..];
        let chunk = &rest[..rest.len().min(read.bytes_max)];
        let (done, chunk) = (chunk.len() == rest.len(), chunk.to_vec());
        self.raft_mut(id)?.snapshot_read(read.to, read.snapshot, read.offset, chunk, done);
        Ok(())
    }

    pub(super) fn on_write_snapshot(&mut self, id: NodeId, write: WriteSnapshot<Command>) -> Told {
        let host = self.host_mut(id);
        host.receiving.truncate(write.offset as usize);
        if host.receiving.len() as u64 != write.offset {
            return Err(format!("{id} is to write a snapshot with a gap at {}", write.offset));
        }
        host.receiving.extend(&write.chunk);
        let (last, written) = (write.snapshot.last, host.receiving.len() as u64);
        if write.done {
            let bytes = core::mem::take(&mut host.receiving);
            host.snapshots.insert(last, bytes);
        }
        self.raft_mut(id)?.snapshot_written(write.install, written);
        Ok(())
    }
}

fn take_snapshot(stage: &mut Stage, id: NodeId) -> Told {
    stage.raft_mut(id)?.take_snapshot().map_err(|refused| refused.to_string())?;
    stage.turn(id)
}

fn is(what: &str, found: Index, expected: u64) -> Told {
    if found == Index::new(expected) { Ok(()) } else { Err(format!("{what}: {found}")) }
}

fn sends_snapshots(stage: &Stage, id: NodeId, expected: &[NodeId]) -> Told {
    let peers = stage.raft(id)?.status().peers;
    let found = peers.iter().filter(|peer| peer.state == ProgressState::Snapshot);
    let found: Vec<_> = found.map(|peer| peer.id).collect();
    if found == expected {
        Ok(())
    } else {
        Err(format!("{id} sends snapshots to {}", tell::ids(&found)))
    }
}
