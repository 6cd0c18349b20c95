//! Sentences that say what must be true now.

use alloc::format;
use alloc::vec::Vec;
use core::fmt::Debug;

use super::actions::such;
use super::host::Host;
use super::sentence::{Sentence, sentence};
use super::stage::{ReadOutcome, Stage};
use super::words::{Held, NamedEntry, Values};
use super::{Command, Told, tell};
use crate::{Entry, HardState, Index, Message, NodeId, Role, Term};

pub(super) const EXPECTATIONS: &[Sentence] = &[
    sentence("expect N leads term COUNT", "It is the leader of that term.", |stage, values| {
        let id = values.server();
        is_role(stage, id, Role::Leader)?;
        in_term(stage, id, values.count())
    }),
    sentence(
        "expect N is ROLE",
        "Of `follower`, `pre-candidate`, `candidate`, `leader`.",
        |stage, values| is_role(stage, values.server(), values.role()),
    ),
    sentence("expect N.. is|are in term COUNT", "By their own word.", |stage, values| {
        let (ids, term) = (values.servers(), values.count());
        ids.into_iter().try_for_each(|id| in_term(stage, id, term))
    }),
    sentence(
        "expect N.. follow|follows N",
        "They know that leader of their term.",
        |stage, values| {
            let (ids, leader) = (values.servers(), values.server());
            ids.into_iter().try_for_each(|id| follows(stage, id, leader))
        },
    ),
    sentence("expect nobody leads", "No server that runs is a leader.", |stage, _| {
        let all = stage.all();
        same("leaders", leaders(stage, &all), Vec::new())
    }),
    sentence(
        "expect one of N.. leads",
        "One of them is the leader, and the only one among them.",
        |stage, values| one_leads(stage, &values.servers()),
    ),
    sentence("expect N runs", "It is up.", |stage, values| stage.raft(values.server()).map(drop)),
    sentence("expect N stopped", "By itself, after a failed write.", |stage, values| {
        same("stopped", stage.host(values.server()).stopped, true)
    }),
    sentence("expect N stored term COUNT vote N", "So says its disk.", |stage, values| {
        let (id, term, vote) = (values.server(), values.count(), values.server());
        stored(stage, id, term, Some(vote))
    }),
    sentence("expect N stored term COUNT no vote", "So says its disk.", |stage, values| {
        let (id, term) = (values.server(), values.count());
        stored(stage, id, term, None)
    }),
    sentence(
        "expect N.. stored ENTRIES..",
        "This is the log on the disk of each.",
        |stage, values| each_log(stage, values, |host| &host.stored.entries),
    ),
    sentence("expect N stored no entry", "The log on its disk is empty.", |stage, values| {
        same_log(&stage.host(values.server()).stored.entries, &[])
    }),
    sentence(
        "expect COUNT write|writes wait|waits at N's disk",
        "Asked for, and not done.",
        |stage, values| {
            let count = values.count();
            same("writes waiting", stage.host(values.server()).writes.len() as u64, count)
        },
    ),
    sentence(
        "expect N.. log ENTRIES..",
        "This is the log of each, whether or not its disk has it.",
        |stage, values| each_log(stage, values, |host| &host.written.entries),
    ),
    sentence("expect N log is empty", "It has no entry.", |stage, values| {
        same_log(&stage.host(values.server()).written.entries, &[])
    }),
    sentence(
        "expect N.. commit COUNT",
        "The last index that each knows to be committed.",
        |stage, values| {
            let (ids, index) = (values.servers(), values.count());
            ids.into_iter().try_for_each(|id| committed(stage, id, index))
        },
    ),
    sentence(
        "expect N.. applied COMMAND..",
        "The state machine of each has seen these in this life, and no others.",
        |stage, values| applied(stage, values.servers(), &values.commands()),
    ),
    sentence("expect N.. applied nothing", "No command.", |stage, values| {
        applied(stage, values.servers(), &[])
    }),
    sentence(
        "expect N's state machine is handed COUNT entry|entries",
        "That it has not applied yet.",
        |stage, values| {
            let handed = stage.host(values.server()).handed.len() as u64;
            same("entries handed", handed, values.count())
        },
    ),
    sentence(
        "expect N knows N holds COUNT",
        "The leader counts that follower as holding its log up to this index.",
        |stage, values| knows(stage, values),
    ),
    sentence("expect in flight N -> N KIND DETAILS..", "Such a message is.", |stage, values| {
        in_flight(stage, such(values), true)
    }),
    sentence(
        "expect no N -> N KIND DETAILS.. in flight",
        "No such message is.",
        |stage, values| in_flight(stage, such(values), false),
    ),
    sentence(
        "expect nothing in flight",
        "Nobody has said anything that was not heard or lost.",
        |stage, _| none_in_flight(stage, |_, _| true),
    ),
    sentence("expect nothing in flight N -> N", "From one to the other.", |stage, values| {
        let link = (values.server(), values.server());
        none_in_flight(stage, |from, to| (from, to) == link)
    }),
    sentence("expect nothing in flight from N", "To anybody.", |stage, values| {
        let id = values.server();
        none_in_flight(stage, |from, _| from == id)
    }),
    sentence("expect read NAME waits", "Neither served nor lost.", |stage, values| {
        read_is(stage, &values.name(), ReadOutcome::Waits)
    }),
    sentence("expect read NAME lost", "The server does not lead any more.", |stage, values| {
        read_is(stage, &values.name(), ReadOutcome::Lost)
    }),
    sentence(
        "expect read NAME served at COUNT",
        "From a state that includes this index.",
        |stage, values| {
            let name = values.name();
            read_is(stage, &name, ReadOutcome::Served(Index::new(values.count())))
        },
    ),
    sentence("expect N refuses reads", "Because it does not lead.", |stage, values| {
        refuses_reads(stage, values.server())
    }),
    sentence("expect N refuses COMMAND..", "Because it does not lead.", |stage, values| {
        refuses(stage, values.server(), values.commands())
    }),
    sentence(
        "expect N counted COUNT NAME",
        "Of what it should not have been told: `malformed`, `stale-replies`, `stale-term`, `protocol-violations`, `api-misuse`.",
        |stage, values| counted(stage, values.server(), values.count(), &values.name()),
    ),
];

fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Told {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, not {expected:?}")) }
}

fn is_role(stage: &Stage, id: NodeId, role: Role) -> Told {
    let found = stage.raft(id)?.role();
    if found == role {
        return Ok(());
    }
    Err(format!("{id} is {}, not {}", tell::role(found), tell::role(role)))
}

fn in_term(stage: &Stage, id: NodeId, term: u64) -> Told {
    same(&format!("the term of {id}"), stage.raft(id)?.term().get(), term)
}

fn follows(stage: &Stage, id: NodeId, leader: NodeId) -> Told {
    is_role(stage, id, Role::Follower)?;
    let known = stage.raft(id)?.leader().map(NodeId::get);
    same(&format!("the leader that {id} follows"), known, Some(leader.get()))
}

fn leaders(stage: &Stage, among: &[NodeId]) -> Vec<u64> {
    let leads = |id: &NodeId| stage.raft(*id).is_ok_and(|raft| raft.role() == Role::Leader);
    among.iter().copied().filter(leads).map(NodeId::get).collect()
}

fn one_leads(stage: &Stage, among: &[NodeId]) -> Told {
    same("how many lead", leaders(stage, among).len(), 1)
}

fn stored(stage: &Stage, id: NodeId, term: u64, vote: Option<NodeId>) -> Told {
    let found = stage.host(id).stored.hard_state;
    let expected = HardState { current_term: Term::new(term), voted_for: vote, ..found };
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (tell::hard_state(&found), tell::hard_state(&expected));
    Err(format!("on the disk of {id}: {found}; not {expected}"))
}

fn same_log(found: &[Entry<Command>], expected: &[NamedEntry]) -> Told {
    let named = found.iter().map(|entry| (entry.term, Held::of(&entry.payload)));
    if named.eq(expected.iter().cloned()) {
        return Ok(());
    }
    Err(format!("the log is {}", tell::entries(found)))
}

fn each_log(stage: &Stage, values: &mut Values, log: fn(&Host) -> &[Entry<Command>]) -> Told {
    let (ids, expected) = (values.servers(), values.entries());
    let mut ids = ids.into_iter();
    ids.try_for_each(|id| {
        same_log(log(stage.host(id)), &expected).map_err(|e| format!("{id}: {e}"))
    })
}

fn committed(stage: &Stage, id: NodeId, index: u64) -> Told {
    let found = stage.raft(id)?.status().commit_index.get();
    same(&format!("the commit index of {id}"), found, index)
}

fn applied(stage: &Stage, servers: Vec<NodeId>, expected: &[Command]) -> Told {
    for id in servers {
        let found = &stage.host(id).applied;
        if found != expected {
            return Err(format!("{id} applied {}", tell::commands(found)));
        }
    }
    Ok(())
}

fn knows(stage: &Stage, values: &mut Values) -> Told {
    let (id, peer, index) = (values.server(), values.server(), values.count());
    let peers = stage.raft(id)?.status().peers;
    let known = peers.iter().find(|status| status.id == peer);
    let known = known.ok_or_else(|| format!("{id} does not lead {peer}"))?;
    same(&format!("what {id} knows {peer} to hold"), known.match_index.get(), index)
}

fn in_flight(stage: &Stage, such: impl Fn(&Message<Command>) -> bool, expected: bool) -> Told {
    match (stage.in_flight.iter().find(|message| such(message)), expected) {
        (Some(_), true) | (None, false) => Ok(()),
        (Some(message), false) => Err(format!("in flight is {}", tell::message(message))),
        (None, true) => Err("no such message is in flight".into()),
    }
}

fn none_in_flight(stage: &Stage, on_link: impl Fn(NodeId, NodeId) -> bool) -> Told {
    in_flight(stage, |message| on_link(message.from, message.to), false)
}

fn read_is(stage: &Stage, name: &str, expected: ReadOutcome) -> Told {
    let read = stage.reads.get(name).ok_or_else(|| format!("no read is called {name}"))?;
    same(&format!("read {name}"), read.outcome, expected)
}

fn refuses_reads(stage: &mut Stage, id: NodeId) -> Told {
    match stage.raft_mut(id)?.read() {
        Err(_) => Ok(()),
        Ok(_) => Err(format!("{id} accepts a read")),
    }
}

fn refuses(stage: &mut Stage, id: NodeId, commands: Vec<Command>) -> Told {
    for command in commands {
        if let Ok((term, index)) = stage.raft_mut(id)?.propose(command) {
            return Err(format!("{id} accepts it as entry {index} of term {term}"));
        }
    }
    Ok(())
}

fn counted(stage: &Stage, id: NodeId, expected: u64, counter: &str) -> Told {
    let counters = stage.raft(id)?.status().counters;
    let found = match counter {
        "malformed" => counters.malformed,
        "stale-replies" => counters.stale_replies,
        "stale-term" => counters.stale_term,
        "protocol-violations" => counters.protocol_violations,
        "api-misuse" => counters.api_misuse,
        "sticky-refusals" => counters.sticky_refusals,
        _ => return Err(format!("servers do not count {counter}")),
    };
    same(&format!("{counter} at {id}"), found, expected)
}
