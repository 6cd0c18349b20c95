//! Reads recordings: which there are, and what is on them.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec::Vec;

use super::files::FRAME_HEAD;
use super::tape::HEADER;
use super::{MAGIC, VERSION};
use crate::checkpoint::{Damaged, In, Stored};
use crate::types::NodeId;

/// What one process of one node recorded, as far as it is there.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The cluster.
    pub cluster: u64,
    /// The node.
    pub node: NodeId,
    /// The number of the node's store.
    pub store: u64,
    /// When the process started, in microseconds since 1970, by its own clock.
    pub run: u64,
    /// Whether inputs were written before anyone saw what follows from them, so that nothing is
    /// missing even if the process was killed.
    pub write_ahead: bool,
    /// Its segments, in order.
    pub segments: Vec<Segment>,
}

/// One file of a recording.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The file.
    pub path: PathBuf,
    /// The number of its first input.
    pub first_input: u64,
    pub(super) now: u64,
    pub(super) contents: bool,
    /// What it holds, if it is in memory.
    bytes: Option<Arc<Vec<u8>>>,
}

/// Why a file is no recording.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadingError {
    /// The file or the directory cannot be read.
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is no recording.
    Foreign(PathBuf),
    /// The file was written by another version.
    Version {
        /// The file.
        path: PathBuf,
        /// The version that wrote it.
        version: u16,
    },
    /// The file is damaged, or ends before its first state.
    Damaged {
        /// The file.
        path: PathBuf,
        /// Up to which byte it can be read.
        offset: u64,
    },
}

impl fmt::Display for ReadingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Foreign(path) => write!(f, "{} is no recording", path.display()),
            Self::Version { path, version } => write!(
                f,
                "{} was recorded by version {version} of the format, and this is version {VERSION}: replay it with the version \
                 that recorded it",
                path.display()
            ),
            Self::Damaged { path, offset } => {
                write!(f, "{} is damaged behind its byte {offset}", path.display())
            }
        }
    }
}

impl std::error::Error for ReadingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Foreign(_) | Self::Version { .. } | Self::Damaged { .. } => None,
        }
    }
}

/// All recordings in a directory, by node and then by time, and what could not be read there.
///
/// # Errors
///
/// If the directory cannot be read.
pub fn read_dir(dir: &Path) -> Result<(Vec<Recording>, Vec<ReadingError>), ReadingError> {
    let failed = |error| ReadingError::Io { path: dir.to_path_buf(), error };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "rec") {
            paths.push(path);
        }
    }
    paths.sort();
    let headers = paths.iter().map(|path| read_header(path, &read_beginning(path)?));
    Ok(sort(headers))
}

/// As [`read_dir`], but of files that are in memory, each with its name: where there is no
/// directory, in a browser say.
pub fn read_files(mut files: Vec<(PathBuf, Vec<u8>)>) -> (Vec<Recording>, Vec<ReadingError>) {
    files.sort();
    sort(files.into_iter().map(|(path, bytes)| {
        let mut recording = read_header(&path, &bytes)?;
        let bytes = Arc::new(bytes);
        for segment in &mut recording.segments {
            segment.bytes = Some(bytes.clone());
        }
        Ok(recording)
    }))
}

/// Puts the segments of each recording together.
fn sort(
    headers: impl Iterator<Item = Result<Recording, ReadingError>>,
) -> (Vec<Recording>, Vec<ReadingError>) {
    let (mut recordings, mut errors): (Vec<Recording>, _) = (Vec::new(), Vec::new());
    for header in headers {
        match header {
            Ok(read) => match recordings.iter_mut().find(|known| known.is_of(&read)) {
                Some(known) => known.segments.extend(read.segments),
                None => recordings.push(read),
            },
            Err(error) => errors.push(error),
        }
    }
    for recording in &mut recordings {
        recording.segments.sort_by_key(|segment| segment.first_input);
    }
    recordings.sort_by_key(|recording| (recording.node, recording.run));
    (recordings, errors)
}

