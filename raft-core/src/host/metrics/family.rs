//! Counters as a monitoring system finds them: what exporters know of a table of counters.

/// Counters that a monitoring system shows under one name, told apart by one label. They are read
/// from a `T`.
#[derive(Debug)]
#[allow(dead_code, reason = "read by the exporter, which is a feature")]
pub(in crate::host) struct Family<T: 'static> {
    /// The name, without the `raft_` before it and the `_total` behind it.
    pub(in crate::host) name: &'static str,
    /// The name of the label; empty if there is a single counter without a label.
    pub(in crate::host) label: &'static str,
    pub(in crate::host) help: &'static str,
    pub(in crate::host) counters: &'static [Counter<T>],
}

#[derive(Debug)]
#[allow(dead_code, reason = "read by the exporter, which is a feature")]
pub(in crate::host) struct Counter<T> {
    /// The value of the label.
    pub(in crate::host) value: &'static str,
    pub(in crate::host) read: fn(&T) -> u64,
}
