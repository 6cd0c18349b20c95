//! How much stack was ever in use: the start-up code has painted it, and what still has the colour
//! was never used.
#![expect(unsafe_code, reason = "it looks at memory that belongs to nobody")]

use core::ptr;

/// The stack, from its highest address down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StackUse {
    /// The most bytes that were ever in use.
    pub used_max: usize,
    /// All that lies between the end of the static variables and the end of RAM.
    pub bytes: usize,
}

/// How many words at the stack's end are looked at in every turn.
const GUARD_WORDS: usize = 8;

/// Whether the stack has never reached its end. What lies behind that are variables: look in every
/// turn, and stop if it has.
pub fn is_intact() -> bool {
    unsafe extern "C" {
        static __sheap: u32;
    }
    let low = ptr::addr_of!(__sheap);
    // SAFETY: the words above the symbol are RAM, and the stack's.
    let word = |at| unsafe { low.add(at).read_volatile() };
    (0..GUARD_WORDS).all(|at| word(at) == cortex_m_rt::STACK_PAINT_VALUE)
}

/// Looks how far the stack has ever reached.
pub fn usage() -> StackUse {
    unsafe extern "C" {
        static __sheap: u32;
        static _stack_start: u32;
    }
    let low = ptr::addr_of!(__sheap);
    let bytes = ptr::addr_of!(_stack_start).addr() - low.addr();
    let is_painted = |word: &usize| {
        // SAFETY: between the two symbols there is nothing but RAM, aligned to words.
        let value = unsafe { low.add(*word).read_volatile() };
        value == cortex_m_rt::STACK_PAINT_VALUE
    };
    let words = bytes / size_of::<u32>();
    let painted = (0..words).take_while(is_painted).count();
    StackUse { used_max: bytes - painted * size_of::<u32>(), bytes }
}
