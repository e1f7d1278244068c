//! Whole reconciles against a small API server in memory, which keeps what is applied and counts what is written.

mod beside;
mod deletion;

use std::collections::BTreeMap;

use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use prometheus::Registry;
use rocket_coordinator::kubernetes::status_of;
use rocket_replication::memory;
use serde_json::Value;
use tower_test::mock;

use super::*;
use crate::metrics::Metrics;
use crate::validate::Settings;

/// Objects by path, as `/apis/apps/v1/namespaces/mq/statefulsets/orders-0`.
#[derive(Default)]
struct Server {
    objects: BTreeMap<String, Value>,
    writes: Vec<String>,
    version: u64,
    /// What a mutating webhook makes of what is written.
    admission: Option<fn(&str, &mut Value)>,
    /// A write that is refused once, as somebody else has changed the object meanwhile.
    conflict: Option<String>,
    /// Whether the first group had an elector after the last pass.
    is_electing: bool,
    /// How long a Service leads to a pod that is gone, if that is not as ever.
    patience: Option<Duration>,
}

impl Server {
    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let missing = json!({"kind": "Status", "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404});
        if *method != Method::GET && !path.contains("/events") {
            let write = format!("{method} {path}");
            self.writes.push(write.clone());
            if self
                .conflict
                .take_if(|conflict| *conflict == write)
                .is_some()
            {
                let conflict = json!({"kind": "Status", "status": "Failure", "message": "changed", "reason": "Conflict", "code": 409});
                return (StatusCode::CONFLICT, conflict);
            }
        }
        let (object, part) = path
            .strip_suffix("/status")
            .map_or((path, None), |object| (object, Some("status")));
        match *method {
            Method::GET if path.contains("monitoring.coreos.com") => {
                (StatusCode::NOT_FOUND, missing)
            }
            Method::GET if is_list(path) => {
                let prefix = format!("{path}/");
                let items: Vec<&Value> = self
                    .objects
                    .range(prefix.clone()..)
                    .take_while(|(key, _)| key.starts_with(&prefix))
                    .map(|(_, item)| item)
                    .collect();
                (
                    StatusCode::OK,
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
                )
            }
            Method::GET => self
                .objects
                .get(object)
                .map_or((StatusCode::NOT_FOUND, missing), |found| {
                    (StatusCode::OK, found.clone())
                }),
            Method::PATCH | Method::PUT => {
                let sent: Value = serde_json::from_slice(body).unwrap();
                let former = self.objects.get(object).cloned();
                let made = || json!({"metadata": {"uid": uid(object)}});
                let mut kept = former.clone().unwrap_or_else(made);
                match part {
                    Some(part) => kept[part] = sent[part].clone(),
                    None => merge(&mut kept, &sent),
                }
                if let Some(admit) = self.admission {
                    admit(object, &mut kept);
                }
                if former.as_ref() != Some(&kept) {
                    self.version += 1;
                    kept["metadata"]["resourceVersion"] = json!(self.version.to_string());
                }
                self.objects.insert(object.to_owned(), kept.clone());
                (StatusCode::OK, kept)
            }
            Method::DELETE => {
                self.objects.remove(object);
                (
                    StatusCode::OK,
                    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 200}),
                )
            }
            Method::POST if path.ends_with("/secrets") => {
                let mut sent: Value = serde_json::from_slice(body).unwrap();
                let object = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap());
                sent["metadata"]["uid"] = json!(uid(&object));
                self.objects.insert(object, sent.clone());
                (StatusCode::CREATED, sent)
            }
            _ => (
                StatusCode::CREATED,
                serde_json::from_slice(body).unwrap_or_default(),
            ),
        }
    }
}

fn uid(object: &str) -> String {
    format!("{:032x}", crate::drift::stable_hash(object.as_bytes()))
}

fn is_list(path: &str) -> bool {
    path.rsplit_once("/namespaces/mq/")
        .is_some_and(|(_, rest)| !rest.contains('/'))
}

