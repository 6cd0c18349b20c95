//! What a spectator who forgets nothing remembers of the past, and the properties of the paper's
//! Figure 3 that he checks.

use std::sync::Arc;

use raft_core::{NodeId, Role, Term};

use super::node::{Fault, Input, LogEntry, Node};

/// What has been since the beginning, as far as the present does not tell.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Observer {
    /// Who led, by term.
    leaders: Vec<(Term, NodeId)>,
    /// The first entries that anyone knew to be committed, from index 1.
    pub(crate) committed: Vec<Committed>,
    pub(crate) commands: u8,
    pub(crate) crashes: u8,
    /// A crash took a write back; a crash took some of the writes on their way, and left some.
    pub(crate) lost_write: bool,
    pub(crate) kept_part: bool,
    pub(crate) violation: Option<Violation>,
}

/// An entry that is committed, and the term of the server that knew it first.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Committed {
    pub(crate) entry: LogEntry,
    pub(crate) term: Term,
}

/// A rule that was broken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Violation {
    ElectionSafety,
    AppendOnly,
    LogMatching,
    LeaderCompleteness,
    StateMachineSafety,
    Majority,
    Promise,
    Apply,
    Impossible,
}

impl From<Fault> for Violation {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Promise => Self::Promise,
            Fault::Apply => Self::Apply,
            Fault::AppendOnly => Self::AppendOnly,
            Fault::Impossible => Self::Impossible,
        }
    }
}

/// Notes what happened to the server at `at`, which was `before`.
pub(crate) fn observe(
    observer: &mut Arc<Observer>,
    nodes: &[Arc<Node>],
    at: usize,
    before: &Node,
    input: &Input,
    fault: Option<Fault>,
) {
    let node = &*nodes[at];
    note_input(observer, before, input);
    let mut broken = fault.map(Violation::from);
    if began_to_lead(before, node, input) {
        broken = broken.or(note_leader(observer, node.term, at));
    }
    if node.log != before.log && !all_match(nodes, at) {
        broken = broken.or(Some(Violation::LogMatching));
    }
    if node.commit_index > before.commit_index {
        broken = broken.or(note_commit(observer, nodes, node));
    }
    if !nodes.iter().all(|node| holds_what_was_committed(observer, node)) {
        broken = broken.or(Some(Violation::LeaderCompleteness));
    }
    if broken.is_some() {
        Arc::make_mut(observer).violation = broken;
    }
}

fn note_input(observer: &mut Arc<Observer>, before: &Node, input: &Input) {
    match input {
        Input::Propose(_) => Arc::make_mut(observer).commands += 1,
        Input::Crash { landed } => {
            let observer = Arc::make_mut(observer);
            observer.crashes += 1;
            observer.lost_write |= *landed < before.unfinished();
            observer.kept_part |= 0 < *landed && *landed < before.unfinished();
        }
        Input::Timeout | Input::Heartbeat | Input::Silence | Input::Deliver(_) | Input::Persist => {
        }
    }
}

fn began_to_lead(before: &Node, node: &Node, input: &Input) -> bool {
    let led_already = before.role == Role::Leader && before.term == node.term;
    node.role == Role::Leader && (!led_already || matches!(input, Input::Crash { .. }))
}

/// Election Safety. A server that leads one term in two lives breaks it, too: it could fill the
/// same index twice.
fn note_leader(observer: &mut Arc<Observer>, term: Term, at: usize) -> Option<Violation> {
    if observer.leaders.iter().any(|(led, _)| *led == term) {
        return Some(Violation::ElectionSafety);
    }
    let leaders = &mut Arc::make_mut(observer).leaders;
    leaders.push((term, NodeId::new(at as u64 + 1)));
    leaders.sort_unstable();
    None
}

/// Log Matching: if two logs hold an entry of the same index and term, they are the same up to it.
fn all_match(nodes: &[Arc<Node>], at: usize) -> bool {
    nodes.iter().all(|other| {
        let (a, b) = (&nodes[at].log, &other.log);
        let shared = a.iter().zip(b).rposition(|(a, b)| a.id() == b.id());
        shared.is_none_or(|last| a[..=last] == b[..=last])
    })
}

/// State Machine Safety: no two servers ever know different entries to be committed at one index.
/// And what is committed is on the disks of a majority.
fn note_commit(
    observer: &mut Arc<Observer>,
    nodes: &[Arc<Node>],
    node: &Node,
) -> Option<Violation> {
    for entry in node.log.iter().take_while(|entry| entry.index <= node.commit_index) {
        let known = observer.committed.get(entry.index.get() as usize - 1);
        match known.map(|known| known.entry == *entry) {
            Some(true) => {}
            Some(false) => return Some(Violation::StateMachineSafety),
            None => {
                let committed = Committed { entry: entry.clone(), term: node.term };
                Arc::make_mut(observer).committed.push(committed);
                let holders = nodes.iter().filter(|node| node.holds_durably(entry)).count();
                if holders <= nodes.len() / 2 {
                    return Some(Violation::Majority);
                }
            }
        }
    }
    None
}

/// Leader Completeness: what was committed in earlier terms is in the log of a leader.
fn holds_what_was_committed(observer: &Observer, node: &Node) -> bool {
    let mut known = observer.committed.iter().enumerate();
    node.role != Role::Leader
        || known
            .all(|(at, known)| known.term >= node.term || node.log.get(at) == Some(&known.entry))
}
