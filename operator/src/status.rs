//! What is true of a cluster, from what was seen: pure, so that the same observation gives the same words.
//!
//! Nothing here is a live number: a status changes when a fact changes, and is written only then.

mod deletion;
mod facts;
mod news;
#[cfg(test)]
mod tests;
mod troubles;
mod words;

pub use deletion::Deletion;
pub use facts::{Facts, Pass, Problem};
pub use news::news;
pub use troubles::{Trouble, troubles};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rocket_api::{Condition, ConditionType, Endpoints, Phase, RocketClusterStatus, Truth};

use crate::names::selector_text;
use words::Verdict;

/// The status to write. `now` is only used for conditions that changed.
pub fn compute(
    facts: &Facts,
    previous: Option<&RocketClusterStatus>,
    generation: i64,
    now: &Time,
) -> RocketClusterStatus {
    let verdicts = words::verdicts(facts);
    let conditions = ConditionType::ALL
        .into_iter()
        .map(|type_| {
            let verdict = verdicts.of(type_);
            condition(
                type_,
                &verdict,
                previous.and_then(|status| status.condition(type_)),
                generation,
                now,
            )
        })
        .collect();
    let (serving, brokers) = (
        facts.groups.iter().filter(|group| group.serving).count(),
        &facts.brokers,
    );
    RocketClusterStatus {
        observed_generation: generation,
        phase: phase(facts, previous),
        version: version(facts, previous),
        groups: facts
            .groups
            .iter()
            .map(|group| group.summary.clone())
            .collect(),
        group_count: i32::try_from(facts.groups.len()).unwrap_or(i32::MAX),
        groups_ready: format!("{serving}/{}", facts.groups.len()),
        brokers_ready: format!("{}/{}", brokers.ready, brokers.wanted),
        name_servers_ready: format!("{}/{}", facts.name_servers.ready, facts.name_servers.wanted),
        endpoints: Endpoints {
            internal: Some(facts.endpoint.clone()),
        },
        effective: facts
            .effective
            .clone()
            .or_else(|| previous.and_then(|status| status.effective.clone())),
        selector: selector_text(&facts.selector),
        conditions,
    }
}

fn condition(
    type_: ConditionType,
    verdict: &Verdict,
    previous: Option<&Condition>,
    generation: i64,
    now: &Time,
) -> Condition {
    let since = previous
        .filter(|previous| previous.status == verdict.truth)
        .map_or_else(
            || now.clone(),
            |previous| previous.last_transition_time.clone(),
        );
    Condition {
        type_,
        status: verdict.truth,
        reason: verdict.reason,
        message: verdict.message.clone(),
        observed_generation: generation,
        last_transition_time: since,
    }
}

fn phase(facts: &Facts, previous: Option<&RocketClusterStatus>) -> Phase {
    let has_served = previous.is_some_and(|status| {
        !matches!(status.phase, Phase::Creating | Phase::Blocked)
            || status
                .condition(ConditionType::Available)
                .is_some_and(|condition| condition.status == Truth::True)
    });
    if facts.deletion.is_some() {
        Phase::Deleting
    } else if facts.paused {
        Phase::Paused
    } else if facts.is_blocked() {
        Phase::Blocked
    } else if !facts.problems.is_empty() || !facts.failing.is_empty() {
        Phase::Degraded
    } else if !facts.is_available() && !has_served {
        Phase::Creating
    } else if !facts.growing.is_empty()
        || facts.brokers.exist != facts.brokers.wanted
        || facts.name_servers.exist != facts.name_servers.wanted
        || facts.coming().next().is_some()
    {
        Phase::Scaling
    } else if facts.outdated > 0 || !facts.settled {
        Phase::Updating
    } else if facts.is_available() && facts.all_ready() {
        Phase::Healthy
    } else {
        Phase::Degraded
    }
}

/// The release that every pod runs.
fn version(facts: &Facts, previous: Option<&RocketClusterStatus>) -> Option<String> {
    let former = || previous.and_then(|status| status.version.clone());
    if facts.outdated == 0 && facts.settled && facts.all_ready() && !facts.is_blocked() {
        Some(facts.version.clone())
    } else {
        former()
    }
}