fn merge(kept: &mut Value, sent: &Value) {
    match (kept, sent) {
        (Value::Object(kept), Value::Object(sent)) => sent
            .iter()
            .for_each(|(key, value)| merge(kept.entry(key).or_insert(Value::Null), value)),
        (kept, sent) => *kept = sent.clone(),
    }
}

const CLUSTER: &str = "/apis/rocketcluster.io/v1alpha1/namespaces/mq/rocketclusters/orders";
const RECORD: &str = "/apis/rocketcluster.io/v1alpha1/namespaces/mq/rocketbrokergroups/orders-0";

/// Reconciles `passes` times; returns the writes of each pass and what is there at the end.
async fn reconcile_times(
    passes: usize,
    spec: Value,
) -> (Vec<Vec<String>>, BTreeMap<String, Value>) {
    reconcile_with(Settings::default(), passes, spec).await
}

async fn reconcile_with(
    settings: Settings,
    passes: usize,
    spec: Value,
) -> (Vec<Vec<String>>, BTreeMap<String, Value>) {
    reconcile_beside(BTreeMap::new(), settings, passes, spec).await
}

/// The same where `others` have objects.
async fn reconcile_beside(
    others: BTreeMap<String, Value>,
    settings: Settings,
    passes: usize,
    spec: Value,
) -> (Vec<Vec<String>>, BTreeMap<String, Value>) {
    reconcile_as(false, others, settings, passes, spec).await
}

/// The same as an operator that stands by, or leads.
async fn reconcile_as(
    is_standby: bool,
    others: BTreeMap<String, Value>,
    settings: Settings,
    passes: usize,
    spec: Value,
) -> (Vec<Vec<String>>, BTreeMap<String, Value>) {
    let server = Server {
        objects: others,
        ..Server::default()
    };
    reconcile_among(server, is_standby, settings, passes, spec, |_| {}).await
}

/// The same on a server of which others make something after each pass.
async fn reconcile_among(
    mut server: Server,
    is_standby: bool,
    settings: Settings,
    passes: usize,
    spec: Value,
    mut others: impl FnMut(&mut Server),
) -> (Vec<Vec<String>>, BTreeMap<String, Value>) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let cluster = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": "orders", "namespace": "mq", "uid": "u", "generation": 1}, "spec": spec});
    server.objects.insert(CLUSTER.to_owned(), cluster.clone());
    let patience = server.patience;
    let server = Arc::new(parking_lot::Mutex::new(server));
    let answering = Arc::clone(&server);
    let serve = async move {
        while let Some((request, respond)) = handle.next_request().await {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let (status, answer) = answering
                .lock()
                .answer(&head.method, head.uri.path(), &body);
            respond.send_response(
                Response::builder()
                    .status(status)
                    .body(Body::from(serde_json::to_vec(&answer).unwrap()))
                    .unwrap(),
            );
        }
    };
    let work = async {
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        let client = Client::new(service, "mq");
        let mut context = Context::new(client, settings, metrics, None);
        context.patience = patience.unwrap_or(context.patience);
        context.stand_by(is_standby);
        let context = Arc::new(context);
        let seen: Arc<RocketCluster> = Arc::new(serde_json::from_value(cluster).unwrap());
        let mut writes = Vec::new();
        for _ in 0..passes {
            reconcile(Arc::clone(&seen), Arc::clone(&context))
                .await
                .unwrap();
            writes.push(std::mem::take(&mut server.lock().writes));
            server.lock().is_electing = context.elections.has("mq", "orders-0");
            others(&mut server.lock());
        }
        writes
    };
    let writes = tokio::select! {
        writes = work => writes,
        () = serve => Vec::new(),
    };
    let objects = std::mem::take(&mut server.lock().objects);
    (writes, objects)
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn the_first_reconcile_writes_everything_and_the_third_nothing() {
    let (writes, objects) = block_on(reconcile_times(3, json!({"groups": {"count": 2}})));
    assert_eq!(objects.len() - 1, 5 + 2 * 9 + 2, "{:?}", objects.keys());
    // The second one only says that what was written has arrived.
    assert_eq!(writes[1], [format!("PATCH {CLUSTER}/status")]);
    assert_eq!(writes[2], Vec::<String>::new());
}

