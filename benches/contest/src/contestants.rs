//! Who takes part, and how each of its servers is started.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::Protocol;
use crate::layout::{Layout, Server};

/// A store that is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Contestant {
    /// As flags and results call it.
    pub(crate) id: &'static str,
    /// As tables call it.
    pub(crate) name: &'static str,
    kind: Kind,
    /// It does not promise what the others do, and wins nothing.
    pub(crate) is_reference: bool,
    /// What Debian calls its package.
    pub(crate) package: Option<&'static str>,
    /// Only in the long run, or if it is asked for.
    pub(crate) is_extra: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ours(&'static str),
    OursDriver,
    Openraft,
    RaftRs,
    Etcd,
    ZooKeeper,
    Nats,
    Redis,
}

/// Which election timeouts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timing {
    /// Those that a contestant has by default, or in its own examples.
    Default,
    /// 150 to 300 ms, heartbeats of 30 ms.
    Equal,
}

const EQUAL_MIN_MS: u32 = 150;
const EQUAL_MAX_MS: u32 = 300;
const EQUAL_HEARTBEAT_MS: u32 = 30;

const PLAIN: Contestant = Contestant {
    id: "",
    name: "",
    kind: Kind::Redis,
    is_reference: false,
    package: None,
    is_extra: false,
};

/// All of them. Those of this repository come first.
pub(crate) const ALL: [Contestant; 10] = [
    Contestant { id: "ours-tokio", name: "ours, tokio", kind: Kind::Ours("tokio"), ..PLAIN },
    Contestant { id: "ours-threads", name: "ours, threads", kind: Kind::Ours("threads"), ..PLAIN },
    Contestant {
        id: "ours-smol",
        name: "ours, smol",
        kind: Kind::Ours("smol"),
        is_extra: true,
        ..PLAIN
    },
    Contestant { id: "ours-driver", name: "ours, driver", kind: Kind::OursDriver, ..PLAIN },
    Contestant { id: "openraft", name: "openraft", kind: Kind::Openraft, ..PLAIN },
    Contestant { id: "raft-rs", name: "raft-rs", kind: Kind::RaftRs, ..PLAIN },
    Contestant {
        id: "etcd",
        name: "etcd",
        kind: Kind::Etcd,
        package: Some("etcd-server"),
        ..PLAIN
    },
    Contestant {
        id: "zookeeper",
        name: "ZooKeeper",
        kind: Kind::ZooKeeper,
        package: Some("zookeeper"),
        ..PLAIN
    },
    Contestant {
        id: "nats",
        name: "NATS JetStream",
        kind: Kind::Nats,
        is_reference: true,
        package: Some("nats-server"),
        ..PLAIN
    },
    Contestant {
        id: "redis",
        name: "Redis, alone",
        kind: Kind::Redis,
        is_reference: true,
        package: Some("redis-server"),
        ..PLAIN
    },
];

/// Where Debian's package has the program of ZooKeeper.
const ZOOKEEPER_JAR: &str = "/usr/share/java/zookeeper.jar";
/// What its scripts give it by default.
const ZOOKEEPER_HEAP: &str = "-Xmx1000m";
const ZOOKEEPER_LOGS: &str = "log4j.rootLogger=WARN, C\nlog4j.appender.C=org.apache.log4j.ConsoleAppender\nlog4j.appender.C.layout=org.apache.log4j.SimpleLayout\n";

impl Contestant {
    pub(crate) fn find(id: &str) -> Option<Self> {
        ALL.into_iter().find(|contestant| contestant.id == id)
    }

    pub(crate) fn protocol(self) -> Protocol {
        match self.kind {
            Kind::Ours(_) | Kind::OursDriver | Kind::Openraft | Kind::RaftRs | Kind::Redis => {
                Protocol::Resp
            }
            Kind::Etcd => Protocol::Etcd,
            Kind::ZooKeeper => Protocol::ZooKeeper,
            Kind::Nats => Protocol::Nats,
        }
    }

    pub(crate) fn servers(self) -> usize {
        if self.kind == Kind::Redis { 1 } else { 3 }
    }

    /// Whether it can fail over, and has such timeouts.
    pub(crate) fn has(self, timing: Timing) -> bool {
        match self.kind {
            Kind::Redis => false,
            // Its timeouts of 4 to 9 seconds are constants.
            Kind::Nats => timing == Timing::Default,
            Kind::Ours(_)
            | Kind::OursDriver
            | Kind::Openraft
            | Kind::RaftRs
            | Kind::Etcd
            | Kind::ZooKeeper => true,
        }
    }

