//! What a bad line does to bytes.

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

/// The most bytes that come from nowhere at once.
const INVENTED_BYTES_MAX: u32 = 100;

/// Damages some of the pieces that it is given, by a seed.
#[derive(Debug)]
pub(super) struct Noise {
    rng: Pcg32,
    /// How many of a hundred pieces are damaged.
    percent: u32,
}

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Pcg32::seed_from_u64(seed), percent: 0 }
    }

    pub(super) fn set_percent(&mut self, percent: u32) {
        self.percent = percent;
    }

    /// Damages the piece, or leaves it. Returns whether it was damaged.
    pub(super) fn damage(&mut self, piece: &mut Vec<u8>) -> bool {
        if piece.is_empty() || self.below(100) >= self.percent {
            return false;
        }
        let at = self.below(piece.len() as u32) as usize;
        match self.below(3) {
            0 => piece[at] ^= 1 << self.below(8),
            1 => piece.truncate(at),
            _ => {
                let mut invented = vec![0; 1 + self.below(INVENTED_BYTES_MAX) as usize];
                self.rng.fill_bytes(&mut invented);
                piece.splice(at..at, invented);
            }
        }
        true
    }

    fn below(&mut self, end: u32) -> u32 {
        self.rng.next_u32() % end
    }
}
