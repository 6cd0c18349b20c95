//! A cluster of three as a model for exhaustive search: the real core, a disk that a crash cuts
//! short, and a network that loses, repeats and reorders without limit.
//!
//! - **Network.** A message, once sent, stays, and may arrive at any time, any number of times, or
//!   never. So loss, duplication and reordering need no bound, and no heartbeat is needed to send
//!   again.
//! - **Disk.** Writes land one by one, at any time. A crash keeps a prefix of those on their way. A
//!   server that is down is one to which nothing happens, so a crash and the next start are one
//!   step.
//! - **Time.** Each server has a clock of its own that moves only when one of its timers is chosen
//!   to fire. States are compared by [`Raft::canonical`](raft_core::Raft::canonical). Replies that
//!   come too late to be heeded are forgotten (`forget_late_replies` says why none is missed).
//! - **Symmetry.** Servers to which nothing has happened yet are alike; of those the lowest acts
//!   first.

mod node;
mod observer;

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use raft_core::{Body, NodeId, Role, Term};
use stateright::{Model, Property};

use node::{Envelope, Input, Node, Outcome, is_command, transition_key};
use observer::{Observer, Violation};

/// Servers in the cluster.
const SERVERS: usize = 3;
/// Parts of the table of transitions, each with a lock.
const SHARDS: usize = 64;

/// What bounds the search. Within, it is exhaustive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bounds {
    /// Servers that ever stand for election, of three; the others vote.
    pub(crate) candidates: usize,
    /// Servers whose writes land late, of three; the others' disks are done at once.
    pub(crate) slow_disks: usize,
    /// No server stands in a term beyond this.
    pub(crate) terms: u64,
    /// Commands of clients.
    pub(crate) commands: u8,
    /// Crashes, of all servers together.
    pub(crate) crashes: u8,
    /// Heartbeats of a leader in its term, besides the one with which it begins.
    pub(crate) heartbeats: u8,
    /// Pre-votes of a server in one life; none if they are off.
    pub(crate) pre_votes: u8,
}

/// The model.
pub(crate) struct Cluster {
    bounds: Bounds,
    /// Everything that ever happened to a server, since the same happens to it in a thousand
    /// states.
    transitions: Vec<Mutex<Shard>>,
}

type Shard = HashMap<(u64, u64), Arc<Outcome>>;

/// A state of the world.
#[derive(Clone)]
pub(crate) struct State {
    nodes: [Arc<Node>; SERVERS],
    /// All messages ever sent, in the order of their digests, and the sum of those.
    network: Arc<Vec<Arc<Envelope>>>,
    network_digest: u64,
    observer: Arc<Observer>,
}

/// One server's next step.
#[derive(Clone, PartialEq)]
pub(crate) struct Action {
    at: usize,
    input: Input,
}

