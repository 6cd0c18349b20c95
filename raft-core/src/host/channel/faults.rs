//! The fault model of a network that exists only in this process: as a seed decides, messages are
//! lost, delayed, repeated or reordered, and links are cut. It also counts messages and their
//! bytes.
//!
//! A link is one way from one node to another. Without reordering, messages on a link arrive in
//! order, however late.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand_core::Rng;
use rand_pcg::Pcg32;

use crate::types::NodeId;

/// The longest delay. A longer one is cut down to this.
const SPAN_MAX: Duration = Duration::from_secs(3600);

/// How bad an in-process network is. The default is perfect: no message is lost, and each arrives
/// at once.
///
/// Probabilities are from 0 to 1. At 0 or below the fault never happens, at 1 or above it always
/// does.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Faults {
    /// The probability that a message is lost.
    pub drop: f64,
    /// The probability that a message arrives twice.
    pub duplicate: f64,
    /// The probability that a message may be overtaken: it is late by up to `reorder_by` more, and
    /// the messages behind it do not wait.
    pub reorder: f64,
    /// The most by which a reordered message is late.
    pub reorder_by: Duration,
    /// The shortest time that a message is on its way.
    pub delay_min: Duration,
    /// The longest time that a message is on its way. Each message takes a time between the two.
    pub delay_max: Duration,
}

/// What a network has carried. Numbers only grow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Traffic {
    /// Messages that nodes sent.
    pub sent: u64,
    /// The same in bytes, as they are encoded on a wire, without framing.
    pub bytes_sent: u64,
    /// Messages that were lost: by chance, on a cut link, or because no node was there to receive
    /// them.
    pub dropped: u64,
    /// Messages that arrived a second time.
    pub duplicated: u64,
}

/// Decides what happens to each message.
#[derive(Debug)]
pub(super) struct FaultModel {
    rng: Pcg32,
    faults: Faults,
    /// Links that were cut one by one.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Nodes all of whose links are cut.
    isolated: BTreeSet<NodeId>,
    /// When the last message in order arrives, for each link on which a message is delayed.
    busy_until: BTreeMap<(NodeId, NodeId), Instant>,
    traffic: Traffic,
}

/// When the copies of a message arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Delivery {
    /// Never.
    Lost,
    /// At once.
    Now,
    /// At this moment, and perhaps a second time at another.
    Later(Instant, Option<Instant>),
}

