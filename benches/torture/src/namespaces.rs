//! A host for each server: network namespaces, connected by a [`Switch`]. Needs root, `ip` of
//! iproute2 and `/dev/net/tun`.
//!
//! Clients have a namespace too, so that nothing outside is touched and nothing from outside comes
//! in.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Arc;
use std::{io, thread};

use kv::demo::cluster::Failure;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::switch::Switch;

/// Where `ip netns` keeps its names.
const FOLDER: &str = "/run/netns";
/// How our names begin; a process id and a host follow.
const PREFIX: &str = "raft-torture-";
/// The host of the clients. Servers have their own numbers.
const CLIENTS: u8 = 254;
/// The device in each namespace.
const DEVICE: &str = "raft0";

/// The namespaces. They are removed when this is dropped, those that an earlier process left when
/// new ones are made.
#[derive(Debug)]
pub struct Namespaces {
    hosts: Vec<u8>,
    /// What connects them.
    pub switch: Switch,
}

impl Namespaces {
    /// Makes a namespace for each of these servers and one for clients, into which the calling
    /// thread moves.
    pub fn create(servers: &[u8], seed: u64) -> Result<Self, Failure> {
        remove_stale();
        let hosts: Vec<_> = servers.iter().copied().chain([CLIENTS]).collect();
        let mut devices = BTreeMap::new();
        for host in &hosts {
            let made = make(*host).inspect_err(|_| hosts.iter().copied().for_each(remove));
            devices.insert(*host, Arc::new(made?));
        }
        let namespaces = Self { hosts, switch: Switch::start(devices, CLIENTS, seed) };
        // Threads that this one starts from here on are where it is.
        enter(CLIENTS).map_err(|e| Failure(format!("namespace of the clients: {e}")))?;
        Ok(namespaces)
    }

    /// The address of a server's host with this port.
    pub fn address(host: u8, port: u16) -> SocketAddr {
        // Reserved for tests of networks, so no host has them.
        (Ipv4Addr::new(198, 18, 0, host), port).into()
    }

    /// Runs a program on a server's host, once its arguments are added.
    pub fn command(host: u8, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &name(host)]).arg(program);
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.hosts.iter().copied().for_each(remove);
    }
}

fn make(host: u8) -> Result<SyncDevice, Failure> {
    let namespace = name(host);
    ip(&["netns", "add", &namespace])?;
    let device = thread::spawn(move || {
        enter(host)?;
        DeviceBuilder::new().name(DEVICE).layer(Layer::L3).build_sync()
    });
    let device = device.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
    let device = device.map_err(|e| Failure(format!("no TUN device in {namespace}: {e}")))?;
    let address = format!("{}/24", Namespaces::address(host, 0).ip());
    ip(&["-netns", &namespace, "address", "add", &address, "dev", DEVICE])?;
    for device in ["lo", DEVICE] {
        ip(&["-netns", &namespace, "link", "set", device, "up"])?;
    }
    Ok(device)
}

fn enter(host: u8) -> io::Result<()> {
    let namespace = File::open(path(&name(host)))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

fn ip(arguments: &[&str]) -> Result<(), Failure> {
    let failed = |e: String| Failure(format!("ip {}: {e}", arguments.join(" ")));
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|e| failed(format!("{e} (is iproute2 installed?)")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn remove(host: u8) {
    // A namespace that does not exist needs no removal.
    let _ = ip(&["netns", "delete", &name(host)]);
}

fn remove_stale() {
    let entries = fs::read_dir(FOLDER).into_iter().flatten().flatten();
    for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = ip(&["netns", "delete", &name]);
        }
    }
}

fn name(host: u8) -> String {
    format!("{PREFIX}{}-{host}", process::id())
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}
