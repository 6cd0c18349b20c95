//! The command line: `kv` alone is the demonstration, `kv serve` a server; the rest is for
//! [operators](crate::admin).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use raft_core::host::recorder::RecorderConfig;
use raft_core::host::tls::PemFiles;
use raft_core::{Config, NodeId};

use crate::address::address;
use crate::admin::{Order, SurvivorFlags};
use crate::backup::RestoreFlags;
use crate::server::resp::WRITE_BYTES_MAX;
use crate::server::write::COMMANDS_VERSION;
use crate::tls::{AuthorityFlags, TlsFlags};

/// A key-value store on servers that agree by Raft; it speaks the Redis protocol.
///
/// Without a command it is a demonstration: three servers on this machine, the leader killed under
/// load, every acknowledged write verified.
#[derive(Parser, Debug)]
#[command(name = "kv", version, after_help = EXAMPLE)]
pub struct Options {
    /// What to do; the demonstration if absent.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXAMPLE: &str = "\
Example, one server of three on one machine (the others alike, with --id 2 and --id 3):

  kv serve --id 1 --data /var/lib/kv-1 \\
     --peers 1=127.0.0.1:7101,2=127.0.0.1:7102,3=127.0.0.1:7103 \\
     --client-peers 1=127.0.0.1:6371,2=127.0.0.1:6372,3=127.0.0.1:6373

  redis-cli -p 6371 SET greeting hello
  redis-cli -p 6372 GET greeting

A fourth server joins them, and takes the place of the first:

  kv serve --join --id 4 --data /var/lib/kv-4 --client 127.0.0.1:6374 \\
     --peers 1=127.0.0.1:7101,2=127.0.0.1:7102,3=127.0.0.1:7103,4=127.0.0.1:7104
  kv add 4 127.0.0.1:7104 127.0.0.1:6374 --server 127.0.0.1:6371
  kv remove 1 --server 127.0.0.1:6372

A server that lost its disk is refused by the others, and says so in its log. The way back: stop it, `kv remove` it, empty its folder,
start it with --join, and `kv add` it.

Exit code: 0 after a clean stop and when an order is carried out, 1 if not, 2 for wrong flags.";

/// The size of the log that makes it full, at least.
const LOG_MIB_MAX: usize = 256;
/// In how many times the size at which a snapshot is due the log is full: the time that one may
/// take.
const SNAPSHOTS_IN_LOG: usize = 4;

/// What `kv` can do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Runs one server until SIGTERM or SIGINT.
    Serve(Box<ServeFlags>),
    /// What an operator orders.
    #[command(flatten)]
    Order(Order),
    /// Makes a stopped server the only voter of its cluster, when most servers are lost for good.
    /// Loses data
    RestoreFromSurvivor(SurvivorFlags),
    /// Begins a new cluster with a backup: makes the folder of one of its servers
    Restore(RestoreFlags),
    /// Makes certificates for servers, to try TLS: by an authority whose key lies open beside them
    TlsCa(AuthorityFlags),
}

/// The flags of `kv serve`, as they are given.
#[derive(Args, Debug)]
pub struct ServeFlags {
    /// This server's number, one of those in --peers
    #[arg(long, value_name = "N")]
    id: u64,
    /// Where each server of the cluster listens for the others; the same on all of them
    #[arg(long, value_name = "N=ADDR,...", value_delimiter = ',', required = true)]
    peers: Vec<Peer>,
    /// Where each server listens for clients: requests that only the leader can answer are
    /// forwarded there
    #[arg(long, value_name = "N=ADDR,...", value_delimiter = ',')]
    client_peers: Vec<Peer>,
    /// Join a cluster that exists: wait for `kv add`. With --peers of this server and of members.
    /// What the folder holds goes before it
    #[arg(long)]
    join: bool,
    /// The folder of the journal; created if absent. Belongs to this server alone
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Listen for the other servers here [default: the address in --peers]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<String>,
    /// Listen for clients here [default: the address in --client-peers]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    client: Option<String>,
    /// The cluster's number: keeps servers and journals of different clusters apart
    #[arg(long, value_name = "N", default_value_t = 1)]
    cluster: u64,
    /// Shortest time without word from a leader before standing for election, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 150)]
    election_timeout_min: u64,
    /// Where the range of election timeouts ends, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 300)]
    election_timeout_max: u64,
    /// How often a leader says that it lives, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50)]
    heartbeat: u64,
    /// How long after one another servers stand that lost their leader: four or five one-way
    /// latencies, in milliseconds; 0: at random
    #[arg(long, value_name = "MS", default_value_t = 5)]
    rank_slot: u64,
    /// Take a snapshot, and remove the log before it, after so many MiB of commands
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    snapshot_log: u32,
    /// As long as no version is in force (see `kv raise`): the newest version of commands that
    /// clients may use, which every server must know
    #[arg(long, value_name = "N", default_value_t = COMMANDS_VERSION, value_parser = clap::value_parser!(u32).range(1..=i64::from(COMMANDS_VERSION)))]
    commands_version: u32,
    #[command(flatten)]
    tls: TlsFlags,
    /// Answer a monitoring system here, by HTTP: /metrics for Prometheus, /healthz, /readyz.
    /// Everyone who reaches the address may read them
    #[arg(long, value_name = "ADDR", value_parser = address)]
    metrics: Option<String>,
    /// Record in this folder what the core of Raft is told, without the contents of commands, so
    /// that the run can be replayed; the newest 256 MiB are kept
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Record each input before anyone sees what follows from it: for tests that kill servers
    #[arg(long, hide = true, requires = "record")]
    record_ahead: bool,
    /// Stop when standard input ends: for a parent that must not leave servers behind
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
    /// What to run the server on, in a program that has several runtimes [default: the first]
    #[arg(long, value_name = "NAME", hide = true)]
    pub(crate) runtime: Option<String>,
}

