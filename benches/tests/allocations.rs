//! How often the core allocates, for hosts that count on it: a counting allocator over whole
//! clusters.

use allocation_counter::measure;
use benches::one_thread::{COMMAND_BYTES, Cluster, CoreServer};
use bytes::Bytes;

type Arrays = CoreServer<[u8; COMMAND_BYTES]>;

/// Elections reuse what earlier ones allocated. The log, in which each leaves a no-op, doubles its
/// memory at powers of two, so the elections counted lie between two of those.
#[test]
fn an_election_allocates_nothing_once_every_server_has_led() {
    for pre_vote in [false, true] {
        let mut cluster = Cluster::<Arrays>::elected(3, pre_vote);
        hold_elections(&mut cluster, 130);
        assert_eq!(measure(|| hold_elections(&mut cluster, 120)).count_total, 0);
    }
}

/// The same for entries that are replicated one at a time.
#[test]
fn an_entry_that_travels_alone_allocates_nothing() {
    let mut cluster = Cluster::<Arrays>::elected(3, true);
    (0..130).for_each(|_| cluster.replicate(1));
    let replicate = || (0..120).for_each(|_| cluster.replicate(1));
    assert_eq!(measure(replicate).count_total, 0);
}

/// A batch costs a vector for each hand-off, to a disk or to a peer. Commands are not copied with
/// it, and what the state machine applies is lent.
#[test]
fn a_batch_allocates_once_for_each_hand_off() {
    const HAND_OFFS: u64 = 3 + 2;
    let mut cluster = Cluster::<CoreServer<Bytes>>::elected(3, true);
    (0..5).for_each(|_| cluster.replicate(32));
    let replicate = || (0..2).for_each(|_| cluster.replicate(32));
    assert_eq!(measure(replicate).count_total, 2 * HAND_OFFS);
}

fn hold_elections(cluster: &mut Cluster<Arrays>, count: usize) {
    for _ in 0..count {
        let candidate = cluster.lose_leader();
        cluster.elect(candidate);
        cluster.settle();
    }
}
