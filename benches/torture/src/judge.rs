//! Whether a history is linearizable: whether each operation could have taken effect at one moment
//! between its call and its answer.
//!
//! The crate `stateright` decides. An operation of unknown fate is to it one that is still under
//! way: it may be put anywhere after its call, or nowhere. A write that was acknowledged and is
//! missing later is a history that is not linearizable.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kv::demo::cluster::Failure;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::history::{Answer, Call, End, History};

/// How long one history may take to judge. Short histories take less than a millisecond; one that
/// takes longer than this counts as a violation, for nobody can say that it is none.
const JUDGEMENT_MAX: Duration = Duration::from_secs(60);

/// How often it is looked whether all histories are judged.
const CLOSING_INTERVAL: Duration = Duration::from_millis(5);

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// There is an order that explains everything.
    Linearizable,
    /// There is none.
    Violation,
    /// It took too long to find out.
    Undecided,
}

/// Judges histories in threads of its own.
#[derive(Debug)]
pub struct Court {
    judged: Arc<AtomicUsize>,
    found: Arc<Mutex<Option<(History, Verdict)>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Court {
    /// Judges what comes, until no more can come.
    pub fn open(histories: Receiver<History>, threads: usize) -> Self {
        let (judged, found) = <(Arc<AtomicUsize>, Arc<Mutex<Option<_>>>)>::default();
        let histories = Arc::new(Mutex::new(histories));
        let threads = (0..threads.max(1)).map(|_| {
            let (histories, judged, found) = (histories.clone(), judged.clone(), found.clone());
            let next = move || lock(&histories).recv().ok();
            thread::spawn(move || {
                while let Some(history) = next() {
                    let verdict = judge(&history);
                    judged.fetch_add(1, Ordering::Relaxed);
                    if verdict != Verdict::Linearizable {
                        lock(&found).get_or_insert((history, verdict));
                    }
                }
            })
        });
        Self { threads: threads.collect(), judged: judged.clone(), found: found.clone() }
    }

    /// How many histories were judged.
    pub fn judged(&self) -> usize {
        self.judged.load(Ordering::Relaxed)
    }

    /// Fails if one was found that is not linearizable.
    pub fn check(&self) -> Result<(), Failure> {
        let found = lock(&self.found);
        let Some((history, verdict)) = &*found else { return Ok(()) };
        let said = match verdict {
            Verdict::Undecided => "took too long to judge",
            Verdict::Linearizable | Verdict::Violation => "is not linearizable",
        };
        let columns = "key, client, call, invoked at and answered at in ns, answer";
        Err(Failure(format!("the history of {} {said} ({columns}):\n{history}", history.key)))
    }

    /// Waits until all that came is judged, and tells how many histories are. Nothing may be able
    /// to come.
    pub fn close(mut self, tell: impl Fn(usize)) -> Result<usize, Failure> {
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            tell(self.judged());
            thread::sleep(CLOSING_INTERVAL);
        }
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| Failure("a judge panicked".into()))?;
        }
        self.check()?;
        Ok(self.judged())
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one server with one key would do.
#[derive(Clone, Default, Debug)]
struct Cell(Option<i64>);

/// Judges one history.
pub fn judge(history: &History) -> Verdict {
    let (done, verdict) = mpsc::channel();
    let history = history.clone();
    // The search cannot be stopped: a search that takes too long ends with the process.
    thread::spawn(move || done.send(is_linearizable(&history)));
    match verdict.recv_timeout(JUDGEMENT_MAX) {
        Ok(true) => Verdict::Linearizable,
        Ok(false) => Verdict::Violation,
        Err(_) => Verdict::Undecided,
    }
}

impl SequentialSpec for Cell {
    type Op = Call;
    type Ret = Answer;

    fn invoke(&mut self, call: &Call) -> Answer {
        match *call {
            Call::Get => Answer::Value(self.0),
            Call::Set(value) => {
                self.0 = Some(value);
                Answer::Done
            }
            Call::Increment => {
                let count = self.0.unwrap_or(0) + 1;
                self.0 = Some(count);
                Answer::Count(count)
            }
            Call::Delete => Answer::Deleted(self.0.take().map_or(0, |_| 1)),
        }
    }
}

