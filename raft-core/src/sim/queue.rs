//! What will happen, in the order of virtual time; what is planned for the same moment happens in
//! the order of planning.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::time::Instant;

/// The bits of a key that name a slot: the most events that wait at a time.
const SLOT_BITS: u32 = 24;
const SLOTS_MAX: usize = 1 << SLOT_BITS;

/// A heap of small keys over a slab of events, so that sorting moves sixteen bytes at a time and
/// nothing is allocated once the slab has grown.
pub(super) struct Queue<E> {
    /// Time, sequence and slot, from high bits to low.
    keys: BinaryHeap<Reverse<u128>>,
    slots: Vec<Option<E>>,
    free: Vec<usize>,
    sequence: u64,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self { keys: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), sequence: 0 }
    }

    pub(super) fn push(&mut self, at: Instant, event: E) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = Some(event);
                slot
            }
            None => {
                assert!(self.slots.len() < SLOTS_MAX, "sim: more than {SLOTS_MAX} events wait");
                self.slots.push(Some(event));
                self.slots.len() - 1
            }
        };
        self.sequence += 1;
        let order = (self.sequence << SLOT_BITS) | slot as u64;
        self.keys.push(Reverse((u128::from(at.as_micros()) << 64) | u128::from(order)));
    }

    /// When the next event happens, in microseconds; the end of time if none is planned.
    pub(super) fn next_at(&self) -> u64 {
        self.keys.peek().map_or(u64::MAX, |Reverse(key)| (key >> 64) as u64)
    }

    /// All events with their sequence numbers and times, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Instant, &E)> {
        self.keys.iter().filter_map(|Reverse(key)| {
            let event = self.slots[*key as usize & (SLOTS_MAX - 1)].as_ref()?;
            Some((*key as u64 >> SLOT_BITS, Instant::from_micros((key >> 64) as u64), event))
        })
    }

    pub(super) fn pop(&mut self) -> Option<E> {
        let Reverse(key) = self.keys.pop()?;
        let slot = key as usize & (SLOTS_MAX - 1);
        self.free.push(slot);
        self.slots[slot].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_planning() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'c'), (3, 'a'), (5, 'd'), (4, 'b')] {
            queue.push(Instant::from_micros(at), event);
        }
        assert_eq!(queue.next_at(), 3);
        let order: Vec<_> = core::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ['a', 'b', 'c', 'd']);
        assert_eq!(queue.next_at(), u64::MAX);
    }
}
