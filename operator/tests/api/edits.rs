//! Every accepted edit takes effect, and what nobody edits is not written.

use std::sync::{Arc, Mutex};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use rocket_api::{ConditionType, RocketBrokerGroup, Truth, label};
use serde_json::{Value, json};

use super::{Lab, in_lab, is, mounted};

#[test]
fn a_cluster_comes_up_and_then_nothing_is_written() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("calm", &json!({"groups": {"count": 2, "replicas": 2}}))
            .await;
        let cluster = lab.until_ready("calm").await;
        let status = cluster.status.as_ref().unwrap();
        assert_eq!(
            (status.groups_ready.as_str(), status.brokers_ready.as_str()),
            ("2/2", "4/4")
        );
        assert_eq!(status.groups[1].master.as_deref(), Some("calm-1-0"));
        let group: RocketBrokerGroup = lab.api().get("calm-1").await.unwrap();
        assert_eq!(
            group.status.as_ref().unwrap().group_uid,
            group.uid().unwrap()
        );
        for (pod, role) in [
            ("calm-0-0", label::ROLE_MASTER),
            ("calm-0-1", label::ROLE_STANDBY),
        ] {
            assert_eq!(
                lab.api::<Pod>().get(pod).await.unwrap().labels()[label::ROLE],
                role
            );
        }
        lab.wake("calm").await;
        let before = lab.writes();
        for _ in 0..3 {
            lab.wake("calm").await;
        }
        assert_eq!(lab.writes() - before, 0, "writes in a steady state");
    });
}

async fn template(lab: &Lab, set: &str) -> Value {
    serde_json::to_value(
        lab.api::<StatefulSet>()
            .get(set)
            .await
            .unwrap()
            .spec
            .unwrap(),
    )
    .unwrap()
}

async fn conf(lab: &Lab) -> String {
    lab.config("edits-0").await.data.unwrap()["broker.conf"].clone()
}

#[test]
fn each_field_of_the_configuration_reaches_the_brokers() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("edits", &json!({})).await;
        lab.until_ready("edits").await;
        for (spec, line) in [
            (json!({"flush": "Async"}), "flushDiskType=ASYNC_FLUSH"),
            (
                json!({"replication": {"mode": "Async"}}),
                "replicationMode=ASYNC",
            ),
            (json!({"retention": {"hours": 5}}), "fileReservedTime=5"),
            (
                json!({"retention": {"deleteAt": "03;15"}}),
                "deleteWhen=03;15",
            ),
            (
                json!({"retention": {"diskHighWatermarkPercent": 60}}),
                "diskMaxUsedSpaceRatio=60",
            ),
            (
                json!({"retention": {"diskRejectPercent": 80}}),
                "diskSpaceWarningLevelRatio=80",
            ),
            (
                json!({"config": {"maxMessageSize": "65536"}}),
                "maxMessageSize=65536",
            ),
            (
                json!({"defaults": {"autoCreateTopics": true}}),
                "autoCreateTopicEnable=true",
            ),
            (
                json!({"defaults": {"autoCreateGroups": false}}),
                "autoCreateSubscriptionGroup=false",
            ),
        ] {
            let former = lab.api::<Pod>().get("edits-0-0").await.unwrap().uid();
            lab.edit("edits", &spec).await;
            lab.until_ready("edits").await;
            let text = conf(&lab).await;
            assert!(
                text.lines().any(|present| present == line),
                "{spec}: {text}"
            );
            assert_ne!(
                lab.api::<Pod>().get("edits-0-0").await.unwrap().uid(),
                former,
                "{spec}: the broker runs with the former file"
            );
        }
    });
}

#[test]
fn file_of_a_broker_that_runs_does_not_change_under_it() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("edits", &json!({})).await;
        lab.until_ready("edits").await;
        // Its pod takes its time to end, and starts its container once more.
        let finalizers = |list: Value| Patch::Merge(json!({"metadata": {"finalizers": list}}));
        let (pods, params) = (lab.api::<Pod>(), PatchParams::default());
        let staying = finalizers(json!(["rocketcluster.test/stays"]));
        pods.patch("edits-0-0", &params, &staying).await.unwrap();
        let former = lab.config("edits-0").await;
        lab.edit("edits", &json!({"config": {"maxMesageSize": "1"}}))
            .await;
        lab.until("edits-0", "asking for another file", |set: &StatefulSet| {
            mounted(set) != former.name_any()
        })
        .await;
        lab.wake("edits").await;
        let kept = lab.api::<ConfigMap>().get(&former.name_any()).await;
        assert_eq!(kept.unwrap().data, former.data);
        let next = conf(&lab).await;
        assert!(next.contains("maxMesageSize=1"), "{next}");
        let leaving = finalizers(Value::Null);
        pods.patch("edits-0-0", &params, &leaving).await.unwrap();
        lab.until_gone::<ConfigMap>(&former.name_any()).await;
    });
}