impl Segment {
    pub(super) fn read(&self) -> Result<Arc<Vec<u8>>, ReadingError> {
        match &self.bytes {
            Some(bytes) => Ok(bytes.clone()),
            None => Ok(Arc::new(read(&self.path)?)),
        }
    }
}

impl Recording {
    fn is_of(&self, other: &Self) -> bool {
        (self.cluster, self.node, self.run) == (other.cluster, other.node, other.run)
    }
}

fn read_header(path: &Path, bytes: &[u8]) -> Result<Recording, ReadingError> {
    let mut frames = Frames { bytes, at: begin(path, bytes)? };
    let damaged =
        |offset: usize| ReadingError::Damaged { path: path.into(), offset: offset as u64 };
    let payload = frames.next_frame().ok_or(damaged(frames.at))?;
    let recording = header_from(path, payload).map_err(|Damaged { offset }| damaged(offset))?;
    // A segment without its first state is of no use.
    frames.next_frame().ok_or(damaged(frames.at))?;
    Ok(recording)
}

fn header_from(path: &Path, payload: &[u8]) -> Result<Recording, Damaged> {
    let mut from = In::new(payload, false);
    if from.byte()? != HEADER {
        return Err(from.damaged());
    }
    let cluster = Stored::take(&mut from)?;
    let node = NodeId::new(Stored::take(&mut from)?);
    let (store, run) = (Stored::take(&mut from)?, Stored::take(&mut from)?);
    let (first_input, now) = (Stored::take(&mut from)?, Stored::take(&mut from)?);
    let (contents, write_ahead) = (Stored::take(&mut from)?, Stored::take(&mut from)?);
    let segment = Segment { path: path.into(), first_input, now, contents, bytes: None };
    Ok(Recording { cluster, node, store, run, write_ahead, segments: [segment].into() })
}

fn read(path: &Path) -> Result<Vec<u8>, ReadingError> {
    fs::read(path).map_err(|error| ReadingError::Io { path: path.into(), error })
}

/// Reads a file up to the end of its second frame, because a recording may be large.
fn read_beginning(path: &Path) -> Result<Vec<u8>, ReadingError> {
    let failed = |error| ReadingError::Io { path: path.into(), error };
    let mut file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut next = MAGIC.len() + 2;
    for _frame in 0..2 {
        // A frame's length comes first.
        let through = next + FRAME_HEAD;
        read_through(&mut file, through, &mut bytes).map_err(failed)?;
        let Some(length) = bytes.get(next..).and_then(<[u8]>::first_chunk::<4>) else { break };
        next = through.saturating_add(u32::from_le_bytes(*length) as usize);
        read_through(&mut file, next, &mut bytes).map_err(failed)?;
    }
    Ok(bytes)
}

/// Reads on until so many bytes of the file were read, or it ends.
fn read_through(file: &mut File, through: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    let missing = through.saturating_sub(bytes.len());
    file.take(missing as u64).read_to_end(bytes)?;
    Ok(())
}

/// Where the first frame begins.
pub(super) fn begin(path: &Path, bytes: &[u8]) -> Result<usize, ReadingError> {
    if !bytes.starts_with(MAGIC) {
        return Err(ReadingError::Foreign(path.into()));
    }
    let Some(version) = bytes.get(MAGIC.len()..MAGIC.len() + 2) else {
        return Err(ReadingError::Damaged { path: path.into(), offset: MAGIC.len() as u64 });
    };
    match u16::from_le_bytes([version[0], version[1]]) {
        VERSION => Ok(MAGIC.len() + 2),
        version => Err(ReadingError::Version { path: path.into(), version }),
    }
}

/// The frames of a file, up to the first that is not whole.
pub(super) struct Frames<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) at: usize,
}

impl<'b> Frames<'b> {
    pub(super) fn next_frame(&mut self) -> Option<&'b [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let payload = rest.get(..length)?;
        if crc32fast::hash(payload) != u32::from_le_bytes(*checksum) {
            return None;
        }
        self.at += FRAME_HEAD + length;
        Some(payload)
    }
}
