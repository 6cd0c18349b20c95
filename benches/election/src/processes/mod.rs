//! The same trials with a process for each server, which signals of the operating system befall:
//! SIGKILL, and SIGSTOP, after which a process does nothing and keeps its connections.
//!
//! Each server says on its standard output when it stood, led and committed, by the clock that all
//! processes of a machine share (CLOCK_MONOTONIC). Journals are files with fdatasync, and messages
//! travel by TCP on the loopback.

mod said;
mod server;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::quiet::Quiet;
use super::setting::{Failure, On, Setting};
use super::trial::Outcome;
use said::{Said, now};
pub use server::serve;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between questions to a cluster that is to settle.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// After the first commit: what others have to say of the same election.
const STRAGGLERS_WAIT: Duration = Duration::from_millis(5);

/// So many heartbeats pass before the leader fails: every follower has heard its rank.
const HEARTBEATS: u32 = 2;

/// Clusters so far: each has an address of its own, so that no connection of another takes a port
/// that a killed server had.
static CLUSTERS: AtomicU16 = AtomicU16::new(1);

/// A cluster of processes, in which trials take place one after the other.
pub struct Cluster {
    servers: Vec<Server>,
    said: Receiver<(usize, Said)>,
    teller: Sender<(usize, Said)>,
    addresses: Vec<SocketAddr>,
    /// Journals.
    folder: TempDir,
    program: PathBuf,
    setting: Setting,
    on: On,
    seed: u64,
    quiet: Quiet,
}

struct Server {
    process: Child,
    input: ChildStdin,
}

impl Cluster {
    /// Starts all servers: processes of this program, which hands what follows its argument `serve`
    /// to [`serve`].
    ///
    /// # Errors
    ///
    /// The program cannot be started, or no ports or files are left.
    pub fn start(
        program: &Path,
        setting: Setting,
        on: On,
        seed: u64,
        quiet: &Quiet,
    ) -> io::Result<Self> {
        let noise = quiet.make_noise();
        let [high, low] = CLUSTERS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let bind = |_| TcpListener::bind((Ipv4Addr::new(127, 77, high, low), 0));
        let listeners = (0..setting.servers).map(bind).collect::<io::Result<Vec<_>>>()?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        drop(listeners);
        let (teller, said) = mpsc::channel();
        let mut cluster = Self {
            servers: vec![],
            said,
            teller,
            addresses,
            folder: tempfile::tempdir()?,
            program: program.into(),
            setting,
            on,
            seed,
            quiet: quiet.clone(),
        };
        for position in 0..setting.servers {
            let server = cluster.start_server(position)?;
            cluster.servers.push(server);
        }
        cluster.await_answers()?;
        drop(noise);
        Ok(cluster)
    }

    /// The leader's process is given the signal, and another server is elected. Afterwards all
    /// servers are back.
    ///
    /// # Errors
    ///
    /// No leader came, or a process ended that was to live.
    pub fn fail_leader(&mut self, phase: Duration) -> io::Result<Outcome> {
        let (leader, term) = self.settle()?;
        let heartbeat = self.setting.timing.heartbeat;
        let quiet = self.quiet.clone();
        let at = Instant::now() + heartbeat * HEARTBEATS + phase;
        let measuring = quiet.measure_at(at, heartbeat);
        self.said.try_iter().for_each(drop);
        let is_stop = self.setting.failure == Failure::Sigstop;
        let signal = if is_stop { Signal::STOP } else { Signal::KILL };
        let pid = Pid::from_child(&self.servers[leader].process);
        let failed_at = now();
        kill_process(pid, signal)?;
        if is_stop {
            // Whose connections are closed begins at once, and a question would come into the
            // middle.
            self.ask(Some(leader))?;
        }
        let heard = self.hear_election(term)?;
        drop(measuring);

        if is_stop {
            kill_process(pid, Signal::CONT)?;
        } else {
            let _noise = quiet.make_noise();
            self.servers[leader].process.wait()?;
            self.servers[leader] = self.start_server(leader)?;
            self.await_answers()?;
        }
        outcome(failed_at, term, &heard).ok_or_else(|| io::Error::other(format!("{heard:?}")))
    }

