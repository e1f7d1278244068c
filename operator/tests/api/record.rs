//! The record of a group: what an edit of its cluster changes there, whom it admits, and how long it lives.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config, ResourceExt};
use rocket_api::{ConditionType, Reason, RocketBrokerGroup, RocketCluster, Truth};
use rocket_coordinator::{Cas, CasAnswer, Coordinator as _, ReadAnswer};
use rocket_replication::identity::Proposal;
use rocket_replication::mutations::Mutations;
use rocket_replication::replica::Flush;
use rocket_replication::{InForce, Policy, Replication};
use serde_json::json;

use super::replica::{Replica, change, coordinator, read, serving, state, until_recorded};
use super::{PATIENCE, in_electing_lab, is};

#[test]
fn another_number_of_copies_is_the_next_version_and_restarts_nobody() {
    in_electing_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("copies", &json!({"groups": {"replicas": 3}}))
            .await;
        until_recorded(&lab, "copies-0").await;
        let replica = Replica::start(&lab, "copies-0", 0).await;
        lab.until("copies-0-0", "there", |_: &Pod| true).await;
        let pod = lab.api::<Pod>().get("copies-0-0").await.unwrap().uid();
        lab.edit("copies", &json!({"replication": {"minInSync": 3}}))
            .await;
        lab.until("copies-0", "of three", |group: &RocketBrokerGroup| {
            group.status.as_ref().unwrap().min_in_sync == 3
        })
        .await;
        let state = state(&lab, "copies-0").await;
        assert_eq!(state.replicas.len(), 1, "what brokers wrote is still there");
        assert_eq!(lab.api::<Pod>().get("copies-0-0").await.unwrap().uid(), pod);
        replica.kill().await;
    });
}

/// The brokers are played, so nothing shows here that they keep the modes; that is shown with real ones elsewhere.
#[test]
fn other_modes_are_asked_for_in_the_record_and_no_pod_template_changes() {
    in_electing_lab(|lab| async move {
        let replicas = serving(&lab, "modes").await;
        let made = |set: StatefulSet| (set.metadata.generation, set.spec.map(|s| s.template));
        let template = made(lab.api::<StatefulSet>().get("modes-0").await.unwrap());
        let applied = |truth, reason| {
            move |cluster: &RocketCluster| {
                let status = cluster.status.as_ref();
                let found = status.and_then(|s| s.condition(ConditionType::ConfigApplied));
                found.is_some_and(|c| (c.status, c.reason) == (truth, reason))
            }
        };
        lab.until("modes", "applied", applied(Truth::True, Reason::UpToDate))
            .await;
        let wanted = json!({"flush": "Async", "replication": {"mode": "Async"}});
        lab.edit("modes", &wanted).await;
        let awaited = applied(Truth::False, Reason::ModesChanging);
        lab.until("modes", "awaiting its modes", awaited).await;
        let asked = Policy {
            flush: Flush::Async,
            replication: Replication::Async,
        };
        let record = state(&lab, "modes-0").await;
        let before = record.in_force.expect("it was begun with modes");
        assert_eq!(record.policy, Some(asked));
        assert_eq!(
            (before.flush, before.replication),
            (Flush::Sync, Replication::Sync)
        );

        // What a master writes when it keeps them.
        let (flush, replication) = (asked.flush, asked.replication);
        let said = InForce {
            flush,
            replication,
            ..before
        };
        change(&lab, "modes-0", |state, proposal| {
            state.with_in_force(proposal, said)
        })
        .await;
        lab.until(
            "modes",
            "applied again",
            applied(Truth::True, Reason::UpToDate),
        )
        .await;
        lab.until(
            "modes",
            "no heir to all answers",
            |cluster: &RocketCluster| is(cluster, ConditionType::FailoverReady, Truth::False),
        )
        .await;
        let after = made(lab.api::<StatefulSet>().get("modes-0").await.unwrap());
        assert_eq!(after, template);

        // The API server knows the rules too.
        change(&lab, "modes-0", |state, proposal| {
            let all = state.replicas.keys().copied().collect();
            state.with_durable(proposal, &all, false)
        })
        .await;
        let (register, _tasks) = coordinator(&lab.client, &lab, "modes-0");
        let now = read(&register).await;
        let untrue = now.with_in_force(Proposal(7), before);
        let mut vanished = now.following(Proposal(8));
        vanished.policy = None;
        for new in [untrue, vanished] {
            let cas = Cas {
                expected: now.version,
                new: Arc::new(new),
            };
            assert_eq!(register.cas(cas).await, CasAnswer::Unsent);
        }
        for replica in &replicas {
            replica.kill().await;
        }
    });
}

