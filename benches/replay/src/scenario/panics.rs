//! Panics of the core, told instead of printed where they happen.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on no panic is printed.
pub(super) fn keep_panics() {
    panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
}

/// A panic of the core fails like anything else.
pub(super) fn caught(play: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let told = panic::catch_unwind(AssertUnwindSafe(play));
    told.unwrap_or_else(|_| Err(PANIC.take().unwrap_or_else(|| "a panic".into())))
}