    /// The program that it needs and this machine lacks.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let needed: &[&str] = match self.kind {
            Kind::Ours(_) | Kind::OursDriver | Kind::Openraft | Kind::RaftRs => &[],
            Kind::Etcd => &["etcd"],
            Kind::ZooKeeper => &["java", ZOOKEEPER_JAR],
            Kind::Nats => &["nats-server"],
            Kind::Redis => &["redis-server"],
        };
        needed.iter().find(|program| find_program(program).is_none()).copied()
    }

    /// Its version, and its timeouts by default.
    pub(crate) fn version(self) -> String {
        let first_line = |program: &str, flag: &str| {
            let output = find_program(program)
                .and_then(|program| Command::new(program).arg(flag).output().ok());
            let output = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            output.and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_default()
        };
        match self.kind {
            Kind::Ours(_) => format!(
                "this repository at {}; timeouts 150-300 ms, heartbeats 50 ms",
                commit().unwrap_or_else(|| "an unknown commit".into())
            ),
            Kind::OursDriver => format!(
                "raft-tokio of this repository at {}, driver of this package; timeouts 150-300 ms, \
                 heartbeats 50 ms",
                commit().unwrap_or_else(|| "an unknown commit".into())
            ),
            Kind::Openraft => format!(
                "openraft {}, driver of this package; timeouts 150-300 ms, heartbeats 50 ms",
                locked_version("openraft")
            ),
            Kind::RaftRs => format!(
                "raft-rs {}, driver of this package; ticks as in its examples: 1-2 s, heartbeats 300 ms",
                locked_version("raft")
            ),
            Kind::Etcd => {
                format!(
                    "{}, Debian's; timeouts 1-2 s, heartbeats 100 ms",
                    first_line("etcd", "--version")
                )
            }
            Kind::ZooKeeper => {
                let jar = fs::canonicalize(ZOOKEEPER_JAR).unwrap_or_default();
                let folder = jar.parent().map(Path::to_owned).unwrap_or_default();
                let names = fs::read_dir(folder).into_iter().flatten().flatten();
                let version = names.filter_map(|entry| {
                    let name = entry.file_name().into_string().ok()?;
                    let version = name.strip_prefix("zookeeper-")?.strip_suffix(".jar")?.to_owned();
                    version.starts_with(|first: char| first.is_ascii_digit()).then_some(version)
                });
                let version = version.max().unwrap_or_default();
                format!("ZooKeeper {version}, Debian's; tickTime 2 s, syncLimit 5")
            }
            Kind::Nats => format!(
                "{}, Debian's, a stream of three replicas; timeouts 4-9 s; acknowledges before it \
                 is on any disk",
                first_line("nats-server", "--version")
            ),
            Kind::Redis => {
                let line = first_line("redis-server", "--version");
                let version = line.split("v=").nth(1).and_then(|rest| rest.split(' ').next());
                format!(
                    "Redis {}, Debian's, one server with appendfsync always: no replication",
                    version.unwrap_or_default()
                )
            }
        }
    }

    /// The command line of a server, once its files are written.
    pub(crate) fn command(
        self,
        layout: &Layout,
        server: &Server,
        timing: Timing,
    ) -> io::Result<Vec<String>> {
        fs::create_dir_all(&server.data)?;
        let own = || Ok::<_, io::Error>(env::current_exe()?.to_string_lossy().into_owned());
        let data = server.data.to_string_lossy().into_owned();
        let found = |program| {
            let program = find_program(program).ok_or(io::ErrorKind::NotFound)?;
            Ok::<_, io::Error>(program.to_string_lossy().into_owned())
        };
        Ok(match self.kind {
            Kind::Ours(runtime) => {
                let mut words = vec![own()?, "serve".into(), format!("--runtime={runtime}")];
                words.extend(ours(layout, server, timing));
                words
            }
            Kind::OursDriver | Kind::Openraft | Kind::RaftRs => {
                let mut words = vec![own()?, format!("serve-{}", self.id)];
                words.extend(driver(self.kind, layout, server, timing));
                words
            }
            Kind::Etcd => {
                let mut words = vec![found("etcd")?];
                words.extend(etcd(layout, server, timing));
                words
            }
            Kind::ZooKeeper => {
                let config = zookeeper_config(layout, server, timing);
                fs::write(server.data.join("zoo.cfg"), config)?;
                fs::write(server.data.join("myid"), server.id.to_string())?;
                fs::write(server.data.join("log4j.properties"), ZOOKEEPER_LOGS)?;
                let class_path = format!("{data}:{ZOOKEEPER_JAR}");
                let main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
                let config = format!("{data}/zoo.cfg");
                let words = [&found("java")?, ZOOKEEPER_HEAP, "-cp", &class_path, main, &config];
                words.map(str::to_owned).to_vec()
            }
            Kind::Nats => {
                let path = server.data.join("nats.conf");
                fs::write(&path, nats_config(layout, server))?;
                vec![found("nats-server")?, "-c".into(), path.to_string_lossy().into_owned()]
            }
            Kind::Redis => {
                let port = server.client.port().to_string();
                let bind = server.client.ip().to_string();
                let program = found("redis-server")?;
                let flags = ["--port", &port, "--bind", &bind, "--dir", &data, "--save", ""];
                let durable = ["--appendonly", "yes", "--appendfsync", "always"];
                let words = [program.as_str()].into_iter().chain(flags).chain(durable);
                words.map(str::to_owned).collect()
            }
        })
    }
}

