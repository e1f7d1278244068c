//! Reconciles beside what others do to the same objects: Kubernetes' controllers and kubelets, admission, people.

use rocket_api::label;

use super::*;

/// What Kubernetes would do: it looks at each StatefulSet, and has its pods ready.
pub(super) fn play_kubernetes(server: &mut Server) {
    let sets = server.objects.iter();
    let sets: Vec<(String, Value)> = sets
        .filter(|(path, _)| path.contains("/statefulsets/"))
        .map(|(path, set)| (path.clone(), set.clone()))
        .collect();
    for (path, set) in sets {
        let replicas = set["spec"]["replicas"].as_i64().unwrap();
        let live = server.objects.get_mut(&path).unwrap();
        live["status"] = json!({"replicas": replicas, "updateRevision": "r"});
        for ordinal in 0..replicas {
            let name = format!("{}-{ordinal}", set["metadata"]["name"].as_str().unwrap());
            let pod = format!("/api/v1/namespaces/mq/pods/{name}");
            let mut metadata = set["spec"]["template"]["metadata"].clone();
            metadata["labels"]["controller-revision-hash"] = json!("r");
            metadata["labels"][label::ROLE] = json!(label::ROLE_MASTER);
            metadata["name"] = json!(name);
            metadata["uid"] = json!(uid(&pod));
            metadata["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": set["metadata"]["name"], "uid": set["metadata"]["uid"], "controller": true}]);
            let status = json!({"phase": "Running", "podIP": format!("10.0.0.{ordinal}"), "conditions": [{"type": "Ready", "status": "True"}]});
            let made = json!({"metadata": metadata, "status": status});
            server.objects.entry(pod).or_insert(made);
        }
    }
}

/// Truth, reason and message of a condition.
pub(super) fn condition<'a>(objects: &'a BTreeMap<String, Value>, type_: &str) -> [&'a str; 3] {
    let conditions = objects[CLUSTER]["status"]["conditions"].as_array().unwrap();
    let mut found = conditions.iter().filter(|it| it["type"] == type_);
    let found = found.next().unwrap();
    ["status", "reason", "message"].map(|field| found[field].as_str().unwrap())
}

#[test]
fn what_admission_changes_is_named_and_does_not_keep_a_cluster_from_being_ready() {
    let server = Server {
        admission: Some(|path, object| {
            if path.contains("/statefulsets/") {
                object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("mirror/b:1");
            }
        }),
        ..Server::default()
    };
    let settings = Settings::default();
    let reconciling = reconcile_among(server, false, settings, 4, json!({}), play_kubernetes);
    let (writes, objects) = block_on(reconciling);
    let [ready, _, message] = condition(&objects, "Ready");
    assert_eq!(ready, "True", "{message}");
    let [applied, reason, message] = condition(&objects, "ConfigApplied");
    assert_eq!((applied, reason), ("False", "ObjectsMutated"), "{message}");
    let place = "spec.template.spec.containers[broker].image of StatefulSet orders-0";
    assert!(message.contains(place), "{message}");
    let told = writes[3].iter().filter(|write| write.ends_with("/status"));
    assert_eq!(told.count(), 0, "{:?}", writes[3]);
}

#[test]
fn a_write_that_no_pod_has_to_take_up_does_not_make_a_cluster_unready() {
    const BUDGET: &str = "/apis/policy/v1/namespaces/mq/poddisruptionbudgets/orders-0";
    let mut passes = 0;
    let others = |server: &mut Server| {
        play_kubernetes(server);
        passes += 1;
        if passes == 3 {
            server.objects.remove(BUDGET).unwrap();
        }
    };
    let settings = Settings::default();
    let reconciling = reconcile_among(Server::default(), false, settings, 4, json!({}), others);
    let (writes, objects) = block_on(reconciling);
    assert_eq!(writes[2], Vec::<String>::new());
    assert_eq!(writes[3], [format!("PATCH {BUDGET}")]);
    assert_eq!(condition(&objects, "Ready")[0], "True");
}

#[test]
fn a_service_leads_no_longer_to_a_pod_that_is_gone_when_nobody_is_elected() {
    const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/mq/endpointslices/orders-0-master";
    let led_to_a_former_pod = |patience| {
        let mut passes = 0;
        let others = move |server: &mut Server| {
            passes += 1;
            if passes > 1 {
                return;
            }
            let home = address::Home {
                pod: "orders-0-1".into(),
                uid: "former".into(),
                ip: "10.0.0.2".into(),
                node: None,
            };
            let address = address::Address { epoch: 3, home };
            let cluster = server.objects[CLUSTER].clone();
            let cluster = serde_json::from_value(cluster).unwrap();
            let names = validate::names(&cluster, &Settings::default());
            let slice = build::master_address(&names, "u", 0, &address).object;
            server.objects.insert(SLICE.to_owned(), slice);
        };
        let server = Server {
            patience,
            ..Server::default()
        };
        let spec = json!({"groups": {"replicas": 3}});
        let reconciling = reconcile_among(server, false, Settings::default(), 3, spec, others);
        block_on(reconciling).1.contains_key(SLICE)
    };
    assert!(led_to_a_former_pod(None), "the next master may come");
    assert!(!led_to_a_former_pod(Some(Duration::ZERO)));
}

/// With pods there are volumes, and a record without a state would be taken for one that is lost.
#[test]
fn no_pod_is_made_before_the_record_of_its_group_is_known_to_be_written() {
    const RECORD: &str =
        "/apis/rocketcluster.io/v1alpha1/namespaces/mq/rocketbrokergroups/orders-0";
    for replicas in [1, 3] {
        let server = Server {
            conflict: Some(format!("PUT {RECORD}/status")),
            ..Server::default()
        };
        let spec = json!({"groups": {"replicas": replicas}});
        let reconciling = reconcile_among(server, false, Settings::default(), 2, spec, |_| {});
        let (writes, objects) = block_on(reconciling);
        let sets = |pass: usize| {
            writes[pass]
                .iter()
                .filter(|it| it.ends_with("sets/orders-0"))
        };
        assert_eq!(sets(0).count(), 0, "{:?}", writes[0]);
        assert_eq!(sets(1).count(), 1, "{:?}", writes[1]);
        assert!(objects[RECORD]["status"].is_object());
    }
}
