//! The command line of a driver's server process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;

/// One server of three.
#[derive(Parser, Clone, Debug)]
pub(crate) struct Options {
    /// This server, one of those in --servers
    #[arg(long)]
    pub(crate) id: u64,
    /// Every server: where it listens for the others, and for clients
    #[arg(long, value_name = "N=PEER/CLIENT", value_delimiter = ',', required = true)]
    servers: Vec<Server>,
    /// The folder of the log
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// The election timeout's range and the heartbeat's interval, in milliseconds
    #[arg(long)]
    election_timeout_min: u64,
    #[arg(long)]
    election_timeout_max: u64,
    #[arg(long)]
    heartbeat: u64,
}

#[derive(Clone, Debug)]
struct Server {
    id: u64,
    peer: SocketAddr,
    client: SocketAddr,
}

impl Options {
    pub(crate) fn peers(&self) -> BTreeMap<u64, SocketAddr> {
        self.servers.iter().map(|server| (server.id, server.peer)).collect()
    }

    pub(crate) fn clients(&self) -> BTreeMap<u64, SocketAddr> {
        self.servers.iter().map(|server| (server.id, server.client)).collect()
    }

    pub(crate) fn election_timeout(&self) -> (Duration, Duration) {
        (
            Duration::from_millis(self.election_timeout_min),
            Duration::from_millis(self.election_timeout_max),
        )
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat)
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (id, places) = text.split_once('=')?;
            let (peer, client) = places.split_once('/')?;
            Some(Self {
                id: id.parse().ok()?,
                peer: peer.parse().ok()?,
                client: client.parse().ok()?,
            })
        };
        parse().ok_or_else(|| format!("'{text}' is not of the form N=PEER/CLIENT"))
    }
}
