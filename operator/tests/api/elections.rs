//! Groups that elect: a real operator and record, and replicas that are played.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use rocket_api::{ConditionType, GroupRule, Phase, RocketBrokerGroup, RocketCluster, Truth, label};
use rocket_operator::metrics::ElectionKind;
use rocket_replication::identity::Epoch;
use rocket_replication::messages::RoleName;
use serde_json::json;

use super::edits::watch_deletions;
use super::replica::{
    Replica, change, open, serving, state, until_epoch, until_master, until_recorded,
};
use super::{Lab, PATIENCE, in_electing_lab, is};

#[test]
fn first_record_is_nobodys_until_brokers_register_and_a_dead_master_is_replaced() {
    in_electing_lab(|lab| async move {
        lab.play_kubelet();
        // Two operators, neither of which knows of the other.
        lab.another_operator().await;
        lab.create("el", &json!({"groups": {"replicas": 3}})).await;
        let group = until_recorded(&lab, "el-0").await;
        let status = group.status.as_ref().unwrap();
        assert_eq!(
            (
                status.rule,
                status.version,
                status.epoch,
                status.min_in_sync
            ),
            (GroupRule::Elected, 1, 0, 2)
        );
        assert!(status.master.is_none() && status.replicas.is_empty());

        let mut replicas = Vec::new();
        for ordinal in 0..3 {
            replicas.push(Replica::start(&lab, "el-0", ordinal).await);
        }
        let [one, two, three] = &replicas[..] else {
            unreachable!()
        };
        let first = until_epoch(&lab, "el-0", 1).await;
        assert_eq!(first.master, Some(one.member), "equals: the lowest number");
        assert!(first.unclean.is_empty());
        one.is(RoleName::Master, Epoch(1), false);
        two.is(RoleName::InSync, Epoch(1), true);
        three.is(RoleName::InSync, Epoch(1), true);
        until_master(&lab, "el-0-0").await;
        open(&lab, "el-0", &[two, three]).await;
        lab.until_ready("el").await;
        let cluster = lab
            .until("el", "whole", |cluster: &RocketCluster| {
                is(cluster, ConditionType::ReplicationHealthy, Truth::True)
                    && is(cluster, ConditionType::FailoverReady, Truth::True)
            })
            .await;
        assert_eq!(cluster.status.unwrap().groups[0].in_sync.len(), 3);
        lab.until(
            "el-0",
            "open to evictions",
            |budget: &PodDisruptionBudget| {
                let text = serde_json::to_value(&budget.spec).unwrap();
                text["maxUnavailable"] == 1
            },
        )
        .await;
        lab.wake("el").await;
        let (before, version) = (lab.writes(), state(&lab, "el-0").await.version);
        for _ in 0..3 {
            lab.wake("el").await;
        }
        assert_eq!(lab.writes() - before, 0, "writes in a steady state");
        assert_eq!(state(&lab, "el-0").await.version, version);

        // The container ends. Kubernetes goes on calling the pod ready for a while.
        one.kill().await;
        two.is(RoleName::InSync, Epoch(1), false);
        three.is(RoleName::InSync, Epoch(1), false);
        let ended = json!({"status": {"containerStatuses": [{"name": "broker", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 137}}}]}});
        lab.api::<Pod>()
            .patch_status("el-0-0", &PatchParams::default(), &Patch::Merge(ended))
            .await
            .unwrap();
        let second = until_epoch(&lab, "el-0", 2).await;
        assert_eq!(second.master, Some(two.member));
        assert!(!second.in_sync.contains(&one.member), "it did not report");
        two.is(RoleName::Master, Epoch(2), false);
        three.is(RoleName::InSync, Epoch(2), true);
        until_master(&lab, "el-0-1").await;
        let former = lab.api::<Pod>().get("el-0-0").await.unwrap();
        assert_eq!(former.labels()[label::ROLE], label::ROLE_STANDBY);
        open(&lab, "el-0", &[]).await;
        lab.until("el", "serving", |cluster: &RocketCluster| {
            is(cluster, ConditionType::Available, Truth::True)
                && is(cluster, ConditionType::ReplicationHealthy, Truth::False)
        })
        .await;
        let settled = state(&lab, "el-0").await;
        assert_eq!(settled.epoch, Epoch(2), "two electors, one election");
        assert!(settled.unclean.is_empty());

        let elected = |kind| {
            let operators = lab.operators();
            let counts = operators.iter().map(|metrics| metrics.elections(kind));
            counts.sum::<u64>()
        };
        let kinds = [
            ElectionKind::First,
            ElectionKind::Clean,
            ElectionKind::Unclean,
        ];
        assert_eq!(kinds.map(elected), [1, 1, 0]);
        let told = until_told(&lab, "elected el-0-1 in epoch 2; el-0-0 did not answer").await;
        assert!(told, "no event tells of the election");
        for replica in &replicas {
            replica.kill().await;
        }
    });
}

