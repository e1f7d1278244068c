//! What stands around the pods: roles, budgets, policies, and what `kubectl` tells people.

use serde_json::{Value, json};

use crate::kubernetes::objects::{condition, small, small_with, text};
use crate::kubernetes::space::Space;

#[test]
fn a_broker_may_update_the_status_of_its_own_group_and_nothing_else() {
    let Some(space) = Space::new("rbac", "rights of a broker's service account") else {
        return;
    };
    space.make(&small_with("demo", &json!({"groups": {"count": 2}})));
    let account = format!("--as=system:serviceaccount:{}:demo-0", space.name);
    let may = |args: &[&str]| {
        let args: Vec<&str> = ["auth", "can-i"]
            .iter()
            .chain(args)
            .copied()
            .chain([account.as_str()])
            .collect();
        match space.ask(&args, "") {
            Ok(said) => said.trim() == "yes",
            Err(said) => {
                assert_eq!(said.trim(), "no", "{args:?}");
                false
            }
        }
    };
    assert!(may(&["get", "rocketbrokergroups/demo-0"]));
    assert!(may(&[
        "update",
        "rocketbrokergroups/demo-0",
        "--subresource=status"
    ]));
    for refused in [
        &[
            "update",
            "rocketbrokergroups/demo-1",
            "--subresource=status",
        ][..],
        &["get", "rocketbrokergroups/demo-1"],
        &["list", "rocketbrokergroups"],
        &["update", "rocketbrokergroups/demo-0"],
        &["delete", "rocketbrokergroups/demo-0"],
        &["patch", "rocketbrokergroups/demo-0", "--subresource=status"],
        &["get", "rocketclusters"],
        &["get", "pods"],
        &["get", "secrets"],
        &["create", "pods"],
    ] {
        assert!(!may(refused), "{refused:?}");
    }
}

#[test]
fn budgets_policies_and_secure_pods_stand_around_a_cluster() {
    let Some(space) = Space::new("around", "budgets, network policies, secure pods") else {
        return;
    };
    space.make(&small("demo"));
    for budget in ["demo-0", "demo-namesrv"] {
        let budget = space.get("pdb", budget);
        assert_eq!(budget["spec"]["maxUnavailable"], 1);
        assert_eq!(budget["spec"]["unhealthyPodEvictionPolicy"], "AlwaysAllow");
        assert_eq!(
            budget["status"]["expectedPods"], 1,
            "it selects its pods: {budget}"
        );
    }
    let open = |policy: &Value| -> Vec<u64> {
        let rules = policy["spec"]["ingress"].as_array().into_iter().flatten();
        rules
            .filter_map(|rule| rule["ports"][0]["port"].as_u64())
            .collect()
    };
    assert_eq!(open(&space.get("netpol", "demo-namesrv")), [9876, 5557]);
    assert_eq!(
        open(&space.get("netpol", "demo-broker")),
        [10911, 10912, 5557]
    );
    for pod in ["demo-0-0", "demo-namesrv-0"] {
        let pod = space.get("pod", pod);
        let security = &pod["spec"]["containers"][0]["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], "5557");
    }
    // The namespace enforces `restricted`, so that these pods exist at all shows that they meet it.
    let namespace = space.get("namespace", &space.name);
    assert_eq!(
        namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
        "restricted"
    );
    space.edit("demo", &json!({"networkPolicy": {"enabled": false}}));
    space.until("netpol", "the policies are gone", <[Value]>::is_empty);
    space.ready("demo");
}

#[test]
fn kubectl_get_tells_the_truth_in_one_line() {
    let Some(space) = Space::new("columns", "kubectl get rkt and rbg") else {
        return;
    };
    space.make(&small("demo"));
    let table = space.kubectl(&["get", "rkt", "-o", "wide"]);
    let head = table.lines().next().unwrap_or_default();
    for column in [
        "READY",
        "STATUS",
        "GROUPS",
        "BROKERS",
        "VERSION",
        "AGE",
        "MESSAGE",
        "FLUSH",
        "REPLICATION",
        "FAILOVER-READY",
        "ENDPOINT",
    ] {
        assert!(head.contains(column), "{column} in {head}");
    }
    let row = table.lines().nth(1).unwrap_or_default();
    let endpoint = format!("demo-namesrv.{}.svc:9876", space.name);
    for cell in [
        "demo",
        "True",
        "Healthy",
        "1/1",
        "0.1.0",
        "1 group, 1 broker ready",
        "Sync",
        &endpoint,
    ] {
        assert!(row.contains(cell), "{cell} in {row}");
    }
    let groups = space.kubectl(&["get", "rbg"]);
    assert!(
        groups
            .lines()
            .nth(1)
            .is_some_and(|row| row.contains("demo-0-0")),
        "{groups}"
    );
    let events = space.list("events.events.k8s.io");
    for reason in ["Creating", "FixedMaster", "AllGroupsServing"] {
        assert!(
            events.iter().any(|event| event["reason"] == reason
                && event["reportingController"] == "rocket-operator"),
            "no event {reason}: {events:?}"
        );
    }
    let ready = space.get("rkt", "demo");
    assert!(!text(condition(&ready, "Ready"), "/lastTransitionTime").is_empty());
}

/// Fields of our own types that have no description.
fn undocumented(schema: &Value, path: &str, missing: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if text(field, "/description").len() < 8 {
            missing.push(path.clone());
        }
        // Kubernetes' own types are repeated without their descriptions.
        if !["affinity", "tolerations"].contains(&name.as_str()) {
            undocumented(field, &path, missing);
            undocumented(&field["items"], &format!("{path}[]"), missing);
        }
    }
}

#[test]
fn kubectl_explain_reads_like_documentation() {
    let Some(space) = Space::new("explain", "kubectl explain") else {
        return;
    };
    for (kind, fields) in [
        ("rocketclusters", "spec"),
        ("rocketclusters", "status"),
        ("rocketbrokergroups", "spec"),
        ("rocketbrokergroups", "status"),
        ("rocketoperations", "spec"),
        ("rocketoperations", "status"),
    ] {
        let definition = space.get("crd", &format!("{kind}.rocketcluster.io"));
        let schema = definition
            .pointer(&format!(
                "/spec/versions/0/schema/openAPIV3Schema/properties/{fields}"
            ))
            .unwrap();
        let mut missing = Vec::new();
        undocumented(schema, fields, &mut missing);
        assert_eq!(missing, Vec::<String>::new(), "{kind}");
        let explained = space.kubectl(&["explain", &format!("{kind}.{fields}")]);
        for name in schema["properties"].as_object().unwrap().keys() {
            assert!(
                explained.contains(&format!("  {name}\t<")),
                "{name} in {explained}"
            );
        }
    }
    let storage = space.kubectl(&["explain", "rocketcluster.spec.groups.storage.size"]);
    let sentence = storage.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(sentence.contains("It can never shrink"), "{sentence}");
}
