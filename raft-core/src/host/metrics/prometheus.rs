//! The metrics as Prometheus finds them (feature `prometheus`): a collector for a registry of the
//! crate `prometheus_client`, which writes both text formats.
//!
//! All names begin with `raft_`, and all samples have the label `node`. A registry holds the
//! collector of one node, because a name may be described only once. The counters of a TCP
//! transport are a collector of their own, beside it: see
//! [`tcp::Counters`](crate::host::tcp::Counters).

use std::fmt;
use std::string::{String, ToString};
use std::vec::Vec;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

use super::gauges::GAUGES;
use super::peers::{MessageMetrics, PeerMetrics};
use super::totals::TOTALS;
use super::{Family, HISTOGRAMS, Histogram, Metrics, MetricsReader};
use crate::role::Role;

/// The kinds of messages that carry bytes which are worth a line each.
const KINDS_WITH_BYTES: [&str; 3] = ["append_entries", "install_snapshot", "propose"];

const ROLES: [Role; 4] = [Role::Follower, Role::PreCandidate, Role::Candidate, Role::Leader];

/// # Example
///
/// ```
/// use prometheus_client::{encoding::prometheus_text, registry::Registry};
/// # use raft_core::host::{Handle, StateMachine};
/// fn scrape<S: StateMachine>(node: &Handle<S>) -> Result<String, std::fmt::Error> {
///     let mut registry = Registry::default(); // make it once
///     registry.register_collector(Box::new(node.metrics_reader()));
///     let mut text = String::new();
///     prometheus_text::encode(&mut text, &registry)?;
///     Ok(text)
/// }
/// ```
impl Collector for MetricsReader {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = self.read();
        let node = metrics.id.to_string();
        Writer::new(encoder, &node).write(&metrics)
    }
}

/// Writes the samples of one node.
pub(in crate::host) struct Writer<'e, 'n> {
    encoder: DescriptorEncoder<'e>,
    node: &'n str,
}

/// A label's name and value.
type Label<'l> = (&'l str, &'l str);

/// A counter or a gauge with its labels.
struct Sample<'l, T> {
    /// Those beside `node`.
    labels: Vec<Label<'l>>,
    value: T,
}

impl<'e, 'n> Writer<'e, 'n> {
    /// Gives all samples the label `node` with this value.
    pub(in crate::host) fn new(encoder: DescriptorEncoder<'e>, node: &'n str) -> Self {
        Self { encoder, node }
    }

