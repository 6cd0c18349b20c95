//! Sectors: how much a disk writes at once. By them recovery tells a write that a power failure cut
//! short from data that was damaged later.
//!
//! A file system may make a file longer before its data has reached the disk, and the data may
//! reach the disk in any order. Data that is missing after a crash then reads as zeros, in whole
//! sectors. So whatever is written here is made to contain no such sector
//! ([`Batch`](super::batch::Batch)), and a sector that is all zeros was never written.

use std::ops::Range;

/// A disk writes this many bytes whole or not at all. Some disks write more at once, none less.
pub(super) const SECTOR_BYTES: usize = 512;

/// The parts of `range` that lie in one sector each. The range counts from `offset` in the file.
pub(super) fn sectors(offset: u64, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let start = at;
        at = range.end.min(start + SECTOR_BYTES - in_sector(offset, start));
        (start < range.end).then_some(start..at)
    })
}

/// The position of the byte at `offset + at` in its sector.
pub(super) fn in_sector(offset: u64, at: usize) -> usize {
    let sector = SECTOR_BYTES as u64;
    ((offset % sector + at as u64 % sector) % sector) as usize
}

/// Whether the disk never wrote these bytes, which are a sector or a part of one.
pub(super) fn is_unwritten(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether damage to a single byte could make these bytes look unwritten.
pub(super) fn is_faint(bytes: &[u8]) -> bool {
    bytes.iter().filter(|byte| **byte != 0).nth(1).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_range_is_cut_where_the_files_sectors_end() {
        let cut = |offset, range| sectors(offset, range).collect::<Vec<_>>();
        assert_eq!(cut(0, 0..1024), [0..512, 512..1024]);
        assert_eq!(cut(510, 0..515), [0..2, 2..514, 514..515]);
        assert_eq!(cut(1, 510..512), [510..511, 511..512]);
        assert_eq!(cut(7, 3..3), []);
    }

    #[test]
    fn two_bytes_that_are_not_zero_are_enough() {
        assert!(is_unwritten(&[0; 9]));
        assert!(is_faint(&[0; 9]) && is_faint(&[0, 1, 0]) && !is_faint(&[4, 0, 4]));
    }
}
