//! What the debugger, here QEMU, does for the firmware: files, the time of day, the command line.
//!
//! Real hardware has a flash chip, a random generator and a serial number instead.
#![expect(
    unsafe_code,
    reason = "each call hands the debugger the address of its arguments, which live until it returns"
)]

use cortex_m_semihosting::{nr, syscall1};

/// A file of the host.
#[derive(Debug)]
pub struct File {
    handle: usize,
}

/// The debugger could not do it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failed;

fn call(number: usize, arguments: &[usize]) -> isize {
    // SAFETY: the arguments of every call below are as the specification of semihosting asks, and
    // outlive the call.
    (unsafe { syscall1(number, arguments.as_ptr().addr()) }).cast_signed()
}

impl File {
    /// Opens a file to read and change it; `path` ends with a zero.
    ///
    /// # Errors
    ///
    /// If it does not exist or cannot be changed.
    pub fn open(path: &[u8]) -> Result<Self, Failed> {
        let length = path.strip_suffix(&[0]).ok_or(Failed)?.len();
        let handle = call(nr::OPEN, &[path.as_ptr().addr(), nr::open::RW_BINARY, length]);
        usize::try_from(handle).map(|handle| Self { handle }).map_err(|_| Failed)
    }

    /// How many bytes it has.
    ///
    /// # Errors
    ///
    /// If the debugger cannot tell.
    pub fn length(&self) -> Result<usize, Failed> {
        usize::try_from(call(nr::FLEN, &[self.handle])).map_err(|_| Failed)
    }

    /// Fills `bytes` with what is at `offset`.
    ///
    /// # Errors
    ///
    /// If there are not so many.
    pub fn read(&mut self, offset: usize, bytes: &mut [u8]) -> Result<(), Failed> {
        self.seek(offset)?;
        let left = call(nr::READ, &[self.handle, bytes.as_mut_ptr().addr(), bytes.len()]);
        if left == 0 { Ok(()) } else { Err(Failed) }
    }

    /// Puts `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// If not all of them were taken.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Failed> {
        self.seek(offset)?;
        let left = call(nr::WRITE, &[self.handle, bytes.as_ptr().addr(), bytes.len()]);
        if left == 0 { Ok(()) } else { Err(Failed) }
    }

    fn seek(&mut self, offset: usize) -> Result<(), Failed> {
        if call(nr::SEEK, &[self.handle, offset]) == 0 { Ok(()) } else { Err(Failed) }
    }
}

/// Seconds since 1970 and hundredths of a second since the emulation began: no two starts agree in
/// both for long.
pub fn time() -> u64 {
    let (seconds, hundredths) = (call(nr::TIME, &[0]), call(nr::CLOCK, &[0]));
    (seconds.cast_unsigned() as u64) << 32 | hundredths.cast_unsigned() as u64
}

/// The words with which the emulation was started, followed by a zero; as many bytes as `buffer`
/// has.
///
/// # Errors
///
/// If there are more.
pub fn command_line(buffer: &mut [u8]) -> Result<&[u8], Failed> {
    let mut arguments = [buffer.as_mut_ptr().addr(), buffer.len()];
    // SAFETY: as in `call`; the debugger changes the second argument.
    let failed = unsafe { syscall1(nr::GET_CMDLINE, arguments.as_mut_ptr().addr()) };
    let length = arguments[1].checked_add(1).filter(|_| failed == 0).ok_or(Failed)?;
    buffer.get(..length).ok_or(Failed)
}
