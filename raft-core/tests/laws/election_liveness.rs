//! Where a connected quorum exists, a leader that commits exists soon (§5.2): under every set of
//! one-way cuts, beside a candidate that is heard and hears nobody, and on disks as slow as the
//! election timeout.

use std::time::Duration;

use crate::pump::{Cluster, id, ms, us};
use raft_core::{Config, Instant, Lease, NodeId, Role};

/// All ordered pairs of three servers.
const LINKS: [(u64, u64); 6] = [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)];

/// What a user can choose.
#[derive(Clone, Copy, Debug)]
struct Options {
    pre_vote: bool,
    check_quorum: bool,
    leases: bool,
}

/// All that are valid: leases need check-quorum.
const OPTIONS: [Options; 6] = [
    Options { pre_vote: true, check_quorum: true, leases: false },
    Options { pre_vote: true, check_quorum: true, leases: true },
    Options { pre_vote: true, check_quorum: false, leases: false },
    Options { pre_vote: false, check_quorum: true, leases: false },
    Options { pre_vote: false, check_quorum: true, leases: true },
    Options { pre_vote: false, check_quorum: false, leases: false },
];

/// The longest time without a commit that a set of cuts may cost, of a cluster whose timeouts are
/// 150-300 ms. A candidate that is heard and hears nobody may win some draws before the others win
/// one.
const LEADERLESS_MAX: Duration = ms(3000);

/// Proposes to all that lead until one of the commands is committed that was proposed from now on;
/// none if that takes too long.
fn time_to_commit(cluster: &mut Cluster) -> Option<Duration> {
    let begin = cluster.now;
    let mut proposed = Vec::new();
    while cluster.now < begin + LEADERLESS_MAX {
        let leads = |id: &NodeId| {
            cluster.host(*id).raft.as_ref().is_some_and(|raft| raft.role() == Role::Leader)
        };
        for leader in cluster.ids().filter(leads).collect::<Vec<_>>() {
            let command = proposed.len().to_le_bytes().to_vec();
            if cluster.propose(leader, &command).is_ok() {
                proposed.push(command);
            }
        }
        let is_applied = |cluster: &Cluster| proposed.iter().any(|c| cluster.is_applied(c));
        if cluster.run_until(ms(5), is_applied) {
            return Some(Duration::from_micros(
                cluster.now.as_micros().saturating_sub(begin.as_micros()),
            ));
        }
    }
    None
}

fn with_options(options: Options) -> impl Fn(&mut Config) {
    move |config| {
        config.pre_vote = options.pre_vote;
        config.check_quorum = options.check_quorum;
        config.lease = options.leases.then_some(Lease { drift_ppm_max: 500 });
    }
}

/// How long it takes until a command is committed if these links are cut while each server leads in
/// turn; none if that is too long.
fn times_to_commit(options: Options, cut: &[(u64, u64)]) -> [Option<Duration>; 3] {
    [1, 2, 3].map(|leader| {
        let mut cluster = Cluster::with(3, leader, with_options(options));
        cluster.elect();
        // The server that is to lead is the only one that may stand.
        while cluster.leader() != Some(id(leader)) {
            let leads = cluster.leader();
            leads.into_iter().for_each(|leads| cluster.disconnect(leads));
            cluster.run_for(ms(600));
            cluster.ids().for_each(|id| cluster.connect(id));
            cluster.elect();
        }
        cluster.run_for(ms(100));
        cluster.cut = cut.iter().map(|(from, to)| (id(*from), id(*to))).collect();
        time_to_commit(&mut cluster)
    })
}

/// A leader that hears nobody and is heard leads for ever in the Raft of the paper; thesis 6.2 is
/// the remedy.
fn leads_in_vain(leader: u64, works: impl Fn(u64, u64) -> bool) -> bool {
    let others = || (1..=3).filter(|other| *other != leader);
    others().any(|other| works(leader, other)) && !others().any(|other| works(other, leader))
}

