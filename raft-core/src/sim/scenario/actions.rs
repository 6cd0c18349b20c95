//! Sentences that make something happen.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::forgery::forge;
use super::sentence::{Sentence, sentence};
use super::stage::Stage;
use super::words::Values;
use super::{Command, Told, tell};
use crate::{Index, LogId, Message, NodeId, Role};

pub(super) const ACTIONS: &[Sentence] = &[
    // Elections.
    sentence("N campaigns", "Its election timer fires.", |stage, values| {
        stage.campaign(values.server())
    }),
    sentence(
        "N is elected by N..",
        "These miss their leader, it campaigns, they vote, it leads. Its requests to others are lost.",
        |stage, values| elect(stage, values.server(), &values.servers()),
    ),
    sentence(
        "N.. miss|misses its|their leader",
        "So long silence that they take their leader for dead; they do not campaign yet.",
        |stage, values| each(stage, values.servers(), Stage::miss_leader),
    ),
    // Time.
    sentence("N sends heartbeats", "The leader's heartbeat timer fires.", |stage, values| {
        send_heartbeats(stage, values.server())
    }),
    sentence(
        "time passes SPAN",
        "On all clocks. Timers fire as they come; nothing is heard meanwhile.",
        |stage, values| {
            let all = stage.all();
            stage.pass(values.span(), &all, false)
        },
    ),
    sentence(
        "time passes SPAN for N..",
        "The same, on the clocks of these alone.",
        |stage, values| stage.pass(values.span(), &values.servers(), false),
    ),
    sentence(
        "all run for SPAN",
        "Time passes, and all messages are heard at once.",
        |stage, values| {
            let all = stage.all();
            stage.pass(values.span(), &all, true)
        },
    ),
    sentence(
        "N.. run|runs for SPAN",
        "The same for these alone: they do not hear the others.",
        |stage, values| run(stage, &values.servers(), values.span()),
    ),
    // Messages.
    sentence(
        "N.. hear|hears N..",
        "All that is in flight from the latter to the former is heard, in order.",
        |stage, values| hear(stage, &values.servers(), &values.servers()),
    ),
    sentence(
        "N hears N's KIND DETAILS..",
        "Of what is in flight between them, such messages are heard.",
        hear_kind,
    ),
    sentence(
        "all talk",
        "Whatever is in flight is heard, and the answers to it, until nothing is in flight.",
        |stage, _| {
            let all = stage.all();
            stage.talk(&all)
        },
    ),
    sentence(
        "N.. talk",
        "The same among these alone; what they say to others stays in flight.",
        |stage, values| stage.talk(&values.servers()),
    ),
    sentence("drop N -> N", "What is in flight from one to the other is lost.", |stage, values| {
        let (from, to) = (values.server(), values.server());
        drop_those(stage, |m| m.from == from && m.to == to)
    }),
    sentence("drop N -> N KIND DETAILS..", "Of that, such messages are lost.", |stage, values| {
        let is_it = such(values);
        drop_those(stage, is_it)
    }),
    sentence("drop all from N", "What it has sent is lost.", |stage, values| {
        let from = values.server();
        drop_those(stage, |m| m.from == from)
    }),
    sentence("drop all to N", "What was sent to it is lost.", |stage, values| {
        let to = values.server();
        drop_those(stage, |m| m.to == to)
    }),
    sentence("drop everything", "All that is in flight is lost, if anything is.", |stage, _| {
        stage.in_flight.clear();
        Ok(())
    }),
    sentence(
        "copy N -> N KIND DETAILS.. as NAME",
        "The network will repeat this message, which is the only such one in flight.",
        |stage, values| {
            let found = find(stage, such(values))?;
            keep(stage, found, values.name())
        },
    ),
    sentence(
        "delay N -> N KIND DETAILS.. as NAME",
        "This message, the only such one in flight, will be heard late.",
        |stage, values| {
            let found = take(stage, such(values))?;
            keep(stage, found, values.name())
        },
    ),
    sentence(
        "deliver NAME",
        "A message that was copied or delayed is heard; it can be again.",
        |stage, values| deliver(stage, &values.name()),
    ),
    sentence(
        "forge N -> N KIND DETAILS..",
        "The latter hears a message that the former never sent. From here on oddities are only counted.",
        forge,
    ),
    // Disks.
    sentence("hold N's disk", "It does no write until told to.", |stage, values| {
        stage.host_mut(values.server()).disk_held = true;
        Ok(())
    }),
    sentence(
        "N's disk does COUNT write|writes",
        "The oldest that wait; the server is told of each.",
        |stage, values| write(stage, values.server(), values.count()),
    ),
    sentence(
        "N's disk does all writes",
        "Those that wait; the server is told of each.",
        |stage, values| {
            let id = values.server();
            let count = stage.host(id).writes.len() as u64;
            write(stage, id, count)
        },
    ),
    sentence(
        "N's disk does COUNT write|writes unreported",
        "They are durable, and the server is not told.",
        |stage, values| {
            let id = values.server();
            (0..values.count()).try_for_each(|_| stage.write_next(id).map(drop))
        },
    ),
    sentence(
        "N's disk reports its last write",
        "The server is told of the last that was done, and so of all before.",
        |stage, values| report(stage, values.server()),
    ),
    sentence(
        "release N's disk",
        "It does all writes that wait, and every later one at once.",
        |stage, values| release_disk(stage, values.server()),
    ),
    sentence(
        "N's next write fails",
        "And the host stops the server, as hosts must.",
        |stage, values| {
            stage.host_mut(values.server()).disk_fails = true;
            Ok(())
        },
    ),
    // Processes.
    sentence(
        "N suspects N",
        "Its transport says that the process of that server is gone.",
        |stage, values| {
            let (id, suspect) = (values.server(), values.server());
            stage.raft_mut(id)?.suspect_leader(suspect);
            stage.turn(id)
        },
    ),
    sentence("N abstains", "Its host has it keep its vote to itself.", |stage, values| {
        abstain(stage, values.server(), true)
    }),
    sentence("N votes again", "It abstains no more.", |stage, values| {
        abstain(stage, values.server(), false)
    }),
    sentence("crash N", "It is killed. Writes that wait at its disk are lost.", |stage, values| {
        stage.crash(values.server(), 0)
    }),
    sentence(
        "crash N keeping COUNT write|writes",
        "It is killed. Of the writes that wait, so many, the oldest, are on the disk all the same.",
        |stage, values| stage.crash(values.server(), values.count() as usize),
    ),
    sentence("restart N", "It starts from what is on its disk.", |stage, values| {
        stage.start(values.server())
    }),
    sentence(
        "restart N with leases",
        "The same, with leases from now on, whatever it had before.",
        |stage, values| {
            let id = values.server();
            stage.settings.without_lease.retain(|other| *other != id);
            stage.settings.with_lease.push(id);
            stage.start(id)
        },
    ),
    sentence(
        "restart N without leases",
        "The same, without leases from now on.",
        |stage, values| {
            let id = values.server();
            stage.settings.with_lease.retain(|other| *other != id);
            stage.settings.without_lease.push(id);
            stage.start(id)
        },
    ),
    sentence(
        "N's loop pauses",
        "What comes in is taken in, but the host neither ticks nor carries anything out.",
        |stage, values| {
            stage.host_mut(values.server()).paused = true;
            Ok(())
        },
    ),
    sentence("N's loop goes on", "It ticks, and carries out what it owes.", |stage, values| {
        let id = values.server();
        stage.host_mut(id).paused = false;
        stage.turn(id)
    }),
    // Clients and state machines.
    sentence(
        "N proposes COMMAND..",
        "The leader accepts these commands, one by one, in one turn of its loop.",
        |stage, values| propose(stage, values.server(), values.commands()),
    ),
    sentence("N starts read NAME", "A linearizable read is accepted.", |stage, values| {
        stage.start_read(values.server(), values.name())
    }),
    sentence("hold N's state machine", "It applies nothing until told to.", |stage, values| {
        stage.host_mut(values.server()).state_machine_held = true;
        Ok(())
    }),
    sentence(
        "N's state machine applies COUNT entry|entries",
        "The oldest that it was handed, reported one by one.",
        |stage, values| {
            let id = values.server();
            stage.apply(id, values.count() as usize)?;
            stage.turn(id)
        },
    ),
    sentence(
        "N's state machine claims to have applied COUNT",
        "The host says so of this index, whether or not it was handed out.",
        |stage, values| claim_applied(stage, values.server(), values.count()),
    ),
];

