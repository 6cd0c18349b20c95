//! NOR flash in memory, for tests: its power can fail at every word that is programmed and every
//! page that is erased.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use std::vec;
use std::vec::Vec;

const PAGE: usize = 256;
const WORD: usize = 4;
const ERASED: u8 = 0xff;

/// NOR flash in memory: programmed only once between erasures, and only as long as there is power.
#[derive(Clone, Debug)]
pub(crate) struct RamFlash {
    pub(crate) bytes: Vec<u8>,
    /// How many words and pages can be changed before the power fails.
    pub(crate) changes_left: usize,
    pub(crate) rng: Pcg32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PowerLoss;

impl NorFlashError for PowerLoss {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl ErrorType for RamFlash {
    type Error = PowerLoss;
}

impl RamFlash {
    /// An erased chip of so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = vec![ERASED; bytes];
        Self { bytes, changes_left: usize::MAX, rng: Pcg32::seed_from_u64(1) }
    }

    /// Changes a word or page, or leaves it in between if the power fails.
    fn change(&mut self, at: usize, new: &[u8]) -> Result<(), PowerLoss> {
        let lost = self.changes_left == 0;
        self.changes_left = self.changes_left.saturating_sub(1);
        for (old, new) in self.bytes[at..].iter_mut().zip(new) {
            let mask = if lost { self.rng.next_u32() as u8 } else { 0xff };
            *old = (*old & !mask) | (new & mask);
        }
        if lost { Err(PowerLoss) } else { Ok(()) }
    }
}

impl ReadNorFlash for RamFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), PowerLoss> {
        bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for RamFlash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), PowerLoss> {
        assert!((from as usize).is_multiple_of(PAGE) && (to as usize).is_multiple_of(PAGE));
        (from..to).step_by(PAGE).try_for_each(|at| self.change(at as usize, &[ERASED; PAGE]))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PowerLoss> {
        assert!((offset as usize).is_multiple_of(WORD) && bytes.len().is_multiple_of(WORD));
        for (word, at) in bytes.chunks(WORD).zip((offset as usize..).step_by(WORD)) {
            assert!(self.bytes[at..at + WORD] == [ERASED; WORD], "programmed twice at {at:#x}");
            self.change(at, word)?;
        }
        Ok(())
    }
}