#[test]
fn operator_that_stands_by_reconciles_nothing() {
    let standing_by = reconcile_as(true, BTreeMap::new(), Settings::default(), 2, json!({}));
    let (writes, objects) = block_on(standing_by);
    assert_eq!(writes, [Vec::<String>::new(), Vec::new()]);
    assert_eq!(objects.len(), 1, "the cluster alone");
}

#[test]
fn the_record_of_a_group_is_written_before_its_pods() {
    let (writes, objects) = block_on(reconcile_times(1, json!({})));
    let place = |part: &str| {
        writes[0]
            .iter()
            .position(|write| write.contains(part))
            .unwrap()
    };
    assert!(place("rocketbrokergroups/orders-0/status") < place("configmaps/orders-0-config"));
    assert!(place("configmaps/orders-0-config") < place("statefulsets/orders-0"));
    let group =
        &objects["/apis/rocketcluster.io/v1alpha1/namespaces/mq/rocketbrokergroups/orders-0"];
    assert_eq!(
        (&group["status"]["masterName"], &group["status"]["groupUid"]),
        (&json!("orders-0-0"), &group["metadata"]["uid"])
    );
}

#[test]
fn groups_that_elect_begin_with_a_secret_and_a_record_that_is_nobodys() {
    let settings = Settings {
        elections: true,
        ..Settings::default()
    };
    let spec = json!({"groups": {"replicas": 3}});
    let (writes, objects) = block_on(reconcile_with(settings, 3, spec));
    let place = |part: &str| {
        writes[0]
            .iter()
            .position(|write| write.contains(part))
            .unwrap()
    };
    assert!(place("/secrets") < place("statefulsets/orders-0"));
    assert!(place("rocketbrokergroups/orders-0/status") < place("statefulsets/orders-0"));
    let group =
        &objects["/apis/rocketcluster.io/v1alpha1/namespaces/mq/rocketbrokergroups/orders-0"];
    let status = &group["status"];
    assert_eq!(
        (&status["rule"], &status["minInSync"], status.get("master")),
        (&json!("Elected"), &json!(2), None)
    );
    assert_eq!(status["groupUid"], group["metadata"]["uid"]);
    let secret = &objects["/api/v1/namespaces/mq/secrets/orders-replication"];
    let text = secret["stringData"]["secret"].as_str().unwrap();
    assert_eq!(text.len(), 64);
    assert_eq!(writes[2], Vec::<String>::new());
}

