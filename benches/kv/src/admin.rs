//! The command line of operators: each order is a
//! [command of the Redis protocol](crate::server::operation), brought to the server that can carry
//! it out, and its answer for people.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use raft_core::NodeId;
use raft_core::host::{ClusterId, FileJournal};

use crate::address::address;
use crate::ask::{Asked, RETRY_PAUSE, ask, ask_once, connect};
use crate::backup::{self, BackupFlags};
use crate::demo::cluster::Failure;
use crate::server::resp::Frame;

/// How long a server has to say why nothing moves: it may be what hangs.
const WHY_WAIT_MAX: Duration = Duration::from_secs(3);
/// How often one is told what an order waits for, unless that changes.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

/// What an operator orders.
#[derive(Subcommand, Debug)]
pub enum Order {
    /// Lists the members, and the leader
    Members(At),
    /// Tells what a server knows about itself
    Status(At),
    /// Tells why nothing moves, as this server and all members know it
    Why(At),
    /// Lets a server join: as a learner, and as a voter once it has caught up
    Add(AddFlags),
    /// Makes a learner a voter, once it has caught up
    Promote(PromoteFlags),
    /// Corrects where a member is reached. Servers say themselves where they are, so this is seldom
    /// needed
    Relabel(RelabelFlags),
    /// Puts a version of the commands in force, once every server runs a program that knows it.
    /// No version is taken back
    Raise(RaiseFlags),
    /// Takes a member out; stop it afterwards
    Remove(RemoveFlags),
    /// Hands leadership over
    Transfer(TransferFlags),
    /// Has a server write a snapshot now, and compact its log
    Snapshot(At),
    /// Takes a backup of the running cluster into a file, from any server; or checks one
    Backup(BackupFlags),
}

/// Whom to ask.
#[derive(Args, Clone, Debug)]
pub struct At {
    /// A server's address for clients. Any member will do: what only the leader can do is brought
    /// there
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    server: String,
}

/// The flags of `kv add`.
#[derive(Args, Debug)]
pub struct AddFlags {
    /// The number of the new server, which no other ever had
    id: u64,
    /// Where it listens for the other servers
    #[arg(value_parser = address)]
    address: String,
    /// Where it listens for clients
    #[arg(value_parser = address)]
    client_address: String,
    /// Leave it a learner: it is sent everything, and does not vote
    #[arg(long)]
    learner: bool,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    at: At,
}

/// The flags of `kv promote`.
#[derive(Args, Debug)]
pub struct PromoteFlags {
    /// The learner
    id: u64,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    at: At,
}

/// The flags of `kv relabel`.
#[derive(Args, Debug)]
pub struct RelabelFlags {
    /// The member
    id: u64,
    /// Where it listens for the other servers
    #[arg(value_parser = address)]
    address: String,
    /// Where it listens for clients
    #[arg(value_parser = address)]
    client_address: String,
    #[command(flatten)]
    at: At,
}

/// The flags of `kv raise`.
#[derive(Args, Debug)]
pub struct RaiseFlags {
    /// The version
    version: u32,
    #[command(flatten)]
    at: At,
}

/// The flags of `kv remove`.
#[derive(Args, Debug)]
pub struct RemoveFlags {
    /// The member
    id: u64,
    #[command(flatten)]
    at: At,
}

/// The flags of `kv transfer`.
#[derive(Args, Debug)]
pub struct TransferFlags {
    /// The next leader [default: the voter that is furthest]
    id: Option<u64>,
    #[command(flatten)]
    at: At,
}

/// How long to wait for a learner.
#[derive(Args, Clone, Copy, Debug)]
struct Within {
    /// How long the server may take to catch up, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    within: u64,
}

/// The flags of `kv restore-from-survivor`.
#[derive(Args, Debug)]
pub struct SurvivorFlags {
    /// The folder of the survivor's journal
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The survivor's number
    #[arg(long, value_name = "N")]
    id: u64,
    /// The cluster's number
    #[arg(long, value_name = "N", default_value_t = 1)]
    cluster: u64,
    /// Yes: acknowledged writes may be lost, and no other server will run again with its old
    /// journal
    #[arg(long)]
    yes: bool,
}

/// Carries out an order, and prints what came of it.
///
/// # Errors
///
/// The order was refused, or no server could be reached; the text says what to do.
pub fn run(order: Order) -> Result<(), Failure> {
    match order {
        Order::Members(at) => tell_members(&ask(&at.server, &["MEMBERS"])?),
        Order::Status(at) => tell(&ask(&at.server, &["STATUS"])?),
        Order::Why(at) => tell_why(&at.server)?,
        Order::Backup(flags) => backup::back_up(&flags)?,
        Order::Snapshot(at) => tell(&ask(&at.server, &["SNAPSHOT"])?),
        Order::Relabel(RelabelFlags { id, address, client_address, at }) => {
            tell(&ask(&at.server, &["RELABEL", &id.to_string(), &address, &client_address])?);
        }
        Order::Raise(RaiseFlags { version, at }) => {
            tell(&ask(&at.server, &["RAISE", &version.to_string()])?);
        }
        Order::Remove(RemoveFlags { id, at }) => {
            tell(&ask(&at.server, &["REMOVE", &id.to_string()])?);
            println!("server {id} is no member any more: stop it, if it runs");
        }
        Order::Transfer(TransferFlags { id, at }) => {
            let id = id.map(|id| id.to_string());
            let words: Vec<_> = std::iter::once("TRANSFER").chain(id.as_deref()).collect();
            tell(&ask(&at.server, &words)?);
        }
        Order::Promote(PromoteFlags { id, within, at }) => promote(&at, id, within)?,
        Order::Add(flags) => {
            let AddFlags { id, address, client_address, learner, within, at } = flags;
            let words = ["ADD", &id.to_string(), &address, &client_address];
            let added = ask(&at.server, &words).map_err(|failure| {
                let hint = format!("if server {id} is a learner already: kv promote {id}");
                Failure(format!("{failure}; {hint}"))
            });
            tell(&added?);
            println!("server {id} is a learner");
            if !learner {
                promote(&at, id, within)?;
            }
        }
    }
    Ok(())
}

