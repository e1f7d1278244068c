//! The question for a piece of the log: whom it is for, which bytes it means, and what is answered to it.

use bytes::Bytes;
use rocket_protocol::ids::PhysicalOffset;

use super::{Span, Step};
use crate::effect::Effect;
use crate::identity::ReplicaId;
use crate::local::Core;
use crate::messages::{FETCH_BYTES_MAX, Fetch, LinkId, Message, Range};
use crate::mutations::Mutant;
use crate::state::State;

/// Whom to ask: the master, members of S, the others.
pub(super) fn peers(state: &State, me: ReplicaId) -> Vec<ReplicaId> {
    let others = state.replicas.iter();
    let mut others: Vec<ReplicaId> = others
        .filter(|(id, replica)| **id != me && !replica.lost)
        .map(|(id, _)| *id)
        .collect();
    let master = state.master.map(|master| master.replica_id);
    let is_in_sync = |id: &ReplicaId| state.in_sync.iter().any(|member| member.replica_id == *id);
    others.sort_by_key(|id| (Some(*id) != master, !is_in_sync(id), *id));
    others
}

/// The question for a piece; `None` when this log does not say what its bytes are.
pub(super) fn fetch_of(core: &Core, piece: Span) -> Option<Fetch> {
    let (group_uid, _) = core.meta?;
    let last = PhysicalOffset(piece.to.0.checked_sub(1)?);
    let (bytes_epoch, _) = core.log.epochs.at(last)?;
    let length = u32::try_from(piece.to.since(piece.from)).ok()?;
    (piece.to <= core.log.end).then_some(Fetch {
        group_uid,
        offset: piece.from,
        length,
        bytes_epoch,
    })
}

/// Whether this log still has what was asked for, by its own epochs.
pub(super) fn is_still_asked(core: &Core, fetch: &Fetch) -> bool {
    let piece = Span {
        from: fetch.offset,
        to: fetch.offset.plus(u64::from(fetch.length)),
    };
    fetch_of(core, piece).as_ref() == Some(fetch) && fetch.offset >= core.log.min
}

/// §8.15, of whoever is asked: what he answers, or has read to answer.
pub(crate) fn fetched(core: &Core, link: LinkId, fetch: &Fetch) -> Effect {
    let last = u64::from(fetch.length)
        .checked_sub(1)
        .map(|behind| fetch.offset.plus(behind));
    let is_here = last.is_some_and(|last| {
        let entry = core.log.epochs.at(last).map(|(entry, _)| entry);
        let is_same = entry == Some(fetch.bytes_epoch) || core.mutations.has(Mutant::M46);
        core.meta
            .is_some_and(|(group_uid, _)| group_uid == fetch.group_uid)
            && fetch.length <= FETCH_BYTES_MAX
            && fetch.offset >= core.log.min
            && last < core.log.end
            && is_same
    });
    if is_here {
        Effect::Repair(Step::SendRange {
            link,
            fetch: *fetch,
        })
    } else {
        let nothing = Range::of(fetch.offset, Bytes::new());
        Effect::Send(link, Message::Range(nothing))
    }
}
