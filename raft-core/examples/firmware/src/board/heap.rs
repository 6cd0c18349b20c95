//! The heap: of a fixed size, first fit, and counted.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use embedded_alloc::LlffHeap;

/// An allocator in a fixed piece of RAM that counts what is asked of it.
pub struct CountingHeap {
    heap: LlffHeap,
    allocations: AtomicU32,
    used: AtomicUsize,
    used_max: AtomicUsize,
}

/// What was asked of the heap so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeapUse {
    /// How often memory was asked for; growing counts.
    pub allocations: u32,
    /// Bytes in use.
    pub used: usize,
    /// The most bytes that were ever in use.
    pub used_max: usize,
    /// Bytes left, perhaps not in one piece.
    pub free: usize,
}

impl CountingHeap {
    /// A heap without memory.
    pub const fn empty() -> Self {
        Self {
            heap: LlffHeap::empty(),
            allocations: AtomicU32::new(0),
            used: AtomicUsize::new(0),
            used_max: AtomicUsize::new(0),
        }
    }

    /// Gives it its memory. Call once, first of all.
    ///
    /// # Panics
    ///
    /// On a second call.
    #[expect(
        unsafe_code,
        reason = "the memory is ours alone: it comes as an exclusive reference that lasts"
    )]
    pub fn init(&self, memory: &'static mut [u8]) {
        // SAFETY: the reference is exclusive and for good.
        unsafe { self.heap.init(memory.as_mut_ptr().addr(), memory.len()) };
    }

    /// Whether so many bytes are left in one piece.
    #[expect(unsafe_code, reason = "an allocation is tried, and given back")]
    pub fn has_block(&self, bytes: usize) -> bool {
        let Ok(layout) = Layout::from_size_align(bytes.max(1), align_of::<u64>()) else {
            return false;
        };
        // SAFETY: the layout is not of size zero, and the memory goes back as it came.
        unsafe {
            let memory = self.heap.alloc(layout);
            if memory.is_null() {
                return false;
            }
            self.heap.dealloc(memory, layout);
        }
        true
    }

    /// Counts the most bytes in use from now on.
    pub fn forget_used_max(&self) {
        self.used_max.store(self.used.load(Relaxed), Relaxed);
    }

    /// Counts the most bytes in use as if there had been so many.
    pub fn raise_used_max(&self, bytes: usize) {
        self.used_max.fetch_max(bytes, Relaxed);
    }

    /// What was asked of it so far.
    pub fn usage(&self) -> HeapUse {
        HeapUse {
            allocations: self.allocations.load(Relaxed),
            used: self.used.load(Relaxed),
            used_max: self.used_max.load(Relaxed),
            free: self.heap.free(),
        }
    }
}

#[expect(unsafe_code, reason = "an allocator is made of it; all of it is handed on as it came")]
// SAFETY: as the heap inside, which does it all.
unsafe impl GlobalAlloc for CountingHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocations.store(self.allocations.load(Relaxed).wrapping_add(1), Relaxed);
        // SAFETY: the caller's promise is handed on.
        let memory = unsafe { self.heap.alloc(layout) };
        if !memory.is_null() {
            let used = self.used.load(Relaxed).saturating_add(layout.size());
            self.used.store(used, Relaxed);
            self.used_max.fetch_max(used, Relaxed);
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.used.store(self.used.load(Relaxed).saturating_sub(layout.size()), Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { self.heap.dealloc(memory, layout) };
    }
}
