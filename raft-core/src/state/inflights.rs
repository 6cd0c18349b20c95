//! Batches that were handed out and are not acknowledged: appends on their way to a follower, or
//! entries at the state machine. Their number and their bytes are bounded, so that a slow receiver
//! holds no unbounded memory.

use alloc::collections::VecDeque;

use crate::checkpoint::stored;
use crate::types::Index;

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Inflights {
    /// Last index and size of each batch, in order.
    batches: VecDeque<(Index, usize)>,
    bytes: usize,
}

stored! { struct Inflights { batches, bytes } }

impl Inflights {
    pub(crate) fn push(&mut self, last_index: Index, bytes: usize) {
        self.batches.push_back((last_index, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Forgets the batches that end at or before `index`. Returns how many bytes they were.
    pub(crate) fn acknowledge(&mut self, index: Index) -> usize {
        let before = self.bytes;
        while let Some((_, bytes)) =
            self.batches.front().copied().filter(|(last, _)| *last <= index)
        {
            self.batches.pop_front();
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        before.saturating_sub(self.bytes)
    }

    pub(crate) fn clear(&mut self) {
        self.batches.clear();
        self.bytes = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
