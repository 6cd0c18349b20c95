//! The reserve: zeros that the last segment holds behind its last frame.
//!
//! If a write makes a file longer, its fdatasync also writes the file system's metadata, which
//! takes half as long again. So a sync that finds no reserve left writes some together with its
//! frame, and the syncs after it overwrite zeros that are already durable.
//!
//! To recovery, a frame that was torn in the reserve looks like one that was torn at the end of a
//! growing file: what was never written is zeros. So the reserve is no part of the format. Versions
//! without it read such a segment, unless its last write was torn, which they take for damage.
//!
//! - Only the last segment has a reserve. The writer cuts it off before the segment gets a
//!   successor, and recovery cuts it off before anything is written.
//! - No segment is used twice. Measured, a file of old bytes is not faster than a reserve, and
//!   recovery could not tell a sector that was never written from one that was damaged.
//! - Space that is only allocated (`fallocate`) is slower, because the first write to each part of
//!   it changes metadata again.

/// The least that is reserved at once: a small journal stays small.
const RESERVE_BYTES_MIN: u64 = 64 << 10;

/// The most that is reserved at once. One sync in so many bytes pays for the reserve, and the
/// larger it is, the longer that sync takes.
const RESERVE_BYTES_MAX: u64 = 1 << 20;

/// Longer frames are followed by no reserve. Their bytes take longer than the metadata, and a
/// reserve would double them.
const FRAME_BYTES_MAX: u64 = 64 << 10;

/// How many zeros to write behind a frame that is longer than what is left of the reserve, so that
/// the segment gets no longer than `segment_bytes_max`. `length` is the segment's length without
/// the frame.
pub(super) fn bytes_behind(length: u64, frame_bytes: u64, segment_bytes_max: u64) -> u64 {
    if frame_bytes > FRAME_BYTES_MAX {
        return 0;
    }
    let room = segment_bytes_max.saturating_sub(length + frame_bytes);
    length.clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX).min(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_grows_with_its_segment_and_stays_within_its_bounds() {
        let max = 64 << 20;
        assert_eq!(bytes_behind(100, 100, max), RESERVE_BYTES_MIN);
        assert_eq!(bytes_behind(200 << 10, 100, max), 200 << 10);
        assert_eq!(bytes_behind(9 << 20, 100, max), RESERVE_BYTES_MAX);
        assert_eq!(bytes_behind(max - 150, 100, max), 50, "the segment is nearly full");
        assert_eq!(bytes_behind(max, 100, max), 0, "it grows on beyond its usual length");
        assert_eq!(bytes_behind(100, FRAME_BYTES_MAX + 1, max), 0, "the frame is long");
    }
}