fn each(stage: &mut Stage, servers: Vec<NodeId>, act: fn(&mut Stage, NodeId) -> Told) -> Told {
    servers.into_iter().try_for_each(|id| act(stage, id))
}

fn elect(stage: &mut Stage, candidate: NodeId, voters: &[NodeId]) -> Told {
    each(stage, voters.to_vec(), Stage::miss_leader)?;
    stage.campaign(candidate)?;
    let is_about_votes = |m: &Message<Command>| tell::kind(&m.body).contains("Vote");
    // A pre-vote and a vote, each asked for and answered.
    for _ in 0..2 {
        for (from, to) in [(&[candidate][..], voters), (voters, &[candidate][..])] {
            let between = |m: &Message<Command>| from.contains(&m.from) && to.contains(&m.to);
            for message in stage.take(|m| is_about_votes(m) && between(m)) {
                stage.deliver(message)?;
            }
        }
    }
    stage.take(|m| is_about_votes(m) && m.from == candidate);
    let role = stage.raft(candidate)?.role();
    if role == Role::Leader {
        return Ok(());
    }
    Err(format!("{candidate} is not elected: it is {}", tell::role(role)))
}

fn send_heartbeats(stage: &mut Stage, id: NodeId) -> Told {
    let raft = stage.raft(id)?;
    if raft.role() != Role::Leader {
        return Err(format!("{id} does not lead"));
    }
    let span = raft.config().heartbeat_interval;
    stage.jump(id, span)
}