    /// All that is said until somebody has committed an entry of a later term than this, and a
    /// little longer.
    fn hear_election(&self, term: u64) -> io::Result<Vec<Said>> {
        let mut heard = Vec::new();
        let mut until = Instant::now() + PATIENCE;
        let mut committed = false;
        loop {
            let patience = until.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(patience) {
                Ok((_, said)) => {
                    let commits = matches!(said, Said::Committed { term: its, .. } if its > term);
                    if commits && !committed {
                        (committed, until) = (true, Instant::now() + STRAGGLERS_WAIT);
                    }
                    heard.push(said);
                }
                Err(RecvTimeoutError::Timeout) if committed => return Ok(heard),
                Err(_) => {
                    let error = format!("no leader came: {heard:?}");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, error));
                }
            }
        }
    }

    /// Waits until one leads and all know it; its position and term.
    fn settle(&mut self) -> io::Result<(usize, u64)> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let known = self.await_answers()?;
            let (term, leader) = known[0];
            let agreed = known.iter().all(|one| *one == known[0]);
            if let (true, Some(leader)) = (agreed, leader) {
                return Ok((leader as usize - 1, term));
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the cluster did not settle"))
    }

    /// Each server's term and the leader that it knows, once all can say.
    fn await_answers(&mut self) -> io::Result<Vec<(u64, Option<u64>)>> {
        self.ask(None)?;
        let mut known = vec![None; self.servers.len()];
        let until = Instant::now() + PATIENCE;
        while known.contains(&None) {
            let patience = until.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(patience) {
                Ok((position, Said::Now { term, leader, .. })) => {
                    known[position] = Some((term, leader));
                }
                Ok(_) => {}
                Err(_) => {
                    let error = format!("servers do not answer: {known:?}");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, error));
                }
            }
        }
        Ok(known.into_iter().flatten().collect())
    }

    /// Asks all servers but one what they know.
    fn ask(&mut self, but: Option<usize>) -> io::Result<()> {
        let servers = self.servers.iter_mut().enumerate();
        let mut asked = servers.filter(|(position, _)| Some(*position) != but);
        asked.try_for_each(|(_, server)| server.input.write_all(b"\n"))
    }

    fn start_server(&self, position: usize) -> io::Result<Server> {
        let mut process = Command::new(&self.program)
            .arg("serve")
            .args(server::arguments(&self.setting.timing, self.on, position, self.seed))
            .arg(self.folder.path().join(position.to_string()))
            .args(self.addresses.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::Error::other("a process without pipes"));
        };
        let teller = self.teller.clone();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            let said = lines.filter_map(|line| line.parse().ok());
            // Ends with the process, or when the receiver is gone.
            said.map(|said| (position, said)).try_for_each(|said| teller.send(said))
        });
        Ok(Server { process, input })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let quiet = self.quiet.clone();
        let _noise = quiet.make_noise();
        for server in &mut self.servers {
            // It may have ended.
            let _ = server.process.kill();
            let _ = server.process.wait();
        }
    }
}

/// What the servers said of the election of a later term than this, taken apart.
fn outcome(failed_at: u64, after: u64, heard: &[Said]) -> Option<Outcome> {
    let (mut stood, mut asked, mut leads, mut committed, mut deadline) =
        (None, None, None, None, None);
    for said in heard {
        match *said {
            Said::Stood { at } if at >= failed_at => keep_least(&mut stood, at),
            Said::Asked { term, at } if term > after => {
                keep_least(&mut stood, at);
                keep_least(&mut asked, term);
            }
            Said::Leads { term, at } if term > after => keep_least(&mut leads, (at, term)),
            Said::Committed { term, at } if term > after => keep_least(&mut committed, at),
            Said::Now { deadline: Some(at), .. } => keep_least(&mut deadline, at),
            Said::Stood { .. }
            | Said::Asked { .. }
            | Said::Leads { .. }
            | Said::Committed { .. }
            | Said::Now { .. } => {}
        }
    }
    let ((leads_at, led), committed) = leads.zip(committed)?;
    let stood = stood.unwrap_or(leads_at);
    let deadline = deadline.map_or(stood, |deadline| deadline.min(stood)).max(failed_at);
    let span = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
    Some(Outcome {
        detection: span(failed_at, deadline),
        slop: span(deadline, stood),
        election: span(stood, committed),
        downtime: span(failed_at, committed),
        until_leading: span(stood, leads_at),
        // Not told.
        until_known: span(stood, committed),
        split: asked.is_some_and(|asked| asked < led),
        messages: 0,
        bytes: 0,
        unanswered: 0,
    })
}

fn keep_least<T: Ord>(least: &mut Option<T>, value: T) {
    if least.as_ref().is_none_or(|least| value < *least) {
        *least = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_election_is_taken_apart() {
        let now = |deadline| Said::Now { term: 4, leader: Some(1), deadline };
        let heard = [
            now(Some(5_000)),
            now(Some(3_000)),
            now(None),
            Said::Stood { at: 900 },
            Said::Stood { at: 3_100 },
            Said::Asked { term: 5, at: 3_200 },
            Said::Asked { term: 6, at: 3_900 },
            Said::Leads { term: 6, at: 4_000 },
            Said::Committed { term: 6, at: 4_500 },
        ];
        let outcome = outcome(1_000, 4, &heard).unwrap();
        let Outcome { detection, slop, election, downtime, until_leading, split, .. } = outcome;
        let spans = [detection, slop, election, downtime, until_leading];
        assert_eq!(spans.map(|span| span.as_nanos()), [2_000, 100, 1_400, 3_500, 900]);
        assert!(split);
        assert!(super::outcome(1_000, 6, &heard).is_none());
    }
}
