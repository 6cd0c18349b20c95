//! The files of a recording: a ring of segments.

use std::format;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::vec::Vec;

use super::{MAGIC, RecorderConfig, VERSION};
use crate::types::NodeId;

/// What precedes a payload: its length and its checksum.
pub(super) const FRAME_HEAD: usize = 8;

/// Reserves room for the head of a frame, whose payload the caller appends.
pub(super) fn begin_frame(bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.extend_from_slice(&[0; FRAME_HEAD]);
}

/// Fills in the head of a frame.
pub(super) fn end_frame(bytes: &mut [u8]) {
    let (head, payload) = bytes.split_at_mut(FRAME_HEAD);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
}

/// The segments of one node.
pub(super) struct Files {
    config: RecorderConfig,
    node: NodeId,
    run: u64,
    segment: u64,
    file: Option<File>,
    failed: bool,
}

impl Files {
    pub(super) fn new(config: RecorderConfig, node: NodeId, run: u64) -> io::Result<Self> {
        fs::create_dir_all(&config.dir)?;
        Ok(Self { config, node, run, segment: 0, file: None, failed: false })
    }

    /// Begins a segment and writes its first frames.
    pub(super) fn begin_segment(&mut self, frames: &[u8]) {
        let name = format!("node-{}-{:016}-{:06}.rec", self.node, self.run, self.segment);
        self.segment += 1;
        let path = self.config.dir.join(name);
        let begun = self.make_room().and_then(|()| {
            let mut file = File::create(&path)?;
            file.write_all(MAGIC)?;
            file.write_all(&VERSION.to_le_bytes())?;
            Ok(file)
        });
        self.file = self.note(begun);
        self.append(frames);
    }

    /// Appends whole frames. A failed write ends the segment, because what follows a gap means
    /// nothing.
    pub(super) fn append(&mut self, frames: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let written = file.write_all(frames);
        if self.note(written).is_none() {
            self.file = None;
        }
    }

    /// Removes the oldest segments, so that the next finds room.
    fn make_room(&self) -> io::Result<()> {
        let (begin, limit) = (format!("node-{}-", self.node), self.config.bytes_max);
        let mut segments: Vec<(PathBuf, u64)> = Vec::new();
        for entry in fs::read_dir(&self.config.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_ours = name
                .to_str()
                .is_some_and(|name| name.starts_with(&begin) && name.ends_with(".rec"));
            if is_ours {
                segments.push((entry.path(), entry.metadata()?.len()));
            }
        }
        segments.sort();
        let mut bytes: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
        for (path, length) in segments {
            if bytes + self.config.segment_bytes() <= limit {
                break;
            }
            fs::remove_file(path)?;
            bytes -= length;
        }
        Ok(())
    }

    /// Warns of the first failure. A node goes on without its recorder.
    fn note<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if !self.failed {
                    self.failed = true;
                    let (node, dir) = (self.node.get(), self.config.dir.display());
                    tracing::warn!(node, %dir, %error, "this node cannot write its recording, and goes on without it");
                }
                None
            }
        }
    }
}

impl RecorderConfig {
    /// After how many bytes a segment ends: a quarter of the whole.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.bytes_max / 4
    }
}
