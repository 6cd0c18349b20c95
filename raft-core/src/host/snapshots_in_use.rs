//! The loop's side of snapshots (§7): what Raft asks for goes to the thread that keeps them, and what that reports comes back.

use std::collections::VecDeque;
use std::string::String;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::vec::Vec;

use bytes::Bytes;
use rand_pcg::Pcg32;

use super::error::{RestoreError, SnapshotError, StartError, Stopped};
use super::identity::ClusterId;
use super::inbox::{Inbox, SnapshotReply};
use super::snapshot::{Report, SnapshotStore, SnapshotWorker, Snapshots};
use super::state_machine::StateMachine;
use super::state_machine_worker::restore;
use super::waiters::answer;
use crate::output::{ReadSnapshot, SnapshotMeta, Write, WriteSnapshot};
use crate::raft::Raft;
use crate::types::{LogId, WriteId};

/// The most who wait for a snapshot; more are refused as busy.
const ASKED_MAX: usize = 1024;

/// A node's snapshots.
pub(super) struct SnapshotsInUse {
    /// None if the journal keeps no snapshots.
    worker: Option<(SnapshotWorker, Snapshots)>,
    /// One is being taken.
    takes: bool,
    /// Who waits for the one that is being taken, or is to be.
    asked: Vec<SnapshotReply>,
    /// Snapshots that writes on their way put in use.
    named: VecDeque<(WriteId, LogId)>,
}

impl SnapshotsInUse {
    /// Starts the thread, if there is a store. It reports to the inbox.
    pub(super) fn start<S: StateMachine>(
        store: Option<Arc<dyn SnapshotStore>>,
        cluster: ClusterId,
        inbox: &Arc<Inbox<S>>,
    ) -> Result<Self, StartError> {
        let start = |store| {
            let inbox = Arc::clone(inbox);
            SnapshotWorker::start(store, cluster, move |report| inbox.snapshot(report))
        };
        let worker = store.map(start).transpose().map_err(StartError::System)?;
        Ok(Self { worker, takes: false, asked: Vec::new(), named: VecDeque::new() })
    }

    /// What the state machine needs of it.
    pub(super) fn jobs(&self) -> Option<Snapshots> {
        self.worker.as_ref().map(|(_, jobs)| jobs.clone())
    }

    /// Restores the state with which the node starts, and removes all other snapshots.
    pub(super) fn restore<S: StateMachine>(
        &self,
        state_machine: &mut S,
        snapshot: &SnapshotMeta,
    ) -> Result<(), RestoreError> {
        let Some((_, jobs)) = &self.worker else {
            return Err(RestoreError::Refused {
                last: snapshot.last,
                message: "the journal names a snapshot and keeps none".into(),
            });
        };
        restore(state_machine, jobs, snapshot)?;
        jobs.keep_alone(snapshot.last);
        Ok(())
    }

    /// Whether one is being taken.
    pub(super) fn takes(&self) -> bool {
        self.takes
    }

    /// Someone wants a snapshot now.
    pub(super) fn ask(&mut self, raft: &mut Raft<Bytes, Pcg32>, reply: SnapshotReply) {
        let wanted = raft.take_snapshot();
        if wanted.is_ok() || self.takes {
            if self.asked.len() >= ASKED_MAX {
                return answer(reply, Err(SnapshotError::Busy));
            }
            return self.asked.push(reply);
        }
        let last = raft.status().snapshot;
        answer(reply, if last > LogId::ZERO { Ok(last) } else { Err(SnapshotError::Nothing) });
    }

    /// One is to be taken. Whether it can be.
    pub(super) fn begin(&mut self, raft: &mut Raft<Bytes, Pcg32>) -> bool {
        self.takes = self.worker.is_some();
        if !self.takes {
            self.not_taken(raft, None);
        }
        self.takes
    }

    pub(super) fn read(&self, raft: &mut Raft<Bytes, Pcg32>, read: ReadSnapshot) {
        match &self.worker {
            Some((_, jobs)) => jobs.read(read),
            None => raft.snapshot_unreadable(read.to, read.snapshot),
        }
    }

    /// Without a store it is ignored; the leader sends it again.
    pub(super) fn write(&self, write: WriteSnapshot<Bytes>) {
        if let Some((_, jobs)) = &self.worker {
            jobs.write(write);
        }
    }

    /// This is being written: it may put another snapshot in use.
    pub(super) fn written(&mut self, write: &Write<Bytes>) {
        if let Some(snapshot) = write.snapshot.as_ref().filter(|s| s.last > LogId::ZERO) {
            self.named.push_back((write.id, snapshot.last));
        }
    }

    /// What was written is durable: snapshots before the one in use may go.
    pub(super) fn persisted(&mut self, id: WriteId) {
        let durable = self.named.partition_point(|(write, _)| *write <= id);
        let newest = self.named.drain(..durable).next_back();
        if let (Some((_, last)), Some((_, jobs))) = (newest, &self.worker) {
            jobs.keep(last);
        }
    }

    pub(super) fn take_report(&mut self, raft: &mut Raft<Bytes, Pcg32>, report: Report) {
        match report {
            Report::Taken(last) => {
                raft.snapshot_taken(last.index);
                self.takes = false;
                self.asked.drain(..).for_each(|reply| answer(reply, Ok(last)));
            }
            Report::NotTaken(why) => self.not_taken(raft, why),
            Report::Read { to, snapshot, offset, piece, done } => {
                raft.snapshot_read(to, snapshot, offset, piece, done);
            }
            Report::Unreadable { to, snapshot } => raft.snapshot_unreadable(to, snapshot),
            Report::Written { install, written } => raft.snapshot_written(install, written),
        }
    }

    /// Tells everyone that the node has stopped.
    pub(super) fn stop(&mut self, stopped: &Stopped) {
        self.asked.drain(..).for_each(|reply| answer(reply, Err(stopped.clone().into())));
    }

    /// Ends the thread.
    pub(super) fn finish(&mut self) -> Option<JoinHandle<()>> {
        self.worker.as_mut().and_then(|(worker, _)| worker.finish())
    }

    /// `why` is none if there never is one.
    fn not_taken(&mut self, raft: &mut Raft<Bytes, Pcg32>, why: Option<String>) {
        raft.snapshot_failed();
        self.takes = false;
        let error = match why {
            None => SnapshotError::Unsupported,
            Some(why) => {
                let node = raft.id();
                tracing::warn!(%node, %why, "no snapshot was taken; it is tried again when the log has grown");
                SnapshotError::Failed { message: why.into() }
            }
        };
        self.asked.drain(..).for_each(|reply| answer(reply, Err(error.clone())));
    }
}
