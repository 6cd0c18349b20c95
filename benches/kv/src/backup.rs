//! The command line of operators for backups: taken from a server, checked, and restored as the
//! first servers of a new cluster.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use raft_core::host::{BackupSummary, ClusterId, FileJournal};
use raft_core::{Membership, NodeId};
use tempfile::NamedTempFile;

use crate::address::address;
use crate::ask::{RETRY_PAUSE, connect};
use crate::client::Client;
use crate::demo::cluster::Failure;
use crate::server::resp::{Frame, TRY_AGAIN};

/// The flags of `kv backup`.
#[derive(Args, Debug)]
pub struct BackupFlags {
    /// A server's address for clients. Any member will do, also a follower or a learner
    #[arg(long, value_name = "HOST:PORT", value_parser = address, required_unless_present = "check", requires = "out")]
    server: Option<String>,
    /// The file to write; it gets its name once it is whole
    #[arg(long, value_name = "FILE", requires = "server")]
    out: Option<PathBuf>,
    /// Take what this server has applied, without asking a leader: when there is no quorum. It may
    /// lack what other servers have acknowledged
    #[arg(long, requires = "server")]
    local: bool,
    /// How long to wait for a leader, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    within: u64,
    /// Replace the file if there is one
    #[arg(long, requires = "out")]
    replace: bool,
    /// Read this backup to its end, and tell what it is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "out", "local", "replace"])]
    check: Option<PathBuf>,
}

/// The flags of `kv restore`.
#[derive(Args, Debug)]
pub struct RestoreFlags {
    /// The backup; the same for each server of the new cluster
    #[arg(long, value_name = "FILE")]
    backup: PathBuf,
    /// The folder of this server's journal: empty, or absent
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The number of the new cluster, which no cluster had before
    #[arg(long, value_name = "N")]
    cluster: u64,
    /// This server's number, one of the voters
    #[arg(long, value_name = "N")]
    id: u64,
    /// The servers with which the new cluster begins; the same for each of them
    #[arg(long, value_name = "N,...", value_delimiter = ',', required = true)]
    voters: Vec<u64>,
}

/// Takes a backup into a file, or checks one.
///
/// # Errors
///
/// There is no backup, or the file is none; the text says what to do. No file of that name was made
/// or changed then.
pub fn back_up(flags: &BackupFlags) -> Result<(), Failure> {
    if let Some(file) = &flags.check {
        tell(&check(file)?);
        return Ok(());
    }
    let (Some(server), Some(out)) = (&flags.server, &flags.out) else {
        return Err(Failure("--server and --out, or --check".into()));
    };
    if out.exists() && !flags.replace {
        return Err(already_there(out));
    }
    let cannot = |e| Failure(format!("{} cannot be written: {e}", out.display()));
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let unfinished = tempfile::Builder::new().prefix(".kv-backup-").tempfile_in(folder);
    let unfinished = unfinished.map_err(cannot)?;
    fetch(server, flags, &unfinished)?;
    unfinished.as_file().sync_all().map_err(cannot)?;
    // What the disk gives back is what counts.
    let summary = check(unfinished.path())?;
    keep(unfinished, out, flags.replace)?;
    // The name is durable with the folder. Systems that cannot open a folder do without.
    if let Ok(folder) = File::open(folder) {
        folder.sync_all().map_err(cannot)?;
    }
    println!("{} is written", out.display());
    tell(&summary);
    Ok(())
}

/// Makes a server of a new cluster of a backup.
///
/// # Errors
///
/// The backup was not restored; the text says what to do.
pub fn restore(flags: &RestoreFlags) -> Result<(), Failure> {
    let RestoreFlags { backup, data, cluster, id, voters } = flags;
    let voters = voters.iter().copied().map(NodeId::new);
    let (number, node) = (ClusterId::new(*cluster), NodeId::new(*id));
    let restored = FileJournal::restore_from_backup(data, number, node, voters, open(backup)?);
    let restored = restored.map_err(|e| Failure(e.to_string()))?;
    tell(&restored.backup);
    let identity = identity(&restored.membership);
    println!("\nrestored in {} as server {id} of cluster {cluster}", data.display());
    println!(
        "  voters {}, identity {identity}, the same on each of them",
        ids(&restored.membership)
    );
    let others = restored.membership.voters().filter(|voter| *voter != node);
    let others: Vec<_> = others.map(|voter| voter.to_string()).collect();
    if !others.is_empty() {
        println!(
            "  restore voters {} from the same file before you start the first",
            others.join(", ")
        );
    }
    println!(
        "  start it: kv serve --id {id} --cluster {cluster} --data {}, and the rest as before",
        data.display()
    );
    Ok(())
}

