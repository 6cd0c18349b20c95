//! Bad networks.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::host::Faults;

use crate::cluster::{Stage, patient};
use crate::runner::disturbed;

/// A leader that hears no follower steps down, and another server can lead.
pub(crate) fn deaf_leader(stage: Stage) {
    let cluster = stage.cluster(3);
    cluster.propose("before");
    let old = cluster.elect();
    let rest = cluster.others(&[old]);
    rest.iter().for_each(|other| cluster.cut(*other, old));
    cluster.propose_among(&rest, "between");
    cluster.mend();
    cluster.propose("after");
    assert_eq!(cluster.agreed(), ["before", "between", "after"]);
}

/// A leader that no follower hears is replaced.
pub(crate) fn mute_leader(stage: Stage) {
    let cluster = stage.cluster(3);
    cluster.propose("before");
    let old = cluster.elect();
    let rest = cluster.others(&[old]);
    rest.iter().for_each(|other| cluster.cut(old, *other));
    cluster.propose_among(&rest, "between");
    cluster.mend();
    cluster.propose("after");
    assert_eq!(cluster.agreed(), ["before", "between", "after"]);
}

/// A follower that hears nobody asks in vain: those who hear the leader do not listen to it (thesis
/// 9.6).
pub(crate) fn deaf_follower(stage: Stage) {
    let cluster = stage.cluster_with(3, patient);
    let leader = cluster.elect();
    let term = cluster.leadership(leader).term;
    let deaf = cluster.others(&[leader])[0];
    cluster.others(&[deaf]).into_iter().for_each(|other| cluster.cut(other, deaf));
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        if cluster.all().into_iter().any(|position| cluster.leadership(position).term != term) {
            disturbed("a deaf follower raised the term");
        }
        thread::sleep(Duration::from_millis(2));
    }
    cluster.mend();
    cluster.propose("after");
    assert_eq!(cluster.agreed(), ["after"]);
}

/// One message of ten is lost; what was acknowledged is there, once.
pub(crate) fn ten_percent_lost(stage: Stage) {
    let cluster = stage.cluster(3);
    cluster.elect();
    cluster.lose(0.1);
    let commands: Vec<Bytes> = (0..30).map(|number| format!("command {number}").into()).collect();
    commands.iter().for_each(|command| cluster.propose(command.clone()));
    cluster.lose(0.0);
    assert_eq!(cluster.agreed(), commands);
}

/// Every message takes 10 to 20 ms, and there are some twice and some out of turn.
pub(crate) fn slow_links(stage: Stage) {
    let cluster = stage.cluster(3);
    cluster.hub().set_faults(Faults {
        delay_min: Duration::from_millis(10),
        delay_max: Duration::from_millis(20),
        duplicate: 0.1,
        reorder: 0.1,
        reorder_by: Duration::from_millis(10),
        ..Faults::default()
    });
    let commands: Vec<Bytes> = (0..10).map(|number| format!("command {number}").into()).collect();
    let start = Instant::now();
    commands.iter().for_each(|command| cluster.propose(command.clone()));
    // There and back.
    assert!(start.elapsed() >= Duration::from_millis(20) * 10, "the links are not slow");
    cluster.hub().set_faults(Faults::default());
    assert_eq!(cluster.agreed(), commands);
    assert!(cluster.hub().traffic().duplicated > 0);
}