/// Makes a cluster of one from what a survivor has on disk.
///
/// # Errors
///
/// The operator did not say yes, or the journal cannot be used; then nothing was changed.
pub fn restore_from_survivor(flags: &SurvivorFlags) -> Result<(), Failure> {
    let SurvivorFlags { data, id, cluster, yes } = flags;
    println!("Server {id} in {} becomes the only voter of cluster {cluster}.", data.display());
    println!("  Writes that only the lost servers had are LOST, although they were acknowledged.");
    println!(
        "  No other server of this cluster may EVER run again with its old journal: empty their folders."
    );
    println!("  If a majority of the voters can be brought back, do that instead.");
    if !yes {
        return Err(Failure("nothing was changed: say --yes if that is what you want".into()));
    }
    let restored =
        FileJournal::restore_from_survivor(data, ClusterId::new(*cluster), NodeId::new(*id));
    let survivor = restored.map_err(|e| Failure(e.to_string()))?;
    let before: Vec<_> =
        survivor.members_before.members().iter().map(|member| member.id.to_string()).collect();
    println!("\nDone. All up to entry {} is kept.", survivor.last_log.index);
    println!(
        "Members were: {}. Start server {id} as before; then let new ones join.",
        before.join(", ")
    );
    Ok(())
}

/// Asks until the learner has caught up.
fn promote(at: &At, id: u64, within: Within) -> Result<(), Failure> {
    let began = Instant::now();
    let span = Duration::from_secs(within.within);
    let id = id.to_string();
    let mut told: Option<(String, Instant)> = None;
    loop {
        let waits = match ask_once(&at.server, &["PROMOTE", &id])? {
            Asked::Answered(answer) => {
                tell(&answer);
                println!(
                    "server {id} is a voter, {:.1} s after it was asked for",
                    began.elapsed().as_secs_f64()
                );
                return Ok(());
            }
            Asked::Later(why) => why,
        };
        if began.elapsed() >= span {
            return Err(Failure(format!(
                "{waits}. It stays a learner; when it has caught up: kv promote {id}"
            )));
        }
        let is_news = told.as_ref().is_none_or(|(_, at)| at.elapsed() >= TELL_INTERVAL);
        if is_news {
            println!("waiting: {waits}");
            told = Some((waits, Instant::now()));
        }
        thread::sleep(RETRY_PAUSE);
    }
}

fn tell(answer: &Frame) {
    lines(answer).for_each(|line| println!("{line}"));
}

/// What each member finds. A server that waits to be added knows none, and answers for itself.
fn tell_why(server: &str) -> Result<(), Failure> {
    let no_answer = |e| {
        Failure(format!(
            "{server} does not answer ({e}): does it run, and is that its address for clients?"
        ))
    };
    let members = ask_why(server, "MEMBERS").map_err(no_answer)?;
    let members: Vec<_> = lines(&members).collect();
    if members.is_empty() {
        let found = ask_why(server, "WHY").map_err(no_answer)?;
        tell(&found);
    }
    for member in members {
        let mut words = member.split(' ');
        let (id, client) = (words.next().unwrap_or_default(), words.nth(2).unwrap_or_default());
        match ask_why(client, "WHY") {
            Ok(found) => lines(&found).for_each(|line| println!("server {id}: {line}")),
            Err(e) => println!("server {id}: it does not answer at {client}: {e}"),
        }
    }
    Ok(())
}

/// What this server answers, unless that is an error.
fn ask_why(server: &str, word: &'static str) -> io::Result<Frame> {
    let mut client = connect(server)?;
    client.set_answer_wait(WHY_WAIT_MAX)?;
    let answer = client.call([word])?;
    if let Frame::Error(text) = &answer {
        return Err(io::Error::other(text.to_string()));
    }
    Ok(answer)
}

/// A table of the members.
fn tell_members(answer: &Frame) {
    let header = ["ID", "SEAT", "ADDRESS", "CLIENTS", ""].map(str::to_owned);
    let row = |line: String| {
        let mut words = line.split(' ').map(str::to_owned);
        std::array::from_fn(|_| words.next().unwrap_or_default())
    };
    let rows: Vec<[String; 5]> = std::iter::once(header).chain(lines(answer).map(row)).collect();
    if rows.len() == 1 {
        println!("this server knows no members: it waits to be added");
        return;
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn lines(answer: &Frame) -> impl Iterator<Item = String> {
    let elements = if let Frame::Array(elements) = answer {
        elements.as_slice()
    } else {
        std::slice::from_ref(answer)
    };
    elements.iter().map(|element| Line(element).to_string())
}

/// A reply as people read it.
struct Line<'a>(&'a Frame);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Frame::BulkString(text) | Frame::SimpleString(text) => {
                f.write_str(&String::from_utf8_lossy(text))
            }
            Frame::Error(text) => f.write_str(text),
            Frame::Integer(number) => number.fmt(f),
            Frame::Null => f.write_str("nothing"),
            Frame::Array(_) => f.write_str("a list"),
        }
    }
}
