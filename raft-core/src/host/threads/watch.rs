//! Watches the workers, so that the node notices whichever thread hangs.
//!
//! While a worker is busy, the loop looks at each worker's [`Activity`] about once in
//! [`WATCH_INTERVAL`]. If a unit of work (a command, a read, a sync, a block of a snapshot) lasts
//! for [`NodeConfig::stuck_after`](crate::host::NodeConfig::stuck_after), the worker is *stuck*.
//! The node logs that once, and shows it in [`NodeStatus::stuck`](crate::host::NodeStatus::stuck)
//! until the worker goes on.
//!
//! While its state machine is stuck, a leader hands over, once in a term for each unit, because its
//! successor may be able to apply the command. If all state machines hang at the same command,
//! leadership goes round at that pace, and costs no election. If the loop itself calls the state
//! machine, the state machine's thread watches in its place. A state machine that chose to have no
//! thread ([`StateMachine::blocks`](crate::host::StateMachine::blocks)) is not watched.

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec::Vec;

use super::worker::{Activity, Unit};
use crate::host::worker_kind::{WorkerKind, WorkerStatus, WorkerTask};
use crate::types::{Index, NodeId};

/// How often the loop looks while a worker is busy. It looks more often if `stuck_after` is less
/// than four times this.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Watches a node's workers.
pub(in crate::host) struct Watch {
    node: NodeId,
    stuck_after: Duration,
    workers: Vec<Watched>,
    /// When the loop looks next; `None` if all workers wait for jobs.
    next: Option<Instant>,
}

struct Watched {
    kind: WorkerKind,
    activity: Arc<Activity>,
    /// The unit of work that the loop saw last, and when it first saw that unit.
    seen: Option<(Unit, Instant)>,
    is_stuck: bool,
}

impl Watch {
    pub(in crate::host) fn new(node: NodeId, stuck_after: Duration) -> Self {
        Self { node, stuck_after, workers: Vec::new(), next: None }
    }

    /// Watches this worker as well.
    pub(in crate::host) fn add(&mut self, kind: WorkerKind, activity: &Arc<Activity>) {
        let activity = Arc::clone(activity);
        self.workers.push(Watched { kind, activity, seen: None, is_stuck: false });
    }

    /// When the loop looks next.
    pub(in crate::host) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// To be called when a worker was given a job.
    pub(in crate::host) fn expect_work(&mut self) {
        if self.next.is_none() {
            self.next = Some(Instant::now() + self.interval());
        }
    }

    /// Whether it is time to look.
    pub(in crate::host) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// Looks at all workers.
    pub(in crate::host) fn look(&mut self, now: Instant) {
        let mut any_busy = false;
        for worker in &mut self.workers {
            any_busy |= worker.look(self.node, self.stuck_after, now);
        }
        self.next = any_busy.then(|| now + self.interval());
    }

    fn interval(&self) -> Duration {
        WATCH_INTERVAL.min(self.stuck_after / 4)
    }

    /// The number of the unit of work at which the worker of this kind is stuck, if it is.
    pub(in crate::host) fn stuck_at(&self, kind: WorkerKind) -> Option<u64> {
        let worker = self.workers.iter().find(|worker| worker.kind == kind)?;
        if !worker.is_stuck {
            return None;
        }
        worker.seen.map(|(unit, _)| unit.number)
    }

    /// The workers that are stuck.
    pub(in crate::host) fn stuck(&self) -> Vec<WorkerStatus> {
        self.workers.iter().filter(|worker| worker.is_stuck).filter_map(Watched::status).collect()
    }

    /// The workers that are busy at the end of the node, except those in `known`.
    pub(in crate::host) fn busy_besides(&self, known: &[WorkerStatus]) -> Vec<WorkerStatus> {
        let others = self.workers.iter().filter(|worker| {
            worker.activity.look().is_some()
                && known.iter().all(|known| known.worker != worker.kind)
        });
        others.map(|worker| self.status_of(worker.kind, &worker.activity)).collect()
    }

    /// The status of the worker with this activity, at the end of the node.
    pub(in crate::host) fn status_of(&self, kind: WorkerKind, activity: &Activity) -> WorkerStatus {
        let now = Instant::now();
        let seen = self.workers.iter().find(|worker| worker.kind == kind).and_then(|w| w.seen);
        let unit = activity.look();
        let since = match (seen, unit) {
            (Some((seen, since)), Some(unit)) if seen.number == unit.number => since,
            _ => now,
        };
        let (task, index) = unit.map_or((WorkerTask::Close, None), |unit| (unit.task, unit.index));
        WorkerStatus { worker: kind, task, index, since }
    }
}

impl Watched {
    /// Looks at the worker; returns whether it is busy.
    fn look(&mut self, node: NodeId, stuck_after: Duration, now: Instant) -> bool {
        let unit = self.activity.look();
        let goes_on = match (self.seen, unit) {
            (Some((seen, _)), Some(unit)) => seen.number == unit.number,
            _ => false,
        };
        if !goes_on {
            if let (true, Some((_, since))) = (self.is_stuck, self.seen) {
                let worker = self.kind;
                let span = now.saturating_duration_since(since);
                tracing::warn!(node = node.get(), %worker, ?span, "a worker that was stuck goes on");
            }
            self.is_stuck = false;
            self.seen = unit.map(|unit| (unit, now));
            return unit.is_some();
        }
        let Some((unit, since)) = self.seen else { return false };
        let span = now.saturating_duration_since(since);
        if span >= stuck_after && !self.is_stuck {
            self.is_stuck = true;
            let worker = self.kind;
            let task = unit.task;
            let index = unit.index.map(Index::get);
            tracing::error!(node = node.get(), %worker, %task, index, ?span, "a worker is stuck");
        }
        true
    }

    fn status(&self) -> Option<WorkerStatus> {
        let (unit, since) = self.seen?;
        Some(WorkerStatus { worker: self.kind, task: unit.task, index: unit.index, since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_on_is_stuck_and_what_goes_on_slowly_is_not() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let activity = Arc::<Activity>::default();
        let mut watch = Watch::new(NodeId::new(1), 4 * second);
        watch.add(WorkerKind::StateMachine, &activity);
        watch.look(start);
        assert!(watch.deadline().is_none(), "nothing to watch");
        watch.expect_work();
        assert!(watch.deadline().is_some() && !watch.is_due(start));
        for number in 0..20 {
            activity.begin(WorkerTask::Apply, Index::new(number));
            watch.look(start + second * u32::try_from(number).unwrap());
            assert!(watch.stuck().is_empty());
        }
        let since = start + 19 * second;
        assert_eq!(watch.deadline(), Some(since + second));
        for passed in 1..=3 {
            watch.look(since + passed * second);
            assert!(watch.stuck().is_empty(), "{passed} s");
        }
        watch.look(since + 4 * second);
        let stuck = watch.stuck();
        assert_eq!((stuck[0].index, stuck[0].since), (Some(Index::new(19)), since));
        assert!(watch.stuck_at(WorkerKind::StateMachine).is_some());
        activity.end();
        watch.look(since + 5 * second);
        assert!(watch.stuck().is_empty() && watch.deadline().is_none());
    }
}