/// With each combination of options and each set of one-way cuts that leaves two of three servers
/// that hear each other, whichever server led before; but for the Raft of the paper, which has no
/// remedy for a leader that leads in vain. Run with `--nocapture` for the table.
#[test]
fn a_connected_quorum_commits_under_all_one_way_cuts() {
    println!(
        "pre-vote  check-quorum  leases  cuts x leaders  stuck  without a commit: mean  longest"
    );
    for options in OPTIONS {
        let Options { pre_vote, check_quorum, leases } = options;
        let (mut times, mut stuck) = (Vec::new(), 0);
        for set in 0..1 << LINKS.len() {
            let is_cut = |at: &usize| set & (1 << at) != 0;
            let cut: Vec<_> = (0..LINKS.len()).filter(is_cut).map(|at| LINKS[at]).collect();
            let works = |from, to| !cut.contains(&(from, to));
            let both_ways = |a, b| works(a, b) && works(b, a);
            if !both_ways(1, 2) && !both_ways(1, 3) && !both_ways(2, 3) {
                continue;
            }
            for (leader, time) in (1..).zip(times_to_commit(options, &cut)) {
                let may_be_stuck = !pre_vote && !check_quorum && leads_in_vain(leader, works);
                assert!(
                    time.is_some() || may_be_stuck,
                    "{options:?}, {leader} led, cut {cut:?}: {time:?}"
                );
                times.extend(time);
                stuck += u32::from(time.is_none());
            }
        }
        let mean = times.iter().sum::<Duration>() / times.len() as u32;
        let longest = times.iter().max().expect("no set at all");
        let all = times.len() as u32 + stuck;
        println!(
            "{pre_vote:8}  {check_quorum:12}  {leases:6}  {all:14}  {stuck:5}  {mean:22.1?}  {longest:.1?}"
        );
    }
}

/// A candidate that all servers hear and that hears none does not keep the others from standing: it
/// asks again and again, and only a granted vote restarts a timer (Figure 2).
#[test]
fn a_candidate_that_hears_nobody_holds_nobody_back() {
    for check_quorum in [true, false] {
        for seed in 0..20 {
            let options = Options { pre_vote: false, check_quorum, leases: false };
            let mut cluster = Cluster::with(5, seed, with_options(options));
            cluster.crash(id(4));
            cluster.cut = [1, 2, 3].map(|from| (id(from), id(5))).to_vec();
            cluster.run_for(ms(600));
            let time = time_to_commit(&mut cluster);
            assert!(time.is_some(), "stuck with check_quorum {check_quorum}, seed {seed}");
        }
    }
}

/// A cluster of one leads after one write, however slow that is: its vote is not thrown away for
/// another.
#[test]
fn a_cluster_of_one_leads_after_one_write() {
    for (write, pre_vote) in [(ms(299), true), (ms(299), false), (ms(2000), true)] {
        let options = Options { pre_vote, check_quorum: true, leases: false };
        let mut cluster = Cluster::with(1, 1, with_options(options));
        // Its first life has begun with a quick disk, and ends before that has done anything.
        cluster.crash_keeping(id(1), 0);
        cluster.disk_latency = write;
        cluster.start(id(1));
        let leads = |cluster: &Cluster| cluster.raft(id(1)).role() == Role::Leader;
        assert!(cluster.run_until(write + ms(1), leads), "no leader after {:?}", cluster.now);
        assert_eq!(cluster.raft(id(1)).term().get(), 1);
    }
}

/// Disks slower than any election timeout elect: a vote that is on its way to the disk, a
/// candidate's or a voter's, is not taken back by standing in a new term.
#[test]
fn disks_slower_than_the_timeout_elect() {
    for write in [ms(160), ms(350), ms(1000)] {
        let mut latest = Instant::ZERO;
        for seed in 0..20 {
            let mut cluster = Cluster::new(3, seed);
            cluster.disk_latency = write;
            let elected = |cluster: &Cluster| cluster.hosts.iter().any(|host| host.elections > 0);
            assert!(
                cluster.run_until(write * 4 + ms(1000), elected),
                "no leader with writes of {write:?}, seed {seed}"
            );
            latest = latest.max(cluster.now);
        }
        println!("writes of {write:?}: a leader after at most {latest}");
    }
}

/// And a fast server does not depose the candidate that a slow voter is about to elect.
#[test]
fn one_slow_disk_does_not_keep_the_others_from_electing() {
    for slow in 1..=3 {
        for seed in 0..20 {
            let mut cluster = Cluster::new(3, seed);
            cluster.host_mut(id(slow)).disk_latency = Some(ms(350));
            let elected = |cluster: &Cluster| cluster.hosts.iter().any(|host| host.elections > 0);
            assert!(cluster.run_until(ms(1500) + us(1), elected), "{slow} is slow, seed {seed}");
        }
    }
}
