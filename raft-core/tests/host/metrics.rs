//! What a node measures.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_core::host::{Handle, InProcessNetwork, MemoryJournal, Metrics, PeerMetrics};
use raft_core::{Config, NodeId, Role};

use crate::node::{Map, id, leader, set, start, until};

const COMMANDS: u64 = 20;

fn three(hub: &InProcessNetwork) -> BTreeMap<u64, Handle<Map>> {
    let node = |own| {
        let raft = Config::new(id(own), [1, 2, 3].map(NodeId::new));
        (own, start(raft, hub, MemoryJournal::new(), Map::default()).unwrap())
    };
    (1..=3).map(node).collect()
}

fn peer(metrics: &Metrics, number: u64) -> &PeerMetrics {
    metrics.peers.iter().find(|peer| peer.id == Some(id(number))).unwrap()
}

/// How many messages of this kind, and how many bytes.
fn sent(peer: &PeerMetrics, kind: &str) -> (u64, u64) {
    let counted = peer.sent.iter().find(|counted| counted.kind == kind).unwrap();
    (counted.messages, counted.bytes)
}

#[test]
fn commands_are_counted_on_their_way() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let nodes = three(&hub);
    let leads = leader(&nodes);
    let leader = &nodes[&leads];
    for key in 0..COMMANDS {
        leader.propose(set(key, b"value")).wait().unwrap();
    }
    // The state machine measures a batch after it has answered the last client of the batch.
    until("all is applied and measured", || {
        nodes.values().all(|node| {
            let Metrics { gauges, totals, .. } = node.metrics();
            totals.entries_applied > COMMANDS && gauges.applied_index == gauges.last_log_index
        })
    });
    let metrics = leader.metrics();
    assert!(metrics.running);
    assert_eq!((metrics.role, metrics.leader), (Role::Leader, Some(id(leads))));
    let (totals, histograms) = (metrics.totals, metrics.histograms);
    assert_eq!(totals.proposals_accepted, COMMANDS);
    // The leader's first entry has no command.
    assert_eq!(totals.entries_committed, metrics.gauges.commit_index);
    assert_eq!(totals.entries_applied, totals.entries_committed);
    assert_eq!(totals.elections_won, 1);
    assert_eq!(totals.elections_started, 1 + totals.elections_lost);
    assert_eq!(histograms.proposal_to_commit.count(), COMMANDS);
    assert_eq!(histograms.proposal_to_applied.count(), COMMANDS);
    assert!(histograms.proposal_to_applied.sum() >= histograms.proposal_to_commit.sum());
    // Followers may commit what a late journal then writes at once.
    assert!(histograms.append_to_durable.count() > 0 && histograms.journal_sync.count() > 0);
    assert!(histograms.apply.count() > 0 && histograms.loop_lateness.count() > 0);
    assert_eq!((metrics.gauges.members, metrics.gauges.voters), (3, 3));
    assert_eq!(metrics.gauges.log_entries, metrics.gauges.last_log_index);
    assert_eq!(metrics.gauges.proposals_waiting, 0);

    let ids: Vec<_> = metrics.peers.iter().map(|peer| peer.id.map(NodeId::get)).collect();
    let others: Vec<_> = (1..=3).filter(|own| *own != leads).collect();
    assert_eq!(ids, [Some(others[0]), Some(others[1]), None], "the last are all other nodes");
    for other in others {
        let peer = peer(&metrics, other);
        assert_eq!(peer.lag, Some(0));
        assert!(peer.silent_for.unwrap() < Duration::from_secs(30));
        let (messages, bytes) = sent(peer, "append_entries");
        // A follower that is late is sent several commands in one message.
        assert!(messages > 0 && bytes >= COMMANDS * 13, "{messages} with {bytes} bytes");
        let replies = peer.received.iter().find(|counted| counted.kind == "append_entries_reply");
        assert!(replies.unwrap().messages > 0);

        let follower = &nodes[&other];
        assert!(follower.propose(set(1, b"")).wait().is_err());
        until("the refusal is counted", || {
            follower.metrics().totals.proposals_refused_not_leader == 1
        });
        let metrics = follower.metrics();
        assert_eq!((metrics.role, metrics.leader), (Role::Follower, Some(id(leads))));
        assert_eq!(metrics.totals.proposals_accepted, 0);
        let leader_there = metrics.peers.iter().find(|peer| peer.id == Some(id(leads))).unwrap();
        assert_eq!(leader_there.lag, None, "only a leader knows");
        assert!(leader_there.silent_for.is_some());
        let received =
            leader_there.received.iter().find(|counted| counted.kind == "append_entries");
        assert!(received.unwrap().bytes >= COMMANDS * 13);
    }
}