#[test]
fn account_of_a_broker_reaches_its_own_record_and_nothing_else() {
    in_electing_lab(|lab| async move {
        lab.create("mine", &json!({"groups": {"replicas": 2, "count": 2}}))
            .await;
        for group in ["mine-0", "mine-1"] {
            until_recorded(&lab, group).await;
        }
        lab.until("mine-0", "bound", |_: &RoleBinding| true).await;
        let mut config = Config::infer().await.unwrap();
        let account = format!("system:serviceaccount:{}:mine-0", lab.namespace);
        config.auth_info.impersonate = Some(account);
        let broker = Client::try_from(config).unwrap();

        let (own, _tasks) = coordinator(&broker, &lab, "mine-0");
        let mut hints = own.watch();
        let state = read(&own).await;
        let hinted = hints.wait_for(|seen| seen.as_ref().is_some_and(|s| **s == *state));
        tokio::time::timeout(PATIENCE, hinted)
            .await
            .expect("the watch shows the own record")
            .unwrap();
        let next = state.with_min_in_sync(Proposal(7), 1, Mutations::default());
        let cas = Cas {
            expected: state.version,
            new: Arc::new(next.following(Proposal(8))),
        };
        // Two steps at once break a rule of the record; one does not.
        assert_eq!(own.cas(cas).await, CasAnswer::Unsent);
        let cas = Cas {
            expected: state.version,
            new: Arc::new(next),
        };
        assert!(matches!(own.cas(cas).await, CasAnswer::Applied(_)));

        let (other, _tasks) = coordinator(&broker, &lab, "mine-1");
        assert_eq!(other.read_current().await, ReadAnswer::Unreachable);
        let groups: Api<RocketBrokerGroup> = Api::namespaced(broker.clone(), &lab.namespace);
        let mut theirs = lab.api::<RocketBrokerGroup>().get("mine-1").await.unwrap();
        theirs.metadata.managed_fields = None;
        let written = groups
            .replace_status("mine-1", &PostParams::default(), &theirs)
            .await;
        let patch = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        let patched = groups
            .patch("mine-0", &PatchParams::default(), &patch)
            .await;
        let deleted = groups.delete("mine-0", &DeleteParams::default()).await;
        let secrets: Api<Secret> = Api::namespaced(broker.clone(), &lab.namespace);
        let pods: Api<Pod> = Api::namespaced(broker.clone(), &lab.namespace);
        for (what, answer) in [
            ("replace the status of another group", written.map(drop)),
            (
                "list all groups",
                groups.list(&ListParams::default()).await.map(drop),
            ),
            ("edit its own record", patched.map(drop)),
            ("delete its own record", deleted.map(drop)),
            (
                "read the secret",
                secrets.get("mine-replication").await.map(drop),
            ),
            (
                "list pods",
                pods.list(&ListParams::default()).await.map(drop),
            ),
        ] {
            match answer {
                Err(kube::Error::Api(status)) => assert_eq!(status.code, 403, "{what}"),
                other => panic!("{what}: {other:?}"),
            }
        }
    });
}

#[test]
fn record_outlives_its_cluster_with_the_volumes_and_serves_the_next_of_the_name() {
    in_electing_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("again", &json!({"groups": {"replicas": 2}}))
            .await;
        let owners =
            |count: usize| move |group: &RocketBrokerGroup| group.owner_references().len() == count;
        let group: RocketBrokerGroup = lab.until("again-0", "owned by volumes", owners(3)).await;
        let replica = Replica::start(&lab, "again-0", 0).await;
        let uid = group.uid();
        lab.api::<RocketCluster>()
            .delete("again", &DeleteParams::background())
            .await
            .unwrap();
        replica.kill().await;
        // Kubernetes may not have taken the former cluster from the owners yet.
        let next = lab
            .create("again", &json!({"groups": {"replicas": 2}}))
            .await
            .uid();
        let is_taken =
            |owners: &[OwnerReference]| owners.iter().any(|it| Some(&it.uid) == next.as_ref());
        let taken = lab
            .until("again-0", "taken", |group: &RocketBrokerGroup| {
                is_taken(group.owner_references())
            })
            .await;
        assert_eq!(taken.uid(), uid);
        let set = lab
            .until("again-0", "made", |set: &StatefulSet| {
                is_taken(set.owner_references())
            })
            .await;
        assert_eq!(set.metadata.generation, Some(1), "it was begun otherwise");
        assert!(format!("{set:?}").contains("--replication-address"));
        assert_eq!(state(&lab, "again-0").await.replicas.len(), 1);
        let claims = lab.api::<PersistentVolumeClaim>();
        assert!(claims.get_opt("data-again-0-0").await.unwrap().is_some());
    });
}
