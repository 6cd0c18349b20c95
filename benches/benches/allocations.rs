//! Prints how often raft-core and raft-rs allocate memory, per replicated entry and per election,
//! summed over all servers.
//!
//! Apart from the bench `core`, for a counting allocator costs time. Each cluster has done as much
//! before as is counted, so that every server has led; the logs still grow, as they do in life.

use allocation_counter::measure;
use benches::one_thread::{COMMAND_BYTES, Cluster, CoreServer, RaftRsServer, Server};
use bytes::Bytes;

/// How many entries are counted.
const ENTRIES: usize = 16 * 1024;

/// How many elections are counted.
const ELECTIONS: usize = 1024;

fn main() {
    println!("allocations per entry, 3 servers    one at a time    64 at once    1024 at once");
    print_entries::<CoreServer<[u8; COMMAND_BYTES]>>("raft-core, arrays");
    print_entries::<CoreServer<Bytes>>("raft-core, Bytes");
    print_entries::<RaftRsServer<false>>("raft-rs");
    print_entries::<RaftRsServer<true>>("raft-rs, one message");
    println!();
    println!("allocations per election                3 servers     5 servers      51 servers");
    print_elections::<CoreServer<[u8; COMMAND_BYTES]>>("raft-core");
    print_elections::<RaftRsServer<false>>("raft-rs");
}

fn print_entries<S: Server>(name: &str) {
    let [one, some, many] = [1, 64, 1024].map(per_entry::<S>);
    println!("{name:<32}{one:>17.2}{some:>14.2}{many:>16.2}");
}

fn per_entry<S: Server>(batch: usize) -> f64 {
    let mut cluster = Cluster::<S>::elected(3, true);
    let mut replicate = || (0..ENTRIES / batch).for_each(|_| cluster.replicate(batch));
    replicate();
    measure(replicate).count_total as f64 / ENTRIES as f64
}

fn print_elections<S: Server>(name: &str) {
    let [few, some, many] = [3, 5, 51].map(per_election::<S>);
    println!("{name:<32}{few:>17.2}{some:>14.2}{many:>16.2}");
}

fn per_election<S: Server>(voters: usize) -> f64 {
    let mut cluster = Cluster::<S>::elected(voters, true);
    let mut elect = || {
        for _ in 0..ELECTIONS {
            let candidate = cluster.lose_leader();
            cluster.elect(candidate);
            cluster.settle();
        }
    };
    elect();
    measure(elect).count_total as f64 / ELECTIONS as f64
}