fn ours(layout: &Layout, server: &Server, timing: Timing) -> Vec<String> {
    let list = |place: fn(&Server) -> String| {
        let places = layout.servers.iter().map(|server| format!("{}={}", server.id, place(server)));
        places.collect::<Vec<_>>().join(",")
    };
    let mut words = vec![
        format!("--id={}", server.id),
        format!("--peers={}", list(|server| server.peer.to_string())),
        format!("--client-peers={}", list(|server| server.client.to_string())),
        format!("--data={}", server.data.display()),
    ];
    if timing == Timing::Equal {
        words.extend(equal_timeouts());
    }
    words
}

fn equal_timeouts() -> [String; 3] {
    timeouts(EQUAL_MIN_MS, EQUAL_MAX_MS, EQUAL_HEARTBEAT_MS)
}

fn timeouts(min: u32, max: u32, heartbeat: u32) -> [String; 3] {
    [
        format!("--election-timeout-min={min}"),
        format!("--election-timeout-max={max}"),
        format!("--heartbeat={heartbeat}"),
    ]
}

fn driver(kind: Kind, layout: &Layout, server: &Server, timing: Timing) -> Vec<String> {
    let servers = layout.servers.iter();
    let servers = servers.map(|server| format!("{}={}/{}", server.id, server.peer, server.client));
    let mut words = vec![
        format!("--id={}", server.id),
        format!("--servers={}", servers.collect::<Vec<_>>().join(",")),
        format!("--data={}", server.data.display()),
    ];
    words.extend(match (timing, kind) {
        (Timing::Equal, _) => equal_timeouts(),
        (Timing::Default, Kind::RaftRs) => timeouts(1000, 2000, 300),
        (Timing::Default, _) => timeouts(150, 300, 50),
    });
    words
}

fn etcd(layout: &Layout, server: &Server, timing: Timing) -> Vec<String> {
    let all = layout.servers.iter();
    let all = all.map(|server| format!("{}=http://{}", server.name(), server.peer));
    let (peer, client) = (server.peer, server.client);
    let mut words = vec![
        format!("--name={}", server.name()),
        format!("--data-dir={}", server.data.display()),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--listen-client-urls=http://{client}"),
        format!("--advertise-client-urls=http://{client}"),
        format!("--initial-cluster={}", all.collect::<Vec<_>>().join(",")),
        "--initial-cluster-state=new".into(),
        "--logger=zap".into(),
        "--log-level=warn".into(),
    ];
    if timing == Timing::Equal {
        words.push(format!("--heartbeat-interval={EQUAL_HEARTBEAT_MS}"));
        words.push(format!("--election-timeout={EQUAL_MIN_MS}"));
    }
    words
}

fn zookeeper_config(layout: &Layout, server: &Server, timing: Timing) -> String {
    // A follower gives a leader up after `syncLimit` ticks.
    let (tick, start, sync) = match timing {
        Timing::Default => (2000, 10, 5),
        Timing::Equal => (50, 200, 4),
    };
    let mut text = format!(
        "tickTime={tick}\ninitLimit={start}\nsyncLimit={sync}\ndataDir={}\nclientPort={}\n\
         clientPortAddress={}\nmaxClientCnxns=0\nadmin.enableServer=false\n\
         4lw.commands.whitelist=srvr\n",
        server.data.display(),
        server.client.port(),
        server.client.ip()
    );
    for server in &layout.servers {
        let (ip, [votes, _]) = (server.peer.ip(), server.more_ports);
        text += &format!("server.{}={ip}:{}:{votes}\n", server.id, server.peer.port());
    }
    text
}

fn nats_config(layout: &Layout, server: &Server) -> String {
    let others = layout.servers.iter().filter(|other| other.id != server.id);
    let routes = others.map(|other| format!("nats-route://{}", other.peer)).collect::<Vec<_>>();
    format!(
        "server_name: {}\nlisten: \"{}\"\njetstream {{ store_dir: \"{}\" }}\n\
         cluster {{ name: contest, listen: \"{}\", routes: [{}] }}\n",
        server.name(),
        server.client,
        server.data.display(),
        server.peer,
        routes.join(", ")
    )
}

/// Where a program is: in the PATH, or where Debian has servers, or the file itself.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The version of a crate in the lock file of this workspace.
fn locked_version(name: &str) -> &'static str {
    let lock = include_str!("../../../Cargo.lock");
    let head = format!("name = \"{name}\"\nversion = \"");
    let rest = lock.split_once(&head).map_or("", |(_, rest)| rest);
    rest.split('"').next().unwrap_or_default()
}

/// The last commit that touches what is measured: the contest itself is none of it.
fn commit() -> Option<String> {
    const MEASURED: [&str; 5] =
        ["raft-core/src", "raft-tokio", "raft-smol", "raft-threads", "benches/kv"];
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-C", concat!(env!("CARGO_MANIFEST_DIR"), "/../..")]).args(words);
        let output = command.arg("--").args(MEASURED).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["log", "-1", "--format=%h"]).filter(|commit| !commit.is_empty())?;
    let changed = git(&["status", "--porcelain"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}, changed") })
}
