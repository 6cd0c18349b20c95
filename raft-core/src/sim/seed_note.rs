//! The seed of a run whose user code panics.

/// Prints the seed if it is dropped by a panic, of the state machine say. With the feature `std`,
/// because without it there is nowhere to print.
pub(super) struct SeedNote(#[cfg_attr(not(feature = "std"), expect(dead_code))] pub(super) u64);

#[cfg(feature = "std")]
impl Drop for SeedNote {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::eprintln!("the simulated run that panicked had seed {}", self.0);
        }
    }
}