/// `N=ADDR`
#[derive(Clone, Debug)]
struct Peer {
    id: u64,
    address: String,
}

/// A server as the flags describe it, checked.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The number of the cluster.
    pub cluster: u64,
    /// What Raft is told: this server, all servers, the timeouts.
    pub raft: Config,
    /// Where this server listens for the others.
    pub listen: String,
    /// Where every server listens for the others.
    pub peers: BTreeMap<NodeId, String>,
    /// The folder of the journal.
    pub data: PathBuf,
    /// Where this server listens for clients.
    pub client: String,
    /// Where clients reach this server, if the command line says so in so many words. It tells the
    /// others.
    pub reached_by_clients_at: Option<String>,
    /// Where every server listens for clients.
    pub client_peers: BTreeMap<NodeId, String>,
    /// The newest version of commands that clients may use.
    pub commands_version: u32,
    /// The files of TLS between servers, if it is on.
    pub tls: Option<PemFiles>,
    /// Where to answer a monitoring system.
    pub metrics: Option<String>,
    /// Where to record what Raft's core is told.
    pub record: Option<RecorderConfig>,
    /// Whether to stop when standard input ends.
    pub until_stdin_ends: bool,
}

impl Options {
    /// Reads the process's arguments; on a mistake prints usage and exits with code 2, for `--help`
    /// with 0.
    pub fn from_process() -> Self {
        Self::parse()
    }
}

impl ServeFlags {
    /// The server that these flags describe; on a mistake prints it with the usage and exits with
    /// code 2.
    pub fn check_or_exit(self) -> ServeOptions {
        self.check().unwrap_or_else(|mistake| {
            let mut kv = Options::command();
            kv.build();
            let serve = kv.find_subcommand_mut("serve").expect("serve is a command of kv");
            serve.error(ErrorKind::ValueValidation, mistake).exit()
        })
    }

    fn check(self) -> Result<ServeOptions, String> {
        let id = NodeId::new(self.id);
        let peers = by_id(&self.peers, "--peers")?;
        let mut client_peers = by_id(&self.client_peers, "--client-peers")?;
        let listed = peers.get(&id).cloned();
        let listed = listed.ok_or_else(|| format!("--peers has no address of server {id}"))?;
        let client = self.client.or_else(|| client_peers.get(&id).cloned()).ok_or_else(|| {
            format!("where to listen for clients? Give --client, or server {id} in --client-peers")
        })?;
        let reached_by_clients_at = client_peers.get(&id).cloned();
        client_peers.entry(id).or_insert_with(|| client.clone());
        // A server that joins learns the addresses from the members' labels.
        let missing = peers.keys().find(|peer| !client_peers.contains_key(peer));
        if let Some(missing) = missing.filter(|_| !self.join) {
            return Err(format!(
                "--client-peers has no address of server {missing}, to which to forward when it leads"
            ));
        }
        let voters = if self.join { Vec::new() } else { peers.keys().copied().collect() };
        let mib = |mib: usize| mib.saturating_mul(1 << 20);
        let snapshot_log = usize::try_from(self.snapshot_log).unwrap_or(usize::MAX);
        let raft = Config {
            election_timeout_min: Duration::from_millis(self.election_timeout_min),
            election_timeout_max: Duration::from_millis(self.election_timeout_max),
            heartbeat_interval: Duration::from_millis(self.heartbeat),
            rank_slot: Some(Duration::from_millis(self.rank_slot)).filter(|slot| !slot.is_zero()),
            command_bytes_max: WRITE_BYTES_MAX,
            snapshot_log_bytes: mib(snapshot_log),
            log_tail_bytes: mib(snapshot_log) / SNAPSHOTS_IN_LOG,
            log_bytes_max: mib(LOG_MIB_MAX.max(snapshot_log.saturating_mul(SNAPSHOTS_IN_LOG))),
            ..Config::new(id, voters)
        };
        raft.validate().map_err(|e| e.to_string())?;
        let write_ahead = self.record_ahead;
        Ok(ServeOptions {
            cluster: self.cluster,
            raft,
            listen: self.listen.unwrap_or(listed),
            peers,
            data: self.data,
            client,
            reached_by_clients_at,
            client_peers,
            commands_version: self.commands_version,
            tls: self.tls.files(),
            metrics: self.metrics,
            record: self
                .record
                .map(|dir| RecorderConfig { write_ahead, ..RecorderConfig::new(dir) }),
            until_stdin_ends: self.until_stdin_ends,
        })
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, place) =
            text.split_once('=').ok_or("not of the form N=ADDR, as 1=127.0.0.1:7101")?;
        let id = id.parse().map_err(|_| format!("'{id}' is no server's number"))?;
        Ok(Self { id, address: address(place)? })
    }
}

