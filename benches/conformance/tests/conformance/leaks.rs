//! What nodes leave behind: nothing.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use runtimes::DEADLINE;

use crate::cluster::{Cluster, Stage, until};

/// How often a cluster starts and stops.
const CYCLES: usize = 100;

/// Clusters of three start and stop, hundreds of nodes in all, always on the same ports; some are
/// shut down and others only dropped. No thread, no task, no open file is left of them.
pub(crate) fn cycles_leave_nothing(stage: Stage) {
    let mut cluster = stage.idle(3, |config| {
        config.raft.election_timeout_min = Duration::from_millis(20);
        config.raft.election_timeout_max = Duration::from_millis(40);
        config.raft.heartbeat_interval = Duration::from_millis(5);
    });
    // What the runtime starts once and keeps is no leak.
    cycle(&mut cluster, 0);
    let before = until_quiet(&cluster);
    for number in 0..CYCLES {
        cycle(&mut cluster, number);
    }
    await_no_node_threads();
    until("an end of all tasks", || (cluster.runtime.tasks() <= before.tasks).then_some(()));
    until("all files closed", || (open_files() <= before.files).then_some(()));
    // Runtimes keep some threads for a while, but not one for each node.
    assert!(threads().len() <= before.threads + CYCLES / 2, "{:?}", threads());
}

fn cycle(cluster: &mut Cluster, number: usize) {
    cluster.all().into_iter().for_each(|position| cluster.restart(position));
    if number.is_multiple_of(10) {
        cluster.propose("x");
    }
    let drop_only = number.is_multiple_of(4);
    if !drop_only {
        cluster.shutdown();
    }
    cluster.nodes.clear();
    cluster.probes.clear();
    if drop_only {
        // Then nothing says when the ports are free.
        await_no_node_threads();
        cluster.all().into_iter().for_each(|position| cluster.await_port(position));
    }
}

struct Left {
    tasks: Option<usize>,
    files: usize,
    threads: usize,
}

/// Waits until no thread of a node is left, and says what else there is.
fn until_quiet(cluster: &Cluster) -> Left {
    await_no_node_threads();
    Left { tasks: cluster.runtime.tasks(), files: open_files(), threads: threads().len() }
}

/// The nodes' threads are named; the network's lives as long as the cluster.
fn await_no_node_threads() {
    let start = Instant::now();
    loop {
        let mut left = threads();
        left.retain(|name| name.starts_with("raft-") && name != "raft-network");
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "left after {DEADLINE:?}: {left:?}");
        thread::sleep(Duration::from_millis(1));
    }
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
