//! A command as a recording knows it: how long it was, and its digest.

use std::fmt;
use std::sync::LazyLock;
use std::vec;
use std::vec::Vec;

use bytes::Bytes;

use crate::checkpoint::{Damaged, In, Out, Stored};

/// The longest command or piece of a snapshot that can be replayed, in bytes. A replayed command
/// lends the core a slice of its length, because the core asks for the length alone.
const LENGTH_MAX: usize = 64 << 20;

/// Allocated, because as a plain static they would make every program 64 MiB larger.
static ZEROS: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; LENGTH_MAX]);

/// A command, or a piece of a snapshot, of which length and digest are known, and the contents only
/// if the recording has them.
///
/// [`AsRef`] gives as many bytes as the command had. They are zeros if the contents are unknown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RecordedCommand {
    length: usize,
    digest: u32,
    contents: Option<Bytes>,
}

impl RecordedCommand {
    /// The CRC-32 of the contents.
    pub fn digest(&self) -> u32 {
        self.digest
    }

    /// The contents, if the recording has them.
    pub fn contents(&self) -> Option<&Bytes> {
        self.contents.as_ref()
    }
}

impl AsRef<[u8]> for RecordedCommand {
    fn as_ref(&self) -> &[u8] {
        match &self.contents {
            Some(contents) => contents,
            None => &ZEROS[..self.length],
        }
    }
}

impl fmt::Debug for RecordedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, digest {:08x}", self.length, self.digest)
    }
}

impl Stored for RecordedCommand {
    fn put(&self, out: &mut Out<'_>) {
        let contents = self.contents.as_deref().unwrap_or_default();
        put(self.length, self.digest, contents, out);
    }

    fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
        let length = usize::take(from)?;
        if length > LENGTH_MAX {
            return Err(from.damaged());
        }
        let digest = u32::take(from)?;
        let contents =
            if from.contents { Some(Bytes::copy_from_slice(from.slice(length)?)) } else { None };
        Ok(Self { length, digest, contents })
    }
}

impl Stored for Bytes {
    fn put(&self, out: &mut Out<'_>) {
        put(self.len(), crc32fast::hash(self), self, out);
    }

    /// A node never reads its recording.
    fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
        Err(from.damaged())
    }
}

fn put(length: usize, digest: u32, contents: &[u8], out: &mut Out<'_>) {
    length.put(out);
    digest.put(out);
    if out.contents {
        out.bytes.extend_from_slice(contents);
    }
}
