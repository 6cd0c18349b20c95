//! Random numbers that are known by their seed and how many were drawn, so that a recording can
//! name their state.

use core::convert::Infallible;

use rand_core::TryRng;
use rand_pcg::Pcg32;

use crate::checkpoint::{Damaged, In, Out, Stored};

/// A source of random numbers for the core, which can be put into a recording.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordedRandom {
    generator: Pcg32,
    seed: u64,
    stream: u64,
    /// How many numbers of 32 bits were drawn.
    drawn: u64,
}

pub(crate) use RecordedRandom as Random;

impl RecordedRandom {
    /// The numbers that follow from `seed`, in a stream of their own for each `stream`.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self { generator: Pcg32::new(seed, stream), seed, stream, drawn: 0 }
    }
}

impl TryRng for RecordedRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.drawn = self.drawn.wrapping_add(1);
        self.generator.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.drawn = self.drawn.wrapping_add(2);
        self.generator.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.drawn = self.drawn.wrapping_add(bytes.len().div_ceil(4) as u64);
        self.generator.try_fill_bytes(bytes)
    }
}

impl Stored for RecordedRandom {
    fn put(&self, out: &mut Out<'_>) {
        let Self { generator: _, seed, stream, drawn } = self;
        (*seed, *stream, *drawn).put(out);
    }

    fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
        let (seed, stream, drawn) = Stored::take(from)?;
        let mut generator = Pcg32::new(seed, stream);
        generator.advance(drawn);
        Ok(Self { generator, seed, stream, drawn })
    }
}
