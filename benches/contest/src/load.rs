//! Throughput and latency: clients that write one value after the other to the leader.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::clients::{Answer, Connection};
use crate::cluster::Cluster;

/// How long a client rests after an answer that is no acknowledgement: long enough that clients
/// whom a full server refuses take no time from the others.
const PAUSE: Duration = Duration::from_millis(100);

/// What clients saw.
#[derive(Debug)]
pub(crate) struct Load {
    /// Of every write that was acknowledged in the measured span, ascending.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) span: Duration,
    /// All writes that were acknowledged, also before and after.
    pub(crate) acknowledged: u64,
    /// Answers that were none, and connections that broke.
    pub(crate) failures: u64,
    /// The last reason that a server gave for one.
    pub(crate) refusal: Option<String>,
    pub(crate) servers_time: Duration,
    pub(crate) clients_time: Duration,
}

impl Load {
    pub(crate) fn writes_per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.span.as_secs_f64()
    }

    /// The latency below which this part of the writes stayed.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        quantile(&self.latencies, part)
    }

    /// Processor time of a write.
    pub(crate) fn each(&self, time: Duration) -> Duration {
        time.div_f64((self.latencies.len() as f64).max(1.0))
    }
}

/// Of an ascending sample.
pub(crate) fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let place = (sorted.len() as f64 * part) as usize;
    sorted.get(place.min(last)).copied().unwrap_or_default()
}

/// Lets so many clients write, for `warm` and then for the measured `span`.
pub(crate) async fn run(
    cluster: &Cluster,
    clients: usize,
    warm: Duration,
    span: Duration,
) -> io::Result<Load> {
    let protocol = cluster.contestant.protocol();
    let leader = cluster.layout.servers[cluster.leader().await?].client;
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(Connection::open(protocol, leader).await?);
    }
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let refusal = Arc::new(Mutex::new(None));
    let (begin, end) = (Instant::now() + warm, Instant::now() + warm + span);
    let mut tasks = JoinSet::new();
    for (key, mut connection) in connections.into_iter().enumerate() {
        let (counts, refusal) = (counts.clone(), refusal.clone());
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return Ok(latencies);
                }
                match connection.write(key).await {
                    Ok(Answer::Acknowledged) => {
                        let now = Instant::now();
                        counts[0].fetch_add(1, Ordering::Relaxed);
                        if (begin..end).contains(&now) {
                            latencies.push(now - sent);
                        }
                        continue;
                    }
                    Ok(Answer::Moved(leader)) => {
                        connection = Connection::open(protocol, leader).await?;
                    }
                    Ok(Answer::Refused(why)) => *lock(&refusal) = Some(why),
                    Err(_) => connection = Connection::open(protocol, leader).await?,
                }
                counts[1].fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
    sleep_until(begin.into()).await;
    let before = (cluster.processor_time(), own_time());
    sleep_until(end.into()).await;
    let after = (cluster.processor_time(), own_time());
    let mut latencies = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let ended: io::Result<Vec<Duration>> = ended.map_err(io::Error::other)?;
        latencies.extend(ended?);
    }
    latencies.sort_unstable();
    let [acknowledged, failures] = [0, 1].map(|count| counts[count].load(Ordering::Relaxed));
    let refusal = lock(&refusal).take();
    Ok(Load {
        refusal,
        latencies,
        span,
        acknowledged,
        failures,
        servers_time: after.0.saturating_sub(before.0),
        clients_time: after.1.saturating_sub(before.1),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sample() {
        let sample: Vec<_> = (1..=1000).map(Duration::from_micros).collect();
        let of = |part| quantile(&sample, part).as_micros();
        assert_eq!([of(0.5), of(0.99), of(0.999), of(1.0)], [501, 991, 1000, 1000]);
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
