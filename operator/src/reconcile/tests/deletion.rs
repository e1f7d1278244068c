//! A cluster that is being deleted: what is waited for, and who looks after it meanwhile.

use rocket_api::label;

use super::beside::{condition, play_kubernetes};
use super::*;

const SECOND: &str = "/api/v1/namespaces/mq/pods/orders-0-1";
const SET: &str = "/apis/apps/v1/namespaces/mq/statefulsets/orders-0";

/// What the API server does at a deletion that a finalizer holds up.
fn delete(server: &mut Server) {
    let cluster = server.objects.get_mut(CLUSTER).unwrap();
    cluster["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
}

fn phase(server: &Server) -> Value {
    server.objects[CLUSTER]["status"]["phase"].clone()
}

#[test]
fn deletion_says_which_pods_it_waits_for() {
    let spec = json!({"groups": {"replicas": 3, "storage": {"reclaim": {"onDelete": "Delete"}}}});
    let mut pass = 0;
    let others = |server: &mut Server| {
        pass += 1;
        match pass {
            1 => play_kubernetes(server),
            2 => delete(server),
            3 | 4 => {
                assert_eq!(phase(server), "Deleting");
                assert!(!server.objects.contains_key(SET));
                for type_ in ["Progressing", "Ready"] {
                    let [_, reason, message] = condition(&server.objects, type_);
                    assert_eq!(reason, "Deleting", "{message}");
                    let awaited = "waiting for the end of orders-0-0, orders-0-1, orders-0-2";
                    assert!(message.contains(awaited), "{message}");
                }
            }
            5 => {
                assert!(!server.is_electing, "there is nothing to elect for");
                server.objects.retain(|path, _| !path.contains("/pods/"));
            }
            _ => {
                let held = &server.objects[CLUSTER]["metadata"]["finalizers"];
                assert_eq!(held, &json!([]));
            }
        }
    };
    let settings = Settings::default();
    let reconciling = reconcile_among(Server::default(), false, settings, 6, spec, others);
    let (writes, _) = block_on(reconciling);
    assert_eq!(writes[4], Vec::<String>::new(), "it was said before");
}

/// Somebody else's finalizer, or a garbage collector that stands still: brokers go on, and so does who elects among them.
#[test]
fn cluster_that_is_held_in_its_deletion_is_looked_after() {
    let mut pass = 0;
    let others = |server: &mut Server| {
        pass += 1;
        match pass {
            1 => play_kubernetes(server),
            2 => {
                const RECORD: &str =
                    "/apis/rocketcluster.io/v1alpha1/namespaces/mq/rocketbrokergroups/orders-0";
                delete(server);
                server.objects.get_mut(CLUSTER).unwrap()["metadata"]["finalizers"] =
                    json!(["example.com/hold"]);
                // The first was elected since.
                let record = server.objects.get_mut(RECORD).unwrap();
                record["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000009");
                record["status"] =
                    serde_json::to_value(status_of(&memory::group(3)).unwrap()).unwrap();
            }
            3 => {
                assert!(server.is_electing);
                assert_eq!(phase(server), "Deleting");
                let [_, _, message] = condition(&server.objects, "Ready");
                assert!(message.contains("held by example.com/hold"), "{message}");
                let role = &server.objects[SECOND]["metadata"]["labels"][label::ROLE];
                assert_eq!(role, label::ROLE_STANDBY);
                let set = server.objects.get_mut(SET).unwrap();
                set["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            _ => {
                assert!(!server.is_electing, "Kubernetes takes them away");
                let [_, _, message] = condition(&server.objects, "Ready");
                assert!(message.contains("orders-0-0, orders-0-1"), "{message}");
            }
        }
    };
    let spec = json!({"groups": {"replicas": 3}});
    let settings = Settings::default();
    let reconciling = reconcile_among(Server::default(), false, settings, 4, spec, others);
    block_on(reconciling);
}
