//! What a monitoring system asks of a server, by HTTP: `/metrics`, `/healthz`, `/readyz`.
//!
//! A thread of its own answers from the node's metrics, and asks no thread of the node. So it
//! answers also while the node is overloaded or stuck, which is when an operator looks.

use std::error::Error;
use std::io;
use std::net::TcpListener;
use std::thread;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use raft_core::host::tcp::Counters;
use raft_core::host::{Metrics, MetricsReader};
use tiny_http::{Header, Method, Request, Response, Server};

/// Answers requests on this listener for as long as the process runs.
pub(super) fn serve(
    listener: TcpListener,
    metrics: MetricsReader,
    counters: Counters,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let server = Server::from_listener(listener, None)?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(metrics.clone()));
    registry.register_collector(Box::new(counters));
    thread::Builder::new().name("kv-metrics".into()).spawn(move || {
        for request in server.incoming_requests() {
            let path = request.url().split('?').next().unwrap_or_default();
            let answer = answer(request.method(), path, &metrics, &registry);
            if let Err(error) = respond(request, answer) {
                tracing::debug!(%error, "an answer to a monitoring system was lost");
            }
        }
    })?;
    Ok(())
}

/// The status and the text of an answer.
fn answer(
    method: &Method,
    path: &str,
    metrics: &MetricsReader,
    registry: &Registry,
) -> (u16, String) {
    if !matches!(method, Method::Get | Method::Head) {
        return (405, "only GET and HEAD are answered\n".into());
    }
    match path {
        "/metrics" => {
            let mut text = String::new();
            match prometheus_text::encode(&mut text, registry) {
                Ok(()) => (200, text),
                Err(_) => (500, "the metrics cannot be written\n".into()),
            }
        }
        "/healthz" => verdict(unhealthy(&metrics.read())),
        "/readyz" => verdict(unready(&metrics.read())),
        _ => (404, "there are /metrics, /healthz and /readyz\n".into()),
    }
}

fn verdict(complaint: Option<String>) -> (u16, String) {
    match complaint {
        None => (200, "ok\n".into()),
        Some(complaint) => (503, complaint + "\n"),
    }
}

/// Why a restart of the process would help. A server that has no leader is healthy, because a
/// restart would only make the others wait for it.
fn unhealthy(metrics: &Metrics) -> Option<String> {
    (!metrics.running).then(|| "the node has stopped".into())
}

/// Why clients are better served by another server.
fn unready(metrics: &Metrics) -> Option<String> {
    let stuck = metrics.gauges.workers_stuck;
    unhealthy(metrics)
        .or_else(|| metrics.leader.is_none().then(|| "this server knows no leader".into()))
        .or_else(|| (stuck > 0).then(|| format!("{stuck} threads of this server are stuck")))
}

fn respond(request: Request, (status, text): (u16, String)) -> io::Result<()> {
    let content_type = Header::from_bytes("Content-Type", prometheus_text::CONTENT_TYPE);
    let response = Response::from_string(text).with_status_code(status);
    match content_type {
        Ok(header) => request.respond(response.with_header(header)),
        Err(()) => request.respond(response),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::time::{Duration, Instant};

    use raft_core::host::tcp::{self, Peers, Signals};
    use raft_core::host::{
        ClusterId, Driver, Handle, Identity, InProcessNetwork, MemoryJournal, MessageInbox, Next,
        NodeConfig, StoreId,
    };
    use raft_core::{Config, NodeId};

    use super::*;
    use crate::server::store::Store;

    /// A node on a thread of its own, in a cluster of `voters` of which no other runs.
    fn node(voters: u64) -> Handle<Store> {
        let raft = Config::new(NodeId::new(1), (1..=voters).map(NodeId::new));
        let (network, _late) = InProcessNetwork::new(1, || {});
        let transport = Box::new(network.endpoint(raft.id));
        let config = NodeConfig::new(ClusterId::new(1), raft);
        let (waker, woken) = mpsc::sync_channel(1);
        let wake = move || {
            let _ = waker.try_send(());
        };
        let journal = Box::new(MemoryJournal::new());
        let (handle, mut driver) =
            Driver::start(config, Store::new(), journal, transport, wake).unwrap();
        thread::spawn(move || {
            loop {
                let until = match driver.turn() {
                    Next::Again => continue,
                    Next::Wait(until) => until,
                    Next::Stop => return,
                };
                let span = until.map_or(Duration::from_secs(60), |until| {
                    until.saturating_duration_since(Instant::now())
                });
                assert_ne!(woken.recv_timeout(span), Err(RecvTimeoutError::Disconnected));
            }
        });
        handle
    }

    /// What wakes the dialers of a transport that has none.
    #[derive(Default, Debug)]
    struct Nobody;

    impl Signals for Nobody {
        fn ready(&self) {}

        fn retry(&self) {}
    }

    /// The counters of a TCP transport that has started, and has connected twice.
    fn counters() -> Counters {
        let (counters, node) = (Counters::default(), NodeId::new(1));
        let identity = Identity { cluster: ClusterId::new(1), node, store_id: StoreId::new(1) };
        let (inbox, config) = (MessageInbox::new(drop), tcp::Config::default());
        let at = SocketAddr::from(([127, 0, 0, 1], 1));
        let _ = Peers::<Nobody>::new(identity, inbox, at, BTreeMap::new(), &config, &counters);
        (0..2).for_each(|_| counters.count_connected());
        counters
    }

    fn monitored(node: &Handle<Store>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener, node.metrics_reader(), counters()).unwrap();
        address
    }

    /// The status and the text.
    fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: kv\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), text.to_owned())
    }

    #[test]
    fn a_server_tells_its_metrics_and_whether_it_is_well() {
        let node = node(1);
        let address = monitored(&node);
        let _lead = node.lead().wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while get(address, "/readyz").0 != 200 {
            assert!(Instant::now() < deadline, "{:?}", get(address, "/readyz"));
        }
        assert_eq!(get(address, "/healthz"), (200, "ok\n".into()));
        let (status, text) = get(address, "/metrics?debug=1");
        assert_eq!(status, 200);
        for line in [
            "raft_role{node=\"1\",role=\"leader\"} 1",
            "raft_elections_won_total{node=\"1\"} 1",
            "# TYPE raft_journal_sync_seconds histogram",
            "raft_tcp_connections_total{node=\"1\",direction=\"outgoing\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert_eq!(get(address, "/nothing").0, 404);
        node.shutdown().wait();
        assert_eq!(get(address, "/healthz"), (503, "the node has stopped\n".into()));
        assert_eq!(get(address, "/readyz").0, 503);
    }

    #[test]
    fn a_server_without_a_leader_is_healthy_and_not_ready() {
        let node = node(3);
        let address = monitored(&node);
        assert_eq!(get(address, "/healthz").0, 200);
        assert_eq!(get(address, "/readyz"), (503, "this server knows no leader\n".into()));
    }
}
