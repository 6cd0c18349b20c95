//! How much memory something takes.

/// Does something, and returns its result and the most bytes that it held at a time.
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let mut result = None;
    let info = allocation_counter::measure(|| result = Some(work()));
    (result.expect("`measure` does the work"), info.bytes_max)
}
