//! The board: an LM3S6965 (Cortex-M3, 256 KiB flash, 64 KiB RAM), as QEMU emulates it.

pub mod clock;
pub mod flash;
pub mod heap;
pub mod semihosting;
pub mod stack;
pub mod uart;

use core::panic::PanicInfo;

use cortex_m_semihosting::{debug, hprintln};

/// Ends the program, which on real hardware would be a halt under the debugger.
pub fn exit(success: bool) -> ! {
    let status = if success { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE };
    loop {
        debug::exit(status);
    }
}

/// A panic is a mistake of ours. Where it happened is printed, and ends the emulation; firmware in
/// the field would reset, which Raft takes for the crash that it is. What happened is not printed,
/// for the texts of all panics would take a third of the flash.
#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    if let Some(place) = info.location() {
        hprintln!("panicked at {}:{}", place.file(), place.line());
    }
    exit(false)
}
