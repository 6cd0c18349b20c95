//! The counters of a transport as Prometheus finds them (feature `prometheus`).

use std::fmt;
use std::string::ToString;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::{COUNTS, Counters};
use crate::host::metrics::prometheus::Writer;

/// # Example
///
/// ```
/// use prometheus_client::registry::Registry;
/// use raft_core::host::{MetricsReader, tcp::Counters};
///
/// /// `counters` are those of the transport, before it moves into the node.
/// fn registry(node: MetricsReader, counters: Counters) -> Registry {
///     let mut registry = Registry::default();
///     registry.register_collector(Box::new(node));
///     registry.register_collector(Box::new(counters));
///     registry
/// }
/// ```
impl Collector for Counters {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Before the transport starts, the samples would lack the label by which they are known.
        let Some(node) = self.node() else { return Ok(()) };
        Writer::new(encoder, &node.to_string()).families(COUNTS, &self.read())
    }
}
