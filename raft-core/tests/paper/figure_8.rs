//! Figure 8 (§5.4.2) as a story: why a leader commits by counting only entries of its own term.
//!
//! ```text
//!        (a)      (b)      (c)        (d)      (e)
//!        1 2      1 2      1 2 3      1 2      1 2 3     index, in the figure
//! S1     1 2*     1 2†     1 2 4*     1 3      1 2 4*    * leads
//! S2     1 2      1 2      1 2        1 3      1 2 4     † is down
//! S3     1        1        1 2        1 3      1 2 4
//! S4     1        1        1          1 3      1
//! S5     1        1 3*     1 3†       1 3*     1 3
//! ```
//!
//! In (c) the entry of term 2 is on a majority. Had S1 counted it as committed, (d) would take back
//! what was committed. In (e) an entry of S1's own term is on a majority as well: that one counts,
//! and the older one is committed with it.
//!
//! A term's first entry here is its leader's no-op, so the figure's entries of terms 2 and 3 are
//! two each: the no-op at index 2 and a command at index 3; and the entry of term 4 is the no-op at
//! index 4.

use crate::pump::{Cluster, Command, for_each_seed, id, ms};
use raft_core::{Body, Config, Entry, Index, LogId, Message, NodeId, Role, Term};

const COMMAND_OF_TERM_2: &[u8] = b"two";
const COMMAND_OF_TERM_3: &[u8] = b"three";

/// One entry to an append, so that the network can lose one and let another through.
fn one_entry_at_a_time(config: &mut Config) {
    config.append_bytes_max = Entry::<Command>::OVERHEAD_BYTES + 8;
    config.command_bytes_max = 8;
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(Term::new(term), Index::new(index))
}

/// From now on only `candidate` can win an election, and appends are lost that `loses` picks.
fn only(
    cluster: &mut Cluster,
    candidate: NodeId,
    loses: impl Fn(&Message<Command>, &[Entry<Command>]) -> bool + 'static,
) {
    cluster.lose_if(move |message| {
        if let Body::AppendEntries(append) = &message.body {
            return loses(message, &append.entries);
        }
        let asks = matches!(message.body, Body::RequestPreVote(_) | Body::RequestVote(_));
        asks && message.from != candidate
    });
}

fn run_until_leads(cluster: &mut Cluster, leader: NodeId, term: u64) {
    let leads = |cluster: &Cluster| {
        let raft = cluster.raft(leader);
        raft.role() == Role::Leader && raft.term() == Term::new(term)
    };
    assert!(cluster.run_until(ms(10_000), leads), "{leader} does not lead term {term}");
}

fn run_until_stored(cluster: &mut Cluster, server: NodeId, last: LogId) {
    let stored =
        |cluster: &Cluster| cluster.host(server).stored.entries.last().map(Entry::id) == Some(last);
    assert!(cluster.run_until(ms(10_000), stored), "{last} does not come to {server}");
}

/// Kills a server whose disk is done with its writes.
fn kill(cluster: &mut Cluster, server: NodeId) {
    assert!(cluster.host(server).pending.is_empty(), "{server} still writes");
    cluster.crash(server);
}

/// (a) to (c): S1 leads term 4 and brings its entries of term 2 to S2 and S3.
fn until_c(servers: u64, seed: u64) -> Cluster {
    let mut cluster = Cluster::with(servers, seed, one_entry_at_a_time);
    only(&mut cluster, id(3), |_, _| false);
    run_until_leads(&mut cluster, id(3), 1);
    for server in cluster.ids() {
        run_until_stored(&mut cluster, server, log_id(1, 1));
    }
    kill(&mut cluster, id(3));
    cluster.start(id(3));

    // (a) S1 leads term 2 and replicates to S2 alone, and of its two entries only the first: so
    // that in (c) S2 is sent something old as well, and by its answer comes to count.
    only(&mut cluster, id(1), |message, entries| {
        message.to != id(2) || entries.iter().any(|entry| entry.index == Index::new(3))
    });
    run_until_leads(&mut cluster, id(1), 2);
    cluster.propose(id(1), COMMAND_OF_TERM_2).expect("it leads");
    run_until_stored(&mut cluster, id(1), log_id(2, 3));
    run_until_stored(&mut cluster, id(2), log_id(2, 2));
    kill(&mut cluster, id(1));

    // (b) S5 leads term 3 by the votes of S3, S4 and itself, and replicates to nobody.
    only(&mut cluster, id(5), |_, _| true);
    run_until_leads(&mut cluster, id(5), 3);
    cluster.propose(id(5), COMMAND_OF_TERM_3).expect("it leads");
    run_until_stored(&mut cluster, id(5), log_id(3, 3));
    kill(&mut cluster, id(5));

    // (c) S1 leads term 4; its entries of term 2 come to S3, its own no-op to nobody, and nothing
    // to S4.
    cluster.start(id(1));
    only(&mut cluster, id(1), |message, entries| {
        message.to == id(4) || entries.iter().any(|entry| entry.term == Term::new(4))
    });
    run_until_leads(&mut cluster, id(1), 4);
    run_until_stored(&mut cluster, id(3), log_id(2, 3));
    cluster
}

