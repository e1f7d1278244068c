//! What must stay when replicas are scaled away.

use rocket_api::GroupRule;

use super::Refusal;
use crate::elected;
use crate::names::Names;
use crate::observe::Observed;
use crate::volumes;

/// A master is not scaled away.
pub(super) fn check_removed(
    replicas: i32,
    index: i32,
    master: Option<i32>,
    rule: GroupRule,
    names: &Names,
) -> Result<(), Refusal> {
    let Some(ordinal) = master.filter(|ordinal| *ordinal >= replicas) else {
        return Ok(());
    };
    let (pod, least) = (names.pod(index, ordinal), ordinal + 1);
    Err(Refusal(match rule {
        GroupRule::Static => format!(
            "groups.replicas: {replicas} would remove {pod}, the master of group {index}, with its messages: write at least {least}"
        ),
        GroupRule::Elected => format!(
            "groups.replicas: {replicas} would remove {pod}, the present master of group {index}: delete that pod, so that another replica becomes master, or write at least {least}"
        ),
    }))
}

/// A replica that has everything, or may be the only one that has, is scaled away only when all that stay have it too, under a
/// master. While the record cannot be read nobody is: any of them may be the one.
pub(super) fn check_left(
    replicas: i32,
    index: i32,
    names: &Names,
    observed: &Observed,
) -> Result<(), Refusal> {
    let group = names.group(index);
    if !elected::is_usable(&group, observed) {
        let least = volumes::running(names, index, observed);
        return if least > replicas && volumes::has_claims(names, index, observed) {
            Err(Refusal(format!(
                "groups.replicas: {replicas} would remove replicas of group {index} while its record is lost and nobody knows who has everything: write {least}, have the record made anew (a RocketOperation of type Rebuild, docs/failover.md), and wait until all are in sync"
            )))
        } else {
            Ok(())
        };
    }
    let Some(state) = observed.state(&group) else {
        return Ok(());
    };
    let complete = elected::in_sync(state, index, names);
    if state.master.is_some() && (0..replicas).all(|ordinal| complete.contains(&ordinal)) {
        return Ok(());
    }
    let mut needed = elected::needed(state);
    if state.in_sync.is_empty() && !state.last_complete.is_empty() {
        // §8.14 takes the one that has the most, of all that answer.
        let volumes = volumes::pods(names, index, observed);
        let is_there = |pod: &str| volumes.contains(pod) || observed.pod(pod).is_some();
        let known = state.replicas.values().filter(|replica| !replica.lost);
        let known = known.map(|replica| replica.name.as_str());
        needed.extend(known.filter(|pod| is_there(pod)));
    }
    let ordinals = needed.iter().filter_map(|pod| names.ordinal(index, pod));
    match ordinals.max().filter(|ordinal| *ordinal >= replicas) {
        Some(last) => Err(Refusal(format!(
            "groups.replicas: {replicas} would remove a replica of group {index} that is in sync, or may have what nobody else has, while there is no master or one that stays is not in sync: write at least {} until there is a master and all are in sync",
            last + 1
        ))),
        None => Ok(()),
    }
}