#[test]
fn each_field_of_the_pods_reaches_the_pods() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("edits", &json!({})).await;
        lab.until_ready("edits").await;
        let pod = "/template/spec";
        for (spec, set, pointer, value) in [
            (
                json!({"version": "0.1.1"}),
                "edits-0",
                format!("{pod}/containers/0/image"),
                json!("rocketcluster/broker:0.1.1"),
            ),
            (
                json!({"image": "registry.test/x:y"}),
                "edits-namesrv",
                format!("{pod}/containers/0/image"),
                json!("registry.test/x:y"),
            ),
            (
                json!({"imagePullPolicy": "Always"}),
                "edits-0",
                format!("{pod}/containers/0/imagePullPolicy"),
                json!("Always"),
            ),
            (
                json!({"imagePullSecrets": [{"name": "pull"}]}),
                "edits-0",
                format!("{pod}/imagePullSecrets/0/name"),
                json!("pull"),
            ),
            (
                json!({"nameServers": {"replicas": 3}}),
                "edits-namesrv",
                "/replicas".into(),
                json!(3),
            ),
            (
                json!({"nameServers": {"resources": {"requests": {"cpu": "10m"}}}}),
                "edits-namesrv",
                format!("{pod}/containers/0/resources/requests/cpu"),
                json!("10m"),
            ),
            (
                json!({"groups": {"resources": {"limits": {"memory": "512Mi"}}}}),
                "edits-0",
                format!("{pod}/containers/0/resources/limits/memory"),
                json!("512Mi"),
            ),
            (
                json!({"groups": {"replicas": 2}}),
                "edits-0",
                "/replicas".into(),
                json!(2),
            ),
            (
                json!({"scheduling": {"nodeSelector": {"disk": "ssd"}}}),
                "edits-0",
                format!("{pod}/nodeSelector/disk"),
                json!("ssd"),
            ),
            (
                json!({"scheduling": {"tolerations": [{"key": "a", "operator": "Exists"}]}}),
                "edits-0",
                format!("{pod}/tolerations/0/key"),
                json!("a"),
            ),
            (
                json!({"scheduling": {"zoneSpread": "Required"}}),
                "edits-0",
                format!("{pod}/topologySpreadConstraints/1/whenUnsatisfiable"),
                json!("DoNotSchedule"),
            ),
            (
                json!({"scheduling": {"priorityClassName": "system-cluster-critical"}}),
                "edits-0",
                format!("{pod}/priorityClassName"),
                json!("system-cluster-critical"),
            ),
            (
                json!({"scheduling": {"priorityClassName": null}}),
                "edits-0",
                format!("{pod}/priorityClassName"),
                Value::Null,
            ),
            (
                json!({"podTemplate": {"metadata": {"labels": {"team": "a"}}}}),
                "edits-0",
                "/template/metadata/labels/team".into(),
                json!("a"),
            ),
            (
                json!({"podTemplate": {"metadata": {"annotations": {"note": "b"}}}}),
                "edits-namesrv",
                "/template/metadata/annotations/note".into(),
                json!("b"),
            ),
            (
                json!({"podTemplate": {"env": [{"name": "ROCKET_LOG", "value": "debug"}]}}),
                "edits-0",
                format!("{pod}/containers/0/env/2/value"),
                json!("debug"),
            ),
            (
                json!({"podTemplate": {"terminationGracePeriodSeconds": 5}}),
                "edits-0",
                format!("{pod}/terminationGracePeriodSeconds"),
                json!(5),
            ),
        ] {
            lab.edit("edits", &spec).await;
            let is_there = |set: &StatefulSet| {
                serde_json::to_value(&set.spec)
                    .unwrap()
                    .pointer(&pointer)
                    .cloned()
                    .unwrap_or_default()
                    == value
            };
            lab.until(set, &spec.to_string(), is_there).await;
            if !spec.to_string().contains("priorityClassName") {
                lab.until_ready("edits").await;
            }
        }
        lab.until_ready("edits").await;
        assert_eq!(
            template(&lab, "edits-0")
                .await
                .pointer("/template/spec/nodeSelector/disk"),
            Some(&json!("ssd"))
        );
    });
}

