//! Forwarded commands and their answer in the wire format.

use alloc::vec::Vec;

use minicbor::Decoder;

use super::error::DecodeError;
use super::fields::{Encoded, Out, close, is_null, open};
use crate::message::{Propose, ProposeRefusal, ProposeReply};
use crate::types::{Index, NodeId, ProposalId, Round, Session};

const TOO_LARGE: u64 = 0;
const LOG_FULL: u64 = 1;
const TOO_MANY_UNCOMMITTED: u64 = 2;
const TRANSFERRING: u64 = 3;

pub(super) fn propose_into<C: AsRef<[u8]>>(e: &mut Out<'_>, propose: &Propose<C>) -> Encoded {
    let Propose { round, session, id, commands } = propose;
    e.array(4)?.u64(session.get())?.u64(round.get())?.u64(id.get())?;
    e.array(commands.len() as u64)?;
    for command in commands {
        e.bytes(command.as_ref())?;
    }
    Ok(())
}

pub(super) fn propose_from<'b, C>(
    d: &mut Decoder<'b>,
    mut command: impl FnMut(&'b [u8]) -> C,
) -> Result<Propose<C>, DecodeError> {
    let unknown = open(d, 4)?;
    let (session, round) = (Session::new(d.u64()?), Round::new(d.u64()?));
    let id = ProposalId::new(d.u64()?);
    let count = open(d, 0)?;
    let commands: Result<Vec<C>, DecodeError> =
        (0..count).map(|_| Ok(command(d.bytes()?))).collect();
    let propose = Propose { round, session, id, commands: commands? };
    close(d, unknown)?;
    Ok(propose)
}

pub(super) fn propose_reply_into(e: &mut Out<'_>, reply: &ProposeReply) -> Encoded {
    let ProposeReply { id, first, appended, refusal } = *reply;
    e.array(4)?.u64(id.get())?.u64(first.get())?.u32(appended)?;
    let (kind, number) = match refusal {
        None => {
            e.null()?;
            return Ok(());
        }
        Some(ProposeRefusal::TooLarge(bytes_max)) => (TOO_LARGE, bytes_max),
        Some(ProposeRefusal::LogFull(bytes_max)) => (LOG_FULL, bytes_max),
        Some(ProposeRefusal::TooManyUncommitted(bytes_max)) => (TOO_MANY_UNCOMMITTED, bytes_max),
        Some(ProposeRefusal::Transferring(to)) => (TRANSFERRING, to.get()),
        Some(ProposeRefusal::Other(kind)) => (kind, 0),
    };
    e.array(2)?.u64(kind)?.u64(number)?;
    Ok(())
}

pub(super) fn propose_reply_from(d: &mut Decoder<'_>) -> Result<ProposeReply, DecodeError> {
    let unknown = open(d, 4)?;
    let (id, first) = (ProposalId::new(d.u64()?), Index::new(d.u64()?));
    let appended = d.u32()?;
    let refusal = if is_null(d)? {
        d.null()?;
        None
    } else {
        let unknown = open(d, 2)?;
        let (kind, number) = (d.u64()?, d.u64()?);
        close(d, unknown)?;
        Some(match kind {
            TOO_LARGE => ProposeRefusal::TooLarge(number),
            LOG_FULL => ProposeRefusal::LogFull(number),
            TOO_MANY_UNCOMMITTED => ProposeRefusal::TooManyUncommitted(number),
            TRANSFERRING => ProposeRefusal::Transferring(NodeId::new(number)),
            kind => ProposeRefusal::Other(kind),
        })
    };
    close(d, unknown)?;
    Ok(ProposeReply { id, first, appended, refusal })
}
