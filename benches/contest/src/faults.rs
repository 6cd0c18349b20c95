//! What clients see when something befalls the leader: the longest time in which no write of
//! anybody is acknowledged.
//!
//! Clients begin at every server, and write one value after the other. One that is told of another
//! server goes there. One that hears nothing gives up after 50 to 150 ms, drawn anew each time, and
//! goes to the next server: so somewhere a fresh attempt begins every few milliseconds, and the gap
//! is the cluster's, not the clients' patience.

use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::clients::{Answer, Connection, Protocol};
use crate::cluster::Cluster;

/// How many clients begin at each server.
const CLIENTS_AT_SERVER: usize = 4;
/// How long they write before the fault.
const BEFORE: Duration = Duration::from_millis(400);
/// For how long writes must have gone on again, without a gap of [`HICCUP`], before a trial is
/// over.
const STEADY: Duration = Duration::from_millis(700);
const HICCUP: Duration = Duration::from_millis(100);
/// After how long without a write a trial is given up, and its gap is this.
pub(crate) const GAP_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether a trial is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// How long a client rests after a refusal.
const PAUSE: Duration = Duration::from_millis(2);
/// How long a client waits for an answer, in milliseconds.
const PATIENCE_MS: std::ops::Range<u64> = 50..150;
/// How long all rest after a trial.
const AFTER: Duration = Duration::from_millis(500);

/// What befalls the leader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fault {
    /// Its process is killed.
    Sigkill,
    /// Its process is stopped, and its sockets stay open.
    Sigstop,
    /// Packets between it and the other servers vanish; clients still reach it.
    Cut,
    /// It is told to shut down.
    Sigterm,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::Sigkill, Self::Sigstop, Self::Cut, Self::Sigterm];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sigkill => "sigkill",
            Self::Sigstop => "sigstop",
            Self::Cut => "cut",
            Self::Sigterm => "sigterm",
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|fault| fault.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("'{text}' is no fault: there are {names}")
        })
    }
}

/// One trial: the longest gap. Afterwards the cluster is whole again.
pub(crate) async fn trial(cluster: &mut Cluster, fault: Fault) -> io::Result<Duration> {
    let leader = cluster.leader().await?;
    let servers = cluster.layout.servers.iter().map(|server| server.client).collect();
    let writers = Writers::start(cluster.contestant.protocol(), servers);
    sleep(BEFORE).await;
    writers.seen.keep_last();
    match fault {
        Fault::Sigkill => cluster.kill(leader),
        Fault::Sigstop => cluster.signal(leader, Signal::STOP)?,
        Fault::Sigterm => cluster.signal(leader, Signal::TERM)?,
        Fault::Cut => hosts(cluster)?.cut(leader + 1)?,
    }
    let gap = writers.wait_for_steadiness(Instant::now()).await;
    drop(writers);
    match fault {
        Fault::Sigkill => cluster.start_server(leader)?,
        Fault::Sigstop => cluster.signal(leader, Signal::CONT)?,
        Fault::Sigterm => {
            cluster.wait_for_end(leader).await?;
            cluster.start_server(leader)?;
        }
        Fault::Cut => hosts(cluster)?.mend(leader + 1)?,
    }
    cluster.settle().await?;
    sleep(AFTER).await;
    Ok(gap)
}

fn hosts(cluster: &Cluster) -> io::Result<&crate::namespaces::Namespaces> {
    cluster.hosts.as_ref().ok_or_else(|| io::Error::other("links can be cut between hosts alone"))
}

/// Clients at work, until this is dropped.
struct Writers {
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

/// When writes were acknowledged, since the fault.
#[derive(Default)]
struct Seen {
    acknowledged: Mutex<Vec<Instant>>,
    is_over: AtomicBool,
}

impl Writers {
    fn start(protocol: Protocol, servers: Vec<SocketAddr>) -> Self {
        let seen = Arc::<Seen>::default();
        let mut tasks = JoinSet::new();
        for client in 0..servers.len() * CLIENTS_AT_SERVER {
            tasks.spawn(write(protocol, servers.clone(), client, seen.clone()));
        }
        Self { seen, _tasks: tasks }
    }

    /// Waits until writes go on again. The longest gap is given, from the last acknowledgement
    /// before the fault on.
    async fn wait_for_steadiness(&self, since: Instant) -> Duration {
        loop {
            sleep(LOOK_INTERVAL).await;
            let now = Instant::now();
            let seen = self.seen.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            let recent = now.checked_sub(STEADY).filter(|recent| *recent > since);
            let is_steady = recent.is_some_and(|recent| {
                let fresh = seen.iter().copied().filter(|at| *at >= recent);
                let all: Vec<_> = [recent].into_iter().chain(fresh).chain([now]).collect();
                longest(&all) < HICCUP
            });
            if is_steady {
                return longest(&seen);
            }
            if now.duration_since(seen.last().copied().unwrap_or(since)) > GAP_MAX {
                return GAP_MAX;
            }
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.seen.is_over.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    /// Forgets all but the last acknowledgement.
    fn keep_last(&self) {
        let mut seen = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.last().copied();
        seen.clear();
        seen.extend(last);
    }
}

fn longest(ascending: &[Instant]) -> Duration {
    let gaps = ascending.windows(2).map(|two| two[1].saturating_duration_since(two[0]));
    gaps.max().unwrap_or_default()
}

async fn write(protocol: Protocol, servers: Vec<SocketAddr>, client: usize, seen: Arc<Seen>) {
    let mut position = client % servers.len();
    let mut server = servers[position];
    let mut connection = None;
    while !seen.is_over.load(Ordering::Relaxed) {
        let attempt = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Connection::open(protocol, server).await?,
            };
            let answer = open.write(client).await?;
            // One that was given up is closed: a late answer must not be taken for the next.
            connection = Some(open);
            io::Result::Ok(answer)
        };
        let patience = Duration::from_millis(fastrand::u64(PATIENCE_MS));
        match timeout(patience, attempt).await {
            Ok(Ok(Answer::Acknowledged)) => {
                let mut seen = seen.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push(Instant::now());
                continue;
            }
            Ok(Ok(Answer::Moved(leader))) if leader != server => {
                server = leader;
                connection = None;
                continue;
            }
            Ok(Ok(Answer::Moved(_) | Answer::Refused(_)) | Err(_)) => sleep(PAUSE).await,
            Err(_) => {}
        }
        connection = None;
        position = (position + 1) % servers.len();
        server = servers[position];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_found() {
        let begin = Instant::now();
        let at = [0, 1, 5, 6, 8].map(|ms| begin + Duration::from_millis(ms));
        assert_eq!(longest(&at), Duration::from_millis(4));
        assert_eq!(longest(&at[..1]), Duration::ZERO);
    }
}
