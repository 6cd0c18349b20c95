//! How the names of peers become addresses, the same way in all adapters.
//!
//! The system's lookup of a name blocks its thread, cannot be cancelled, and may hang for minutes.
//! So each lookup has a thread of its own, and a dialer that has waited long enough leaves it
//! there. The dialer does not begin another lookup of the same name: the next attempt waits for the
//! lookup that hangs, or takes its answer if the answer came in between. So a peer costs one thread
//! for each of its names, and [`LOOKUPS_MAX`] at most, whatever the name service does.
//!
//! A lookup that hangs may outlive its transport. It holds nothing of the transport but the name.
//!
//! While a name service is slow or gone, the dialer uses the addresses that a name had last: see
//! [`Dialing::route`](super::Dialing::route).

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::string::{String, ToString};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};
use std::vec::Vec;

/// How many unfinished lookups a peer may have: for the name in its label, the name in the list,
/// and the name that it says itself.
const LOOKUPS_MAX: usize = 3;

/// For how many names the last addresses are kept.
const NAMES_MAX: usize = 2 * LOOKUPS_MAX;

/// How long an answer that came when no attempt waited is still good for the next attempt.
const LATE_ANSWER_GOOD_FOR: Duration = Duration::from_secs(10);

/// The addresses of a name, or why there are none.
pub type Found = io::Result<Vec<SocketAddr>>;

/// How names become addresses: by default as the operating system does it.
///
/// # Example
///
/// ```
/// use raft_core::host::tcp::{Config, Resolver};
///
/// let resolver = Resolver::new(|name| match name {
///     "host-b:7000" => Ok(vec!["10.0.0.2:7000".parse().unwrap()]),
///     other => Err(std::io::Error::other(format!("{other} is none of ours"))),
/// });
/// let config = Config { resolver, ..Config::default() };
/// # assert!(config.validate().is_ok());
/// ```
#[derive(Clone)]
pub struct Resolver(Arc<Resolve>);

type Resolve = dyn Fn(&str) -> Found + Send + Sync;

impl Resolver {
    /// Looks up a name with a port. It is called on a thread of its own and may block.
    pub fn new(resolve: impl Fn(&str) -> Found + Send + Sync + 'static) -> Self {
        Self(Arc::new(resolve))
    }

    /// The operating system's resolver.
    pub fn of_system() -> Self {
        Self::new(|name| Ok(name.to_socket_addrs()?.collect()))
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::of_system()
    }
}

impl PartialEq for Resolver {
    /// Whether the two are clones of one resolver.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Resolver {}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// The names of one peer, and what is known of them.
#[derive(Debug)]
pub(super) struct Names {
    resolver: Resolver,
    names: Arc<Mutex<Vec<Name>>>,
}

#[derive(Debug)]
struct Name {
    name: String,
    /// Whether a thread is looking it up.
    is_looked_up: bool,
    /// The attempt that waits for the answer, if any.
    waiting: Option<oneshot::Sender<Found>>,
    /// The answer that came when no attempt waited.
    late: Option<(Instant, Found)>,
    /// The last addresses that the name had.
    last: Vec<SocketAddr>,
}

impl Names {
    pub(super) fn new(resolver: Resolver) -> Self {
        Self { resolver, names: Arc::default() }
    }

    /// The addresses that a name had when it was last looked up.
    pub(super) fn last(&self, name: &str) -> Vec<SocketAddr> {
        let names = lock(&self.names);
        let known = names.iter().find(|known| known.name == name);
        known.map_or_else(Vec::new, |known| known.last.clone())
    }

