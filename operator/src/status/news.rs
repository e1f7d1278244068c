//! What people should hear about a changed status: conditions that turned, and troubles that were not there before.

use rocket_api::{Condition, ConditionType, Reason, RocketClusterStatus, Truth};

use super::troubles::Trouble;
use crate::context::Decision;

/// What is new in a status since the previous one. `troubles`: those that it tells of.
pub fn news(
    previous: Option<&RocketClusterStatus>,
    status: &RocketClusterStatus,
    troubles: &[Trouble],
) -> Vec<Decision> {
    const TOLD: [ConditionType; 4] = [
        ConditionType::Ready,
        ConditionType::Available,
        ConditionType::Degraded,
        ConditionType::Paused,
    ];
    let has_turned = |condition: &&Condition| match previous
        .and_then(|status| status.condition(condition.type_))
    {
        None => condition.status == Truth::True,
        Some(former) => former.status != condition.status,
    };
    // Each trouble is told when it comes, below.
    let is_degraded = |condition: &&Condition| {
        condition.type_ == ConditionType::Degraded && condition.status == Truth::True
    };
    let turned = status
        .conditions
        .iter()
        .filter(|condition| TOLD.contains(&condition.type_) && !is_degraded(condition))
        .filter(has_turned);
    let turned = turned.map(decision);
    turned.chain(come(previous, status, troubles)).collect()
}

fn decision(condition: &Condition) -> Decision {
    let is_good = (condition.status == Truth::True)
        != matches!(
            condition.type_,
            ConditionType::Degraded | ConditionType::Paused
        );
    let verb = if condition.status == Truth::True {
        "is"
    } else {
        "is not"
    };
    Decision {
        warning: !is_good && condition.type_ != ConditionType::Paused,
        reason: condition.reason,
        action: condition.type_.as_str(),
        note: format!("{verb} {}: {}", condition.type_.as_str(), condition.message),
        about: None,
    }
}

/// Troubles of which the former status did not tell, an event for each reason: of one reason Kubernetes keeps the first event's
/// words.
fn come(
    previous: Option<&RocketClusterStatus>,
    status: &RocketClusterStatus,
    troubles: &[Trouble],
) -> Vec<Decision> {
    let (former, present) = (previous.map_or("", sentence), sentence(status));
    let is_new = |message: &str| present.contains(message) && !former.contains(message);
    let mut new: Vec<(Reason, Vec<&str>)> = Vec::new();
    for trouble in troubles.iter().filter(|trouble| is_new(&trouble.message)) {
        match new.last_mut() {
            Some((reason, messages)) if *reason == trouble.reason => {
                messages.push(&trouble.message);
            }
            _ => new.push((trouble.reason, vec![trouble.message.as_str()])),
        }
    }
    let type_ = ConditionType::Degraded.as_str();
    let told = new.into_iter().map(|(reason, messages)| Decision {
        warning: true,
        reason,
        action: type_,
        note: format!("is {type_}: {}", messages.join("; ")),
        about: None,
    });
    told.collect()
}

/// What a status tells of troubles.
fn sentence(status: &RocketClusterStatus) -> &str {
    let degraded = status.condition(ConditionType::Degraded);
    degraded
        .filter(|condition| condition.status == Truth::True)
        .map_or("", |condition| condition.message.as_str())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::super::{Facts, Problem, compute, troubles};
    use super::*;

    fn status(facts: &Facts, previous: Option<&RocketClusterStatus>) -> RocketClusterStatus {
        let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        compute(facts, previous, 1, &now)
    }

    #[test]
    fn each_trouble_is_an_event_when_it_comes_whatever_was_there_before() {
        let mut facts = Facts::default();
        let mut last = status(&facts, None);
        let mut next = |facts: &Facts| {
            let present = status(facts, Some(&last));
            let told = news(Some(&last), &present, &troubles(facts));
            last = present;
            let told = told.into_iter().filter(|told| told.action == "Degraded");
            told.map(|told| (told.reason, told.note))
                .collect::<Vec<_>>()
        };
        assert!(next(&facts).is_empty());
        let small = Problem::VolumeResizeRefused("the volume stays".into());
        facts.problems.push(small);
        let told = "is Degraded: the volume stays".to_owned();
        assert_eq!(next(&facts), [(Reason::VolumeResizeRefused, told)]);
        assert!(next(&facts).is_empty());
        facts
            .problems
            .push(Problem::RecordUnusable("no record".into()));
        let told = "is Degraded: no record".to_owned();
        assert_eq!(next(&facts), [(Reason::RecordUnusable, told)]);
        // Less grave than what is there: the word of the condition stays.
        facts.failing = vec!["a: CrashLoopBackOff".into(), "b: ErrImagePull".into()];
        let told = "is Degraded: a: CrashLoopBackOff; b: ErrImagePull".to_owned();
        assert_eq!(next(&facts), [(Reason::PodFailing, told)]);
        facts.failing.pop();
        facts.problems.pop();
        assert!(next(&facts).is_empty(), "what is left was told");
        facts = Facts::default();
        let told = "is not Degraded: nothing is wrong".to_owned();
        assert_eq!(next(&facts), [(Reason::AsExpected, told)]);
    }

    #[test]
    fn a_first_status_tells_what_holds() {
        let facts = Facts {
            problems: vec![Problem::Refused("no".into())],
            ..Facts::default()
        };
        let first = status(&facts, None);
        let told = news(None, &first, &troubles(&facts));
        let told: Vec<(&str, bool)> = told.iter().map(|it| (it.action, it.warning)).collect();
        assert_eq!(told, [("Degraded", true)]);
    }
}
