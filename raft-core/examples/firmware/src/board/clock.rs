//! Time, from SysTick: interrupts count milliseconds, the counter between them tells the
//! microseconds.

use core::cell::Cell;

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{SCB, SYST};
use cortex_m_rt::exception;
use critical_section::Mutex;
use raft_core::Instant;

/// The processor's clock after reset.
pub const CLOCK_HZ: u32 = 12_000_000;

const CYCLES_PER_MICRO: u32 = CLOCK_HZ / 1_000_000;
const CYCLES_PER_MILLI: u32 = CLOCK_HZ / 1_000;

/// Milliseconds since the start: enough for longer than the board will last.
static MILLIS: Mutex<Cell<u64>> = Mutex::new(Cell::new(0));

/// Starts the clock; it shows zero.
pub fn start(mut syst: SYST) {
    syst.set_clock_source(SystClkSource::Core);
    syst.set_reload(CYCLES_PER_MILLI - 1);
    syst.clear_current();
    syst.enable_counter();
    syst.enable_interrupt();
}

/// What time it is, rounded down.
pub fn now() -> Instant {
    critical_section::with(|cs| {
        let mut millis = MILLIS.borrow(cs).get();
        let mut left = SYST::get_current();
        if SCB::is_pendst_pending() {
            // The counter began anew, and its interrupt waits until we are done here.
            millis = millis.wrapping_add(1);
            left = SYST::get_current();
        }
        let passed = (CYCLES_PER_MILLI - 1).saturating_sub(left) / CYCLES_PER_MICRO;
        Instant::from_micros(millis.wrapping_mul(1_000).wrapping_add(u64::from(passed)))
    })
}

#[exception]
fn SysTick() {
    critical_section::with(|cs| {
        let millis = MILLIS.borrow(cs);
        millis.set(millis.get().wrapping_add(1));
    });
}
