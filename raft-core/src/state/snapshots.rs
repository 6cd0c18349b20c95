//! What a server knows of its own snapshot (§7), and of the one that its leader sends. The rules
//! are in `snapshot.rs`.

use alloc::collections::VecDeque;
#[cfg(feature = "sim")]
use core::time::Duration;

use crate::checkpoint::stored;
use crate::config::Config;
use crate::message::SnapshotMeta;
use crate::output::WriteSnapshot;
use crate::time::Instant;
use crate::types::{Index, InstallId, Session, Term};

/// What a server knows of its own snapshots.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Snapshots<C> {
    /// The last one taken or installed.
    pub(crate) last: SnapshotMeta,
    /// What the state machine was given since, or since one was tried last, in bytes of entries.
    pub(crate) bytes_since: usize,
    /// Where the one that was tried last would end.
    pub(crate) tried: Index,
    /// One was due, and none has been taken since.
    pub(crate) owed: bool,
    /// How many have failed in a row that were tried though nothing more had come, and when the
    /// next is.
    pub(crate) failures: u32,
    pub(crate) retry_at: Option<Instant>,
    /// The application asked for one.
    pub(crate) wanted: bool,
    /// The host cannot read `last` any more, so that another one is worth taking even of the same
    /// entry.
    pub(crate) damaged: bool,
    /// The log holds entries up to `last` that are there for followers that catch up alone.
    pub(crate) holds_log: bool,
    /// The host is taking this one.
    pub(crate) taking: Option<SnapshotMeta>,
    /// `last` was installed, and the state machine has yet to be told.
    pub(crate) restoring: bool,
    /// The state machine was told last to restore up to here.
    pub(crate) restored: Index,
    /// What the leader sends, and how many times anything came since the start.
    pub(crate) receiving: Option<Receiving<C>>,
    pub(crate) installs: InstallId,
}

stored! {
    struct Snapshots<C> {
        last, bytes_since, tried, owed, failures, retry_at, wanted, damaged, holds_log,
        taking, restoring, restored, receiving, installs,
    }
}

impl<C> Snapshots<C> {
    pub(crate) fn new(last: SnapshotMeta) -> Self {
        Self {
            tried: last.last.index,
            last,
            bytes_since: 0,
            owed: false,
            failures: 0,
            retry_at: None,
            wanted: false,
            damaged: false,
            holds_log: false,
            taking: None,
            restoring: false,
            restored: Index::ZERO,
            receiving: None,
            installs: InstallId::default(),
        }
    }

    /// Whether a snapshot is due, being taken, or could not be taken when it was due.
    pub(crate) fn is_due(&self, config: &Config) -> bool {
        self.owed || self.taking.is_some() || self.bytes_since >= config.snapshot_log_bytes
    }

    /// How long it is until one that failed is tried again.
    #[cfg(feature = "sim")]
    pub(crate) fn tried_again_after(&self, now: Instant) -> Duration {
        self.retry_at.map_or(Duration::ZERO, |retry_at| retry_at.saturating_duration_since(now))
    }

    /// The attempt to which a chunk of the leader belongs that begins at `offset`; the first chunk
    /// begins one. None if a later chunk comes alone.
    pub(crate) fn receive(
        &mut self,
        term: Term,
        session: Session,
        snapshot: &SnapshotMeta,
        offset: u64,
    ) -> Option<&mut Receiving<C>> {
        let is_known = self.receiving.as_ref().is_some_and(|known| {
            (known.term, known.session, known.snapshot.last) == (term, session, snapshot.last)
        });
        if !is_known && offset > 0 {
            return None;
        }
        if !is_known {
            self.installs = self.installs.next();
            self.receiving = Some(Receiving {
                id: self.installs,
                term,
                session,
                snapshot: snapshot.clone(),
                chunks: VecDeque::new(),
                received: 0,
                written: 0,
                unwritten: VecDeque::new(),
                size: None,
            });
        }
        self.receiving.as_mut()
    }

    /// Puts its moment elsewhere, for [`Raft::canonical`](crate::Raft::canonical).
    pub(crate) fn move_in_time(&mut self, future: impl Fn(Instant) -> Instant) {
        self.retry_at = self.retry_at.map(future);
    }
}

/// A snapshot that comes from the leader.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Receiving<C> {
    pub(crate) id: InstallId,
    pub(crate) term: Term,
    pub(crate) session: Session,
    pub(crate) snapshot: SnapshotMeta,
    /// Chunks that the host was not given yet.
    pub(crate) chunks: VecDeque<WriteSnapshot<C>>,
    /// Up to where chunks have come, and been written.
    pub(crate) received: u64,
    pub(crate) written: u64,
    /// Where those chunks end that have come and are not written; no more of them than the leader
    /// has on its way.
    pub(crate) unwritten: VecDeque<u64>,
    /// Where the snapshot ends, once that is known.
    pub(crate) size: Option<u64>,
}

stored! {
    struct Receiving<C> {
        id, term, session, snapshot, chunks, received, written, unwritten, size,
    }
}
