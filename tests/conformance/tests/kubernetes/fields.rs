//! One manifest in which every field is set, and the place on the real cluster where each takes effect.

use serde_json::{Value, json};

use crate::kubernetes::bench::Bench;
use crate::kubernetes::objects::{condition, is_ready, says, small, text};
use crate::kubernetes::space::Space;

/// Every field away from its default, as far as one machine can run it.
fn everything(namespace: &str) -> Value {
    json!({
        "apiVersion": "rocketcluster.io/v1alpha1",
        "kind": "RocketCluster",
        "metadata": {"name": "demo"},
        "spec": {
            "version": "0.1.0",
            "image": "docker.io/rocketcluster/broker:0.1.0",
            "imagePullPolicy": "Never",
            "imagePullSecrets": [{"name": "registry"}],
            "nameServers": {
                "replicas": 1,
                "resources": {"requests": {"cpu": "11m", "memory": "17Mi"}, "limits": {"memory": "129Mi"}},
            },
            "groups": {
                "count": 2,
                "replicas": 2,
                "resources": {"requests": {"cpu": "12m", "memory": "33Mi"}, "limits": {"memory": "513Mi"}},
                "storage": {"size": "300Mi", "className": storage_class(), "reclaim": {"onDelete": "Delete", "onScaleIn": "Delete"}},
            },
            "flush": "Async",
            "replication": {"mode": "Async", "minInSync": 1},
            "retention": {"hours": 5, "deleteAt": "03;15", "diskHighWatermarkPercent": 61, "diskRejectPercent": 81},
            "config": {
                "maxMessageSize": "4096",
                "mappedFileSizeCommitLog": "16777216",
                "mappedFileSizeConsumeQueue": "60000",
                "maxHashSlotNum": "10000",
                "maxIndexNum": "40000",
            },
            "defaults": {"autoCreateTopics": true, "autoCreateGroups": false},
            "scheduling": {
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "messaging", "effect": "NoSchedule"}],
                "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 7, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]}},
                ]}},
                "zoneSpread": "Off",
                "priorityClassName": namespace,
            },
            "podTemplate": {
                "metadata": {"labels": {"team": "payments"}, "annotations": {"example.com/page": "us"}},
                "env": [{"name": "ROCKET_LOG", "value": "info"}],
                "terminationGracePeriodSeconds": 17,
            },
            "monitoring": {"podMonitor": true, "interval": "7s", "labels": {"release": "prometheus"}},
            "networkPolicy": {"enabled": true, "clients": [{"namespaceLabels": {"team": "shop"}, "podLabels": {"mq": "yes"}}]},
            "paused": false,
        },
    })
}

/// The class that has to be named; a user's own Kubernetes may call it otherwise.
fn storage_class() -> String {
    std::env::var("STORAGE_CLASS").unwrap_or_else(|_| "standard".to_owned())
}

/// Paths of the schema that a manifest leaves out.
fn left_out(schema: &Value, manifest: Option<&Value>, path: &str, missing: &mut Vec<String>) {
    let Some(manifest) = manifest else {
        missing.push(path.to_owned());
        return;
    };
    // Kubernetes' own types have many fields; that they arrive whole is what is shown.
    if path.ends_with(".affinity") || path.ends_with(".tolerations") {
        return;
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        left_out(
            field,
            manifest.get(name),
            &format!("{path}.{name}"),
            missing,
        );
    }
    if schema["items"].is_object() {
        left_out(
            &schema["items"],
            manifest.get(0),
            &format!("{path}[]"),
            missing,
        );
    }
}

/// What the Prometheus operator would install, without its rules.
fn pod_monitors() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "podmonitors.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "names": {"kind": "PodMonitor", "plural": "podmonitors", "singular": "podmonitor", "listKind": "PodMonitorList"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    })
}

/// Asserts that an object has these values.
#[track_caller]
fn has(object: &Value, wanted: &[(&str, Value)]) {
    for (pointer, value) in wanted {
        assert_eq!(
            object.pointer(pointer),
            Some(value),
            "{pointer} of {}",
            object["metadata"]["name"]
        );
    }
}

#[test]
fn a_manifest_with_every_field_takes_effect_in_every_field() {
    let Some(space) = Space::new("fields", "every field of a RocketCluster") else {
        return;
    };
    let definition = space.get("crd", "rocketclusters.rocketcluster.io");
    let schema = definition
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
        .unwrap();
    let manifest = everything(&space.name);
    let mut missing = Vec::new();
    left_out(schema, manifest.get("spec"), "spec", &mut missing);
    assert_eq!(
        missing,
        Vec::<String>::new(),
        "fields that the manifest does not set"
    );

    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": space.name}, "value": 1234});
    space.apply(&class);
    let _class = Cleanup {
        space: &space,
        args: ["delete", "priorityclass", &space.name, "--wait=false"],
    };
    space.apply(&manifest);
    let _monitors = pod_monitors_arrive(&space);
    let cluster = space.ready("demo");
    let kept = space.get("rkt", "demo");
    assert_eq!(
        kept["spec"], manifest["spec"],
        "nothing was dropped or changed on the way"
    );
    has(
        &cluster,
        &[
            (
                "/status/effective/image",
                json!("docker.io/rocketcluster/broker:0.1.0"),
            ),
            ("/status/effective/minInSync", json!(1)),
            ("/status/version", json!("0.1.0")),
            ("/status/groupsReady", json!("2/2")),
            ("/status/brokersReady", json!("4/4")),
            ("/metadata/finalizers", json!(["rocketcluster.io/volumes"])),
        ],
    );
    pods_run_as_written(&space);
    brokers_are_configured(&space);
    policies_are_written(&space);
    a_large_message_is_refused(&space);
    volumes_go_with_it(&space);
}

