//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::schedule::Kind;

/// Servers that are killed, stopped, cut off and starved of disk, and clients whose histories must
/// be linearizable meanwhile.
///
/// Faults come in the order and for the time that the seed says. Exit code: 0 if every history is
/// linearizable and the cluster recovered from every fault in time, 1 if not, 2 for wrong flags.
#[derive(Parser, Clone, Debug)]
#[command(name = "torture", version)]
pub struct Options {
    /// How long faults come; judging all histories comes on top
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// What the faults and the clients' choices are drawn from [default: another one every time]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Only these faults, by the names that the report gives them, as "wiped disk"
    #[arg(long, value_name = "FAULT,...", value_delimiter = ',', value_parser = Kind::named)]
    pub only: Vec<Kind>,
    /// What the servers run on
    #[arg(long, value_enum, default_value_t = Runtime::Mixed)]
    pub runtime: Runtime,
    /// Where the servers are
    #[arg(long, value_enum, default_value_t = Network::Auto)]
    pub network: Network,
    /// Let the servers speak TLS to each other
    #[arg(long)]
    pub tls: bool,
    /// How many servers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
    pub servers: u8,
    /// How many groups of four clients, one of which only reads; each group works on one key at a
    /// time
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub groups: u8,
    /// The longest pause of a client after an answer, in milliseconds
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    pub pause: u64,
    /// How long the cluster may take, after a fault, until a write goes through every server that
    /// could take one, in seconds
    #[arg(long, default_value_t = 15)]
    pub recovery_seconds: u64,
    /// The program whose `serve` runs a server [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Where to make the folder of a run [default: where temporary files are]
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Where servers record what their cores are told. It stays also after a good run [default: the
    /// folder of the run, which only a failed one leaves]
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// Only judge the histories in this file, as a run that failed has left them
    #[arg(long, value_name = "FILE")]
    pub judge: Option<PathBuf>,
}

/// What servers run on.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Runtime {
    /// Each on another one.
    Mixed,
    /// tokio
    Tokio,
    /// smol
    Smol,
    /// async-std
    AsyncStd,
    /// Plain threads
    Threads,
}

/// Where servers are.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Network {
    /// In namespaces if that is possible, on loopback else.
    Auto,
    /// Each in a network namespace, whose links can be cut and spoilt; needs root.
    Namespaces,
    /// All on loopback.
    Loopback,
}

impl Options {
    /// The longest pause of a client after an answer.
    pub fn pause_max(&self) -> Duration {
        Duration::from_millis(self.pause)
    }

    /// Where the servers of a run in this folder record.
    pub fn records(&self, folder: &Path) -> PathBuf {
        self.record.clone().unwrap_or_else(|| folder.join("records"))
    }

    /// How long the cluster may take to recover.
    pub fn recovery_max(&self) -> Duration {
        Duration::from_secs(self.recovery_seconds)
    }
}

impl Runtime {
    /// The runtimes, by the names that `serve` knows, for the servers in turn.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Mixed => &["tokio", "smol", "threads", "async-std"],
            Self::Tokio => &["tokio"],
            Self::Smol => &["smol"],
            Self::AsyncStd => &["async-std"],
            Self::Threads => &["threads"],
        }
    }

    /// As it is written on the command line.
    pub fn flag(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Options::command().debug_assert();
        let options = Options::parse_from(["torture", "--runtime=async-std", "--seed=7"]);
        assert_eq!((options.runtime.flag().as_str(), options.seed), ("async-std", Some(7)));
    }
}
