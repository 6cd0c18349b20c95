//! Configurations and what a snapshot stands for, in the wire format.

use alloc::vec::Vec;

use minicbor::Decoder;

use super::error::DecodeError;
use super::fields::{Encoded, Out, close, is_null, log_id_from, log_id_into, open};
use crate::identity::{ClusterIdentity, MemberStore};
use crate::membership::{Member, Membership, Suffrage};
use crate::message::SnapshotMeta;
use crate::types::NodeId;

pub(super) fn snapshot_into(
    e: &mut Out<'_>,
    SnapshotMeta { last, membership }: &SnapshotMeta,
) -> Encoded {
    e.array(cluster_fields(membership).saturating_add(2))?;
    log_id_into(e, *last)?;
    membership_into(e, membership)?;
    cluster_into(e, membership)
}

pub(super) fn snapshot_from(d: &mut Decoder<'_>) -> Result<SnapshotMeta, DecodeError> {
    let unknown = open(d, 2)?;
    let (last, membership) = (log_id_from(d)?, membership_from(d)?);
    let membership = cluster_from(d, unknown, membership)?;
    Ok(SnapshotMeta { last, membership })
}

/// In how many fields a configuration tells of its cluster: what is the default at the end is left
/// out, as by older versions.
pub(super) fn cluster_fields(membership: &Membership) -> u64 {
    match (membership.identity(), membership.version()) {
        (None, 0) => 0,
        (Some(_), 0) => 1,
        _ => 2,
    }
}

/// A configuration's identity and version follow it as the last fields of what holds it.
pub(super) fn cluster_into(e: &mut Out<'_>, membership: &Membership) -> Encoded {
    let fields = cluster_fields(membership);
    if fields > 0 {
        match membership.identity() {
            Some(identity) => e.bytes(&identity.get().to_be_bytes())?,
            None => e.null()?,
        };
    }
    if fields > 1 {
        e.u32(membership.version())?;
    }
    Ok(())
}

/// The configuration with what follows it of its cluster, in `fields` fields, and closes what holds
/// all of them.
pub(super) fn cluster_from(
    d: &mut Decoder<'_>,
    fields: u64,
    membership: Membership,
) -> Result<Membership, DecodeError> {
    let mut membership = membership;
    if fields > 0 {
        membership = membership.identified(identity_from(d)?);
    }
    if fields > 1 {
        membership = membership.at_version(d.u32()?);
    }
    close(d, fields.saturating_sub(2))?;
    Ok(membership)
}

fn identity_from(d: &mut Decoder<'_>) -> Result<Option<ClusterIdentity>, DecodeError> {
    if is_null(d)? {
        d.null()?;
        return Ok(None);
    }
    let malformed = DecodeError::Malformed { offset: d.position() };
    let bytes = <[u8; 16]>::try_from(d.bytes()?).map_err(|_| malformed)?;
    Ok(Some(ClusterIdentity::new(u128::from_be_bytes(bytes))))
}

pub(super) fn membership_into(e: &mut Out<'_>, membership: &Membership) -> Encoded {
    e.array(membership.members().len() as u64)?;
    for Member { id, suffrage, priority, label, store } in membership.members() {
        let suffrage = match suffrage {
            Suffrage::Voter => 0,
            Suffrage::Learner => 1,
            Suffrage::Incoming => 2,
            Suffrage::Outgoing => 3,
            Suffrage::Demoted => 4,
        };
        // Left out where it is unrecorded, as by older versions.
        let fields = if *store == MemberStore::Unrecorded { 4 } else { 5 };
        e.array(fields)?.u64(id.get())?.u8(suffrage)?.u8(*priority)?.bytes(label)?;
        match store {
            MemberStore::Unrecorded => {}
            MemberStore::New => {
                e.null()?;
            }
            MemberStore::Recorded(store) => {
                e.u64(*store)?;
            }
        }
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
    let suffrage = match d.u64()? {
        0 => Suffrage::Voter,
        1 => Suffrage::Learner,
        2 => Suffrage::Incoming,
        3 => Suffrage::Outgoing,
        4 => Suffrage::Demoted,
        _ => return Err(malformed),
    };
    let priority = u8::try_from(d.u64()?).map_err(|_| malformed)?;
    let label = d.bytes()?.to_vec();
    let store = if unknown == 0 {
        MemberStore::Unrecorded
    } else if is_null(d)? {
        d.null()?;
        MemberStore::New
    } else {
        MemberStore::Recorded(d.u64()?)
    };
    close(d, unknown.saturating_sub(1))?;
    Ok(Member { id, suffrage, priority, label, store })
}