#[test]
fn fields_that_make_objects_make_and_remove_them() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create(
            "edits",
            &json!({"networkPolicy": {"clients": [{"podLabels": {"a": "b"}}]}}),
        )
        .await;
        lab.until_ready("edits").await;
        let policy = lab
            .api::<NetworkPolicy>()
            .get("edits-broker")
            .await
            .unwrap();
        assert!(
            serde_json::to_string(&policy.spec)
                .unwrap()
                .contains(r#"{"a":"b"}"#)
        );
        lab.edit("edits", &json!({"networkPolicy": {"enabled": false}}))
            .await;
        lab.until_gone::<NetworkPolicy>("edits-broker").await;
        lab.edit("edits", &json!({"monitoring": {"podMonitor": true}}))
            .await;
        lab.until("edits", "missing its PodMonitor", |cluster| {
            is(cluster, ConditionType::ConfigApplied, Truth::False)
                && is(cluster, ConditionType::Ready, Truth::True)
        })
        .await;
    });
}

#[test]
fn what_somebody_else_changed_is_put_right() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("edits", &json!({})).await;
        lab.until_ready("edits").await;
        lab.api::<Service>()
            .delete("edits-0", &DeleteParams::default())
            .await
            .unwrap();
        lab.api::<PodDisruptionBudget>()
            .delete("edits-0", &DeleteParams::default())
            .await
            .unwrap();
        lab.until("edits-0", "back", |service: &Service| {
            service.metadata.deletion_timestamp.is_none()
        })
        .await;
        lab.until("edits-0", "back", |budget: &PodDisruptionBudget| {
            budget.metadata.deletion_timestamp.is_none()
        })
        .await;

        let merge = |value: Value| Patch::Merge(value);
        let params = PatchParams::default();
        lab.api::<StatefulSet>()
            .patch(
                "edits-namesrv",
                &params,
                &merge(json!({"spec": {"replicas": 6}})),
            )
            .await
            .unwrap();
        lab.until(
            "edits-namesrv",
            "two replicas again",
            |set: &StatefulSet| set.spec.as_ref().unwrap().replicas == Some(2),
        )
        .await;
        let file = lab.config("edits-0").await.name_any();
        lab.api::<ConfigMap>()
            .patch(
                &file,
                &params,
                &merge(json!({"data": {"broker.conf": "brokerRole=SLAVE"}})),
            )
            .await
            .unwrap();
        lab.until(&file, "as it was", |map: &ConfigMap| {
            map.data.as_ref().unwrap()["broker.conf"].contains("brokerName=edits-0")
        })
        .await;
        lab.api::<Pod>()
            .patch(
                "edits-0-0",
                &params,
                &merge(json!({"metadata": {"labels": {label::ROLE: "standby"}}})),
            )
            .await
            .unwrap();
        lab.until("edits-0-0", "master again", |pod: &Pod| {
            pod.labels()[label::ROLE] == label::ROLE_MASTER
        })
        .await;
        lab.api::<Service>()
            .patch(
                "edits-0",
                &params,
                &merge(json!({"metadata": {"labels": null}})),
            )
            .await
            .unwrap();
        lab.until("edits-0", "labelled again", |service: &Service| {
            service.labels().contains_key(label::CLUSTER)
        })
        .await;
    });
}

#[test]
fn brokers_are_replaced_one_at_a_time_and_masters_last() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("edits", &json!({"groups": {"count": 2, "replicas": 2}}))
            .await;
        lab.until_ready("edits").await;
        let gone = Arc::new(Mutex::new(Vec::new()));
        let watched = watch_deletions(&lab, 4, Arc::clone(&gone)).await;
        lab.edit("edits", &json!({"retention": {"hours": 7}})).await;
        lab.until_ready("edits").await;
        watched.abort();
        let gone = gone.lock().unwrap().clone();
        assert_eq!(gone, ["edits-0-1", "edits-0-0", "edits-1-1", "edits-1-0"]);
    });
}

/// Notes the brokers in the order in which they are taken away.
pub(super) async fn watch_deletions(
    lab: &Lab,
    brokers: usize,
    gone: Arc<Mutex<Vec<String>>>,
) -> tokio::task::JoinHandle<()> {
    let pods = lab.api::<Pod>();
    let config = watcher::Config::default().labels("app.kubernetes.io/component=broker");
    assert_eq!(
        pods.list(&ListParams::default().labels("app.kubernetes.io/component=broker"))
            .await
            .unwrap()
            .items
            .len(),
        brokers
    );
    let events = watcher(pods, config).default_backoff();
    let (started, ready) = tokio::sync::oneshot::channel();
    let mut started = Some(started);
    #[expect(clippy::disallowed_methods, reason = "the test ends this task itself")]
    let task = tokio::spawn(async move {
        let mut events = events.boxed();
        while let Ok(Some(event)) = events.try_next().await {
            match event {
                watcher::Event::InitDone => drop(started.take().map(|started| started.send(()))),
                watcher::Event::Delete(pod) => gone.lock().unwrap().push(pod.name_any()),
                _ => {}
            }
        }
    });
    ready.await.unwrap();
    task
}
