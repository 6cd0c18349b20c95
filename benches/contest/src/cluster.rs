//! The server processes of one contestant.
//!
//! Whatever ends this program, none of them stays: they are killed when the [`Cluster`] is dropped,
//! and by the kernel when this process dies. Each is a group of its own, so Ctrl-C reaches this
//! program alone.

use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

use crate::clients::{self, Answer, Connection};
use crate::contestants::{Contestant, Timing};
use crate::layout::Layout;
use crate::namespaces::Namespaces;

/// How long anything may take that must come, such as a leader. Generous: it ends what would hang.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one question to a server may take.
const QUESTION_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a server that is told to stop may take.
const STOP_WAIT_MAX: Duration = Duration::from_secs(20);
/// How often is looked for what must come.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How many lines of a server's log are shown when it fails.
const LOG_LINES_SHOWN: usize = 8;

/// Servers that run.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) contestant: Contestant,
    timing: Timing,
    /// Dropped first: no process outlives its folder and host.
    processes: Vec<Option<Process>>,
    pub(crate) layout: Layout,
    pub(crate) hosts: Option<Namespaces>,
}

/// Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cluster {
    /// Starts all servers, and waits until they serve.
    pub(crate) async fn start(
        contestant: Contestant,
        timing: Timing,
        hosts: Option<Namespaces>,
    ) -> io::Result<Self> {
        let layout = Layout::new(contestant.servers(), hosts.as_ref())?;
        let processes = layout.servers.iter().map(|_| None).collect();
        let mut cluster = Self { contestant, timing, processes, layout, hosts };
        for server in 0..cluster.layout.servers.len() {
            cluster.start_server(server)?;
        }
        let protocol = contestant.protocol();
        let first = cluster.layout.servers[0].client;
        cluster.wait("the first write", async || clients::prepare(protocol, first).await).await?;
        cluster.settle().await?;
        Ok(cluster)
    }

    pub(crate) fn start_server(&mut self, server: usize) -> io::Result<()> {
        let place = &self.layout.servers[server];
        let words = self.contestant.command(&self.layout, place, self.timing)?;
        let log = File::options().create(true).append(true).open(&place.log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("child").arg(std::process::id().to_string());
        command.arg(self.hosts.as_ref().map_or(String::new(), |hosts| hosts.name(place.id)));
        command.args(words).process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        self.processes[server] = Some(Process(command.spawn()?));
        Ok(())
    }

    /// Waits until every server brings a write about, its own or by way of the leader.
    pub(crate) async fn settle(&self) -> io::Result<()> {
        let protocol = self.contestant.protocol();
        for server in &self.layout.servers {
            self.wait("a write", async || {
                let mut connection = Connection::open(protocol, server.client).await?;
                match connection.write(server.id).await? {
                    Answer::Acknowledged | Answer::Moved(_) => Ok(()),
                    Answer::Refused(why) => Err(io::Error::other(why)),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Which server leads, once one alone says so: one that was stopped or cut off may not know yet
    /// that it was replaced.
    pub(crate) async fn leader(&self) -> io::Result<usize> {
        let protocol = self.contestant.protocol();
        self.wait("one leader", async || {
            let mut leader = None;
            for (position, server) in self.layout.servers.iter().enumerate() {
                let leads = clients::leads(protocol, server.client, &server.name()).await?;
                if leads && leader.replace(position).is_some() {
                    return Err(io::Error::other("two servers say that they lead"));
                }
            }
            leader.ok_or_else(|| io::Error::other("no server says that it leads"))
        })
        .await
    }

    async fn wait<T, F: Future<Output = io::Result<T>>>(
        &self,
        what: &str,
        mut look: impl FnMut() -> F,
    ) -> io::Result<T> {
        let until = Instant::now() + PATIENCE;
        loop {
            let late = |_| Err(io::ErrorKind::TimedOut.into());
            let error = match timeout(QUESTION_WAIT_MAX, look()).await.unwrap_or_else(late) {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            if Instant::now() > until {
                let name = self.contestant.name;
                let text = format!("{name}: waited {PATIENCE:?} in vain for {what}: {error}");
                return Err(io::Error::other(text + &self.last_words()));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    fn last_words(&self) -> String {
        let mut text = String::new();
        for server in &self.layout.servers {
            let log = fs::read(&server.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<_> = log.lines().collect();
            text += &format!("\n  the last that server {} said:", server.id);
            for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
                text += &format!("\n    {line}");
            }
        }
        text
    }

    pub(crate) fn process_ids(&self) -> Vec<u32> {
        self.processes.iter().flatten().map(|process| process.0.id()).collect()
    }

    /// The processor time of all servers so far.
    pub(crate) fn processor_time(&self) -> Duration {
        self.process_ids().into_iter().filter_map(processor_time).sum()
    }

    /// SIGKILL, and the process is gone.
    pub(crate) fn kill(&mut self, server: usize) {
        self.processes[server] = None;
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, server: usize, signal: Signal) -> io::Result<()> {
        let process = self.processes[server].as_ref().ok_or(io::ErrorKind::NotFound)?;
        let process = i32::try_from(process.0.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(process.ok_or(io::ErrorKind::NotFound)?, signal)?)
    }

    /// Waits until a server that was told to stop has ended.
    pub(crate) async fn wait_for_end(&mut self, server: usize) -> io::Result<()> {
        let Some(mut process) = self.processes[server].take() else { return Ok(()) };
        let until = Instant::now() + STOP_WAIT_MAX;
        while process.0.try_wait()?.is_none() {
            if Instant::now() > until {
                let name = self.contestant.name;
                return Err(io::Error::other(format!("{name} does not end by SIGTERM")));
            }
            sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }
}

/// What becomes of this process when it is started as a server: it moves to its host, is bound to
/// its parent's life, and becomes the server.
pub(crate) fn become_server(words: &[String]) -> io::Error {
    let [parent, host, program, arguments @ ..] = words else {
        return io::ErrorKind::InvalidInput.into();
    };
    let prepare = || {
        if !host.is_empty() {
            crate::namespaces::enter_by_name(host)?;
        }
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the kernel knew.
        let lives = rustix::process::getppid().map(|pid| pid.to_string()).as_ref() == Some(parent);
        if lives { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe)) }
    };
    match prepare() {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(e) => e,
    }
}

/// What a process has used, from the kernel's table: hundredths of a second.
fn processor_time(process: u32) -> Option<Duration> {
    let stat =
        fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")).ok()?;
    // Behind the name, which may contain anything, come the state and so on.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = ticks(11)? + ticks(12)?;
    Some(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}