#[test]
fn reads_snapshots_and_forwarded_commands_are_counted_by_kind() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let nodes = three(&hub);
    let leads = leader(&nodes);
    let follower = &nodes[&(leads % 3 + 1)];
    until("the follower knows its leader", || follower.metrics().leader.is_some());
    follower.propose_anywhere(set(1, b"value")).wait().unwrap();
    follower.read(|map| map.count).wait().unwrap();
    follower.read_local(|map| map.count).wait().unwrap();
    follower.read_local(|map| map.count).wait().unwrap();
    follower.read_stale(Duration::from_secs(60), |map| map.count).wait().unwrap();
    let totals = follower.metrics().totals;
    assert_eq!(totals.proposals_forwarded, 1);
    assert_eq!((totals.reads_linearizable, totals.reads_local, totals.reads_stale), (1, 2, 1));
    until("the leader counts it", || nodes[&leads].metrics().totals.forwards_taken == 1);
    assert_eq!(nodes[&leads].metrics().totals.proposals_accepted, 0);

    assert_eq!(follower.metrics().histograms.snapshot.count(), 0);
    let last = follower.take_snapshot().wait().unwrap();
    until("the snapshot is published", || {
        follower.metrics().gauges.snapshot_index == last.index.get()
    });
    let metrics = follower.metrics();
    assert_eq!((metrics.totals.snapshots_taken, metrics.totals.snapshots_failed), (1, 0));
    assert_eq!(metrics.histograms.snapshot.count(), 1);
}

#[test]
fn a_node_that_has_stopped_leaves_its_numbers() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let raft = Config::new(id(1), [id(1)]);
    let node = start(raft, &hub, MemoryJournal::new(), Map::default()).unwrap();
    let lead = node.lead().wait().unwrap();
    node.propose(set(1, b"value")).wait().unwrap();
    let reader = node.metrics_reader();
    assert!(reader.read().running && reader.read().role == Role::Leader);
    drop((node, lead));
    until("the end is published: a reader does not keep the node", || !reader.read().running);
    let metrics = reader.read();
    assert_eq!((metrics.role, metrics.leader), (Role::Follower, None));
    assert_eq!(metrics.totals.proposals_accepted, 1);
    assert_eq!(metrics.gauges.commit_index, 2);
}

#[cfg(feature = "prometheus")]
mod prometheus {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use std::net::{Ipv4Addr, SocketAddr};

    use prometheus_client::encoding::prometheus_text;
    use prometheus_client::registry::Registry;
    use raft_core::host::tcp::{self, Counters, Peers, Signals};
    use raft_core::host::{Identity, MessageInbox, StoreId};

    use super::*;
    use crate::node::CLUSTER;

    /// What wakes the dialers of a transport that has none.
    #[derive(Default, Debug)]
    struct Nobody;

    impl Signals for Nobody {
        fn ready(&self) {}

        fn retry(&self) {}
    }

    /// The counters of a transport that node 1 has started.
    fn started() -> Counters {
        let counters = Counters::default();
        let identity = Identity { cluster: CLUSTER, node: id(1), store_id: StoreId::new(1) };
        let (inbox, at) = (MessageInbox::new(drop), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let config = tcp::Config::default();
        let _ = Peers::<Nobody>::new(identity, inbox, at, BTreeMap::new(), &config, &counters);
        counters
    }

    fn scrape(node: &Handle<Map>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(node.metrics_reader()));
        registry.register_collector(Box::new(started()));
        text_of(&registry)
    }

