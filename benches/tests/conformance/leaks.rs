//! What nodes leave behind: nothing.

use std::fs;
use std::time::Duration;

use crate::cluster::{Stage, until};

/// How often a cluster starts and stops.
const CYCLES: usize = 70;

/// Clusters of three start and stop, hundreds of nodes in all, always on the same ports: no thread, no task, no open file is
/// left of them.
pub(crate) fn cycles_leave_nothing(stage: Stage) {
    let mut cluster = stage.idle(3, |config| {
        config.raft.election_timeout_min = Duration::from_millis(20);
        config.raft.election_timeout_max = Duration::from_millis(40);
        config.raft.heartbeat_interval = Duration::from_millis(5);
    });
    // What the runtime starts once and keeps is no leak.
    cycle(&mut cluster, true);
    let before = until_quiet(&cluster);
    for number in 0..CYCLES {
        cycle(&mut cluster, number % 10 == 0);
    }
    until("an end of all tasks", || (cluster.runtime.tasks() <= before.tasks).then_some(()));
    until("an end of all threads", || (node_threads() == 0).then_some(()));
    until("all files closed", || (open_files() <= before.files).then_some(()));
    // Runtimes keep some threads for a while, but not one for each node.
    assert!(threads().len() <= before.threads + CYCLES / 2, "{:?}", threads());
}

fn cycle(cluster: &mut crate::cluster::Cluster, propose: bool) {
    cluster.all().into_iter().for_each(|position| cluster.restart(position));
    if propose {
        cluster.propose("x");
    }
    cluster.shutdown();
    cluster.nodes.clear();
    cluster.probes.clear();
}

struct Left {
    tasks: Option<usize>,
    files: usize,
    threads: usize,
}

/// Waits until no thread of a node is left, and says what else there is.
fn until_quiet(cluster: &crate::cluster::Cluster) -> Left {
    until("an end of all threads", || (node_threads() == 0).then_some(()));
    Left { tasks: cluster.runtime.tasks(), files: open_files(), threads: threads().len() }
}

/// The nodes' threads are named; the network's lives as long as the cluster.
fn node_threads() -> usize {
    let of_node = |name: &&String| name.starts_with("raft-") && *name != "raft-network";
    threads().iter().filter(of_node).count()
}

fn threads() -> Vec<String> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let name = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("comm")).ok();
    let names = threads.filter_map(|thread| name(thread.ok()?));
    names.map(|name| name.trim().to_owned()).collect()
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