    /// Looks up a name, unless a lookup of it is under way. A number needs no lookup.
    pub(super) fn look_up(&self, name: &str) -> Lookup {
        if let Ok(address) = name.parse() {
            return Lookup::found(Ok([address].into()));
        }
        let mut names = lock(&self.names);
        let at = names.iter().position(|known| known.name == name);
        let is_looked_up = at.is_some_and(|at| names[at].is_looked_up);
        let going_on = names.iter().filter(|known| known.is_looked_up).count();
        if !is_looked_up && going_on >= LOOKUPS_MAX {
            return Lookup::found(Err(io::Error::other(
                "earlier lookups of its names still hang: check the name service, or use numbers",
            )));
        }
        let at = at.unwrap_or_else(|| {
            if names.len() >= NAMES_MAX {
                // The name that was used least recently makes room.
                let oldest = names.iter().position(|known| !known.is_looked_up);
                oldest.map(|oldest| names.remove(oldest));
            }
            names.push(Name::new(name));
            names.len() - 1
        });
        let known = &mut names[at];
        if let Some((since, found)) = known.late.take() {
            if since.elapsed() < LATE_ANSWER_GOOD_FOR {
                return Lookup::found(found);
            }
        }
        let (sender, receiver) = oneshot::channel();
        known.waiting = Some(sender);
        if !known.is_looked_up {
            known.is_looked_up = true;
            drop(names);
            if let Err(error) = self.spawn(name) {
                self.answer(name, Err(error));
            }
        }
        Lookup(LookupState::Waiting(receiver))
    }

    fn spawn(&self, name: &str) -> io::Result<()> {
        let names = Self { resolver: self.resolver.clone(), names: Arc::clone(&self.names) };
        let name = name.to_string();
        let thread = thread::Builder::new().name("raft-resolve".into());
        let look_up = move || {
            let found = panic::catch_unwind(AssertUnwindSafe(|| (names.resolver.0)(&name)));
            names.answer(&name, found.unwrap_or_else(|_| Err(panicked())));
        };
        thread.spawn(look_up).map(drop)
    }

    fn answer(&self, name: &str, found: Found) {
        let mut names = lock(&self.names);
        let Some(known) = names.iter_mut().find(|known| known.name == name) else { return };
        known.is_looked_up = false;
        if let Ok(addresses) = &found {
            known.last.clone_from(addresses);
        }
        let Some(waiting) = known.waiting.take() else { return };
        if let Err(unheard) = waiting.send(found) {
            known.late = Some((Instant::now(), unheard.into_inner()));
        }
    }
}

impl Name {
    fn new(name: &str) -> Self {
        let name = name.to_string();
        let last = Vec::new();
        Self { name, is_looked_up: false, waiting: None, late: None, last }
    }
}

/// A lookup under way. Await it, or [`wait`](Lookup::wait) for it. It may be dropped at any time.
#[derive(Debug)]
pub struct Lookup(LookupState);

#[derive(Debug)]
enum LookupState {
    Found(Option<Found>),
    Waiting(oneshot::Receiver<Found>),
    Awaited(oneshot::AsyncReceiver<Found>),
}

impl Lookup {
    pub(super) fn found(found: Found) -> Self {
        Self(LookupState::Found(Some(found)))
    }