    fn text_of(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn what_a_tcp_transport_counts_is_scraped_once_it_has_started() {
        let scraped = |counters: &Counters| {
            let mut registry = Registry::default();
            registry.register_collector(Box::new(counters.clone()));
            text_of(&registry)
        };
        assert_eq!(scraped(&Counters::default()), "", "no sample lacks the label `node`");
        let counters = started();
        (0..3).for_each(|_| counters.count_connected());
        (0..2).for_each(|_| counters.count_accepted());
        counters.count_connect_failed();
        counters.count_unknown_peer();
        let text = scraped(&counters);
        for line in [
            "# HELP raft_tcp_connections_total Connections made to peers, and accepted from them",
            "raft_tcp_connections_total{node=\"1\",direction=\"outgoing\"} 3",
            "raft_tcp_connections_total{node=\"1\",direction=\"incoming\"} 2",
            "raft_tcp_connect_failures_total{node=\"1\"} 1",
            "raft_tcp_messages_dropped_total{node=\"1\",reason=\"unknown_peer\"} 1",
            "raft_tcp_closed_total{node=\"1\",reason=\"tls\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }

    fn lone_leader() -> Handle<Map> {
        let (hub, _late) = InProcessNetwork::new(1, || {});
        let raft = Config::new(id(1), [id(1), id(2)]);
        start(raft, &hub, MemoryJournal::new(), Map::default()).unwrap()
    }

    /// The metrics that exist: name, kind and help.
    fn described(text: &str) -> Vec<(&str, &str, &str)> {
        let mut lines = text.lines();
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            let Some(help) = line.strip_prefix("# HELP ") else { continue };
            let (name, help) = help.split_once(' ').unwrap();
            let kind = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
            found.push((name, kind.strip_prefix(name).unwrap().trim(), help));
        }
        found
    }

    /// What a text names: `raft_` and what follows it, without what Prometheus adds to histograms.
    fn named(text: &str) -> BTreeSet<String> {
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins = text.match_indices("raft_").filter(|(at, _)| {
            !text[..*at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
        });
        let names = begins.map(|(at, _)| {
            let name = &text[at..];
            let name = &name[..name.find(|c| !is_part(c)).unwrap_or(name.len())];
            let suffixes = ["_bucket", "_sum", "_count"];
            suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name).to_owned()
        });
        // The path of the crate is no metric.
        names.filter(|name| name != "raft_core").collect()
    }

    #[test]
    fn dashboard_alerts_and_page_name_only_metrics_that_exist() {
        let text = scrape(&lone_leader());
        let exist: BTreeSet<String> =
            described(&text).into_iter().map(|(name, ..)| name.to_owned()).collect();
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        for file in ["monitoring/alerts.yml", "monitoring/grafana.json", "monitoring.md"] {
            let named = named(&fs::read_to_string(docs.join(file)).unwrap());
            assert!(named.len() > 10, "{file} names {} metrics", named.len());
            let unknown: Vec<_> = named.difference(&exist).collect();
            assert!(unknown.is_empty(), "{file} names what does not exist: {unknown:?}");
        }
        let page = named(&fs::read_to_string(docs.join("monitoring.md")).unwrap());
        let missing: Vec<_> = exist.difference(&page).collect();
        assert!(missing.is_empty(), "the page lacks {missing:?}");
    }

    /// Rules of the text format that a scraper relies on.
    #[test]
    fn what_is_scraped_is_well_formed() {
        let text = scrape(&lone_leader());
        let described = described(&text);
        let names: BTreeSet<_> = described.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names.len(), described.len(), "no name is described twice");
        for (name, kind, help) in &described {
            assert!(name.starts_with("raft_") && !help.is_empty(), "{name}");
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert_eq!(*kind == "histogram", is_timed(&text, name), "{name} is a {kind}");
        }
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let mut seen = BTreeSet::new();
        for line in samples {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(series.contains("{node=\"1\""), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(series), "{series} is there twice");
        }
    }

    fn is_timed(text: &str, name: &str) -> bool {
        text.lines().any(|line| line.starts_with(&format!("{name}_bucket{{")))
    }
}
