//! What a server process says, a line each.

use std::fmt;
use std::str::FromStr;

use rustix::time::{ClockId, clock_gettime};

/// A line. Moments are in nanoseconds of the clock that all processes share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// It asked for pre-votes.
    Stood { at: u64 },
    /// It asked for votes.
    Asked { term: u64, at: u64 },
    /// It began to lead.
    Leads { term: u64, at: u64 },
    /// It committed its first entry.
    Committed { term: u64, at: u64 },
    /// What it knows, and when it would stand.
    Now { term: u64, leader: Option<u64>, deadline: Option<u64> },
}

/// The moment, in nanoseconds since some beginning that is the same for all processes.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Stood { at } => write!(f, "stood {at}"),
            Self::Asked { term, at } => write!(f, "asked {term} {at}"),
            Self::Leads { term, at } => write!(f, "leads {term} {at}"),
            Self::Committed { term, at } => write!(f, "committed {term} {at}"),
            // No server has the number 0, and nothing is due at the beginning of time.
            Self::Now { term, leader, deadline } => {
                let (leader, deadline) = (leader.unwrap_or(0), deadline.unwrap_or(0));
                write!(f, "now {term} {leader} {deadline}")
            }
        }
    }
}

impl FromStr for Said {
    /// Nothing that a server says.
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let mut words = line.split(' ');
        let word = words.next().ok_or(())?;
        let numbers: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>().map_err(drop)?;
        let some = |number: u64| (number != 0).then_some(number);
        Ok(match (word, numbers.as_slice()) {
            ("stood", &[at]) => Self::Stood { at },
            ("asked", &[term, at]) => Self::Asked { term, at },
            ("leads", &[term, at]) => Self::Leads { term, at },
            ("committed", &[term, at]) => Self::Committed { term, at },
            ("now", &[term, leader, deadline]) => {
                Self::Now { term, leader: some(leader), deadline: some(deadline) }
            }
            _ => return Err(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let all = [
            Said::Stood { at: 1 },
            Said::Asked { term: 2, at: 3 },
            Said::Leads { term: 2, at: 4 },
            Said::Committed { term: 2, at: 5 },
            Said::Now { term: 2, leader: Some(3), deadline: None },
            Said::Now { term: 2, leader: None, deadline: Some(9) },
        ];
        for said in all {
            assert_eq!(said.to_string().parse(), Ok(said));
        }
        for line in ["", "stood", "stood x", "leads 1", "now 1 2", "panicked 1 2"] {
            assert_eq!(line.parse::<Said>(), Err(()), "{line}");
        }
    }
}