    /// Blocks this thread until the answer is there, for `timeout` at most. `None` if it is not
    /// there by then.
    pub fn wait(self, timeout: Duration) -> Option<Found> {
        match self.0 {
            LookupState::Found(found) => found,
            LookupState::Waiting(receiver) => match receiver.recv_timeout(timeout) {
                Ok(found) => Some(found),
                Err(oneshot::RecvTimeoutError::Timeout) => None,
                Err(oneshot::RecvTimeoutError::Disconnected) => Some(Err(panicked())),
            },
            LookupState::Awaited(_) => None,
        }
    }
}

impl Future for Lookup {
    type Output = Found;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Found> {
        loop {
            match std::mem::replace(&mut self.0, LookupState::Found(None)) {
                LookupState::Found(found) => {
                    return Poll::Ready(found.unwrap_or_else(|| Err(panicked())));
                }
                LookupState::Waiting(receiver) => {
                    self.0 = LookupState::Awaited(IntoFuture::into_future(receiver));
                }
                LookupState::Awaited(mut receiver) => {
                    let answer = Pin::new(&mut receiver).poll(context);
                    if answer.is_pending() {
                        self.0 = LookupState::Awaited(receiver);
                    }
                    return answer.map(|found| found.unwrap_or_else(|_| Err(panicked())));
                }
            }
        }
    }
}

fn panicked() -> io::Error {
    io::Error::other("the lookup of its name panicked: see the log")
}

fn lock(names: &Mutex<Vec<Name>>) -> MutexGuard<'_, Vec<Name>> {
    names.lock().expect("nothing panics while it holds this lock")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Names whose lookups say when they begin, and wait until they are told what to find.
    fn controlled() -> (Names, mpsc::Receiver<String>, mpsc::Sender<SocketAddr>) {
        let (begun, begins) = mpsc::channel();
        let (answers, answer) = mpsc::channel();
        let answer = Mutex::new(answer);
        let resolver = Resolver::new(move |name| {
            begun.send(name.to_string()).unwrap();
            answer.lock().unwrap().recv().map(|found| [found].into()).map_err(io::Error::other)
        });
        (Names::new(resolver), begins, answers)
    }

    #[test]
    fn a_number_needs_no_lookup() {
        let (names, begins, _answers) = controlled();
        let found = names.look_up("127.0.0.1:7").wait(Duration::ZERO).unwrap().unwrap();
        assert_eq!(found, [at(7)]);
        assert!(begins.try_recv().is_err());
    }

    /// A hundred attempts while the name service hangs are one thread, and the answer is used when
    /// it comes at last.
    #[test]
    fn a_lookup_that_hangs_is_waited_for_and_never_begun_again() {
        let (names, begins, answers) = controlled();
        for _ in 0..100 {
            assert!(names.look_up("b:1").wait(Duration::ZERO).is_none());
        }
        assert_eq!(begins.recv_timeout(LONG).unwrap(), "b:1");
        assert!(begins.try_recv().is_err(), "one lookup for all");
        answers.send(at(1)).unwrap();
        let deadline = Instant::now() + LONG;
        while names.last("b:1").is_empty() {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
        let found = names.look_up("b:1").wait(Duration::ZERO).expect("the late answer").unwrap();
        assert_eq!(found, [at(1)]);
        assert!(names.look_up("b:1").wait(Duration::ZERO).is_none(), "it is used once");
        assert_eq!(begins.recv_timeout(LONG).unwrap(), "b:1", "and then looked up anew");
        answers.send(at(2)).unwrap();
        let found = names.look_up("b:1").wait(LONG).unwrap().unwrap();
        assert_eq!((found, names.last("b:1")), ([at(2)].into(), [at(2)].into()));
    }

    #[test]
    fn a_peer_has_only_so_many_lookups_that_hang() {
        let (names, begins, answers) = controlled();
        for number in 0..LOOKUPS_MAX {
            assert!(names.look_up(&std::format!("n{number}:1")).wait(Duration::ZERO).is_none());
            begins.recv_timeout(LONG).unwrap();
        }
        let refused = names.look_up("another:1").wait(LONG).unwrap().unwrap_err().to_string();
        assert!(refused.contains("check the name service"), "{refused}");
        answers.send(at(1)).unwrap();
        let deadline = Instant::now() + LONG;
        while names.look_up("another:1").wait(Duration::ZERO).is_some() {
            assert!(Instant::now() < deadline, "one has ended, so there is room");
            thread::yield_now();
        }
        drop(answers);
    }

    #[test]
    fn a_resolver_that_panics_is_an_error_and_no_end() {
        let names = Names::new(Resolver::new(|_| panic!("no such thing")));
        for _ in 0..2 {
            let failed = names.look_up("b:1").wait(LONG).unwrap().unwrap_err().to_string();
            assert!(failed.contains("panicked"), "{failed}");
        }
    }
}