/// Before the kind exists the status says what is missing; when it comes, the PodMonitor is made.
fn pod_monitors_arrive(space: &Space) -> Option<Cleanup<'_>> {
    let mut cleanup = None;
    if space
        .get("crd", "podmonitors.monitoring.coreos.com")
        .is_null()
    {
        let cluster = space.until_one(
            "rkt",
            "demo",
            "says that PodMonitors are missing",
            |cluster| {
                condition(cluster, "ConfigApplied")["reason"] == "PodMonitorMissing"
                    && condition(cluster, "Ready")["status"] == "True"
            },
        );
        assert!(
            text(condition(&cluster, "ConfigApplied"), "/message")
                .contains("install the Prometheus operator or set it to false")
        );
        space.apply(&pod_monitors());
        cleanup = Some(Cleanup {
            space,
            args: [
                "delete",
                "crd",
                "podmonitors.monitoring.coreos.com",
                "--wait=false",
            ],
        });
        space.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd/podmonitors.monitoring.coreos.com",
            "--timeout=60s",
        ]);
        space.kubectl(&["annotate", "rkt", "demo", "example.com/look=again"]);
    }
    let monitor = space.until_one("podmonitors", "demo", "made", Value::is_object);
    has(
        &monitor,
        &[
            ("/metadata/labels/release", json!("prometheus")),
            ("/spec/podMetricsEndpoints/0/interval", json!("7s")),
            ("/spec/podMetricsEndpoints/0/port", json!("metrics")),
            (
                "/spec/selector/matchLabels",
                json!({"rocketcluster.io/cluster": "demo"}),
            ),
        ],
    );
    cleanup
}

/// Takes an object of the whole Kubernetes cluster away again.
struct Cleanup<'a> {
    space: &'a Space,
    args: [&'a str; 4],
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let _ = self.space.ask(&self.args, "");
    }
}

/// imagePull*, image, scheduling, podTemplate, resources: on the pods that run.
fn pods_run_as_written(space: &Space) {
    let pods = space.list("pods");
    assert_eq!(pods.len(), 5, "2 groups of 2, 1 name server");
    for pod in &pods {
        has(
            pod,
            &[
                (
                    "/spec/containers/0/image",
                    json!("docker.io/rocketcluster/broker:0.1.0"),
                ),
                ("/spec/containers/0/imagePullPolicy", json!("Never")),
                ("/spec/imagePullSecrets", json!([{"name": "registry"}])),
                ("/spec/nodeSelector", json!({"kubernetes.io/os": "linux"})),
                (
                    "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight",
                    json!(7),
                ),
                ("/spec/priorityClassName", json!(space.name)),
                ("/spec/priority", json!(1234)),
                ("/metadata/labels/team", json!("payments")),
                ("/metadata/annotations/example.com~1page", json!("us")),
                ("/spec/terminationGracePeriodSeconds", json!(17)),
            ],
        );
        let dedicated = json!({"key": "dedicated", "operator": "Equal", "value": "messaging", "effect": "NoSchedule"});
        assert!(
            pod["spec"]["tolerations"]
                .as_array()
                .is_some_and(|all| all.contains(&dedicated)),
            "{pod}"
        );
        let env = &pod["spec"]["containers"][0]["env"];
        assert!(
            env.as_array()
                .is_some_and(|all| all.contains(&json!({"name": "ROCKET_LOG", "value": "info"}))),
            "{env}"
        );
        let spread = pod["spec"]["topologySpreadConstraints"].as_array().unwrap();
        assert!(
            !spread
                .iter()
                .any(|one| one["topologyKey"] == "topology.kubernetes.io/zone"),
            "zoneSpread is Off: {spread:?}"
        );
        let is_broker = pod["metadata"]["labels"]["app.kubernetes.io/component"] == "broker";
        let resources = if is_broker {
            json!({"requests": {"cpu": "12m", "memory": "33Mi"}, "limits": {"memory": "513Mi"}})
        } else {
            json!({"requests": {"cpu": "11m", "memory": "17Mi"}, "limits": {"memory": "129Mi"}})
        };
        assert_eq!(pod["spec"]["containers"][0]["resources"], resources);
    }
    for claim in space.list("pvc") {
        has(
            &claim,
            &[
                ("/spec/resources/requests/storage", json!("300Mi")),
                ("/spec/storageClassName", json!(storage_class())),
            ],
        );
    }
}

