//! What is left after a restart: everything that was acknowledged.

use raft_core::host::{FileJournal, StorageError};

use crate::cluster::{Stage, id};

/// All nodes are shut down and start again from their journals in memory.
pub(crate) fn from_memory(stage: Stage) {
    let mut cluster = stage.cluster(3);
    for command in ["one", "two", "three"] {
        cluster.propose(command);
    }
    let term = cluster.leadership(cluster.elect()).term;
    cluster.shutdown();
    cluster.all().into_iter().for_each(|position| cluster.restart(position));
    cluster.propose("four");
    assert_eq!(cluster.agreed(), ["one", "two", "three", "four"]);
    assert!(cluster.leadership(0).term > term, "terms survive too");
}

/// The same with journals in files; each life's last act frees the directory and the port for the
/// next.
pub(crate) fn from_files(stage: Stage) {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let mut cluster = stage.idle(3, |_| ());
    let open = |cluster: &crate::cluster::Cluster, position: usize| {
        let path = directory.path().join(position.to_string());
        FileJournal::open(path, cluster.config(position).cluster, id(position))
    };
    let mut term = None;
    for (life, command) in ["one", "two", "three"].into_iter().enumerate() {
        for position in cluster.all() {
            let journal = open(&cluster, position).expect("nobody uses it");
            cluster.restart_with(position, journal, true).expect("it can run");
        }
        cluster.propose(command);
        assert_eq!(cluster.agreed(), ["one", "two", "three"][..=life]);
        let now = cluster.leadership(0).term;
        assert!(term.is_none_or(|before| now > before), "terms rise from life to life");
        term = Some(now);
        let error: StorageError = open(&cluster, 0).expect_err("a node uses it");
        assert!(error.to_string().contains("in use"), "{error}");
        cluster.shutdown();
    }
}

/// Nodes crash one after the other: what they were is cut off from journal and network without a
/// word.
pub(crate) fn after_crashes(stage: Stage) {
    let mut cluster = stage.cluster(3);
    for (position, command) in [(0, "one"), (1, "two"), (2, "three")] {
        cluster.propose(command);
        cluster.restart(position);
    }
    cluster.propose("four");
    assert_eq!(cluster.agreed(), ["one", "two", "three", "four"]);
}
