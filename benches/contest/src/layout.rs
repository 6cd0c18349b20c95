//! Where the servers of a cluster are: addresses, and folders on the disk.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use kv::demo::cluster::free_ports;
use tempfile::TempDir;

use crate::namespaces::Namespaces;

/// Ports of a server: for the others, for clients, and two more.
const PORTS: usize = 4;

/// All servers of one cluster. Dropping it removes their folders.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) servers: Vec<Server>,
    folder: TempDir,
}

/// One server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// From 1 on.
    pub(crate) id: usize,
    pub(crate) peer: SocketAddr,
    pub(crate) client: SocketAddr,
    pub(crate) more_ports: [u16; 2],
    pub(crate) data: PathBuf,
    /// Where its output goes.
    pub(crate) log: PathBuf,
}

impl Layout {
    /// On the loopback, or on hosts of their own.
    pub(crate) fn new(servers: usize, hosts: Option<&Namespaces>) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("contest-").tempdir()?;
        let ports = free_ports(PORTS * servers).map_err(io::Error::other)?;
        let servers = (1..).zip(ports.chunks_exact(PORTS)).map(|(id, ports)| {
            let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
            let (peer, client) = hosts.map_or((loopback, loopback), |hosts| hosts.addresses(id));
            Server {
                id,
                peer: (peer, ports[0]).into(),
                client: (client, ports[1]).into(),
                more_ports: [ports[2], ports[3]],
                data: folder.path().join(format!("server-{id}")),
                log: folder.path().join(format!("server-{id}.log")),
            }
        });
        Ok(Self { servers: servers.collect(), folder })
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Server {
    pub(crate) fn name(&self) -> String {
        format!("n{}", self.id)
    }
}
