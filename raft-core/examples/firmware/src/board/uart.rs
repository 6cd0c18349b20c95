//! The first serial line (a PL011). Its interrupt takes what comes in; what goes out waits here
//! until the line takes it.
#![expect(unsafe_code, reason = "device registers are memory at fixed addresses")]

use core::cell::RefCell;

use cortex_m::peripheral::NVIC;
use critical_section::Mutex;
use heapless::Deque;
use lm3s6965::{Interrupt, interrupt};

use crate::line::Outgoing;

/// What may come in while the processor is busy elsewhere: 40 ms at 115,200 baud.
const INCOMING_BYTES_MAX: usize = 512;

/// What may wait for the line: a frame of the longest kind and some short ones.
const OUTGOING_BYTES_MAX: usize = 768;

const UART0: usize = 0x4000_C000;
const DATA: usize = UART0;
const FLAGS: usize = UART0 + 0x18;
const LINE_CONTROL: usize = UART0 + 0x2C;
const CONTROL: usize = UART0 + 0x30;
const INTERRUPT_MASK: usize = UART0 + 0x38;
const INTERRUPT_CLEAR: usize = UART0 + 0x44;
/// Which devices of the board have a clock.
const CLOCK_GATES: usize = 0x400F_E104;

const FLAG_RECEIVE_EMPTY: u32 = 1 << 4;
const FLAG_SEND_FULL: u32 = 1 << 5;
const EIGHT_BITS_WITH_FIFO: u32 = 0b111 << 4;
const ENABLE_ALL: u32 = 1 << 9 | 1 << 8 | 1;
/// Bytes came in, or came in and no more follow.
const ON_RECEIVE: u32 = 1 << 4 | 1 << 6;

static LINE: Mutex<RefCell<Line>> = Mutex::new(RefCell::new(Line {
    incoming: Deque::new(),
    outgoing: Outgoing::new(),
    overrun: 0,
}));

struct Line {
    incoming: Deque<u8, INCOMING_BYTES_MAX>,
    outgoing: Outgoing<OUTGOING_BYTES_MAX>,
    overrun: u32,
}

/// Starts the line; the baud rate is as it was (QEMU has none).
pub fn start() {
    write(CLOCK_GATES, read(CLOCK_GATES) | 1);
    write(LINE_CONTROL, EIGHT_BITS_WITH_FIFO);
    write(INTERRUPT_MASK, ON_RECEIVE);
    write(CONTROL, ENABLE_ALL);
    // SAFETY: the handler below is the only code that relies on its being masked, and only until
    // here.
    unsafe { NVIC::unmask(Interrupt::UART0) };
}

/// The next byte that came in.
pub fn receive() -> Option<u8> {
    with_line(|line| line.incoming.pop_front())
}

/// Whether a byte has come in.
pub fn has_received() -> bool {
    with_line(|line| !line.incoming.is_empty())
}

/// Queues a frame for the line, or drops and counts it if the line is stuck.
pub fn send(frame: &[u8]) {
    with_line(|line| {
        line.outgoing.offer(frame);
        line.pump();
    });
}

/// Gives the line what it takes by now. Call it in every turn: once in a millisecond is as fast as
/// the line.
pub fn pump() {
    with_line(Line::pump);
}

/// How many bytes came in while nobody had room for them, and how many frames the line had no room
/// for.
pub fn lost() -> (u32, u32) {
    with_line(|line| (line.overrun, line.outgoing.dropped()))
}

impl Line {
    fn pump(&mut self) {
        while read(FLAGS) & FLAG_SEND_FULL == 0 {
            let Some(byte) = self.outgoing.pop() else { break };
            write(DATA, byte.into());
        }
    }

    fn take(&mut self) {
        while read(FLAGS) & FLAG_RECEIVE_EMPTY == 0 {
            // The higher bits are errors of the line, which the checksum will tell.
            let byte = read(DATA) as u8;
            if self.incoming.push_back(byte).is_err() {
                self.overrun = self.overrun.saturating_add(1);
            }
        }
        write(INTERRUPT_CLEAR, ON_RECEIVE);
    }
}

#[interrupt]
fn UART0() {
    with_line(Line::take);
}

fn with_line<T>(work: impl FnOnce(&mut Line) -> T) -> T {
    critical_section::with(|cs| work(&mut LINE.borrow_ref_mut(cs)))
}

fn read(register: usize) -> u32 {
    // SAFETY: only the registers named above come here.
    unsafe { core::ptr::with_exposed_provenance::<u32>(register).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: only the registers named above come here, and nothing but this line is behind them.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(register).write_volatile(value) };
}