fn by_id(peers: &[Peer], flag: &str) -> Result<BTreeMap<NodeId, String>, String> {
    let mut addresses = BTreeMap::new();
    for peer in peers {
        let id = NodeId::new(peer.id);
        if addresses.insert(id, peer.address.clone()).is_some() {
            return Err(format!("{flag} has server {id} twice"));
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEERS: &str = "--peers=1=127.0.0.1:7101,2=127.0.0.1:7102";
    const CLIENTS: &str = "--client-peers=1=127.0.0.1:6371,2=127.0.0.1:6372";

    fn check(flags: &[&str]) -> Result<ServeOptions, String> {
        let line = ["kv", "serve", "--data=d"].iter().chain(flags);
        match Options::try_parse_from(line).map_err(|e| e.to_string())?.command {
            Some(Command::Serve(flags)) => flags.check(),
            Some(
                Command::Order(_)
                | Command::RestoreFromSurvivor(_)
                | Command::Restore(_)
                | Command::TlsCa(_),
            )
            | None => Err("no command".into()),
        }
    }

    #[test]
    fn a_server_listens_where_the_others_look_for_it() {
        let server = check(&["--id=2", PEERS, CLIENTS]).unwrap();
        assert_eq!(server.listen, "127.0.0.1:7102");
        assert_eq!(server.client, "127.0.0.1:6372");
        assert_eq!(server.raft.voters.len(), 2);
        let behind = check(&["--id=2", PEERS, CLIENTS, "--listen=0.0.0.0:1"]).unwrap();
        assert_eq!(
            (&*behind.listen, &*behind.peers[&NodeId::new(2)]),
            ("0.0.0.0:1", "127.0.0.1:7102")
        );
    }

    #[test]
    fn a_cluster_of_one_needs_little() {
        assert!(check(&["--id=1", "--peers=1=127.0.0.1:1", "--client=127.0.0.1:2"]).is_ok());
    }

    #[test]
    fn a_server_that_joins_is_told_by_the_members() {
        let server = check(&["--id=2", PEERS, "--join", "--client=127.0.0.1:2"]).unwrap();
        assert!(server.raft.voters.is_empty());
        assert_eq!(server.peers.len(), 2);
    }

    #[test]
    fn a_late_snapshot_leaves_room_in_the_log() {
        let server = check(&["--id=2", PEERS, CLIENTS, "--snapshot-log=1024"]).unwrap();
        assert_eq!(server.raft.log_bytes_max, 4 << 30);
        let server = check(&["--id=2", PEERS, CLIENTS]).unwrap();
        assert_eq!(server.raft.log_bytes_max, 256 << 20);
    }

    #[test]
    fn mistakes_are_named() {
        let mistake = |flags: &[&str], expected: &str| {
            let said = check(flags).unwrap_err();
            assert!(said.contains(expected), "{said}");
        };
        mistake(&[PEERS, CLIENTS], "--id");
        mistake(&["--id=3", PEERS, CLIENTS], "--peers has no address of server 3");
        mistake(&["--id=1", PEERS], "where to listen for clients");
        mistake(&["--id=1", PEERS, "--client=127.0.0.1:1"], "no address of server 2");
        mistake(&["--id=1", "--peers=1"], "N=ADDR");
        mistake(&["--id=1", "--peers=1=localhost"], "no address and port");
        mistake(&["--id=1", "--peers=1=127.0.0.1:1,1=127.0.0.1:2"], "server 1 twice");
        mistake(&["--id=1", PEERS, CLIENTS, "--heartbeat=100"], "heartbeat");
        mistake(&["--id=1", PEERS, CLIENTS, "--commands-version=9"], "--commands-version");
        mistake(&["--id=1", PEERS, CLIENTS, "--tls-cert=c"], "--tls-key");
        mistake(&["--id=1", PEERS, CLIENTS, "--tls-ca=c"], "--tls-cert");
        mistake(&["--id=1", PEERS, CLIENTS, "--verbose"], "--verbose");
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Options::command().debug_assert();
    }
}
