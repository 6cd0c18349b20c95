//! The server processes: each with its address, its disk, its log, and on a host of its own where
//! there are namespaces.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use authority::{Authority, Valid};
use bytes::Bytes;
use kv::client::Client;
use kv::demo::cluster::{Failure, View, free_ports};
use kv::server::hold::HOLD_FILE;
use kv::server::resp::Frame;
use raft_core::NodeId;
use raft_core::host::ClusterId;
use rustix::process::{Pid, Signal, kill_process};

use super::disk::Disk;
use super::namespaces::Namespaces;
use super::switch::Switch;

/// Where a server on a host of its own listens for the others, and for clients.
const PORTS: [u16; 2] = [7_101, 6_371];
/// After how many MiB of commands servers take snapshots: few, so that followers are sent some.
const SNAPSHOT_LOG_MIB: u32 = 1;
/// How many writes another cluster has that leaves a store.
const FOREIGN_WRITES: u32 = 20;
/// How long a server is given to tell about itself.
const VIEW_WAIT_MAX: Duration = Duration::from_millis(300);
/// How long an order may take before it is given again.
const ORDER_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often a condition is looked at that someone waits for.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// What a shell does so that a file that may not grow is an error and not a signal.
const WITHOUT_SIGXFSZ: &str = "trap '' XFSZ; exec \"$0\" \"$@\"";

/// Where servers are.
#[derive(Debug)]
pub enum Place {
    /// All on this host.
    Loopback,
    /// Each on a host of its own.
    Namespaces(Namespaces),
}

/// All servers of a cluster.
#[derive(Debug)]
pub struct Servers {
    program: PathBuf,
    runtimes: Vec<String>,
    folder: PathBuf,
    /// Where they record.
    records: PathBuf,
    /// Where the servers' certificates are, if they speak TLS.
    certificates: Option<PathBuf>,
    /// More flags for `serve`, from the next start on.
    flags: Vec<String>,
    servers: BTreeMap<u8, Server>,
    /// Behind the processes: they are ended before what they stand on.
    place: Place,
}

#[derive(Debug)]
struct Server {
    /// Where it listens for the others, as it says of itself.
    peer: SocketAddr,
    /// The same, as the flags of the others say.
    known_peer: SocketAddr,
    client: SocketAddr,
    process: Option<Child>,
    disk: Disk,
    /// It is started to join a cluster that exists.
    joins: bool,
    /// It may end by itself.
    may_end: bool,
    /// Where it listens for clients while its store is of another cluster, which no client of this
    /// one may meet.
    apart: Option<SocketAddr>,
}

/// Makes certificates for servers of the cluster that `kv serve` has by default. Their folder.
fn make_certificates(folder: &Path, count: u8) -> Result<PathBuf, Failure> {
    let cannot = |e: io::Error| Failure(format!("no certificates: {e}"));
    let folder = folder.join("certificates");
    let authority = Authority::open(&folder).map_err(cannot)?;
    for node in (1..=count).map(|id| NodeId::new(id.into())) {
        let pair = authority.pair(ClusterId::new(1), node, Valid::Days(1));
        pair.write(&folder, node).map_err(cannot)?;
    }
    Ok(folder)
}

impl Servers {
    /// Starts the servers 1 to `count`: `program serve`, on these of its runtimes in turn, with all
    /// that they leave in `folder`.
    pub fn start(
        program: &Path,
        count: u8,
        runtimes: &[&str],
        folder: &Path,
        records: &Path,
        place: Place,
        tls: bool,
    ) -> Result<Self, Failure> {
        let ports = free_ports(2 * usize::from(count))?;
        let mut servers = BTreeMap::new();
        for (id, ports) in (1..=count).zip(ports.chunks_exact(2)) {
            let [peer, client] = match place {
                Place::Loopback => [0, 1].map(|n| (Ipv4Addr::LOCALHOST, ports[n]).into()),
                Place::Namespaces(_) => PORTS.map(|port| Namespaces::address(id, port)),
            };
            let own_disk = matches!(place, Place::Namespaces(_));
            let disk = Disk::create(folder.join(format!("server-{id}")), own_disk)?;
            let (process, joins, may_end) = (None, false, false);
            let server = Server {
                peer,
                known_peer: peer,
                client,
                process,
                disk,
                joins,
                may_end,
                apart: None,
            };
            servers.insert(id, server);
        }
        let runtimes = runtimes.iter().map(|name| (*name).to_owned()).collect();
        let (program, folder) = (program.to_owned(), folder.to_owned());
        let records = records.to_owned();
        let flags = Vec::new();
        let certificates = if tls { Some(make_certificates(&folder, count)?) } else { None };
        let mut servers =
            Self { program, runtimes, folder, records, certificates, flags, servers, place };
        servers.ids().into_iter().try_for_each(|id| servers.start_server(id))?;
        Ok(servers)
    }

