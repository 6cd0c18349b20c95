//! One of three machines leads at a time: an election and nothing else, with journal and TCP.
//!
//! On each machine, with its number first and then the addresses of all in the order of their
//! numbers: `smol_elector 1 host-a:7000 host-b:7000 host-c:7000`
//!
//! The term of the lead is a fencing token: it rises with each leader. Hand it to the resource that
//! one machine is to use at a time, and let that refuse tokens below the highest that it has seen.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use raft_smol::{ClusterId, Config, FileJournal, Node, NodeConfig, NodeId, tcp};

/// Leads on one of three machines at a time.
#[derive(Parser)]
struct Options {
    /// The number of this machine, from 1.
    machine: u64,
    /// Where the machines listen, in the order of their numbers.
    #[arg(required = true, value_name = "HOST:PORT")]
    addresses: Vec<String>,
    /// Where the journal is.
    #[arg(long, default_value = "elector")]
    directory: PathBuf,
}

fn main() -> ExitCode {
    let Err(error) = smol::block_on(elect()) else { return ExitCode::SUCCESS };
    eprintln!("smol_elector: {error}");
    ExitCode::FAILURE
}

/// Prints when this machine leads, and when it does no more.
async fn elect() -> Result<(), Box<dyn Error>> {
    let Options { machine, addresses, directory } = Options::parse();
    let (cluster, me) = (ClusterId::new(1), NodeId::new(machine));
    let config = Config::new(me, (1..=addresses.len() as u64).map(NodeId::new));
    let (own, peers): (Vec<_>, Vec<_>) =
        (1..).map(NodeId::new).zip(addresses).partition(|(id, _)| *id == me);
    let (_, address) = own.first().ok_or("there is no address for this machine")?;
    let journal = FileJournal::open(directory, cluster, me)?;
    let transport = tcp::Transport::bind(address.as_str(), peers, tcp::Config::default()).await?;
    let node = Node::start(NodeConfig::new(cluster, config), (), journal, transport).await?;
    loop {
        let lead = node.lead().await?;
        println!("leads, with the fencing token {}", lead.term());
        lead.lost().await?;
        println!("leads no more");
    }
}
