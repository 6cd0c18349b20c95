//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::contestants::{self, Contestant, Timing};
use crate::faults::Fault;

const EXAMPLE: &str = "\
Examples:

  contest --quick                              everything once: about ten minutes
  contest --full                               longer spans and more trials: hours
  contest --only ours,etcd --clients 1,16      some cells; the page keeps the others
  contest --parts faults --faults sigkill      one fault
  contest --assemble --out DIR                 the page anew, from DIR/results.csv

As root on Debian it installs the contestants that Debian has. Exit code: 0, or 1 after a failure, or 2
for wrong flags.";

/// Lets replicated stores compete: three fsynced processes each, the same clients, the same faults.
#[derive(Parser, Debug)]
#[command(name = "contest", version, about, after_help = EXAMPLE)]
pub(crate) struct Flags {
    /// Short spans, few trials: the default
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Long spans, many trials
    #[arg(long)]
    full: bool,
    /// Only these contestants, by name or by how it begins
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    /// How many clients write at once
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,16,128,512", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) clients: Vec<u16>,
    /// What is measured: load, syncs (with strace), faults
    #[arg(
        long,
        value_name = "PART,...",
        value_delimiter = ',',
        default_value = "load,syncs,faults"
    )]
    parts: Vec<Part>,
    /// What befalls the leader: sigkill, sigstop, cut, sigterm
    #[arg(
        long,
        value_name = "FAULT,...",
        value_delimiter = ',',
        default_value = "sigkill,sigstop,cut,sigterm"
    )]
    pub(crate) faults: Vec<Fault>,
    /// Which election timeouts: default, equal (150-300 ms)
    #[arg(long, value_name = "TIMING,...", value_delimiter = ',', default_value = "default,equal")]
    pub(crate) timings: Vec<Timing>,
    /// How often each contestant has its turn [default: 2, full: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,
    /// How long clients are measured in each turn, in milliseconds [default: 1000, full: 5000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(100..=600_000))]
    span: Option<u32>,
    /// How often each fault befalls each contestant [default: 2, full: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    trials: Option<u16>,
    /// Install nothing
    #[arg(long)]
    pub(crate) no_install: bool,
    /// Measure nothing: make the page from what the folder has
    #[arg(long)]
    pub(crate) assemble: bool,
    /// Where results and the page go; results of earlier runs there are kept
    #[arg(long, value_name = "DIR", default_value = "target/contest")]
    pub(crate) out: PathBuf,
}

/// A part of the contest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Load,
    Syncs,
    Faults,
}

impl std::str::FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "load" => Ok(Self::Load),
            "syncs" => Ok(Self::Syncs),
            "faults" => Ok(Self::Faults),
            _ => Err(format!("'{text}' is no part: there are load, syncs, faults")),
        }
    }
}

impl std::str::FromStr for Timing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Self::Default),
            "equal" => Ok(Self::Equal),
            _ => Err(format!("'{text}' is no timing: there are default, equal")),
        }
    }
}

impl Flags {
    /// Those that are asked for.
    pub(crate) fn contestants(&self) -> Result<Vec<Contestant>, String> {
        if self.only.is_empty() {
            let all = contestants::ALL.into_iter();
            return Ok(all.filter(|contestant| self.full || !contestant.is_extra).collect());
        }
        let all = contestants::ALL.map(|contestant| contestant.id).join(", ");
        if let Some(strange) = self.only.iter().find(|name| {
            name.is_empty() || !contestants::ALL.iter().any(|known| known.id.starts_with(*name))
        }) {
            return Err(format!("--only: nobody's name begins with '{strange}': there are {all}"));
        }
        let is_named = |contestant: &Contestant| {
            let named = |name: &String| {
                // A whole name names an extra, too; a beginning does not.
                contestant.id == name
                    || contestant.id.starts_with(name.as_str())
                        && (self.full || !contestant.is_extra)
            };
            self.only.iter().any(named)
        };
        Ok(contestants::ALL.into_iter().filter(is_named).collect())
    }

    pub(crate) fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.map_or(if self.full { 5 } else { 2 }, usize::from)
    }

    pub(crate) fn trials(&self) -> usize {
        self.trials.map_or(if self.full { 20 } else { 2 }, usize::from)
    }

    pub(crate) fn span(&self) -> Duration {
        let ms = self.span.unwrap_or(if self.full { 5000 } else { 1000 });
        Duration::from_millis(ms.into())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn names(words: &[&str]) -> Result<Vec<&'static str>, String> {
        let flags = Flags::try_parse_from(["contest"].iter().chain(words));
        let found = flags.map_err(|e| e.to_string())?.contestants()?;
        Ok(found.into_iter().map(|contestant| contestant.id).collect())
    }

    #[test]
    fn contestants_are_found_by_how_their_names_begin() {
        assert_eq!(
            names(&["--only=ours,etcd"]).unwrap(),
            ["ours-tokio", "ours-threads", "ours-driver", "etcd"]
        );
        assert_eq!(names(&["--only=ours-smol"]).unwrap(), ["ours-smol"]);
        assert!(names(&["--full"]).unwrap().contains(&"ours-smol"));
        assert!(!names(&["--quick"]).unwrap().contains(&"ours-smol"));
    }

    #[test]
    fn mistakes_are_named() {
        let mistake = |words: &[&str], expected: &str| {
            let said = names(words).unwrap_err();
            assert!(said.contains(expected), "{said}");
        };
        mistake(&["--only=consul"], "begins with 'consul': there are ours-tokio");
        mistake(&["--faults=fire"], "'fire' is no fault: there are sigkill");
        mistake(&["--parts=x"], "'x' is no part");
        mistake(&["--timings=x"], "'x' is no timing");
        mistake(&["--clients=0"], "0 is not in 1..=4096");
        mistake(&["--quick", "--full"], "cannot be used with");
        mistake(&["--verbose"], "--verbose");
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Flags::command().debug_assert();
    }
}
