//! The board: an LM3S6965 (Cortex-M3, 256 KiB flash, 64 KiB RAM), as QEMU emulates it.

pub mod clock;
pub mod heap;

use core::panic::PanicInfo;

use cortex_m_semihosting::{debug, hprintln};
// The table of interrupt vectors.
use lm3s6965 as _;

/// Ends the program, which on real hardware would be a halt under the debugger.
pub fn exit(success: bool) -> ! {
    let status = if success { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE };
    loop {
        debug::exit(status);
    }
}

/// A panic is a mistake of ours. It is printed and ends the emulation; firmware in the field would reset, which Raft takes
/// for the crash that it is.
#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    hprintln!("{}", info);
    exit(false)
}