/// Its end is no change of an object that is still there, so no reconcile comes of it.
#[test]
fn cluster_is_looked_after_until_it_is_gone() {
    in_electing_lab(|lab| async move {
        lab.play_kubelet();
        for (name, holders) in [("free", vec![]), ("held", vec!["example.com/hold"])] {
            let (api, group) = (lab.api::<RocketCluster>(), format!("{name}-0"));
            let hold =
                |finalizers: &[&str]| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
            let params = PatchParams::default();
            lab.create(name, &json!({"groups": {"replicas": 2}})).await;
            until_recorded(&lab, &group).await;
            let one = Replica::start(&lab, &group, 0).await;
            let two = Replica::start(&lab, &group, 1).await;
            until_epoch(&lab, &group, 1).await;
            until_counted(&lab, 1).await;
            api.patch(name, &params, &hold(&holders)).await.unwrap();
            api.delete(name, &DeleteParams::background()).await.unwrap();
            if !holders.is_empty() {
                lab.until(name, "held", |cluster: &RocketCluster| {
                    cluster.status.as_ref().unwrap().phase == Phase::Deleting
                })
                .await;
                let counted = lab.metrics.elections(ElectionKind::First);
                assert_eq!(counted, 1, "its brokers go on");
                api.patch(name, &params, &hold(&[])).await.unwrap();
            }
            until_counted(&lab, 0).await;
            for replica in [one, two] {
                replica.kill().await;
            }
        }
    });
}

/// Waits until the operator counts so many first elections, of groups that it looks after.
async fn until_counted(lab: &Lab, wanted: u64) {
    let counted = async {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while lab.metrics.elections(ElectionKind::First) != wanted {
            looks.tick().await;
        }
    };
    let counted = tokio::time::timeout(PATIENCE / 2, counted).await;
    counted.unwrap_or_else(|_| panic!("never {wanted}"));
}

#[test]
fn slaves_are_replaced_first_and_the_master_hands_over_before_its_turn() {
    in_electing_lab(|lab| async move {
        let replicas = serving(&lab, "roll").await;
        let gone = Arc::new(std::sync::Mutex::new(Vec::new()));
        let watched = watch_deletions(&lab, 3, Arc::clone(&gone)).await;
        lab.edit("roll", &json!({"retention": {"hours": 7}})).await;
        let asked = lab
            .until(
                "roll-0",
                "asked to hand over",
                |group: &RocketBrokerGroup| group.status.as_ref().unwrap().handover.is_some(),
            )
            .await;
        assert_eq!(*gone.lock().unwrap(), ["roll-0-1", "roll-0-2"]);
        assert_eq!(asked.status.unwrap().handover, Some(2));
        change(&lab, "roll-0", |state, proposal| {
            state.handed_over(proposal, replicas[1].member)
        })
        .await;
        until_master(&lab, "roll-0-1").await;
        open(&lab, "roll-0", &[]).await;
        lab.until_ready("roll").await;
        watched.abort();
        assert_eq!(*gone.lock().unwrap(), ["roll-0-1", "roll-0-2", "roll-0-0"]);
        assert_eq!(
            state(&lab, "roll-0").await.epoch,
            Epoch(2),
            "nobody was elected"
        );
        for replica in &replicas {
            replica.kill().await;
        }
    });
}

pub(super) async fn until_told(lab: &Lab, wanted: &str) -> bool {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let wait = async {
        loop {
            ticks.tick().await;
            let api = lab.api::<Event>();
            let events = api.list(&ListParams::default()).await.unwrap().items;
            let mut notes = events.iter().filter_map(|event| event.note.as_deref());
            if notes.any(|note| note.contains(wanted)) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.is_ok()
}
