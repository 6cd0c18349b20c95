//! The order in which the addresses of a peer are tried, and the time for each.
//!
//! A name may have several addresses, some of which are silent, for example a machine's IPv6
//! address behind a firewall, or the old address of a host that moved. An attempt tries all of them
//! within [`Config::connect_timeout`](super::Config::connect_timeout). Each has an equal share of
//! the time that is left, so that no silent address keeps the attempt from the others. The order is
//! that of "happy eyeballs" (RFC 8305, section 4): as the name service says, the address families
//! in turn. But the address at which the peer was last connected comes first, and each failed
//! attempt begins with another address.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::vec::Vec;

use super::closed::Closed;

/// The most addresses of a name that are tried in one attempt, so that each has enough time.
const ADDRESSES_MAX: usize = 8;

/// The addresses that one attempt tries.
#[derive(Debug)]
pub struct Route {
    addresses: VecDeque<SocketAddr>,
    deadline: Instant,
    /// Why the attempt failed so far.
    failed: Option<io::Error>,
}

impl Route {
    /// A route through these addresses. It begins with `first` if that is one of them, or else with
    /// the address at position `number`.
    pub(super) fn new(
        addresses: Vec<SocketAddr>,
        first: Option<SocketAddr>,
        number: usize,
        deadline: Instant,
    ) -> Self {
        let mut addresses = in_turn(addresses);
        addresses.truncate(ADDRESSES_MAX);
        let known = first.and_then(|first| addresses.iter().position(|at| *at == first));
        if let Some(known) = known {
            let first = addresses.remove(known);
            addresses.insert(0, first);
        } else if !addresses.is_empty() {
            let begin = number % addresses.len();
            addresses.rotate_left(begin);
        }
        Self { addresses: addresses.into(), deadline, failed: None }
    }

    /// Tries the addresses one after the other, by a function that blocks for the given time at
    /// most. Returns the first connection.
    ///
    /// # Errors
    ///
    /// Why no address answered.
    pub fn connect<T>(
        mut self,
        connect: impl Fn(&SocketAddr, Duration) -> io::Result<T>,
    ) -> Result<(T, SocketAddr), Closed> {
        while let Some((address, patience)) = self.next_address() {
            match connect(&address, patience) {
                Ok(connection) => return Ok((connection, address)),
                Err(error) => self.on_failed(error),
            }
        }
        Err(self.into_error())
    }

    /// The next address to connect to, and how long to wait for it. `None` if all were tried, or
    /// the time is over.
    pub fn next_address(&mut self) -> Option<(SocketAddr, Duration)> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(self.addresses.len()).unwrap_or(u32::MAX).max(1);
        if share.is_zero() {
            return None;
        }
        self.addresses.pop_front().map(|address| (address, share))
    }

    /// To be called when the last address did not answer, or not in its time.
    pub fn on_failed(&mut self, error: io::Error) {
        // A refusal says more than silence.
        let is_silence = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
        if self.failed.as_ref().is_none_or(is_silence) {
            self.failed = Some(error);
        }
    }

    /// Why no address answered.
    pub fn into_error(self) -> Closed {
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        self.failed.unwrap_or_else(late).into()
    }
}

/// The addresses with their families in turn, beginning with the family of the first; none twice.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let starts_with_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == starts_with_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return ordered;
        }
        for address in pair.into_iter().flatten() {
            if !ordered.contains(&address) {
                ordered.push(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn addresses(of: &[&str]) -> Vec<SocketAddr> {
        of.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn order(of: &[&str], first: Option<&str>, number: usize) -> Vec<SocketAddr> {
        let first = first.map(|first| first.parse().unwrap());
        let mut route = Route::new(addresses(of), first, number, Instant::now() + SECOND);
        std::iter::from_fn(|| route.next_address().map(|(address, _)| address)).collect()
    }

    #[test]
    fn families_take_turns_and_each_attempt_begins_with_another_address() {
        let names = ["[::1]:1", "[::2]:1", "10.0.0.1:1", "[::1]:1", "10.0.0.2:1"];
        let expected = ["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1"];
        assert_eq!(order(&names, None, 0), addresses(&expected));
        let mut second = addresses(&expected);
        second.rotate_left(1);
        assert_eq!(order(&names, None, 1), second);
        assert_eq!(order(&names, None, 4), addresses(&expected));
        assert_eq!(order(&names, Some("10.0.0.2:1"), 1)[0], addresses(&expected)[3]);
        assert_eq!(order(&names, Some("10.9.9.9:1"), 0), addresses(&expected), "it has gone");
        assert_eq!(order(&[], None, 3), []);
    }

    /// However many are silent, the last one has its share.
    #[test]
    fn each_address_has_a_share_of_the_time_and_there_are_not_too_many() {
        let many: Vec<_> = (1..100).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let mut route = Route::new(many, None, 0, Instant::now() + SECOND);
        let mut tried = 0;
        while let Some((_, share)) = route.next_address() {
            tried += 1;
            let left = ADDRESSES_MAX + 1 - tried;
            assert!(share <= SECOND / left as u32, "{share:?} for the {tried}th");
            assert!(share > SECOND / (2 * ADDRESSES_MAX as u32), "{share:?} for the {tried}th");
        }
        assert_eq!(tried, ADDRESSES_MAX);
    }

    #[test]
    fn the_first_address_that_answers_has_the_connection() {
        let three = addresses(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let route = || Route::new(three.clone(), None, 0, Instant::now() + SECOND);
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let second = |at: &SocketAddr, _| if *at == three[0] { Err(refused()) } else { Ok(7) };
        assert_eq!(route().connect(second).unwrap(), (7, three[1]));
        let none = route().connect(|_, _| Err::<(), _>(refused()));
        assert!(matches!(none, Err(Closed::Io(error)) if error.kind() == refused().kind()));
    }

    #[test]
    fn the_error_is_the_one_that_says_most() {
        let mut route = Route::new(addresses(&["10.0.0.1:1"]), None, 0, Instant::now());
        assert!(route.next_address().is_none(), "the time is over");
        for kind in [io::ErrorKind::TimedOut, io::ErrorKind::ConnectionRefused] {
            route.on_failed(kind.into());
        }
        route.on_failed(io::ErrorKind::TimedOut.into());
        let Closed::Io(error) = route.into_error() else { panic!("an error of the network") };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
