//! Load on the service while its leader is killed, and the verdict: every counter must be what its
//! client was told.

use std::error::Error;
use std::io;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::{IDS, Options as Servers};

/// How long a request may take before it is repeated elsewhere. Longer than an election.
const REQUEST_MAX: Duration = Duration::from_secs(2);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often the leader is killed (SIGKILL) and started again.
    #[arg(long, default_value_t = 10)]
    kills: u64,
    /// How many clients count at the same time, each its own counter.
    #[arg(long, default_value_t = 16)]
    clients: u64,
    /// How many milliseconds of load there are before each kill.
    #[arg(long, default_value_t = 300)]
    load_ms: u64,
}

/// The three processes. They are killed when this is dropped.
struct Cluster<'a> {
    servers: &'a Servers,
    children: Vec<Child>,
}

impl Cluster<'_> {
    /// The leader, by the word of a healthy server that runs.
    async fn leader(&self) -> Result<usize, Box<dyn Error>> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            for id in IDS {
                let address = self.servers.http_address(id);
                let asked = timeout(REQUEST_MAX, request(&address, "GET", "/healthz")).await;
                if let Ok(Ok((200, leader))) = asked {
                    return Ok(leader.parse::<usize>()? - 1);
                }
            }
            sleep(PAUSE).await;
        }
        Err("no server knows a leader".into())
    }

    fn kill(&mut self, at: usize) -> io::Result<()> {
        self.children[at].kill()?;
        self.children[at].wait().map(drop)
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        (0..self.children.len()).for_each(|at| drop(self.kill(at)));
    }
}

/// Starts the servers on an empty directory, kills their leader under load, and compares.
pub(crate) async fn run(options: &Options, servers: &Servers) -> Result<(), Box<dyn Error>> {
    let directory = servers.directory.join(format!("load-{}", std::process::id()));
    let servers = Servers { directory: directory.clone(), task: None, port: servers.port };
    let children = IDS.into_iter().map(|id| servers.start(id)).collect::<Result<Vec<_>, _>>()?;
    let mut cluster = Cluster { servers: &servers, children };
    cluster.leader().await?;
    let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let addresses = IDS.map(|id| servers.http_address(id));
    let clients = (0..options.clients).map(|client| {
        let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        tokio::spawn(count(client, addresses.clone(), stop, acknowledged))
    });
    let clients: Vec<_> = clients.collect();
    for kill in 1..=options.kills {
        sleep(Duration::from_millis(options.load_ms)).await;
        let leader = cluster.leader().await?;
        cluster.kill(leader)?;
        // Nothing counts until another leads, so what is acknowledged by then came from it.
        let (before, began) = (acknowledged.load(Ordering::Relaxed), Instant::now());
        while acknowledged.load(Ordering::Relaxed) == before {
            if began.elapsed() > PATIENCE {
                return Err(format!("nothing was counted after kill {kill}").into());
            }
            sleep(Duration::from_millis(1)).await;
        }
        let gap = began.elapsed();
        cluster.children[leader] = servers.start(IDS[leader])?;
        println!("kill {kill:>4}: server {}, counting again after {gap:.1?}", leader + 1);
    }
    stop.store(true, Ordering::Relaxed);
    let mut wrong = 0;
    for (client, count) in clients.into_iter().enumerate() {
        let told = count.await?.map_err(|error| format!("client {client}: {error}"))?;
        for address in &addresses {
            let path = format!("/counters/{client}");
            let (_, found) = repeat(std::slice::from_ref(address), "GET", &path).await?;
            if found != told.to_string() {
                wrong += 1;
                eprintln!("counter {client} is {found} at {address}, and {told} were acknowledged");
            }
        }
    }
    drop(cluster);
    std::fs::remove_dir_all(directory)?;
    let (kills, total) = (options.kills, acknowledged.load(Ordering::Relaxed));
    if wrong > 0 {
        return Err(format!("{wrong} counters are wrong after {kills} kills").into());
    }
    println!("{kills} kills, {total} increments: every counter is right on all three servers");
    Ok(())
}

/// Increments a counter of its own until told to stop, and returns how often.
async fn count(
    client: u64,
    addresses: [String; 3],
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> Result<u64, String> {
    let text = |error: Box<dyn Error>| error.to_string();
    let (_, session) = repeat(&addresses, "POST", "/sessions").await.map_err(text)?;
    let mut serial = 0;
    while !stop.load(Ordering::Relaxed) {
        serial += 1;
        let path = format!("/counters/{client}?session={session}&serial={serial}");
        let (status, told) = repeat(&addresses, "POST", &path).await.map_err(text)?;
        if status != 200 || told != serial.to_string() {
            return Err(format!("increment {serial} was answered with {status} {told}"));
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    Ok(serial)
}

/// Sends the same request to one server after the other until one does not ask for patience.
async fn repeat(
    addresses: &[String],
    method: &str,
    path: &str,
) -> Result<(u16, String), Box<dyn Error>> {
    let began = Instant::now();
    for address in addresses.iter().cycle() {
        if let Ok(Ok((status, body))) = timeout(REQUEST_MAX, request(address, method, path)).await {
            if status != 503 {
                return Ok((status, body));
            }
        }
        if began.elapsed() > PATIENCE {
            break;
        }
        sleep(PAUSE).await;
    }
    Err(format!("{method} {path}: no server answered within {PATIENCE:?}").into())
}

/// One request on a connection of its own: the status, and the body without its line end.
async fn request(address: &str, method: &str, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    match (status, answer.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Ok((status, body.trim_end().to_owned())),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