fn is_linearizable(history: &History) -> bool {
    let mut tester = LinearizabilityTester::new(Cell::default());
    for (_, event) in events(history) {
        // A client that has two operations under way at once makes no history: the tester says so,
        // and then finds no order.
        let _ = match event {
            Event::Invoked(thread, call) => tester.on_invoke(thread, call).map(drop),
            Event::Answered(thread, answer) => tester.on_return(thread, answer).map(drop),
        };
    }
    tester.is_consistent()
}

/// Something that happened, on which thread as the tester calls it.
#[derive(Clone, Copy)]
enum Event {
    Invoked(u64, Call),
    Answered(u64, Answer),
}

/// What happened, in order. A client goes on after an operation of unknown fate, which a thread of
/// the tester cannot: such an operation has a thread of its own, behind those of the clients. One
/// without effect has none.
fn events(history: &History) -> Vec<(u64, Event)> {
    let mut events = Vec::new();
    for (operation, number) in history.operations.iter().zip(1..) {
        let alone = (u64::from(u32::MAX)) + number;
        let client = u64::from(operation.client);
        match (operation.end, operation.call) {
            (End::Refused, _) | (End::Unknown, Call::Get) => {}
            (End::Unknown, call) => events.push((operation.invoked, Event::Invoked(alone, call))),
            (End::Answered { at, answer }, call) => {
                events.push((operation.invoked, Event::Invoked(client, call)));
                events.push((at, Event::Answered(client, answer)));
            }
        }
    }
    events.sort_by_key(|(at, _)| *at);
    events
}

#[cfg(test)]
mod tests {
    use super::super::history::parse_all;
    use super::*;

    /// Judges operations given as `client call invoked answered answer`.
    fn verdict(lines: &[&str]) -> Verdict {
        let lines = lines.iter().map(|line| format!("k\t{}\n", line.replace(", ", "\t")));
        judge(&parse_all(&lines.collect::<String>()).unwrap()[0])
    }

    #[test]
    fn a_read_sees_the_last_write_or_one_that_is_under_way() {
        let (set, slow) = ("1, set 7, 1, 2, ok", "2, set 8, 3, 9, ok");
        assert_eq!(verdict(&[set, slow, "3, get, 4, 5, 7"]), Verdict::Linearizable);
        assert_eq!(verdict(&[set, slow, "3, get, 4, 5, 8"]), Verdict::Linearizable);
        assert_eq!(verdict(&[set, slow, "3, get, 10, 11, 7"]), Verdict::Violation, "stale");
        let backwards = ["3, get, 4, 5, 8", "3, get, 6, 7, 7"];
        assert_eq!(verdict(&[&[set, slow], &backwards[..]].concat()), Verdict::Violation);
    }

    #[test]
    fn an_acknowledged_write_that_is_lost_is_a_violation() {
        assert_eq!(verdict(&["1, set 7, 1, 2, ok", "1, get, 3, 4, none"]), Verdict::Violation);
        assert_eq!(
            verdict(&["1, set 7, 1, -, unknown", "1, get, 3, 4, none"]),
            Verdict::Linearizable
        );
    }

    #[test]
    fn a_write_of_unknown_fate_takes_effect_once_or_not_at_all() {
        let lines = |reads: [&'static str; 2]| ["1, incr, 1, -, unknown", reads[0], reads[1]];
        assert_eq!(
            verdict(&lines(["1, get, 2, 3, none", "1, get, 4, 5, 1"])),
            Verdict::Linearizable
        );
        assert_eq!(verdict(&lines(["1, incr, 2, 3, 2", "1, get, 4, 5, 2"])), Verdict::Linearizable);
        assert_eq!(
            verdict(&lines(["1, incr, 2, 3, 1", "1, get, 4, 5, 3"])),
            Verdict::Violation,
            "twice"
        );
    }

    #[test]
    fn a_refused_write_that_is_there_is_a_violation() {
        assert_eq!(verdict(&["1, set 7, 1, -, refused", "1, get, 3, 4, 7"]), Verdict::Violation);
    }

    #[test]
    fn what_was_deleted_is_gone() {
        let lines = ["1, incr, 1, 2, 1", "1, del, 3, 4, 1", "1, del, 5, 6, 0", "1, incr, 7, 8, 1"];
        assert_eq!(verdict(&lines), Verdict::Linearizable);
        assert_eq!(verdict(&[lines[0], lines[1], "1, get, 5, 6, 1"]), Verdict::Violation);
    }
}
