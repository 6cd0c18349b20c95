//! Which recordings a folder holds, and whether they belong together.

use std::collections::BTreeSet;
use std::path::Path;

use raft_core::NodeId;
use raft_core::host::recorder::{ReadingError, Recording, read_dir};

/// The recordings of one cluster.
pub(crate) struct Cluster {
    /// By node, and for each by time.
    pub(crate) recordings: Vec<Recording>,
    pub(crate) notes: Vec<String>,
}

impl Cluster {
    /// Reads a folder. Recordings of another cluster than most are named and left out.
    pub(crate) fn read(dir: &Path) -> Result<Self, String> {
        let (recordings, errors) = read_dir(dir).map_err(|error| error.to_string())?;
        Self::of(recordings, &errors, &dir.display().to_string())
    }

    /// The recordings of one cluster among these. `place` says where they are from.
    pub(crate) fn of(
        mut recordings: Vec<Recording>,
        errors: &[ReadingError],
        place: &str,
    ) -> Result<Self, String> {
        let mut notes: Vec<_> = errors.iter().map(ReadingError::to_string).collect();
        let clusters: BTreeSet<_> = recordings.iter().map(|recording| recording.cluster).collect();
        let count = |cluster: &u64| recordings.iter().filter(|one| one.cluster == *cluster).count();
        let Some(cluster) = clusters.into_iter().max_by_key(count) else {
            return Err(match notes.is_empty() {
                true => format!("{place} holds no recordings"),
                false => notes.join("\n"),
            });
        };
        recordings.retain(|recording| {
            let belongs = recording.cluster == cluster;
            if !belongs {
                let (node, other) = (recording.node, recording.cluster);
                notes.push(format!(
                    "left out: a recording of server {node} of cluster {other:#x}, the others are of {cluster:#x}"
                ));
            }
            belongs
        });
        Ok(Self { recordings, notes })
    }

    /// The servers that have recordings.
    pub(crate) fn nodes(&self) -> BTreeSet<NodeId> {
        self.recordings.iter().map(|recording| recording.node).collect()
    }
}