/// A record of the first group that elected its first replica, with these replicas in sync.
fn record_of(in_sync: &[u32]) -> (String, Value) {
    let owner = json!([{"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "name": "orders", "uid": "u", "controller": true}]);
    let mut state = memory::group(3);
    state.in_sync = in_sync.iter().copied().map(memory::member).collect();
    state.last_complete = state
        .in_sync
        .iter()
        .map(|member| member.replica_id)
        .collect();
    let record = json!({"metadata": {"name": "orders-0", "namespace": "mq", "uid": "00000000-0000-0000-0000-000000000009", "ownerReferences": owner}, "spec": {"cluster": "orders", "index": 0}, "status": status_of(&state).unwrap()});
    (RECORD.to_owned(), record)
}

#[test]
fn copies_that_nobody_asked_for_are_demanded_when_they_are_there() {
    let needed = |in_sync: &[u32], spec: Value| {
        let others = [record_of(in_sync)].into();
        let reconciling = reconcile_beside(others, Settings::default(), 2, spec);
        let (_, objects) = block_on(reconciling);
        let told = &objects[CLUSTER]["status"]["effective"]["minInSync"];
        let recorded = &objects[RECORD]["status"]["minInSync"];
        (recorded.as_i64().unwrap(), told.as_i64().unwrap())
    };
    let three = json!({"groups": {"replicas": 3}});
    let asked = json!({"groups": {"replicas": 3}, "replication": {"minInSync": 2}});
    assert_eq!(needed(&[1], three.clone()), (1, 1), "it takes writes");
    assert_eq!(needed(&[1, 2], three), (2, 2));
    assert_eq!(needed(&[1], asked), (2, 2));
}

#[test]
fn first_status_of_a_cluster_that_elects_speaks_of_no_standby() {
    let settings = Settings {
        elections: true,
        ..Settings::default()
    };
    let spec = json!({"groups": {"replicas": 3}});
    let (_, objects) = block_on(reconcile_with(settings, 1, spec));
    let conditions = objects[CLUSTER]["status"]["conditions"].to_string();
    assert!(
        conditions.contains("0 of 3 replicas are in sync"),
        "{conditions}"
    );
    assert!(!conditions.contains("StandbysHoldNoData"), "{conditions}");
}

#[test]
fn no_pod_is_made_beside_a_secret_of_somebody_else() {
    const SECRET: &str = "/api/v1/namespaces/mq/secrets/orders-replication";
    let theirs = json!({"metadata": {"name": "orders-replication", "uid": "theirs"}});
    let others = [(SECRET.to_owned(), theirs.clone())].into();
    let spec = json!({"groups": {"replicas": 3}});
    let settings = Settings {
        elections: true,
        ..Settings::default()
    };
    let reconciling = reconcile_beside(others, settings, 1, spec);
    let (_, objects) = block_on(reconciling);
    assert_eq!(objects[SECRET], theirs);
    assert!(!objects.keys().any(|path| path.contains("statefulsets")));
    let conditions = objects[CLUSTER]["status"]["conditions"].to_string();
    assert!(
        conditions.contains("Secret orders-replication exists and does not belong"),
        "{conditions}"
    );
}

#[test]
fn a_refused_or_paused_cluster_gets_a_status_and_nothing_else() {
    for spec in [
        json!({"groups": {"replicas": 3}, "replication": {"minInSync": 4}}),
        json!({"paused": true}),
    ] {
        let (writes, _) = block_on(reconcile_times(2, spec));
        assert_eq!(
            writes,
            [vec![format!("PATCH {CLUSTER}/status")], Vec::new()]
        );
    }
}

/// Its pod was made anew, and got its address when the election was over.
#[test]
fn labels_and_addresses_follow_the_record_of_a_paused_or_refused_cluster() {
    const POD: &str = "/api/v1/namespaces/mq/pods/orders-0-0";
    const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/mq/endpointslices/orders-0-master";
    let owner = json!([{"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "name": "orders", "uid": "u", "controller": true}]);
    let record = json!({"metadata": {"name": "orders-0", "namespace": "mq", "uid": "00000000-0000-0000-0000-000000000009", "ownerReferences": owner}, "spec": {"cluster": "orders", "index": 0}, "status": status_of(&memory::group(3)).unwrap()});
    let pod = json!({"metadata": {"name": "orders-0-0", "namespace": "mq", "uid": "p", "labels": {"rocketcluster.io/group": "0"}}, "status": {"phase": "Running", "podIP": "10.0.0.7"}});
    for spec in [
        json!({"groups": {"replicas": 3}, "replication": {"minInSync": 4}}),
        json!({"groups": {"replicas": 3}, "paused": true}),
    ] {
        let others = [
            (RECORD.to_owned(), record.clone()),
            (POD.to_owned(), pod.clone()),
        ];
        let reconciling = reconcile_beside(others.into(), Settings::default(), 2, spec);
        let (writes, objects) = block_on(reconciling);
        let paths = [POD, SLICE].map(|path| format!("PATCH {path}"));
        assert_eq!(writes[0][..2], paths);
        assert_eq!(
            objects[POD]["metadata"]["labels"]["rocketcluster.io/role"],
            "master"
        );
        let slice = &objects[SLICE];
        assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.0.0.7"]));
        let again = writes[1].iter().find(|write| paths.contains(write));
        assert_eq!(again, None);
    }
}

/// A node that is drained while nothing is carried out.
#[test]
fn evictions_follow_the_copies_of_a_paused_or_refused_cluster() {
    const SET: &str = "/apis/apps/v1/namespaces/mq/statefulsets/orders-0";
    const BUDGET: &str = "/apis/policy/v1/namespaces/mq/poddisruptionbudgets/orders-0";
    let owner = json!([{"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "name": "orders", "uid": "u", "controller": true}]);
    let metadata =
        json!({"name": "orders-0", "namespace": "mq", "uid": "o", "ownerReferences": owner});
    let set = json!({"metadata": metadata, "spec": {"replicas": 3, "selector": {}, "serviceName": "orders-0-replicas", "template": {}}});
    let allowed = |former: i32, in_sync: &[u32], spec: &Value| {
        let budget = json!({"metadata": metadata, "spec": {"maxUnavailable": former}});
        let mut record = record_of(in_sync);
        record.1["status"]["activated"] =
            json!({"epoch": record.1["status"]["epoch"], "startOffset": 0});
        let others = [
            (SET.to_owned(), set.clone()),
            (BUDGET.to_owned(), budget),
            record,
        ];
        let spec = spec.clone();
        let reconciling = reconcile_beside(others.into(), Settings::default(), 2, spec);
        let (writes, objects) = block_on(reconciling);
        let again = writes[1].iter().any(|write| write.contains(BUDGET));
        assert!(!again, "{:?}", writes[1]);
        objects[BUDGET]["spec"]["maxUnavailable"].clone()
    };
    for spec in [
        json!({"groups": {"replicas": 5}, "paused": true}),
        json!({"groups": {"replicas": 3}, "replication": {"minInSync": 4}}),
    ] {
        assert_eq!(allowed(0, &[1, 2, 3], &spec), 1, "all are in sync again");
        assert_eq!(allowed(1, &[1, 2], &spec), 0);
    }
}

#[test]
fn a_record_that_is_not_obeyed_is_told_of_once_also_while_paused_or_refused() {
    for spec in [
        json!({"groups": {"replicas": 3}}),
        json!({"groups": {"replicas": 3}, "paused": true}),
        json!({"groups": {"replicas": 3}, "replication": {"minInSync": 4}}),
    ] {
        let (path, mut record) = record_of(&[1]);
        record["metadata"]["uid"] = json!("00000000-0000-0000-0000-00000000000a");
        let others = [(path, record)].into();
        let reconciling = reconcile_beside(others, Settings::default(), 1, spec);
        let (_, objects) = block_on(reconciling);
        let conditions = objects[CLUSTER]["status"]["conditions"].as_array().unwrap();
        let degraded = conditions
            .iter()
            .find(|it| it["type"] == "Degraded")
            .unwrap();
        assert_eq!(degraded["reason"], "RecordUnusable");
        let message = degraded["message"].as_str().unwrap();
        assert_eq!(message.matches("is of group").count(), 1, "{message}");
    }
}

/// As from a backup: the volumes are there, the cluster is another object, and nothing is left of the records.
#[test]
fn volumes_of_a_group_that_elected_have_no_fixed_master_in_a_restored_namespace() {
    const CLAIM: &str = "/api/v1/namespaces/mq/persistentvolumeclaims/data-orders-0-1";
    let spec = json!({"groups": {"replicas": 3}});
    let claim = json!({"metadata": {"name": "data-orders-0-1", "namespace": "mq", "uid": "c"}});
    let make_volume = |server: &mut Server| {
        let made = || claim.clone();
        server.objects.entry(CLAIM.to_owned()).or_insert_with(made);
    };
    let (server, settings) = (Server::default(), Settings::default());
    let reconciling = reconcile_among(server, false, settings, 3, spec.clone(), make_volume);
    let (writes, objects) = block_on(reconciling);
    let noted = |pass: &Vec<String>| pass.contains(&format!("PATCH {CLAIM}"));
    let noted: Vec<bool> = writes.iter().map(noted).collect();
    assert_eq!(noted, [false, true, false]);

    let left = [(CLAIM.to_owned(), objects[CLAIM].clone())].into();
    let reconciling = reconcile_beside(left, Settings::default(), 1, spec);
    let (_, objects) = block_on(reconciling);
    assert_eq!(objects[RECORD].get("status"), None);
    let conditions = objects[CLUSTER]["status"]["conditions"].to_string();
    assert!(conditions.contains("RecordUnusable"), "{conditions}");
    let set = objects["/apis/apps/v1/namespaces/mq/statefulsets/orders-0"].to_string();
    assert!(set.contains("--replication-address"), "{set}");
}

/// Its specification asks for fewer groups, and nothing of it is carried out.
#[test]
fn a_group_that_serves_is_followed_and_told_of_although_it_is_not_asked_for() {
    const GROUP: &str = "/apis/rocketcluster.io/v1alpha1/namespaces/mq/rocketbrokergroups/orders-1";
    const SET: &str = "/apis/apps/v1/namespaces/mq/statefulsets/orders-1";
    const POD: &str = "/api/v1/namespaces/mq/pods/orders-1-0";
    const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/mq/endpointslices/orders-1-master";
    let owner = json!([{"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "name": "orders", "uid": "u", "controller": true}]);
    let mut status = json!(status_of(&memory::group(3)).unwrap());
    status["replicas"]["1"]["name"] = json!("orders-1-0");
    let record = json!({"metadata": {"name": "orders-1", "namespace": "mq", "uid": "00000000-0000-0000-0000-000000000009", "ownerReferences": owner}, "spec": {"cluster": "orders", "index": 1}, "status": status});
    let set = json!({"metadata": {"name": "orders-1", "namespace": "mq", "uid": "s", "ownerReferences": owner}});
    let pod = json!({"metadata": {"name": "orders-1-0", "namespace": "mq", "uid": "p", "labels": {"rocketcluster.io/group": "1"}}, "status": {"phase": "Running", "podIP": "10.0.0.7"}});
    let others = [(GROUP, record), (SET, set), (POD, pod)];
    let others = others.map(|(path, object)| (path.to_owned(), object));
    let spec = json!({"groups": {"replicas": 3}, "paused": true});
    let reconciling = reconcile_beside(others.into(), Settings::default(), 1, spec);
    let (_, objects) = block_on(reconciling);
    let labels = &objects[POD]["metadata"]["labels"];
    assert_eq!(labels["rocketcluster.io/role"], "master");
    let addresses = objects
        .get(SLICE)
        .map(|it| &it["endpoints"][0]["addresses"]);
    assert_eq!(addresses, Some(&json!(["10.0.0.7"])));
    let groups = objects[CLUSTER]["status"]["groups"].as_array().unwrap();
    let masters: Vec<&Value> = groups.iter().map(|group| &group["master"]).collect();
    assert_eq!(masters, [&Value::Null, &json!("orders-1-0")]);
}

/// A broker that runs reads its file again when its container begins anew.
#[test]
fn file_that_a_pod_mounts_stays_as_it_is_and_others_go() {
    const MAPS: &str = "/api/v1/namespaces/mq/configmaps/orders-0-config";
    const POD: &str = "/api/v1/namespaces/mq/pods/orders-0-0";
    let owner = json!([{"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "name": "orders", "uid": "u", "controller": true}]);
    let map = |hash: &str| {
        let map = json!({"metadata": {"name": format!("orders-0-config-{hash}"), "namespace": "mq", "uid": hash, "ownerReferences": owner}, "data": {"broker.conf": hash}});
        (format!("{MAPS}-{hash}"), map)
    };
    let volumes = json!([{"name": "config", "configMap": {"name": "orders-0-config-former"}}]);
    let pod = json!({"metadata": {"name": "orders-0-0", "namespace": "mq", "uid": "p", "labels": {"rocketcluster.io/group": "0"}}, "spec": {"containers": [], "volumes": volumes}});
    let others = [map("former"), map("older"), (POD.to_owned(), pod)];
    let reconciling = reconcile_beside(others.into(), Settings::default(), 1, json!({}));
    let (writes, objects) = block_on(reconciling);
    let of_maps: Vec<&String> = writes[0].iter().filter(|it| it.contains(MAPS)).collect();
    let [written, deleted] = of_maps[..] else {
        panic!("{of_maps:?}")
    };
    assert!(written.starts_with("PATCH"), "{written}");
    assert_eq!(*deleted, format!("DELETE {MAPS}-older"));
    let (kept, as_it_was) = map("former");
    assert_eq!(objects[&kept], as_it_was);
}

#[test]
fn no_pod_of_a_group_is_made_beside_a_record_of_somebody_else() {
    const GROUPS: &str = "/apis/rocketcluster.io/v1alpha1/namespaces/mq/rocketbrokergroups";
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": "theirs", "controller": true}]);
    let theirs = json!({"metadata": {"name": "orders-0", "namespace": "mq", "uid": "r", "ownerReferences": owner}, "spec": {"cluster": "others", "index": 0}});
    let others = [(format!("{GROUPS}/orders-0"), theirs)].into();
    let spec = json!({"groups": {"count": 2}});
    let (writes, objects) = block_on(reconcile_beside(others, Settings::default(), 1, spec));
    let is_made = |set: &str| writes[0].iter().any(|it| it.ends_with(set));
    assert!(!is_made("statefulsets/orders-0") && is_made("statefulsets/orders-1"));
    let conditions = objects[CLUSTER]["status"]["conditions"].to_string();
    let told = "RocketBrokerGroup orders-0 exists and does not belong";
    assert!(conditions.contains(told), "{conditions}");
}

/// Kubernetes has not taken the deleted cluster from the owners yet. Without a record its volumes would make a group that elects one
/// whose master is fixed.
#[test]
fn cluster_waits_for_the_record_that_a_former_one_of_its_name_leaves() {
    const CLAIM: &str = "/api/v1/namespaces/mq/persistentvolumeclaims/data-orders-0-0";
    let former = json!([{"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "name": "orders", "uid": "former", "controller": true}]);
    let record = json!({"metadata": {"name": "orders-0", "namespace": "mq", "uid": "00000000-0000-0000-0000-000000000009", "ownerReferences": former}, "spec": {"cluster": "orders", "index": 0}, "status": status_of(&memory::group(3)).unwrap()});
    let claim = json!({"metadata": {"name": "data-orders-0-0", "namespace": "mq", "uid": "c"}});
    let mut released = record.clone();
    released["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "data-orders-0-0", "uid": "c"}]);
    let begun = |record: Value| {
        let others = [
            (RECORD.to_owned(), record),
            (CLAIM.to_owned(), claim.clone()),
        ];
        let spec = json!({"groups": {"replicas": 3}});
        block_on(reconcile_beside(
            others.into(),
            Settings::default(),
            1,
            spec,
        ))
    };
    let (writes, _) = begun(record);
    assert_eq!(writes, [Vec::<String>::new()]);
    let (_, objects) = begun(released);
    let set = objects["/apis/apps/v1/namespaces/mq/statefulsets/orders-0"].to_string();
    assert!(set.contains("--replication-address"), "{set}");
}