    /// The numbers of all servers, ascending.
    pub fn ids(&self) -> Vec<u8> {
        self.servers.keys().copied().collect()
    }

    /// What runs this server.
    pub fn runtime(&self, id: u8) -> &str {
        &self.runtimes[(usize::from(id) - 1) % self.runtimes.len()]
    }

    /// Where clients find this server.
    pub fn client_address(&self, id: u8) -> SocketAddr {
        self.servers[&id].client
    }

    /// What is between the servers, if packets can be touched there.
    pub fn switch(&self) -> Option<&Switch> {
        match &self.place {
            Place::Loopback => None,
            Place::Namespaces(namespaces) => Some(&namespaces.switch),
        }
    }

    /// Starts this server; its journal is what an earlier life left.
    pub fn start_server(&mut self, id: u8) -> Result<(), Failure> {
        let cannot = |e: io::Error| Failure(format!("server {id} cannot be started: {e}"));
        let log =
            File::options().create(true).append(true).open(self.log_path(id)).map_err(cannot)?;
        let peer = |(other, server): (&u8, &Server)| match *other == id {
            true => format!("{other}={}", server.peer),
            false => format!("{other}={}", server.known_peer),
        };
        let peers: Vec<_> = self.servers.iter().map(peer).collect();
        let client = |(id, server): (&u8, &Server)| format!("{id}={}", server.client);
        let clients: Vec<_> = self.servers.iter().map(client).collect();
        let mut command = self.serve(id);
        let server = &self.servers[&id];
        command
            .args(["--peers", &peers.join(",")])
            .args(["--client-peers", &clients.join(",")])
            .arg("--data")
            .arg(server.disk.data())
            .arg("--record-ahead")
            .arg("--record")
            .arg(&self.records)
            .args(server.joins.then_some("--join"))
            .args(server.apart.map(|client| format!("--client={client}")))
            .args(&self.flags)
            .env(HOLD_FILE, self.hold_path(id))
            .stderr(log);
        let process = command.spawn().map_err(cannot)?;
        if let Some(server) = self.servers.get_mut(&id) {
            server.process = Some(process);
        }
        Ok(())
    }