/// Writes the backup of this server into the file.
fn fetch(server: &str, flags: &BackupFlags, file: &NamedTempFile) -> Result<(), Failure> {
    let no_answer = |e| {
        Failure(format!(
            "{server} does not answer ({e}): does it run, and is that its address for clients?"
        ))
    };
    let mut client = connect(server).map_err(no_answer)?;
    begin(&mut client, flags, no_answer)?;
    let mut out = BufWriter::new(file.as_file());
    loop {
        let answer = client.call(["BACKUP", "NEXT"]).map_err(no_answer)?;
        let Frame::BulkString(chunk) = answer else { return Err(not_a_backup(&answer)) };
        if chunk.is_empty() {
            break;
        }
        out.write_all(&chunk).map_err(cannot_write)?;
    }
    out.flush().map_err(cannot_write)
}

/// Begins a backup, and waits a while for a leader if one is needed.
fn begin(
    client: &mut Client,
    &BackupFlags { local, within, .. }: &BackupFlags,
    no_answer: impl Fn(std::io::Error) -> Failure,
) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(within);
    let words = ["BACKUP"].into_iter().chain(local.then_some("LOCAL"));
    loop {
        let answer = client.call(words.clone().map(Bytes::from)).map_err(&no_answer)?;
        let Frame::Error(text) = &answer else { return Ok(()) };
        match text.split_once(' ') {
            Some((TRY_AGAIN, _)) if Instant::now() < deadline => thread::sleep(RETRY_PAUSE),
            Some((TRY_AGAIN, why)) if !local => {
                return Err(Failure(format!("{why}: kv backup --local")));
            }
            Some((TRY_AGAIN, why)) => return Err(Failure(why.to_owned())),
            Some(_) | None => return Err(not_a_backup(&answer)),
        }
    }
}

fn not_a_backup(answer: &Frame) -> Failure {
    match answer {
        Frame::Error(text) => {
            let why = text.strip_prefix("ERR ").unwrap_or(text);
            Failure(format!("no backup was written: {why}"))
        }
        Frame::BulkString(_)
        | Frame::SimpleString(_)
        | Frame::Integer(_)
        | Frame::Null
        | Frame::Array(_) => Failure("no backup was written: that is no server of kv".into()),
    }
}

fn cannot_write(e: std::io::Error) -> Failure {
    Failure(format!("the backup cannot be written: {e}; nothing was replaced"))
}

/// Gives the file its name.
fn keep(unfinished: NamedTempFile, out: &Path, replace: bool) -> Result<(), Failure> {
    let kept = if replace { unfinished.persist(out) } else { unfinished.persist_noclobber(out) };
    match kept {
        Ok(_) => Ok(()),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Err(already_there(out)),
        Err(e) => Err(cannot_write(e.error)),
    }
}

fn already_there(out: &Path) -> Failure {
    let out = out.display();
    Failure(format!("{out} is there already: choose another name, or say --replace"))
}

fn open(file: &Path) -> Result<BufReader<File>, Failure> {
    let opened = File::open(file);
    let opened = opened.map_err(|e| Failure(format!("{} cannot be read: {e}", file.display())))?;
    Ok(BufReader::new(opened))
}

fn check(file: &Path) -> Result<BackupSummary, Failure> {
    BackupSummary::read(open(file)?).map_err(|e| Failure(format!("{}: {e}", file.display())))
}

fn tell(summary: &BackupSummary) {
    let BackupSummary { cluster, last, membership, state_bytes, bytes, digest, .. } = summary;
    println!("cluster:  {cluster}, identity {}", identity(membership));
    println!("position: entry {} of term {}", last.index, last.term);
    println!("members:  {}", ids(membership));
    println!("size:     {bytes} bytes, of which {state_bytes} are the state");
    println!("digest:   {digest:08x}");
}

fn identity(membership: &Membership) -> String {
    membership.identity().map_or_else(|| "not recorded yet".into(), |identity| identity.to_string())
}

fn ids(membership: &Membership) -> String {
    let ids = membership.members().iter().map(|member| match member.suffrage.is_voter() {
        true => member.id.to_string(),
        false => format!("{} (learner)", member.id),
    });
    ids.collect::<Vec<_>>().join(", ")
}
