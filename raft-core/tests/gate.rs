//! The gate: a node never says what it could forget.

mod pump;

use pump::{Cluster, ms};

/// A crash loses what was not answered for; whoever survives goes on, and whoever comes back catches up.
#[test]
fn a_cluster_survives_the_loss_of_its_leader_and_takes_it_back() {
    for seed in 0..50 {
        let mut cluster = Cluster::new(3, seed);
        let first = cluster.elect();
        cluster.agree(b"before", 3);
        cluster.crash(first);
        let second = cluster.elect();
        assert_ne!(first, second);
        cluster.agree(b"between", 2);
        cluster.start(first);
        let index = cluster.agree(b"after", 3);
        let caught_up = |cluster: &Cluster| cluster.host(first).applied_index >= index;
        assert!(cluster.run_until(ms(1000), caught_up), "the first leader does not catch up");
        assert_eq!(cluster.applied_commands(first), [&b"before"[..], b"between", b"after"]);
    }
}
