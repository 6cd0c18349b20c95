//! A failover of three nodes in one process, recorded: for tests of what reads recordings.

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use raft_core::host::recorder::RecorderConfig;
use raft_threads::{ClusterId, Config, MemoryJournal, Node, NodeConfig, NodeId, Role, channel};

/// Longer than anything here takes on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Records three nodes until they have had two leaders.
///
/// # Errors
///
/// If the recordings cannot be written, or no leader comes in time.
pub fn record(dir: &Path) -> Result<(), Box<dyn Error>> {
    let ids = [1, 2, 3].map(NodeId::new);
    let network = channel::Network::new(1);
    let start = |id: NodeId| {
        let mut config = NodeConfig::new(ClusterId::new(7), Config::new(id, ids));
        config.record = Some(RecorderConfig::new(dir));
        Node::start(config, (), MemoryJournal::new(), network.endpoint(id))
    };
    let nodes = ids.iter().map(|id| start(*id)).collect::<Result<Vec<_>, _>>()?;
    let first = leader_among(&nodes, None)?;
    nodes[first].propose("one").wait_timeout(DEADLINE)?;
    network.isolate(ids[first]);
    let second = leader_among(&nodes, Some(first))?;
    nodes[second].propose("two").wait_timeout(DEADLINE)?;
    network.heal();
    for node in nodes {
        node.shutdown().wait_timeout(DEADLINE).ok_or("a node does not end")?;
    }
    Ok(())
}

/// The position of a node that leads, other than this one.
fn leader_among(nodes: &[Node<()>], but: Option<usize>) -> Result<usize, Box<dyn Error>> {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        let leads = |at: &usize| nodes[*at].leadership().current().role == Role::Leader;
        if let Some(at) = (0..nodes.len()).filter(|at| Some(*at) != but).find(leads) {
            return Ok(at);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err("no leader in time".into())
}
