//! Configurations and what a snapshot stands for, in the wire format.

use alloc::vec::Vec;

use minicbor::Decoder;

use super::{DecodeError, Encoded, Out, close, log_id_from, log_id_into, open};
use crate::membership::{Member, Membership, Seat};
use crate::output::SnapshotMeta;
use crate::types::NodeId;

pub(super) fn snapshot_into(
    e: &mut Out<'_>,
    SnapshotMeta { last, membership }: &SnapshotMeta,
) -> Encoded {
    e.array(2)?;
    log_id_into(e, *last)?;
    membership_into(e, membership)
}

pub(super) fn snapshot_from(d: &mut Decoder<'_>) -> Result<SnapshotMeta, DecodeError> {
    let unknown = open(d, 2)?;
    let snapshot = SnapshotMeta { last: log_id_from(d)?, membership: membership_from(d)? };
    close(d, unknown)?;
    Ok(snapshot)
}

pub(super) fn membership_into(e: &mut Out<'_>, membership: &Membership) -> Encoded {
    e.array(membership.members().len() as u64)?;
    for Member { id, seat, priority, label } in membership.members() {
        let seat = match seat {
            Seat::Voter => 0,
            Seat::Learner => 1,
            Seat::Incoming => 2,
            Seat::Outgoing => 3,
            Seat::Demoted => 4,
        };
        e.array(4)?.u64(id.get())?.u8(seat)?.u8(*priority)?.bytes(label)?;
    }
    Ok(())
}

pub(super) fn membership_from(d: &mut Decoder<'_>) -> Result<Membership, DecodeError> {
    let malformed = DecodeError::Malformed { offset: d.position() };
    let count = open(d, 0)?;
    let members: Result<Vec<_>, _> = (0..count).map(|_| member_from(d)).collect();
    Membership::of_members(members?).map_err(|_| malformed)
}

fn member_from(d: &mut Decoder<'_>) -> Result<Member, DecodeError> {
    let unknown = open(d, 4)?;
    let id = NodeId::new(d.u64()?);
    let malformed = DecodeError::Malformed { offset: d.position() };
    let seat = match d.u8()? {
        0 => Seat::Voter,
        1 => Seat::Learner,
        2 => Seat::Incoming,
        3 => Seat::Outgoing,
        4 => Seat::Demoted,
        _ => return Err(malformed),
    };
    let (priority, label) = (d.u8()?, d.bytes()?.to_vec());
    close(d, unknown)?;
    Ok(Member { id, seat, priority, label })
}