    /// The counters of these families, as read from `from`.
    pub(in crate::host) fn families<T>(&mut self, families: &[Family<T>], from: &T) -> fmt::Result {
        for family in families {
            let samples = family.counters.iter().map(|counter| {
                let labels = [(family.label, counter.value)];
                let used = usize::from(!family.label.is_empty());
                sample(&labels[..used], (counter.read)(from))
            });
            self.counters(family.name, family.help, &samples.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn write(&mut self, metrics: &Metrics) -> fmt::Result {
        self.gauge("running", "Whether this node runs", u64::from(metrics.running))?;
        let roles = ROLES.map(|role| (role_name(role), metrics.running && role == metrics.role));
        let roles = roles.map(|(role, is_it)| sample(&[("role", role)], u64::from(is_it)));
        self.gauges("role", "Role of this node: 1 for the one that it has", None, &roles)?;
        let knows_leader = u64::from(metrics.leader.is_some());
        self.gauge("knows_leader", "Whether this node knows a leader", knows_leader)?;
        let leader: Vec<_> = metrics.leader.iter().map(|id| sample(&[], id.get())).collect();
        self.gauges("leader_id", "The leader that this node knows", None, &leader)?;
        for gauge in GAUGES {
            self.gauge(gauge.name, gauge.help, (gauge.value)(&metrics.gauges))?;
        }
        self.families(TOTALS, &metrics.totals)?;
        for histogram in HISTOGRAMS {
            self.histogram(histogram.name, histogram.help, (histogram.read)(&metrics.histograms))?;
        }
        self.peers(&metrics.peers)
    }

    fn peers(&mut self, peers: &[PeerMetrics]) -> fmt::Result {
        let name = |peer: &PeerMetrics| peer.id.map_or_else(|| "other".into(), |id| id.to_string());
        let names: Vec<String> = peers.iter().map(name).collect();
        let named = || names.iter().map(String::as_str).zip(peers);
        let lags = named().filter_map(|(name, peer)| Some((name, peer.lag?)));
        let lags: Vec<_> = lags.map(|(name, lag)| sample(&[("peer", name)], lag)).collect();
        self.gauges("peer_lag", "Entries that the peer is not known to hold", None, &lags)?;
        let silent = named().filter_map(|(name, peer)| Some((name, peer.silent_for?)));
        let silent = silent.map(|(name, span)| sample(&[("peer", name)], span.as_secs_f64()));
        let silent: Vec<_> = silent.collect();
        let help = "How long nothing was heard of the peer";
        self.gauges("peer_silent", help, Some(&Unit::Seconds), &silent)?;
        let sent = named().flat_map(|(name, peer)| peer.sent.iter().map(move |m| (name, m)));
        self.messages("sent", sent)?;
        let received =
            named().flat_map(|(name, peer)| peer.received.iter().map(move |m| (name, m)));
        self.messages("received", received)
    }

    /// The messages in one direction, each kind with the name of the peer.
    fn messages<'m>(
        &mut self,
        direction: &str,
        messages: impl Iterator<Item = (&'m str, &'m MessageMetrics)>,
    ) -> fmt::Result {
        // Of nodes that are no members, only what there was.
        let messages = messages.filter(|(peer, m)| *peer != "other" || m.messages > 0);
        let (mut counts, mut bytes) = (Vec::new(), Vec::new());
        for (peer, m) in messages {
            let labels = [("peer", peer), ("kind", m.kind)];
            counts.push(sample(&labels, m.messages));
            if KINDS_WITH_BYTES.contains(&m.kind) {
                bytes.push(sample(&labels, m.bytes));
            }
        }
        let help = std::format!("Messages {direction}, by peer and kind");
        self.counters(&std::format!("messages_{direction}"), &help, &counts)?;
        let help = std::format!("Bytes of entries, commands and pieces of snapshots {direction}");
        self.counters(&std::format!("bytes_{direction}"), &help, &bytes)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.gauges(name, help, None, &[sample(&[], value)])
    }

    fn gauges<T: prometheus_client::encoding::EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: &[Sample<'_, T>],
    ) -> fmt::Result {
        let name = std::format!("raft_{name}");
        let mut family = self.encoder.encode_descriptor(&name, help, unit, MetricType::Gauge)?;
        for sample in samples {
            let labels = with_node(self.node, &sample.labels);
            family.encode_family(&labels)?.encode_gauge(&sample.value)?;
        }
        Ok(())
    }

    fn counters(&mut self, name: &str, help: &str, samples: &[Sample<'_, u64>]) -> fmt::Result {
        let name = std::format!("raft_{name}");
        let mut family = self.encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
        for sample in samples {
            let labels = with_node(self.node, &sample.labels);
            let none: Option<&Exemplar<NoLabelSet, u64>> = None;
            family.encode_family(&labels)?.encode_counter(&sample.value, none)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let name = std::format!("raft_{name}");
        let unit = Some(&Unit::Seconds);
        let mut family =
            self.encoder.encode_descriptor(&name, help, unit, MetricType::Histogram)?;
        let bound = |bound: Option<std::time::Duration>| {
            bound.map_or(f64::INFINITY, |bound| bound.as_secs_f64())
        };
        let buckets: Vec<_> =
            histogram.buckets().map(|(upper, count)| (bound(upper), count)).collect();
        let (sum, count) = (histogram.sum().as_secs_f64(), histogram.count());
        let labels = with_node(self.node, &[]);
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

fn sample<'l, T>(labels: &[Label<'l>], value: T) -> Sample<'l, T> {
    Sample { labels: labels.to_vec(), value }
}

fn with_node<'l>(node: &'l str, labels: &[Label<'l>]) -> Vec<Label<'l>> {
    [("node", node)].into_iter().chain(labels.iter().copied()).collect()
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre_candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}
