//! Pausing, refusals that depend on what exists, events, and the hand-over between two operators.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use rocket_api::{ConditionType, Phase, Reason, RocketCluster, Truth};
use rocket_operator::lease::{Election, End};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{from, in_lab, is, message};

#[test]
fn a_paused_cluster_is_left_alone_until_it_goes_on() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("rest", &json!({})).await;
        lab.until_ready("rest").await;
        lab.edit("rest", &json!({"paused": true, "retention": {"hours": 9}}))
            .await;
        lab.until("rest", "paused", |cluster: &RocketCluster| {
            is(cluster, ConditionType::Paused, Truth::True)
        })
        .await;
        lab.wake("rest").await;
        let text = |map: ConfigMap| map.data.unwrap()["broker.conf"].clone();
        let before = text(lab.config("rest-0").await);
        assert!(before.contains("fileReservedTime=72"), "{before}");
        lab.edit("rest", &json!({"paused": false})).await;
        lab.until_ready("rest").await;
        let after = text(lab.config("rest-0").await);
        assert!(after.contains("fileReservedTime=9"), "{after}");
    });
}

#[test]
fn service_of_a_paused_cluster_leads_to_a_pod_that_was_made_anew() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("rest", &json!({})).await;
        lab.until_ready("rest").await;
        lab.edit("rest", &json!({"paused": true})).await;
        lab.until("rest", "paused", |cluster: &RocketCluster| {
            is(cluster, ConditionType::Paused, Truth::True)
        })
        .await;
        let pods = lab.api::<Pod>();
        let former = pods.get("rest-0-0").await.unwrap().uid();
        pods.delete("rest-0-0", &DeleteParams::default())
            .await
            .unwrap();
        let next = lab
            .until("rest-0-0", "made anew", |pod: &Pod| pod.uid() != former)
            .await;
        let service = lab.api::<Service>().get("rest-0").await.unwrap();
        for (key, value) in service.spec.unwrap().selector.unwrap() {
            assert_eq!(next.labels().get(&key), Some(&value), "{key}");
        }
    });
}

#[test]
fn an_object_of_somebody_else_is_never_taken_over() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        let theirs = json!({"metadata": {"name": "mine-namesrv"}, "spec": {"ports": [{"port": 1}], "selector": {"a": "b"}}});
        lab.api::<Service>()
            .create(&PostParams::default(), &from(theirs))
            .await
            .unwrap();
        lab.create("mine", &json!({})).await;
        let cluster = lab
            .until("mine", "blocked", |cluster: &RocketCluster| {
                is(cluster, ConditionType::Degraded, Truth::True)
            })
            .await;
        assert_eq!(cluster.status.as_ref().unwrap().phase, Phase::Blocked);
        assert!(
            message(&cluster, ConditionType::Ready)
                .contains("Service mine-namesrv exists and does not belong"),
            "{}",
            message(&cluster, ConditionType::Ready)
        );
        assert_eq!(
            lab.api::<Service>()
                .get("mine-namesrv")
                .await
                .unwrap()
                .spec
                .unwrap()
                .selector
                .unwrap()["a"],
            "b"
        );
        lab.api::<Service>()
            .delete("mine-namesrv", &DeleteParams::default())
            .await
            .unwrap();
        lab.until_ready("mine").await;
    });
}

#[test]
fn more_copies_than_a_fixed_master_has_are_refused_in_words_and_nothing_is_made() {
    in_lab(|lab| async move {
        lab.create(
            "safe",
            &json!({"groups": {"replicas": 3}, "replication": {"minInSync": 2}}),
        )
        .await;
        let cluster = lab
            .until("safe", "refused", |cluster: &RocketCluster| {
                is(cluster, ConditionType::Ready, Truth::False)
            })
            .await;
        assert_eq!(
            cluster
                .status
                .as_ref()
                .unwrap()
                .condition(ConditionType::Ready)
                .unwrap()
                .reason,
            Reason::SpecRefused
        );
        assert!(message(&cluster, ConditionType::Ready).contains("leave minInSync out or write 1"));
        assert!(
            lab.api::<StatefulSet>()
                .list(&kube::api::ListParams::default())
                .await
                .unwrap()
                .items
                .is_empty()
        );
    });
}

#[test]
fn decisions_are_events() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("told", &json!({})).await;
        lab.until_ready("told").await;
        lab.wake("told").await;
        let events = lab
            .api::<Event>()
            .list(&kube::api::ListParams::default())
            .await
            .unwrap();
        let notes: Vec<String> = events
            .items
            .into_iter()
            .filter(|event| event.reporting_controller.as_deref() == Some("rocket-operator"))
            .filter_map(|event| event.note)
            .collect();
        for wanted in [
            "recorded told-0-0 as master",
            "made StatefulSet told-0",
            "is Ready: 1 group, 1 broker ready",
        ] {
            assert!(
                notes.iter().any(|note| note.contains(wanted)),
                "{wanted}: {notes:?}"
            );
        }
    });
}

#[test]
fn a_lease_that_is_given_back_is_taken_within_a_look() {
    in_lab(|lab| async move {
        let stop = CancellationToken::new();
        let mut first = Election::new(lab.client.clone(), &lab.namespace, "lease", "first");
        let mut second = Election::new(lab.client.clone(), &lab.namespace, "lease", "second");
        assert!(first.win(&stop).await);
        let waiting = async {
            assert!(second.win(&stop).await);
            Instant::now()
        };
        let leaving = async {
            let leave = CancellationToken::new();
            leave.cancel();
            assert_eq!(first.keep(&leave).await, End::Asked);
            first.release().await.unwrap();
            Instant::now()
        };
        let (taken, released) = tokio::join!(waiting, leaving);
        assert!(
            taken.saturating_duration_since(released)
                < rocket_operator::lease::LOOK + Duration::from_millis(500)
        );
        assert_eq!(first.keep(&stop).await, End::Lost);
    });
}