/// flush, replication, retention, defaults, config: in the file that the running brokers read.
fn brokers_are_configured(space: &Space) {
    for group in 0..2 {
        let conf = space.get("cm", &space.config(&format!("demo-{group}")));
        let file = text(&conf, "/data/broker.conf");
        for line in [
            "flushDiskType=ASYNC_FLUSH",
            "replicationMode=ASYNC",
            "totalReplicas=2",
            "fileReservedTime=5",
            "deleteWhen=03;15",
            "diskMaxUsedSpaceRatio=61",
            "diskSpaceWarningLevelRatio=81",
            "autoCreateTopicEnable=true",
            "autoCreateSubscriptionGroup=false",
            "maxMessageSize=4096",
        ] {
            assert!(
                file.lines().any(|present| present == line),
                "{line} in {file}"
            );
        }
        let hash = |object: &Value, pointer: &str| text(object, pointer).to_owned();
        let set = space.get("sts", &format!("demo-{group}"));
        let wanted = hash(
            &set,
            "/spec/template/metadata/annotations/rocketcluster.io~1config-hash",
        );
        for ordinal in 0..2 {
            let pod = space.get("pod", &format!("demo-{group}-{ordinal}"));
            assert_eq!(
                hash(&pod, "/metadata/annotations/rocketcluster.io~1config-hash"),
                wanted
            );
        }
    }
}

fn policies_are_written(space: &Space) {
    let clients = json!([{"namespaceSelector": {"matchLabels": {"team": "shop"}}, "podSelector": {"matchLabels": {"mq": "yes"}}}]);
    let brokers = space.get("netpol", "demo-broker");
    // Brokers too: one that hands over passes on what it is still sent.
    let others = json!({"podSelector": {"matchLabels": {"app.kubernetes.io/component": "broker", "rocketcluster.io/cluster": "demo"}}});
    has(
        &brokers,
        &[
            ("/spec/ingress/0/from/0", clients[0].clone()),
            ("/spec/ingress/0/from/1", others),
            ("/spec/ingress/0/ports/0/port", json!(10911)),
        ],
    );
    let name_servers = space.get("netpol", "demo-namesrv");
    assert_eq!(
        name_servers.pointer("/spec/ingress/0/from/0"),
        clients.get(0)
    );
}

/// config, seen from outside: the broker does what its file says.
fn a_large_message_is_refused(space: &Space) {
    let Some(bench) = Bench::new("config.maxMessageSize in the running broker") else {
        return;
    };
    let small = bench.produce(space, "demo", ("sizes", "small"), 20, 1000);
    assert_eq!(
        (&small["acked"], &small["refused"]),
        (&json!(20), &json!(0)),
        "{small}"
    );
    let large = bench.produce(space, "demo", ("sizes", "large"), 20, 5000);
    assert_eq!(
        (&large["acked"], &large["refused"]),
        (&json!(0), &json!(20)),
        "{large}"
    );
}

/// A master is not scaled away: where the second replica leads, its pod goes, and the first one takes over.
fn first_replicas_lead(space: &Space) {
    for group in ["demo-0", "demo-1"] {
        let (first, second) = (format!("{group}-0"), format!("{group}-1"));
        if space.get("rbg", group)["status"]["masterName"] == *second {
            space.kubectl(&["delete", "pod", &second]);
            space.until_one("rbg", group, "led by its first replica", |record| {
                record["status"]["masterName"] == *first
            });
        }
    }
    space.until_one("rkt", "demo", "whole", |cluster| {
        is_ready(cluster) && says(cluster, "ReplicationHealthy", "True")
    });
}

/// paused, and storage.reclaim of both kinds.
fn volumes_go_with_it(space: &Space) {
    first_replicas_lead(space);
    space.edit("demo", &json!({"paused": true, "groups": {"replicas": 1}}));
    space.until_one("rkt", "demo", "paused", |cluster| {
        condition(cluster, "Paused")["status"] == "True"
    });
    assert_eq!(space.get("sts", "demo-0")["spec"]["replicas"], 2);
    space.edit("demo", &json!({"paused": false}));
    space.until("pvc", "volumes of removed replicas are deleted", |claims| {
        claims.len() == 2
    });
    space.until_one("rkt", "demo", "Ready with one replica", is_ready);
    space.kubectl(&["delete", "rkt", "demo"]);
    space.until("pvc", "all volumes are deleted", <[Value]>::is_empty);
}

#[test]
fn an_empty_specification_is_a_working_cluster() {
    let Some(space) = Space::new("empty", "spec: {}") else {
        return;
    };
    let mut cluster = small("demo");
    cluster["spec"] = json!({});
    let cluster = space.make(&cluster);
    has(
        &cluster,
        &[
            ("/spec/flush", json!("Sync")),
            ("/spec/groups/count", json!(1)),
            ("/spec/groups/storage/size", json!("20Gi")),
            ("/spec/nameServers/replicas", json!(2)),
            ("/spec/defaults/autoCreateTopics", json!(false)),
            ("/status/nameServersReady", json!("2/2")),
        ],
    );
}
