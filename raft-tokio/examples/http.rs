//! An HTTP service: counters that three processes agree upon, and that count each request once.
//!
//! ```sh
//! cargo run -p raft-tokio --example http                               # three, until Ctrl-C
//! curl -X POST http://127.0.0.1:8001/sessions                          # 2, say
//! curl -X POST 'http://127.0.0.1:8002/counters/tea?session=2&serial=1' # 1; again: still 1
//! curl http://127.0.0.1:8003/counters/tea                              # 1
//! cargo run --release -p raft-tokio --example http -- load --kills 10  # under load
//! ```
//!
//! A client opens a session, numbers its requests, and repeats a request under the same number
//! until a process answers. Any process takes it. SIGTERM hands leadership over and ends a process.

#[path = "http/load.rs"]
mod load;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::{Child, Command as Process, ExitCode};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use clap::Parser;
use raft_tokio::{
    Client, ClientError, ClusterId, CommandNumber, Config, FileJournal, Index, Node, NodeConfig,
    NodeId, SessionId, Sessions, Typed, TypedStateMachine, tcp,
};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

const IDS: [u64; 3] = [1, 2, 3];

/// The replicated state.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Counters(BTreeMap<String, u64>);

#[derive(Serialize, Deserialize)]
enum Command {
    Increment { name: String },
}

impl TypedStateMachine for Counters {
    type Command = Command;
    type Reply = u64;
    type Snapshot = Self;

    fn apply(&mut self, _index: Index, Command::Increment { name }: Command) -> u64 {
        let counter = self.0.entry(name).or_default();
        *counter += 1;
        *counter
    }

    fn snapshot(&self) -> Option<Self> {
        Some(self.clone())
    }

    fn restore(&mut self, snapshot: Self) {
        *self = snapshot;
    }
}

type Service = Sessions<Typed<Counters>>;

/// What every request needs.
#[derive(Clone)]
struct App {
    node: Node<Service>,
    client: Client<Service>,
}

/// An answer that asks the client to repeat its request, here or elsewhere.
type Failure = (StatusCode, String);

fn failure(error: &dyn Error) -> Failure {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
}

async fn open_session(State(app): State<App>) -> Result<String, Failure> {
    let session = app.client.open_session().await.map_err(|error| failure(&error))?;
    Ok(format!("{session}\n"))
}

#[derive(Deserialize)]
struct Number {
    session: u64,
    serial: u64,
}

async fn increment(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(Number { session, serial }): Query<Number>,
) -> Result<String, Failure> {
    // The client sends one request at a time, so it has the replies to all before this one.
    let session = SessionId::new(session);
    let number = CommandNumber { session, serial, answered_below: serial };
    match app.client.propose_as(number, &Command::Increment { name }).await {
        Ok(count) => Ok(format!("{count}\n")),
        // Repeating it would not help: the client needs a new session, or has this reply already.
        Err(error @ ClientError::Session { .. }) => Err((StatusCode::GONE, format!("{error}\n"))),
        Err(error) => Err(failure(&error)),
    }
}

async fn count(State(app): State<App>, Path(name): Path<String>) -> Result<String, Failure> {
    let read = app.node.read(move |counters| counters.0.get(&name).copied().unwrap_or(0));
    Ok(format!("{}\n", read.await.map_err(|error| failure(&error))?))
}

/// Healthy is a node that knows its leader; the answer is that leader.
async fn health(State(app): State<App>) -> Result<String, Failure> {
    let unhealthy = |text: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n"));
    match (app.node.stop_reason(), app.node.leadership().current().leader) {
        (Some(reason), _) => Err(unhealthy(&reason.to_string())),
        (None, None) => Err(unhealthy("no leader is known")),
        (None, Some(leader)) => Ok(format!("{leader}\n")),
    }
}

/// Runs one process of the service until SIGTERM or Ctrl-C.
async fn serve(id: u64, options: &Options) -> Result<(), Box<dyn Error>> {
    let (cluster, own) = (ClusterId::new(1), NodeId::new(id));
    let directory = options.directory.join(id.to_string());
    let journal = FileJournal::open(directory, cluster, own)?;
    let raft_address = |id: u64| format!("127.0.0.1:{}", u64::from(options.port) + 100 + id);
    let peers = IDS.into_iter().filter(|peer| *peer != id);
    let peers = peers.map(|peer| (NodeId::new(peer), raft_address(peer)));
    let transport =
        tcp::Transport::bind(raft_address(id).as_str(), peers, tcp::Config::default()).await?;
    let config = NodeConfig::new(cluster, Config::new(own, IDS.map(NodeId::new)));
    let service = Sessions::new(Typed::new(Counters::default()));
    let node = Node::start(config, service, journal, transport).await?;
    let client = Client::new(&node, Duration::from_secs(5))?;

    let router = axum::Router::new()
        .route("/sessions", post(open_session))
        .route("/counters/{name}", get(count).post(increment))
        .route("/healthz", get(health))
        .with_state(App { node: node.clone(), client });
    let listener = tokio::net::TcpListener::bind(options.http_address(id)).await?;
    let mut terminated = signal(SignalKind::terminate())?;
    let (server, stopped) = (axum::serve(listener, router), node.stopped());
    tokio::select! {
        served = server => served?,
        reason = stopped => return Err(reason.to_string().into()),
        _ = terminated.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    node.shutdown().await; // hands leadership over first
    Ok(())
}

/// Counters over HTTP, replicated by Raft. Without a command: three processes, until Ctrl-C.
#[derive(Parser)]
struct Options {
    /// Server N listens for HTTP on this port plus N, and for the others on 100 more.
    #[arg(long, default_value_t = 8000, global = true)]
    port: u16,
    /// Where the servers keep their journals.
    #[arg(long, default_value = "target/http", global = true)]
    directory: PathBuf,
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Run one of the three processes.
    Serve { id: u64 },
    /// Kill the leader again and again under load, and verify every counter.
    Load(load::Options),
}

impl Options {
    fn http_address(&self, id: u64) -> String {
        format!("127.0.0.1:{}", u64::from(self.port) + id)
    }

    /// Starts one of the three processes.
    fn start(&self, id: u64) -> Result<Child, Box<dyn Error>> {
        let mut process = Process::new(std::env::current_exe()?);
        process.arg("--port").arg(self.port.to_string());
        process.arg("--directory").arg(&self.directory);
        Ok(process.arg("serve").arg(id.to_string()).spawn()?)
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    match &options.task {
        Some(Task::Serve { id }) => serve(*id, &options).await,
        Some(Task::Load(load)) => load::run(load, &options).await,
        None => {
            let mut servers = IDS.map(|id| options.start(id));
            println!("http://{} and the next two; Ctrl-C ends all", options.http_address(1));
            tokio::signal::ctrl_c().await?; // the servers get it, too
            for server in &mut servers {
                server.as_mut().map_err(|error| error.to_string())?.wait()?;
            }
            Ok(())
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http: {error}");
            ExitCode::FAILURE
        }
    }
}
