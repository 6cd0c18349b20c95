//! One server of a trial, in a process of its own.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::host::{
    ClusterId, FileJournal, Identity, MessageInbox, NodeConfig, Running, Transport,
};
use raft_core::{Body, Index, Message, NodeId, Term, Wake};
use runtimes::{Log, Member};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::said::{Said, now};
use crate::setting::{On, Timing};
use crate::trial::tcp_config;

/// What is told to a server before the folder of its journal and the addresses of all; spans in
/// microseconds, no slot as 0.
pub(super) fn arguments(timing: &Timing, on: On, position: usize, seed: u64) -> Vec<String> {
    let Timing { min, max, heartbeat, rank_slot, floor: _, pre_vote } = *timing;
    let spans = [min, max, heartbeat, rank_slot.unwrap_or_default()];
    let spans = spans.map(|span| span.as_micros().to_string());
    let own = [on.name().into(), position.to_string(), seed.to_string()];
    let pre_vote = u8::from(pre_vote).to_string();
    own.into_iter().chain(spans).chain([pre_vote]).collect()
}

/// Serves with the arguments that [`Cluster::start`](super::Cluster::start) gives, until standard
/// input ends or the parent does.
///
/// # Errors
///
/// The arguments are others, or the server cannot be started.
pub fn serve(arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut arguments = arguments;
    let mut next = || arguments.next().ok_or("an argument is missing");
    let name = next()?;
    let on = On::ALL.into_iter().find(|on| on.name() == name).ok_or("no such runtime")?;
    let (position, seed): (usize, u64) = (next()?.parse()?, next()?.parse()?);
    let mut span = || Ok::<_, Box<dyn Error>>(Duration::from_micros(next()?.parse()?));
    let (min, max, heartbeat, slot) = (span()?, span()?, span()?, span()?);
    let rank_slot = (!slot.is_zero()).then_some(slot);
    let pre_vote = next()? != "0";
    let timing = Timing { min, max, heartbeat, rank_slot, floor: None, pre_vote };
    let folder = PathBuf::from(next()?);
    let addresses =
        arguments.map(|address| address.parse::<SocketAddr>()).collect::<Result<Vec<_>, _>>()?;

    let id = |position: usize| NodeId::new(position as u64 + 1);
    let (cluster, node) = (ClusterId::new(7), id(position));
    let runtime = on.start()?;
    let listener = TcpListener::bind(*addresses.get(position).ok_or("no address")?)?;
    let peers = addresses.iter().enumerate();
    let peers: Vec<_> =
        peers.map(|(position, address)| (id(position), address.to_string())).collect();
    let config = timing.config(node, peers.len());
    let config = NodeConfig { seed: Some(seed), ..NodeConfig::new(cluster, config) };
    let (transport, _) = runtime.tcp(node, listener, peers, tcp_config())?;
    let (teller, said) = mpsc::channel();
    let watched = Watched::new(transport, teller.clone());
    let journal = Box::new(FileJournal::open(folder, cluster, node)?);
    let member = runtime.start(config, Log::new(false).0, journal, Box::new(watched))?;
    thread::spawn(move || {
        let mut out = io::stdout().lock();
        // A receiver that is gone has ended.
        said.into_iter().try_for_each(|said: Said| writeln!(out, "{said}"))
    });
    for line in io::stdin().lock().lines() {
        line?;
        teller.send(knows(&*member))?;
    }
    Ok(())
}

fn knows(member: &dyn Member) -> Said {
    let known = member.leadership().current();
    let status = member.status().wait("a status").ok();
    let deadline = status.and_then(|status| match status.raft.wake {
        Some((_, Wake::Election)) => status.wakes_at,
        _ => None,
    });
    // Both clocks run alike.
    let span = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let deadline = span.map(|span| now() + u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    Said::Now { term: known.term.get(), leader: known.leader.map(NodeId::get), deadline }
}

/// A transport that tells what passes, once an election is over.
struct Watched {
    transport: Box<dyn Transport>,
    teller: Sender<Said>,
    /// What happened since the last election was over.
    news: Vec<Said>,
    /// Whether the election is over for this server: it has committed, or follows a leader.
    is_over: bool,
    campaign: Option<u64>,
    asked: Term,
    leads: Option<(Term, Index)>,
    committed: Term,
}

impl Watched {
    fn new(transport: Box<dyn Transport>, teller: Sender<Said>) -> Self {
        Self {
            transport,
            teller,
            news: vec![],
            is_over: false,
            campaign: None,
            asked: Term::ZERO,
            leads: None,
            committed: Term::ZERO,
        }
    }

    fn note(&mut self, message: &Message<Bytes>) {
        let at = now();
        let term = message.term.get();
        if let Body::RequestPreVote(request) = &message.body {
            let before = self.campaign.replace(request.campaign);
            if before != Some(request.campaign) {
                self.news.push(Said::Stood { at });
            }
        }
        if matches!(message.body, Body::RequestVote(_)) && self.asked < message.term {
            self.asked = message.term;
            self.news.push(Said::Asked { term, at });
        }
        self.is_over |= matches!(message.body, Body::AppendEntriesReply(_));
        if let Body::AppendEntries(append) = &message.body {
            if self.leads.is_none_or(|(leads, _)| leads < message.term) {
                self.leads = Some((message.term, append.prev_log.index.next()));
                self.news.push(Said::Leads { term, at });
            }
            let commits = self.leads.is_some_and(|(_, first)| append.leader_commit >= first);
            if commits && self.committed < message.term {
                self.committed = message.term;
                self.is_over = true;
                self.news.push(Said::Committed { term, at });
            }
        }
    }
}

impl Transport for Watched {
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        self.transport.start(identity, inbox)
    }

    fn send(&mut self, message: Message<Bytes>) {
        self.note(&message);
        self.transport.send(message);
    }

    fn message_bytes_max(&self) -> usize {
        self.transport.message_bytes_max()
    }

    fn flush(&mut self) {
        self.transport.flush();
        // Until then the cluster needs the processors that it would take to write and read this.
        if !mem::take(&mut self.is_over) {
            return;
        }
        for said in self.news.drain(..) {
            // At the end there is no receiver.
            let _ = self.teller.send(said);
        }
    }

    fn stop(&mut self, running: Running) {
        self.transport.stop(running);
    }
}