impl Cluster {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let transitions = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { bounds, transitions }
    }

    /// How many different inputs to different servers the search has met.
    pub(crate) fn turns(&self) -> usize {
        let shards = self.transitions.iter();
        shards.map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// What happens to this server, looked up if it ever did.
    fn outcome(&self, node: &Node, input: &Input) -> Arc<Outcome> {
        let key = transition_key(node, input);
        let shard = &self.transitions[(key.0 ^ key.1) as usize % SHARDS];
        let lock = || shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&key) {
            return Arc::clone(known);
        }
        let outcome = Arc::new(node.after(input));
        Arc::clone(lock().entry(key).or_insert(outcome))
    }

    /// Removes replies that came too late, or nearly all states would differ only in those. A
    /// server heeds a reply only while it holds the office in which it asked, and takes none up in
    /// a term that is durable already: so what comes later than that, and changes nothing now,
    /// never will.
    fn forget_late_replies(&self, state: &mut State, at: usize, sent: &[Arc<Envelope>]) {
        let nodes = &state.nodes;
        let is_late = |envelope: &Arc<Envelope>| {
            let to = envelope.message.to.get() as usize - 1;
            // Nothing is new about the others.
            (to == at || sent.contains(envelope))
                && nodes[to].is_past_heeding(&envelope.message)
                && self
                    .outcome(&nodes[to], &Input::Deliver(Arc::clone(envelope)))
                    .changes_nothing(&nodes[to])
        };
        if state.network.iter().any(is_late) {
            let kept: Vec<_> = state.network.iter().filter(|e| !is_late(e)).cloned().collect();
            state.network_digest = kept.iter().fold(0, |sum, e| sum.wrapping_add(e.digest));
            state.network = Arc::new(kept);
        }
    }

    /// Whether this server and one before it are alike in all things, so that the other may act
    /// first.
    fn waits_for_its_like(&self, state: &State, at: usize) -> bool {
        let Bounds { candidates, slow_disks, .. } = self.bounds;
        let kind = |at: usize| (at < candidates, at < slow_disks);
        let is_like = |other: usize| state.nodes[other].pristine && kind(other) == kind(at);
        state.nodes[at].pristine && (0..at).any(is_like)
    }

    fn inputs_of(&self, state: &State, at: usize, inputs: &mut Vec<Input>) {
        let (node, bounds) = (&state.nodes[at], &self.bounds);
        match node.role {
            Role::Leader => {
                if state.observer.commands < bounds.commands {
                    inputs.push(Input::Propose(state.observer.commands));
                }
                if node.beats < bounds.heartbeats {
                    inputs.push(Input::Heartbeat);
                }
            }
            Role::Follower | Role::PreCandidate | Role::Candidate | _ => {
                let may_ask = bounds.pre_votes == 0 || node.pre_votes < bounds.pre_votes;
                let stands = at < bounds.candidates;
                if stands && node.term < Term::new(bounds.terms) && may_ask {
                    inputs.push(Input::Timeout);
                }
                if bounds.pre_votes > 0 && node.hears_leader() {
                    inputs.push(Input::Silence);
                }
            }
        }
        if node.unfinished() > 0 {
            inputs.push(Input::Persist);
        }
        if state.observer.crashes < bounds.crashes {
            inputs.extend((0..=node.unfinished()).map(|landed| Input::Crash { landed }));
        }
        let to = NodeId::new(at as u64 + 1);
        let arriving = state.network.iter().filter(|envelope| envelope.message.to == to);
        inputs.extend(arriving.cloned().map(Input::Deliver));
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let nodes = std::array::from_fn(|at| {
            let Bounds { pre_votes, slow_disks, .. } = self.bounds;
            let (pre_vote, slow_disk) = (pre_votes > 0, at < slow_disks);
            Arc::new(Node::new(at as u64 + 1, SERVERS as u64, pre_vote, slow_disk))
        });
        let (network, observer) = (Arc::default(), Arc::default());
        vec![State { nodes, network, network_digest: 0, observer }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.observer.violation.is_some() {
            return;
        }
        let mut inputs = Vec::new();
        for at in 0..SERVERS {
            if !self.waits_for_its_like(state, at) {
                self.inputs_of(state, at, &mut inputs);
                actions.extend(inputs.drain(..).map(|input| Action { at, input }));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let Action { at, input } = action;
        let before = &state.nodes[at];
        let outcome = self.outcome(before, &input);
        let sends = outcome.sent.iter().any(|envelope| !state.holds(envelope));
        if outcome.node.digest == before.digest && !sends && outcome.fault.is_none() {
            return None;
        }
        let mut next = state.clone();
        next.nodes[at] = Arc::clone(&outcome.node);
        next.send(&outcome.sent);
        self.forget_late_replies(&mut next, at, &outcome.sent);
        observer::observe(&mut next.observer, &next.nodes, at, before, &input, outcome.fault);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties: Vec<Property<Self>> = vec![
            Property::<Self>::always("Election Safety", |_, s| s.keeps(Violation::ElectionSafety)),
            Property::<Self>::always("Leader Append-Only", |_, s| s.keeps(Violation::AppendOnly)),
            Property::<Self>::always("Log Matching", |_, s| s.keeps(Violation::LogMatching)),
            Property::<Self>::always("Leader Completeness", |_, s| {
                s.keeps(Violation::LeaderCompleteness)
            }),
            Property::<Self>::always("State Machine Safety", |_, s| {
                s.keeps(Violation::StateMachineSafety)
            }),
            Property::<Self>::always("committed means on the disks of a majority", |_, s| {
                s.keeps(Violation::Majority)
            }),
            Property::<Self>::always("nothing promised is forgotten", |_, s| {
                s.keeps(Violation::Promise)
            }),
            Property::<Self>::always("applied means committed and durable", |_, s| {
                s.keeps(Violation::Apply)
            }),
            Property::<Self>::always("nothing impossible is seen", |_, s| {
                s.keeps(Violation::Impossible)
            }),
            Property::<Self>::sometimes("a leader is elected", |_, s| s.leads(1)),
        ];
        let Bounds { candidates, slow_disks, terms, commands, crashes, pre_votes, .. } =
            self.bounds;
        if commands > 0 {
            properties.push(Property::<Self>::sometimes("a command commits", |_, s| {
                s.observer.committed.iter().any(|known| is_command(&known.entry))
            }));
        }
        if terms > 1 {
            properties.extend([
                Property::<Self>::sometimes("a leader of term 2 is elected", |_, s| s.leads(2)),
                Property::<Self>::sometimes(
                    "an entry commits in a later term than its own",
                    |_, s| s.observer.committed.iter().any(|known| known.term > known.entry.term),
                ),
                Property::<Self>::sometimes("two logs conflict", |_, s| s.logs_conflict()),
            ]);
        }
        if terms > 1 && candidates > 1 {
            properties.push(Property::<Self>::sometimes("two leaders at once", |_, s| {
                s.nodes.iter().filter(|node| node.role == Role::Leader).count() > 1
            }));
        }
        if crashes > 0 && slow_disks > 0 {
            properties.extend([
                Property::<Self>::sometimes("a crash loses a write", |_, s| s.observer.lost_write),
                Property::<Self>::sometimes("a crash keeps a part of the writes", |_, s| {
                    s.observer.kept_part
                }),
                Property::<Self>::sometimes(
                    "a crash between a vote request and its write",
                    |_, s| {
                        s.nodes
                            .iter()
                            .zip(1..)
                            .any(|(node, id)| s.vote_requests(id).any(|(term, _)| term > node.term))
                    },
                ),
            ]);
        }
        if crashes > 0 && slow_disks > 0 && candidates > 1 && terms > 1 {
            properties.push(Property::<Self>::sometimes(
                "one server stands twice in a term",
                |_, s| {
                    (1..=SERVERS as u64).any(|id| {
                        let mut requests: Vec<_> = s.vote_requests(id).collect();
                        requests.sort_unstable();
                        requests.dedup();
                        requests.windows(2).any(|pair| pair[0].0 == pair[1].0)
                    })
                },
            ));
        }
        if pre_votes > 0 {
            properties.push(Property::<Self>::sometimes("a pre-vote is refused", |_, s| {
                s.network.iter().any(|envelope| {
                    matches!(envelope.message.body, Body::RequestPreVoteReply(r) if !r.granted)
                })
            }));
        }
        properties
    }
}

impl State {
    fn keeps(&self, rule: Violation) -> bool {
        self.observer.violation != Some(rule)
    }

    fn leads(&self, term: u64) -> bool {
        self.nodes.iter().any(|n| n.role == Role::Leader && n.term == Term::new(term))
    }

    fn logs_conflict(&self) -> bool {
        let differ = |a: &Node, b: &Node| a.log.iter().zip(&b.log).any(|(a, b)| a.term != b.term);
        self.nodes.iter().any(|a| self.nodes.iter().any(|b| differ(a, b)))
    }

    /// The terms in which this server has asked for votes, each time with the end of its log.
    fn vote_requests(&self, id: u64) -> impl Iterator<Item = (Term, raft_core::LogId)> {
        let messages = self.network.iter().map(|envelope| &envelope.message);
        let of_this_server = messages.filter(move |message| message.from == NodeId::new(id));
        of_this_server.filter_map(|message| {
            let Body::RequestVote(request) = &message.body else { return None };
            Some((message.term, request.last_log))
        })
    }

    fn holds(&self, envelope: &Envelope) -> bool {
        self.network.binary_search_by_key(&envelope.digest, |held| held.digest).is_ok()
    }

    fn send(&mut self, sent: &[Arc<Envelope>]) {
        for envelope in sent {
            let place = self.network.binary_search_by_key(&envelope.digest, |held| held.digest);
            if let Err(place) = place {
                Arc::make_mut(&mut self.network).insert(place, Arc::clone(envelope));
                self.network_digest = self.network_digest.wrapping_add(envelope.digest);
            }
        }
    }

    fn digests(&self) -> ([u64; SERVERS], u64) {
        (std::array::from_fn(|at| self.nodes[at].digest), self.network_digest)
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.digests() == other.digests() && self.observer == other.observer
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.digests().hash(hasher);
        self.observer.hash(hasher);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nodes = self.nodes.iter().zip(1..);
        nodes.try_for_each(|(node, id)| writeln!(f, "      server {id}: {node:?}"))
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {} {:?}", self.at + 1, self.input)
    }
}
