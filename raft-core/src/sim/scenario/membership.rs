//! Sentences about changes of membership (§6) and transfers of leadership (thesis 3.10).

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::sentence::{Sentence, sentence};
use super::stage::Stage;
use super::{Told, tell};
use crate::{Change, Membership, NodeId, Suffrage};

pub(super) const MEMBERSHIP: &[Sentence] = &[
    sentence("wipe N", "A server that is down gets a new disk.", |stage, values| {
        stage.wipe(values.server())
    }),
    sentence("N adds learner N", "The leader accepts that change.", |stage, values| {
        let (id, learner) = (values.server(), values.server());
        change(stage, id, &[Change::add_learner(learner, "")])
    }),
    sentence(
        "N promotes N..",
        "The leader accepts that learners become voters.",
        |stage, values| {
            let (id, promoted) = (values.server(), values.servers());
            change(stage, id, &promote(promoted))
        },
    ),
    sentence("N removes N..", "The leader accepts that members leave.", |stage, values| {
        let (id, removed) = (values.server(), values.servers());
        change(stage, id, &remove(removed))
    }),
    sentence("N promotes N.. and removes N..", "Both in one change.", |stage, values| {
        let (id, promoted, removed) = (values.server(), values.servers(), values.servers());
        change(stage, id, &[promote(promoted), remove(removed)].concat())
    }),
    sentence(
        "N changes members CHANGE..",
        "The leader accepts these steps in one change.",
        |stage, values| {
            let (id, changes) = (values.server(), values.changes());
            change(stage, id, &changes)
        },
    ),
    sentence("expect N refuses to remove N", "The leader says why not.", |stage, values| {
        let (id, removed) = (values.server(), vec![values.server()]);
        refuses(stage, id, &remove(removed))
    }),
    sentence("expect N refuses to promote N", "The leader says why not.", |stage, values| {
        let (id, promoted) = (values.server(), vec![values.server()]);
        refuses(stage, id, &promote(promoted))
    }),
    sentence(
        "expect N.. has|have voters N..",
        "So says the newest configuration in the log of each, which is not joint.",
        |stage, values| {
            let (ids, voters) = (values.servers(), values.servers());
            each(stage, ids, |members| {
                !members.is_joint() && tell::of_suffrage(members, Suffrage::Voter) == voters
            })
        },
    ),
    sentence(
        "expect N.. has|have learners N..",
        "So says the newest configuration in the log of each.",
        |stage, values| {
            let (ids, learners) = (values.servers(), values.servers());
            each(stage, ids, |members| tell::of_suffrage(members, Suffrage::Learner) == learners)
        },
    ),
    sentence(
        "expect N.. is|are in a joint configuration",
        "A change of voters is under way in the log of each.",
        |stage, values| each(stage, values.servers(), Membership::is_joint),
    ),
    sentence("N transfers to N", "The leader accepts to hand over.", |stage, values| {
        let (id, to) = (values.server(), values.server());
        transfer(stage, id, Some(to))
    }),
    sentence(
        "N hands over",
        "The leader accepts to hand over, to whom it finds best.",
        |stage, values| transfer(stage, values.server(), None),
    ),
];

fn promote(ids: Vec<NodeId>) -> Vec<Change> {
    ids.into_iter().map(Change::Promote).collect()
}

fn remove(ids: Vec<NodeId>) -> Vec<Change> {
    ids.into_iter().map(Change::Remove).collect()
}

fn change(stage: &mut Stage, id: NodeId, changes: &[Change]) -> Told {
    let accepted = stage.raft_mut(id)?.change_membership(changes);
    accepted.map_err(|refused| refused.to_string())?;
    stage.turn(id)
}

fn transfer(stage: &mut Stage, id: NodeId, to: Option<NodeId>) -> Told {
    let accepted = stage.raft_mut(id)?.transfer_leadership(to);
    accepted.map_err(|refused| refused.to_string())?;
    stage.turn(id)
}

fn refuses(stage: &mut Stage, id: NodeId, changes: &[Change]) -> Told {
    match stage.raft_mut(id)?.change_membership(changes) {
        Err(refused) => {
            stage.events.push(format!("{id} refuses: {refused}"));
            Ok(())
        }
        Ok((term, index)) => Err(format!("{id} accepts it as entry {index} of term {term}")),
    }
}

fn each(stage: &Stage, ids: Vec<NodeId>, holds: impl Fn(&Membership) -> bool) -> Told {
    for id in ids {
        let membership = stage.raft(id)?.status().membership;
        if !holds(&membership) {
            return Err(format!("{id} knows {}", tell::membership(&membership)));
        }
    }
    Ok(())
}