impl FaultModel {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Pcg32::new(seed, 0),
            faults: Faults::default(),
            cut: BTreeSet::new(),
            isolated: BTreeSet::new(),
            busy_until: BTreeMap::new(),
            traffic: Traffic::default(),
        }
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        let clamp = |span: Duration| span.min(SPAN_MAX);
        self.faults = Faults {
            reorder_by: clamp(faults.reorder_by),
            delay_min: clamp(faults.delay_min),
            delay_max: clamp(faults.delay_max),
            ..faults
        };
    }

    pub(super) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    pub(super) fn mend(&mut self, from: NodeId, to: NodeId) {
        self.cut.remove(&(from, to));
    }

    pub(super) fn isolate(&mut self, node: NodeId) {
        self.isolated.insert(node);
    }

    pub(super) fn rejoin(&mut self, node: NodeId) {
        self.isolated.remove(&node);
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.isolated.clear();
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Whether messages can pass from one node to the other.
    pub(super) fn is_open(&self, from: NodeId, to: NodeId) -> bool {
        !self.cut.contains(&(from, to))
            && !self.isolated.contains(&from)
            && !self.isolated.contains(&to)
    }

    /// Counts a message that was lost where it was to arrive.
    pub(super) fn lost(&mut self) {
        self.traffic.dropped = self.traffic.dropped.saturating_add(1);
    }

    /// Decides when a message of this many bytes arrives. A network without delays needs no clock.
    pub(super) fn decide(
        &mut self,
        from: NodeId,
        to: NodeId,
        bytes: u64,
        clock: impl FnOnce() -> Instant,
    ) -> Delivery {
        self.traffic.sent = self.traffic.sent.saturating_add(1);
        self.traffic.bytes_sent = self.traffic.bytes_sent.saturating_add(bytes);
        if !self.is_open(from, to) || self.happens(self.faults.drop) {
            self.lost();
            return Delivery::Lost;
        }
        let duplicated = self.happens(self.faults.duplicate);
        if !duplicated && self.delays_nothing() {
            return Delivery::Now;
        }
        let now = clock();
        let arrival = self.arrival((from, to), now);
        match arrival {
            None if !duplicated => Delivery::Now,
            arrival => {
                let first = arrival.unwrap_or(now);
                Delivery::Later(first, duplicated.then(|| self.duplicate((from, to), now, first)))
            }
        }
    }

    /// Whether no message is late, nor was one.
    fn delays_nothing(&self) -> bool {
        let Faults { reorder, delay_min, delay_max, .. } = self.faults;
        reorder <= 0.0 && delay_min.max(delay_max).is_zero() && self.busy_until.is_empty()
    }

    /// When a message that is sent now arrives. `None` means at once.
    fn arrival(&mut self, link: (NodeId, NodeId), now: Instant) -> Option<Instant> {
        let delay = self.between(self.faults.delay_min, self.faults.delay_max);
        if self.happens(self.faults.reorder) {
            return Some(now + delay + self.between(Duration::ZERO, self.faults.reorder_by));
        }
        let behind = self.busy_until.get(&link).copied().filter(|until| *until > now);
        if delay.is_zero() && behind.is_none() {
            self.busy_until.remove(&link);
            return None;
        }
        let arrival = behind.map_or(now + delay, |until| until.max(now + delay));
        self.busy_until.insert(link, arrival);
        Some(arrival)
    }

    /// When the second copy arrives: not before the first.
    fn duplicate(&mut self, link: (NodeId, NodeId), now: Instant, first: Instant) -> Instant {
        self.traffic.duplicated = self.traffic.duplicated.saturating_add(1);
        self.arrival(link, now).map_or(first, |second| second.max(first))
    }

    fn happens(&mut self, probability: f64) -> bool {
        // A random number is drawn only if the outcome is not certain, so that a perfect network
        // costs nothing.
        probability > 0.0 && f64::from(self.rng.next_u32()) < probability * 2f64.powi(32)
    }

    fn between(&mut self, min: Duration, max: Duration) -> Duration {
        let spread = u64::try_from(max.saturating_sub(min).as_nanos()).unwrap_or(u64::MAX);
        if spread == 0 {
            return min;
        }
        min + Duration::from_nanos(self.rng.next_u64() % spread)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const A: NodeId = NodeId::new(1);
    const B: NodeId = NodeId::new(2);

    fn deliveries(fault_model: &mut FaultModel, count: usize, now: Instant) -> Vec<Delivery> {
        (0..count).map(|_| fault_model.decide(A, B, 10, || now)).collect()
    }

    fn arrivals(deliveries: &[Delivery], now: Instant) -> Vec<Instant> {
        let first = |delivery: &Delivery| match delivery {
            Delivery::Lost => None,
            Delivery::Now => Some(now),
            Delivery::Later(first, _) => Some(*first),
        };
        deliveries.iter().filter_map(first).collect()
    }

    #[test]
    fn a_perfect_network_carries_everything_at_once_and_counts_it() {
        let mut fault_model = FaultModel::new(1);
        assert!(
            deliveries(&mut fault_model, 100, Instant::now())
                .iter()
                .all(|delivery| *delivery == Delivery::Now)
        );
        let expected = Traffic { sent: 100, bytes_sent: 1000, ..Traffic::default() };
        assert_eq!(fault_model.traffic(), expected);
    }

    #[test]
    fn the_same_seed_decides_the_same() {
        let now = Instant::now();
        let faults = Faults {
            drop: 0.2,
            duplicate: 0.2,
            reorder: 0.2,
            reorder_by: Duration::from_millis(9),
            delay_min: Duration::from_millis(1),
            delay_max: Duration::from_millis(5),
        };
        let run = |seed| {
            let mut fault_model = FaultModel::new(seed);
            fault_model.set_faults(faults);
            deliveries(&mut fault_model, 200, now)
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn losses_are_as_frequent_as_asked_for() {
        let mut fault_model = FaultModel::new(3);
        fault_model.set_faults(Faults { drop: 0.1, ..Faults::default() });
        deliveries(&mut fault_model, 10_000, Instant::now());
        assert!(
            (800..1200).contains(&fault_model.traffic().dropped),
            "{:?}",
            fault_model.traffic()
        );
        fault_model.set_faults(Faults { drop: 1.0, ..Faults::default() });
        assert!(
            deliveries(&mut fault_model, 100, Instant::now())
                .iter()
                .all(|delivery| *delivery == Delivery::Lost)
        );
    }

    #[test]
    fn delayed_messages_stay_in_order_unless_reordered() {
        let now = Instant::now();
        let mut fault_model = FaultModel::new(4);
        let delay_max = Duration::from_millis(50);
        fault_model.set_faults(Faults { delay_max, ..Faults::default() });
        assert!(arrivals(&deliveries(&mut fault_model, 100, now), now).is_sorted());

        // What is sent when the delay has been taken away still queues behind what is late.
        fault_model.set_faults(Faults::default());
        assert!(matches!(fault_model.decide(A, B, 1, || now), Delivery::Later(..)));
        assert_eq!(fault_model.decide(A, B, 1, || now + delay_max), Delivery::Now);

        let reorder_by = Duration::from_millis(50);
        fault_model.set_faults(Faults { reorder: 0.5, reorder_by, ..Faults::default() });
        let later = now + delay_max;
        assert!(!arrivals(&deliveries(&mut fault_model, 100, later), later).is_sorted());
    }

    #[test]
    fn a_second_copy_never_comes_first() {
        let now = Instant::now();
        let mut fault_model = FaultModel::new(5);
        let reorder_by = Duration::from_millis(50);
        fault_model.set_faults(Faults {
            duplicate: 1.0,
            reorder: 0.5,
            reorder_by,
            ..Faults::default()
        });
        for delivery in deliveries(&mut fault_model, 100, now) {
            assert!(matches!(delivery, Delivery::Later(first, Some(second)) if first <= second));
        }
        assert_eq!(fault_model.traffic().duplicated, 100);
    }

    #[test]
    fn a_cut_is_one_way_and_an_isolated_node_hears_and_says_nothing() {
        let mut fault_model = FaultModel::new(6);
        fault_model.cut(A, B);
        assert!(!fault_model.is_open(A, B) && fault_model.is_open(B, A));
        assert_eq!(fault_model.decide(A, B, 1, Instant::now), Delivery::Lost);
        fault_model.mend(A, B);
        fault_model.isolate(B);
        assert!(!fault_model.is_open(A, B) && !fault_model.is_open(B, A));
        fault_model.rejoin(B);
        assert!(fault_model.is_open(A, B));
        fault_model.cut(A, B);
        fault_model.isolate(A);
        fault_model.heal();
        assert!(fault_model.is_open(A, B) && fault_model.is_open(B, A));
    }
}
