//! Faults of membership and of stores: servers that leave and come back, lose their disk, bring
//! another cluster's, or move.
//!
//! What such a server was is over: its way back is that of the manual, `REMOVE`, an empty folder,
//! `--join`, `ADD` and `PROMOTE`.

use std::thread;
use std::time::{Duration, Instant};

use kv::demo::cluster::Failure;
use kv::server::resp::Frame;
use rustix::process::Signal;

use super::run::Run;
use super::servers::{Servers, ask};

/// How long until an order that was refused is given again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// What is written so that logs are compacted beyond what a server holds that is behind.
const BALLAST: (usize, usize) = (16, 64 << 10);
/// How long a server has to install the first snapshot; its state machine is held meanwhile.
const INSTALL_WAIT: Duration = Duration::from_millis(500);

impl Run {
    /// Takes a server out, which goes on running.
    pub(super) fn remove(&mut self, id: u8) -> Result<(), Failure> {
        // Told that it is out, it may well end.
        self.servers.let_end(id, true);
        self.order_until(&["REMOVE", &id.to_string()], |suffrage| suffrage.is_none(), id)
    }

    /// Ends a server, takes all that its disk holds, and starts it with the flags that it had.
    pub(super) fn wipe(&mut self, id: u8) -> Result<(), Failure> {
        self.end(&[id], Signal::KILL)?;
        self.servers.wipe_disk(id)?;
        // Refused by the others, it may well end.
        self.servers.let_end(id, true);
        self.servers.start_server(id)
    }

    /// Ends a server, puts a store in its place that another cluster left, and starts it. The
    /// others take it out, and are asked to let it join, which they must not do.
    pub(super) fn bring_foreign_store(&mut self, id: u8) -> Result<(), Failure> {
        self.end(&[id], Signal::KILL)?;
        self.order_until(&["REMOVE", &id.to_string()], |suffrage| suffrage.is_none(), id)?;
        self.servers.wipe_disk(id)?;
        self.servers.plant_foreign_store(id, self.recovery_max)?;
        self.servers.let_end(id, true);
        self.servers.set_joins(id);
        self.servers.start_server(id)?;
        // Refused at once, or accepted as the learner that it never becomes.
        let (peer, client) = self.servers.addresses(id);
        let words = ["ADD", &id.to_string(), &peer.to_string(), &client.to_string()];
        let _ = self.servers.order(&words.map(str::to_owned));
        Ok(())
    }

    /// The way back of a server whose store is of no use.
    pub(super) fn bring_back(&mut self, id: u8) -> Result<(), Failure> {
        if self.servers.runs(id) {
            self.servers.signal(id, Signal::KILL)?;
            self.servers.wait_for_end(id, self.recovery_max)?;
        }
        let number = id.to_string();
        self.order_until(&["REMOVE", &number], |suffrage| suffrage.is_none(), id)?;
        self.servers.wipe_disk(id)?;
        self.servers.set_joins(id);
        self.servers.let_end(id, false);
        self.servers.start_server(id)?;
        let (peer, client) = self.servers.addresses(id);
        let add = ["ADD", &number, &peer.to_string(), &client.to_string()];
        self.order_until(&add, |suffrage| suffrage.is_some(), id)?;
        self.order_until(&["PROMOTE", &number], |suffrage| suffrage == Some("voter"), id)
    }

    /// A server restarts behind a snapshot of the others, is held while it restores that, and is
    /// sent a newer one meanwhile.
    pub(super) fn restore_slowly(&mut self, id: u8) -> Result<(), Failure> {
        self.end(&[id], Signal::KILL)?;
        self.compact()?;
        self.servers.hold(id)?;
        self.servers.start_server(id)?;
        self.watch_for(INSTALL_WAIT)?;
        // It sleeps while the logs are compacted again, so that entries alone do not bring it up to
        // date.
        self.servers.signal(id, Signal::STOP)?;
        let compacted = self.compact();
        self.servers.signal(id, Signal::CONT)?;
        compacted
    }

    /// Restarts one server after another with these flags, and waits for each.
    pub(super) fn restart_with(&mut self, flags: &[&str]) -> Result<(), Failure> {
        self.servers.set_flags(flags);
        for id in self.servers.ids() {
            self.end(&[id], Signal::TERM)?;
            self.servers.start_server(id)?;
            self.await_writes(&[id])?;
        }
        Ok(())
    }

    /// Writes enough, and has the servers that answer take snapshots.
    fn compact(&mut self) -> Result<(), Failure> {
        let (count, bytes) = BALLAST;
        let mut left: Vec<_> = (0..count)
            .map(|number| ["SET".to_owned(), format!("ballast-{number}"), "b".repeat(bytes)])
            .collect();
        self.until(|run| {
            let leader = run.servers.leader();
            left.retain(|set| {
                let said = leader.and_then(|leader| run.servers.ask(leader, set));
                !said.is_some_and(|said| matches!(said, Frame::SimpleString(_)))
            });
            left.is_empty()
        })?;
        for id in self.servers.ids() {
            // A server that has applied nothing new refuses.
            let _ = self.servers.ask(id, &["SNAPSHOT".to_owned()]);
        }
        Ok(())
    }

    /// Gives an order, whatever the answers are, until the members are as it says.
    fn order_until(
        &mut self,
        words: &[&str],
        done: impl Fn(Option<&str>) -> bool,
        id: u8,
    ) -> Result<(), Failure> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut said = None;
        let obeyed = self.until(|run| {
            let suffrage = run.servers.suffrage(id);
            let is_done = suffrage.is_some_and(|suffrage| done(suffrage.as_deref()));
            if !is_done {
                said = run.servers.order(&words).or(said.take());
            }
            is_done
        });
        obeyed.map_err(|failure| {
            Failure(format!("{failure}; {} was answered {said:?}", words.join(" ")))
        })
    }

    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + self.recovery_max;
        while !done(self) {
            self.watch()?;
            if Instant::now() >= deadline {
                let within = self.recovery_max;
                return Err(Failure(format!("an order was not carried out within {within:?}")));
            }
            thread::sleep(RETRY_PAUSE);
        }
        Ok(())
    }
}

impl Servers {
    /// What the leader answers; none if there is no leader, or no answer.
    pub(super) fn order(&self, words: &[String]) -> Option<Frame> {
        self.ask(self.leader()?, words)
    }

    /// What this server answers; none if it does not.
    pub(super) fn ask(&self, id: u8, words: &[String]) -> Option<Frame> {
        ask(self.client_address(id), words)
    }

    /// The suffrage of this server, as the leader says; the inner option is none if it is no
    /// member.
    fn suffrage(&self, id: u8) -> Option<Option<String>> {
        let Frame::Array(lines) = self.order(&["MEMBERS".to_owned()])? else { return None };
        let lines = lines.iter().filter_map(|line| {
            let Frame::BulkString(line) = line else { return None };
            std::str::from_utf8(line).ok()
        });
        let rows = lines.filter_map(|line| line.split_once(' '));
        let own = rows.filter(|(number, _)| *number == id.to_string()).map(|(_, rest)| rest);
        Some(own.filter_map(|rest| rest.split(' ').next()).next().map(str::to_owned))
    }
}
