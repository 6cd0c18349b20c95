//! A host for each server, so that a link can be cut: network namespaces with two networks between
//! them, one for servers alone and one on which clients reach every server.
//!
//! A cut takes the host's wire out of the servers' bridge. The host notices nothing: no connection
//! is closed and no device goes down, packets just vanish. Needs root, `ip` of iproute2, and a
//! kernel with veth and bridges.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{self, Command};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps its names.
const FOLDER: &str = "/run/netns";
/// How our names begin; a process id and a host follow.
const PREFIX: &str = "contest-";
/// The host of the clients, which has the bridges.
const HUB: usize = 0;
const PEERS: &str = "peers";
const CLIENTS: &str = "clients";

/// The hosts. The thread that made them is in the clients' until they are dropped.
#[derive(Debug)]
pub(crate) struct Namespaces {
    home: File,
    hosts: usize,
}

impl Namespaces {
    pub(crate) fn create(servers: usize) -> io::Result<Self> {
        remove_stale();
        let namespaces = Self { home: File::open("/proc/thread-self/ns/net")?, hosts: servers };
        ip(&["netns", "add", &name(HUB)])?;
        ip_at(HUB, &["link", "set", "lo", "up"])?;
        for bridge in [PEERS, CLIENTS] {
            ip_at(HUB, &["link", "add", bridge, "type", "bridge"])?;
            ip_at(HUB, &["link", "set", bridge, "up"])?;
        }
        ip_at(HUB, &["address", "add", "198.18.0.254/24", "dev", CLIENTS])?;
        for host in 1..=servers {
            ip(&["netns", "add", &name(host)])?;
            ip_at(host, &["link", "set", "lo", "up"])?;
            let (peer, client) = namespaces.addresses(host);
            namespaces.wire(host, PEERS, peer)?;
            namespaces.wire(host, CLIENTS, client)?;
        }
        enter(&File::open(Path::new(FOLDER).join(name(HUB)))?)?;
        Ok(namespaces)
    }

    fn wire(&self, host: usize, bridge: &str, address: IpAddr) -> io::Result<()> {
        let (here, there) = (wire(bridge, host), bridge);
        let netns = name(host);
        ip_at(
            HUB,
            &["link", "add", &here, "type", "veth", "peer", "name", there, "netns", &netns],
        )?;
        ip_at(HUB, &["link", "set", &here, "master", bridge, "up"])?;
        ip_at(host, &["address", "add", &format!("{address}/24"), "dev", there])?;
        ip_at(host, &["link", "set", there, "up"])
    }

    /// Where other servers reach this one, and where clients do. Nobody else has such addresses:
    /// they are reserved for tests of networks.
    pub(crate) fn addresses(&self, host: usize) -> (IpAddr, IpAddr) {
        let last = host as u8;
        (Ipv4Addr::new(198, 18, 1, last).into(), Ipv4Addr::new(198, 18, 0, last).into())
    }

    /// The name of a server's host.
    pub(crate) fn name(&self, host: usize) -> String {
        name(host)
    }

    /// Cuts this host off from the other servers, not from clients.
    pub(crate) fn cut(&self, host: usize) -> io::Result<()> {
        ip_at(HUB, &["link", "set", &wire(PEERS, host), "nomaster"])
    }

    pub(crate) fn mend(&self, host: usize) -> io::Result<()> {
        ip_at(HUB, &["link", "set", &wire(PEERS, host), "master", PEERS])
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        if let Err(e) = enter(&self.home) {
            progress::say(format_args!("the way back out of a network namespace: {e}"));
        }
        (HUB..=self.hosts).for_each(|host| remove(&name(host)));
    }
}

/// Moves a server's process, which is to be, to its host.
pub(crate) fn enter_by_name(name: &str) -> io::Result<()> {
    enter(&File::open(Path::new(FOLDER).join(name))?)
}

fn enter(namespace: &File) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

fn wire(bridge: &str, host: usize) -> String {
    format!("{bridge}{host}")
}

fn ip_at(host: usize, words: &[&str]) -> io::Result<()> {
    let namespace = name(host);
    ip(&[&["-netns", namespace.as_str()], words].concat())
}

fn ip(words: &[&str]) -> io::Result<()> {
    let failed = |e: String| io::Error::other(format!("ip {}: {e}", words.join(" ")));
    let output = Command::new("ip").args(words).output();
    let output = output.map_err(|e| failed(format!("{e} (is iproute2 installed?)")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn remove(name: &str) {
    if Path::new(FOLDER).join(name).exists() {
        // A name that stays is removed by the next contest.
        let _ = ip(&["netns", "delete", name]);
    }
}

/// Removes what an earlier process left that was killed.
fn remove_stale() {
    let entries = fs::read_dir(FOLDER).into_iter().flatten().flatten();
    for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            remove(&name);
        }
    }
}

fn name(host: usize) -> String {
    format!("{PREFIX}{}-{host}", process::id())
}
