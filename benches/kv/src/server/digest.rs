//! The digest of what a store holds, kept up to date at the cost of the pair that changes.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// A sum over all pairs of key and value: kept up to date at the cost of the pair that changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digest(u64);

impl Digest {
    /// Counts a pair in.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_add(hash(key, value));
    }

    /// Counts a pair out that was counted in.
    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_sub(hash(key, value));
    }
}

impl From<u64> for Digest {
    fn from(sum: u64) -> Self {
        Self(sum)
    }
}

impl From<Digest> for u64 {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The standard library's hasher may change with its version; servers of different builds must
/// agree.
fn hash(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(&(key.len() as u64).to_le_bytes());
    hasher.write(key);
    hasher.write(value);
    hasher.finish()
}