/// How far a follower's log is known to match that of its leader S1.
fn matched(cluster: &Cluster, peer: NodeId) -> Index {
    let peers = cluster.raft(id(1)).status().peers;
    peers.iter().find(|status| status.id == peer).expect("a follower").match_index
}

fn run_until_a_majority_matches(cluster: &mut Cluster, index: Index) {
    let matches = |cluster: &Cluster| [2, 3].iter().all(|n| matched(cluster, id(*n)) >= index);
    assert!(cluster.run_until(ms(10_000), matches), "no majority matches {index}");
}

/// (c) "Only log entries from the leader's current term are committed by counting replicas."
#[test]
fn an_old_entry_on_a_majority_is_not_committed_by_counting() {
    for_each_seed(&[5], |servers, seed| {
        let mut cluster = until_c(servers, seed);
        run_until_a_majority_matches(&mut cluster, Index::new(3));
        cluster.run_for(ms(500));
        let leader = cluster.raft(id(1)).status();
        assert_eq!((leader.role, leader.current_term), (Role::Leader, Term::new(4)));
        for server in [1, 2, 3, 4].map(id) {
            let commit_index = cluster.raft(server).status().commit_index;
            assert!(commit_index <= Index::new(1), "{server} takes {commit_index} for committed");
        }
        assert!(!cluster.is_applied(COMMAND_OF_TERM_2));
    });
}

/// (d) The old entry, on a majority though it was, is replaced by another: no harm is done, for
/// nobody called it committed.
#[test]
fn an_old_entry_on_a_majority_may_be_replaced() {
    for_each_seed(&[5], |servers, seed| {
        let mut cluster = until_c(servers, seed);
        run_until_a_majority_matches(&mut cluster, Index::new(3));
        cluster.run_for(ms(10));
        cluster.crash(id(1));
        cluster.start(id(5));
        only(&mut cluster, id(5), |_, _| false);
        run_until_leads(&mut cluster, id(5), 5);
        cluster.start(id(1));
        for server in cluster.ids() {
            run_until_stored(&mut cluster, server, log_id(5, 4));
        }
        cluster.run_for(ms(500));
        assert!(!cluster.is_applied(COMMAND_OF_TERM_2));
        for server in cluster.ids() {
            assert_eq!(cluster.applied_commands(server), [COMMAND_OF_TERM_3]);
            let terms = cluster.host(server).stored.entries.iter().map(|entry| entry.term.get());
            assert_eq!(terms.collect::<Vec<_>>(), [1, 3, 3, 5]);
        }
    });
}

/// (e) "Once an entry from the current term has been committed in this way, all prior entries are
/// committed indirectly." S5 cannot win then.
#[test]
fn an_old_entry_is_committed_with_one_of_the_leaders_own_term() {
    for_each_seed(&[5], |servers, seed| {
        let mut cluster = until_c(servers, seed);
        only(&mut cluster, id(1), |message, _| message.to == id(4));
        run_until_a_majority_matches(&mut cluster, Index::new(4));
        let applied = |cluster: &Cluster| {
            [1, 2, 3].iter().all(|n| cluster.host(id(*n)).last_applied == Index::new(4))
        };
        assert!(cluster.run_until(ms(1000), applied), "an own entry on a majority commits");
        assert_eq!(cluster.applied_count(Index::new(3), COMMAND_OF_TERM_2), 3);

        cluster.crash(id(1));
        cluster.start(id(5));
        only(&mut cluster, id(5), |_, _| false);
        cluster.run_for(ms(3000));
        assert_eq!(cluster.leader(), None, "S5 lacks what is committed");
        let terms = [2, 3, 4, 5].map(|n| cluster.raft(id(n)).term());
        assert_eq!(terms, [Term::new(4); 4], "and S2 and S3 would not even have it ask");

        cluster.lose_nothing();
        cluster.start(id(1));
        cluster.agree(b"last", 5);
        for server in cluster.ids() {
            assert_eq!(cluster.applied_commands(server), [COMMAND_OF_TERM_2, b"last"]);
        }
    });
}