    /// A process that runs this server, but for its peers and its folder.
    fn serve(&self, id: u8) -> Command {
        let mut command = match &self.place {
            Place::Loopback => {
                let mut shell = Command::new("sh");
                shell.args(["-c", WITHOUT_SIGXFSZ]).arg(&self.program);
                shell
            }
            Place::Namespaces(_) => Namespaces::command(id, &self.program),
        };
        command
            .args(["serve", "--until-stdin-ends", "--id", &id.to_string()])
            .args(["--runtime", self.runtime(id), &format!("--snapshot-log={SNAPSHOT_LOG_MIB}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        if let Some(certificates) = &self.certificates {
            let file = |name: String| certificates.join(name);
            command.arg("--tls-cert").arg(file(format!("node-{id}.pem")));
            command.arg("--tls-key").arg(file(format!("node-{id}.key")));
            command.arg("--tls-ca").arg(file("ca.pem".into()));
        }
        command
    }

    /// Flags that every server gets from its next start on.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// From its next start on this server waits to be added.
    pub fn set_joins(&mut self, id: u8) {
        if let Some(server) = self.servers.get_mut(&id) {
            (server.joins, server.known_peer) = (true, server.peer);
        }
    }

    /// Whether it is all right if this server ends by itself.
    pub fn let_end(&mut self, id: u8, may_end: bool) {
        if let Some(server) = self.servers.get_mut(&id) {
            server.may_end = may_end;
        }
    }

    /// Where this server listens for the others, and for clients.
    pub fn addresses(&self, id: u8) -> (SocketAddr, SocketAddr) {
        let server = &self.servers[&id];
        (server.peer, server.client)
    }

    /// From its next start on this server listens elsewhere for the others, whose flags say what
    /// they said.
    pub fn move_server(&mut self, id: u8) -> Result<(), Failure> {
        let port = match self.place {
            Place::Loopback => free_ports(1)?.remove(0),
            Place::Namespaces(_) => self.servers[&id].peer.port() + 1,
        };
        if let Some(server) = self.servers.get_mut(&id) {
            server.peer.set_port(port);
        }
        Ok(())
    }

    /// Takes all that this server's disk holds.
    pub fn wipe_disk(&mut self, id: u8) -> Result<(), Failure> {
        if let Some(server) = self.servers.get_mut(&id) {
            server.apart = None;
        }
        let data = self.servers[&id].disk.data();
        match fs::remove_dir_all(&data) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Failure(format!("{} cannot be emptied: {e}", data.display())))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Puts a store into this server's folder that a cluster of one has left, with entries of its
    /// own.
    pub fn plant_foreign_store(&mut self, id: u8, within: Duration) -> Result<(), Failure> {
        let cannot = |e: io::Error| Failure(format!("no foreign store for server {id}: {e}"));
        let server = &self.servers[&id];
        // Where no client of this cluster looks.
        let (mut peer, mut client) = (server.peer, server.client);
        match self.place {
            Place::Loopback => {
                let ports = free_ports(2)?;
                peer.set_port(ports[0]);
                client.set_port(ports[1]);
            }
            Place::Namespaces(_) => {
                peer.set_port(peer.port() + 100);
                client.set_port(client.port() + 100);
            }
        }
        let mut process = self
            .serve(id)
            .args(["--peers", &format!("{id}={peer}")])
            .args(["--client-peers", &format!("{id}={client}")])
            .arg("--data")
            .arg(server.disk.data())
            .stderr(Stdio::null())
            .spawn()
            .map_err(cannot)?;
        let deadline = Instant::now() + within;
        let mut written = 0;
        while written < FOREIGN_WRITES && Instant::now() < deadline {
            let words = ["SET".to_owned(), format!("foreign-{written}"), "1".to_owned()];
            if let Some(Frame::SimpleString(_)) = ask(client, &words) {
                written += 1;
            } else {
                thread::sleep(POLL_INTERVAL);
            }
        }
        process.kill().and_then(|()| process.wait()).map_err(cannot)?;
        if written < FOREIGN_WRITES {
            return Err(Failure(format!("no foreign store for server {id}: it took no writes")));
        }
        if let Some(server) = self.servers.get_mut(&id) {
            server.apart = Some(client);
        }
        Ok(())
    }

    /// This server's state machine stands still from now on.
    pub fn hold(&self, id: u8) -> Result<(), Failure> {
        let held = File::create(self.hold_path(id)).map(drop);
        held.map_err(|e| Failure(format!("server {id} cannot be held: {e}")))
    }

    /// It goes on.
    pub fn release(&self, id: u8) {
        // If the server was not held, there is no such file.
        let _ = fs::remove_file(self.hold_path(id));
    }

    fn hold_path(&self, id: u8) -> PathBuf {
        self.folder.join(format!("hold-{id}"))
    }

    /// Whether this server has a process.
    pub fn runs(&self, id: u8) -> bool {
        self.servers[&id].process.is_some()
    }

    /// Sends a signal to this server, if it runs.
    pub fn signal(&self, id: u8, signal: Signal) -> Result<(), Failure> {
        let Some(process) = self.process(id) else { return Ok(()) };
        kill_process(process, signal)
            .map_err(|e| Failure(format!("server {id} cannot be sent {signal:?}: {e}")))
    }

    /// Waits until this server has ended.
    pub fn wait_for_end(&mut self, id: u8, within: Duration) -> Result<ExitStatus, Failure> {
        let deadline = Instant::now() + within;
        let Some(server) = self.servers.get_mut(&id) else {
            return Err(Failure(format!("there is no server {id}")));
        };
        let mut process = server.process.take();
        while let Some(child) = &mut process {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(POLL_INTERVAL),
                Ok(None) => break,
                Err(e) => return Err(Failure(format!("server {id} cannot be waited for: {e}"))),
            }
        }
        server.process = process;
        Err(Failure(format!("server {id} has not ended within {within:?}")))
    }

    /// Leaves this server no room on its disk.
    pub fn fill_disk(&self, id: u8) -> Result<(), Failure> {
        let Some(process) = self.process(id) else { return Ok(()) };
        self.servers[&id].disk.fill(process, self.log_bytes(id))
    }

    /// Makes room again.
    pub fn free_disk(&self, id: u8) -> Result<(), Failure> {
        self.servers[&id].disk.free()
    }

    /// What this server says about itself; `None` while it does not answer.
    pub fn view(&self, id: u8) -> Option<View> {
        self.process(id)?;
        let mut client = Client::connect(self.client_address(id)).ok()?;
        client.set_answer_wait(VIEW_WAIT_MAX).ok()?;
        View::parse(u64::from(id), &client.call(["INFO"]).ok()?)
    }

    /// The server that leads in the highest term.
    pub fn leader(&self) -> Option<u8> {
        let views = self.ids().into_iter().filter_map(|id| Some((id, self.view(id)?)));
        let leaders = views.filter(|(_, view)| view.leads);
        leaders.max_by_key(|(_, view)| view.term).map(|(id, _)| id)
    }

    /// Fails if a server has ended by itself.
    pub fn check(&mut self) -> Result<(), Failure> {
        for (id, server) in &mut self.servers {
            let ended = server.process.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() && server.may_end {
                server.process = None;
            } else if let Some(status) = ended {
                return Err(Failure(format!("server {id} ended by itself, with {status}")));
            }
        }
        Ok(())
    }

    /// How long this server's log is.
    pub fn log_bytes(&self, id: u8) -> u64 {
        fs::metadata(self.log_path(id)).map_or(0, |log| log.len())
    }

    /// What this server's log has behind its first bytes.
    pub fn log_since(&self, id: u8, bytes: u64) -> String {
        let mut text = Vec::new();
        let read = File::open(self.log_path(id)).and_then(|mut log| {
            log.seek(SeekFrom::Start(bytes))?;
            log.read_to_end(&mut text)
        });
        // A log that cannot be read says nothing.
        read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&text).into_owned())
    }

    /// Copies all journals into `folder`, for their disks may vanish.
    pub fn copy_journals(&self, folder: &Path) -> io::Result<()> {
        for (id, server) in &self.servers {
            let copy = folder.join(format!("journal-{id}"));
            fs::create_dir_all(&copy)?;
            for entry in fs::read_dir(server.disk.data())? {
                let entry = entry?;
                fs::copy(entry.path(), copy.join(entry.file_name()))?;
            }
        }
        Ok(())
    }

    fn process(&self, id: u8) -> Option<Pid> {
        let process = self.servers[&id].process.as_ref()?;
        Pid::from_raw(i32::try_from(process.id()).ok()?)
    }

    fn log_path(&self, id: u8) -> PathBuf {
        self.folder.join(format!("server-{id}.log"))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in self.servers.values_mut() {
            if let Some(process) = &mut server.process {
                // A server that cannot be killed still ends when the pipe to it closes.
                let _ = process.kill().and_then(|()| process.wait());
            }
        }
    }
}

/// What the server at this address answers; none if it does not.
pub(super) fn ask(address: SocketAddr, words: &[String]) -> Option<Frame> {
    let mut client = Client::connect(address).ok()?;
    client.set_answer_wait(ORDER_WAIT_MAX).ok()?;
    client.call(words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes()))).ok()
}