fn run(stage: &mut Stage, among: &[NodeId], span: Duration) -> Told {
    stage.pass(span, among, true)?;
    stage.take(|m| among.contains(&m.from) && !among.contains(&m.to));
    Ok(())
}

fn hear(stage: &mut Stage, hearers: &[NodeId], speakers: &[NodeId]) -> Told {
    let heard = stage.take(|m| hearers.contains(&m.to) && speakers.contains(&m.from));
    if heard.is_empty() {
        return Err("there is nothing to hear".into());
    }
    heard.into_iter().try_for_each(|message| stage.deliver(message))
}

fn hear_kind(stage: &mut Stage, values: &mut Values) -> Told {
    let (to, from) = (values.server(), values.server());
    let is_it = matching(from, to, values.name(), values.words());
    let heard = stage.take(is_it);
    if heard.is_empty() {
        return Err("no such message is in flight".into());
    }
    heard.into_iter().try_for_each(|message| stage.deliver(message))
}

/// `N -> N KIND DETAILS..`
pub(super) fn such(values: &mut Values) -> impl Fn(&Message<Command>) -> bool + use<> {
    let (from, to) = (values.server(), values.server());
    matching(from, to, values.name(), values.words())
}

/// Whether a message is of that kind and its description has all these words, in their order.
fn matching(
    from: NodeId,
    to: NodeId,
    kind: String,
    details: Vec<String>,
) -> impl Fn(&Message<Command>) -> bool {
    move |message| {
        let description = tell::message(message);
        let mut words = description.split(' ');
        let described = details.iter().all(|detail| words.any(|word| word == detail));
        message.from == from && message.to == to && tell::kind(&message.body) == kind && described
    }
}

fn drop_those(stage: &mut Stage, is_it: impl Fn(&Message<Command>) -> bool) -> Told {
    let lost = stage.take(is_it);
    if lost.is_empty() {
        return Err("no such message is in flight".into());
    }
    stage.events.extend(lost.iter().map(|message| format!("lost: {}", tell::message(message))));
    Ok(())
}

fn find(
    stage: &Stage,
    is_it: impl Fn(&Message<Command>) -> bool,
) -> Result<Message<Command>, String> {
    let found: Vec<_> = stage.in_flight.iter().filter(|message| is_it(message)).collect();
    match found[..] {
        [only] => Ok(only.clone()),
        _ => Err(format!("{} such messages are in flight, not one", found.len())),
    }
}

fn take(
    stage: &mut Stage,
    is_it: impl Fn(&Message<Command>) -> bool,
) -> Result<Message<Command>, String> {
    let found = find(stage, &is_it)?;
    stage.take(is_it);
    Ok(found)
}

fn keep(stage: &mut Stage, message: Message<Command>, name: String) -> Told {
    stage.kept.insert(name, message);
    Ok(())
}

fn deliver(stage: &mut Stage, name: &str) -> Told {
    let message = stage.kept.get(name).cloned();
    stage.deliver(message.ok_or_else(|| format!("no message is kept as {name}"))?)
}

fn write(stage: &mut Stage, id: NodeId, count: u64) -> Told {
    for _ in 0..count {
        let write = stage.write_next(id)?;
        stage.report(id, write)?;
        stage.turn(id)?;
    }
    Ok(())
}

fn report(stage: &mut Stage, id: NodeId) -> Told {
    let write = stage.host(id).unreported;
    stage.report(id, write.ok_or_else(|| format!("the disk of {id} has nothing to report"))?)?;
    stage.turn(id)
}

fn release_disk(stage: &mut Stage, id: NodeId) -> Told {
    stage.host_mut(id).disk_held = false;
    let count = stage.host(id).writes.len() as u64;
    write(stage, id, count)
}

fn abstain(stage: &mut Stage, id: NodeId, abstains: bool) -> Told {
    stage.raft_mut(id)?.abstain(abstains);
    stage.turn(id)
}

fn propose(stage: &mut Stage, id: NodeId, commands: Vec<Command>) -> Told {
    for command in commands {
        let words = tell::command(&command);
        let (term, index) =
            stage.raft_mut(id)?.propose(command).map_err(|refused| refused.to_string())?;
        stage.events.push(format!("{id} accepts {words} as entry {}", LogId::new(term, index)));
    }
    stage.turn(id)
}

fn claim_applied(stage: &mut Stage, id: NodeId, index: u64) -> Told {
    stage.tolerate_oddities();
    stage.raft_mut(id)?.applied(Index::new(index));
    stage.turn(id)
}
