//! What the API server refuses, and with which sentence.

use kube::api::PostParams;
use rocket_api::{RocketCluster, RocketOperation};
use serde_json::{Value, json};

use super::{cluster, in_lab};

#[test]
fn bad_manifests_are_refused_with_what_to_write_instead() {
    let cases: Vec<(Value, &str)> = vec![
        (
            json!({"groups": {"count": 0}}),
            "greater than or equal to 1",
        ),
        (json!({"groups": {"count": 65}}), "less than or equal to 64"),
        (
            json!({"groups": {"replicas": 8}}),
            "less than or equal to 7",
        ),
        (
            json!({"nameServers": {"replicas": 0}}),
            "greater than or equal to 1",
        ),
        (
            json!({"replication": {"minInSync": 2}}),
            "lower minInSync or raise groups.replicas",
        ),
        (
            json!({"replication": {"mode": "Quorum"}}),
            "supported values: \"Sync\", \"Async\"",
        ),
        (
            json!({"flush": "sometimes"}),
            "supported values: \"Sync\", \"Async\"",
        ),
        (json!({"imagePullPolicy": "Maybe"}), "supported values"),
        (
            json!({"groups": {"storage": {"size": "ten"}}}),
            "such as 100Gi",
        ),
        (
            json!({"groups": {"storage": {"size": "1Ki"}}}),
            "at least 128Mi",
        ),
        (
            json!({"groups": {"storage": {"reclaim": {"onDelete": "Recycle"}}}}),
            "supported values: \"Retain\", \"Delete\"",
        ),
        (
            json!({"groups": {"resources": {"requests": {"cpu": "many"}}}}),
            "such as 2, 500m or 1Gi",
        ),
        (
            json!({"groups": {"resources": {"limits": {"memory": -1}}}}),
            "such as 2, 500m or 1Gi",
        ),
        (json!({"version": "latest"}), "should match"),
        (json!({"version": "1.0"}), "should match"),
        (json!({"image": "a b"}), "white space"),
        (
            json!({"retention": {"hours": 0}}),
            "greater than or equal to 1",
        ),
        (json!({"retention": {"deleteAt": "25"}}), "should match"),
        (
            json!({"retention": {"diskHighWatermarkPercent": 90, "diskRejectPercent": 90}}),
            "must be above diskHighWatermarkPercent",
        ),
        (
            json!({"config": {"brokerRole": "SLAVE"}}),
            "set spec.replication.mode",
        ),
        (
            json!({"config": {"flushDiskType": "SYNC_FLUSH"}}),
            "set spec.flush",
        ),
        (json!({"config": {"listenPort": "1"}}), "always 10911"),
        (
            json!({"config": {"enableDLegerCommitLog": "true"}}),
            "there is no DLedger",
        ),
        (
            json!({"config": {"aclEnable": "true"}}),
            "asks for access control, which this broker does not have yet",
        ),
        (
            json!({"config": {"max message size": "1"}}),
            "letters, digits, dot and underscore",
        ),
        (json!({"config": {"a": "1\nb=2"}}), "one line"),
        (
            json!({"podTemplate": {"metadata": {"labels": {"rocketcluster.io/role": "master"}}}}),
            "choose a prefix of your own",
        ),
        (
            json!({"podTemplate": {"env": [{"name": "POD_NAME"}]}}),
            "choose another name",
        ),
        (
            json!({"podTemplate": {"env": [{"name": "A"}, {"name": "A"}]}}),
            "Duplicate value",
        ),
        (
            json!({"podTemplate": {"terminationGracePeriodSeconds": 0}}),
            "greater than or equal to 1",
        ),
        (json!({"monitoring": {"interval": "soon"}}), "should match"),
        (
            json!({"networkPolicy": {"clients": [{}]}}),
            "write namespaceLabels or podLabels",
        ),
        (
            json!({"networkPolicy": {"clients": [{"podLabels": {}}]}}),
            "write namespaceLabels or podLabels",
        ),
        (
            json!({"scheduling": {"zoneSpread": "Always"}}),
            "supported values",
        ),
    ];
    in_lab(|lab| async move {
        let strict = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        for (spec, sentence) in cases {
            let said = lab
                .try_spec("bad", &spec, &strict)
                .await
                .expect_err(&spec.to_string());
            assert!(said.contains(sentence), "{spec}: {said}");
        }
        for name in ["a.b", "1a", &"a".repeat(41)] {
            let said = lab
                .try_spec(name, &json!({}), &strict)
                .await
                .expect_err(name);
            assert!(said.contains("metadata.name"), "{name}: {said}");
        }
    });
}

#[test]
fn every_example_is_accepted() {
    in_lab(|lab| async move {
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        for text in [
            include_str!("../../../examples/quickstart.yaml"),
            include_str!("../../../examples/production.yaml"),
            include_str!("../../../examples/low-latency-async.yaml"),
        ] {
            let example: RocketCluster = serde_yaml::from_str(text).unwrap();
            lab.api::<RocketCluster>()
                .create(&dry, &example)
                .await
                .unwrap();
        }
        for text in [
            include_str!("../../../examples/switchover.yaml"),
            include_str!("../../../examples/restart.yaml"),
            include_str!("../../../examples/force-elect.yaml"),
        ] {
            let example: RocketOperation = serde_yaml::from_str(text).unwrap();
            lab.api::<RocketOperation>()
                .create(&dry, &example)
                .await
                .unwrap();
        }
    });
}

#[test]
fn edits_that_cannot_take_effect_are_refused() {
    in_lab(|lab| async move {
        lab.create("fixed", &json!({"version": "1.4.2", "groups": {"storage": {"size": "10Gi", "className": "standard"}}})).await;
        for (spec, sentence) in [
            (json!({"version": "1.3.0"}), "earlier minor release"),
            (
                json!({"groups": {"storage": {"size": "9Gi"}}}),
                "can only grow",
            ),
            (
                json!({"groups": {"storage": {"className": "other"}}}),
                "className cannot change",
            ),
            (
                json!({"groups": {"storage": {"className": null}}}),
                "className cannot change",
            ),
        ] {
            let patch = kube::api::Patch::Merge(json!({"spec": spec}));
            let said = lab
                .api::<RocketCluster>()
                .patch("fixed", &kube::api::PatchParams::default(), &patch)
                .await
                .expect_err(sentence)
                .to_string();
            assert!(said.contains(sentence), "{spec}: {said}");
        }
        lab.edit(
            "fixed",
            &json!({"version": "1.5.0", "groups": {"storage": {"size": "10240Mi"}}}),
        )
        .await;
    });
}

impl super::Lab {
    /// Sends a specification as it is written, which a typed client could not; returns what the API server said against it.
    async fn try_spec(&self, name: &str, spec: &Value, params: &PostParams) -> Result<(), String> {
        let resource = kube::discovery::ApiResource::erase::<RocketCluster>(&());
        let api: kube::Api<kube::api::DynamicObject> =
            kube::Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let mut object = kube::api::DynamicObject::new(name, &resource);
        object.data = json!({"spec": spec});
        api.create(params, &object)
            .await
            .map(|_| ())
            .map_err(|error| error.to_string())
    }
}

#[test]
fn a_written_default_is_the_type_s_default() {
    in_lab(|lab| async move {
        let created = lab.create("empty", &json!({})).await;
        assert_eq!(created.spec, cluster("empty", &json!({})).spec);
    });
}
