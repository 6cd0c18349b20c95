//! A flash chip, played by a file of the host: it survives resets, and the emulation.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

use super::semihosting::{Failed, File};

/// A page, of the size that this board's own flash has.
const PAGE_BYTES: usize = 1024;
const ERASED: u8 = 0xff;

/// A file of whole pages that is used like a flash chip.
#[derive(Debug)]
pub struct FileFlash {
    file: File,
    bytes: usize,
}

impl FileFlash {
    /// Opens a file, whose size is that of the chip. A chip that was never used is all ff.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn open(path: &[u8]) -> Result<Self, Failed> {
        let file = File::open(path)?;
        let bytes = file.length()?;
        Ok(Self { file, bytes })
    }
}

impl NorFlashError for Failed {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl ErrorType for FileFlash {
    type Error = Failed;
}

impl ReadNorFlash for FileFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Failed> {
        self.file.read(offset as usize, bytes)
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl NorFlash for FileFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE_BYTES;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Failed> {
        const ERASED_PART: [u8; 128] = [ERASED; 128];
        let mut parts = (from as usize..to as usize).step_by(ERASED_PART.len());
        parts.try_for_each(|at| self.file.write(at, &ERASED_PART))
    }

    /// Word by word, as chips do: a reset in between leaves what was there by then.
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Failed> {
        let mut words = bytes.chunks(Self::WRITE_SIZE).zip((offset as usize..).step_by(4));
        words.try_for_each(|(word, at)| self.file.write(at, word))
    }
}
