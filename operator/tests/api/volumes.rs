//! Volumes grow without their pods noticing, and are deleted only when a policy says so.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use rocket_api::{ConditionType, Reason, RocketBrokerGroup, RocketCluster, Truth};
use serde_json::json;

use super::{Lab, from, in_lab, is, message, mounted};

impl Lab {
    /// A storage class whose volumes the test makes by hand.
    async fn class(&self, expandable: bool) -> String {
        let name = format!(
            "{}-{}",
            self.namespace,
            if expandable { "grows" } else { "fixed" }
        );
        let class = json!({"metadata": {"name": name}, "provisioner": "example.com/none", "allowVolumeExpansion": expandable});
        Api::<StorageClass>::all(self.client.clone())
            .create(&PostParams::default(), &from(class))
            .await
            .unwrap();
        name
    }

    /// A volume bound to a claim.
    async fn bind(&self, claim: &str, class: &str) {
        let volume = json!({
            "metadata": {"name": format!("{}-{claim}", self.namespace), "annotations": {"pv.kubernetes.io/provisioned-by": "example.com/none"}},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": class, "persistentVolumeReclaimPolicy": "Retain",
                "csi": {"driver": "example.com", "volumeHandle": claim}, "claimRef": {"namespace": self.namespace, "name": claim},
            },
        });
        Api::<PersistentVolume>::all(self.client.clone())
            .create(&PostParams::default(), &from(volume))
            .await
            .unwrap();
        self.until(claim, "bound", |claim: &PersistentVolumeClaim| {
            claim
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref())
                == Some("Bound")
        })
        .await;
    }

    async fn sweep(&self, class: &str) {
        Api::<StorageClass>::all(self.client.clone())
            .delete(class, &DeleteParams::default())
            .await
            .unwrap();
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        for volume in volumes
            .list(&kube::api::ListParams::default())
            .await
            .unwrap()
            .items
            .into_iter()
            .filter(|volume| volume.name_any().starts_with(&self.namespace))
        {
            volumes
                .delete(&volume.name_any(), &DeleteParams::default())
                .await
                .unwrap();
        }
    }
}

#[test]
fn volumes_grow_and_the_pods_stay() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        let class = lab.class(true).await;
        lab.create(
            "wide",
            &json!({"groups": {"storage": {"size": "1Gi", "className": class}}}),
        )
        .await;
        lab.until_ready("wide").await;
        lab.bind("data-wide-0-0", &class).await;
        let (pod, set) = (
            lab.api::<Pod>().get("wide-0-0").await.unwrap().uid(),
            lab.api::<StatefulSet>().get("wide-0").await.unwrap().uid(),
        );
        lab.edit("wide", &json!({"groups": {"storage": {"size": "2Gi"}}}))
            .await;
        lab.until(
            "data-wide-0-0",
            "asking for 2Gi",
            |claim: &PersistentVolumeClaim| {
                claim
                    .spec
                    .as_ref()
                    .unwrap()
                    .resources
                    .as_ref()
                    .unwrap()
                    .requests
                    .as_ref()
                    .unwrap()["storage"]
                    .0
                    == "2Gi"
            },
        )
        .await;
        let made = lab
            .until("wide-0", "made anew", |found: &StatefulSet| {
                found.uid() != set && found.metadata.deletion_timestamp.is_none()
            })
            .await;
        let size = serde_json::to_value(made.spec)
            .unwrap()
            .pointer("/volumeClaimTemplates/0/spec/resources/requests/storage")
            .cloned();
        assert_eq!(size, Some(json!("2Gi")));
        assert_eq!(
            lab.api::<Pod>().get("wide-0-0").await.unwrap().uid(),
            pod,
            "the pod was replaced"
        );
        let resizing = lab
            .until(
                "wide",
                "waiting for the volume",
                |cluster: &RocketCluster| is(cluster, ConditionType::Progressing, Truth::True),
            )
            .await;
        assert!(message(&resizing, ConditionType::Progressing).contains("data-wide-0-0"));
        lab.sweep(&class).await;
    });
}

#[test]
fn a_class_that_refuses_to_grow_is_named_and_the_cluster_goes_on() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        let class = lab.class(false).await;
        lab.create(
            "tight",
            &json!({"groups": {"storage": {"size": "1Gi", "className": class}}}),
        )
        .await;
        lab.until_ready("tight").await;
        lab.bind("data-tight-0-0", &class).await;
        let set = lab.api::<StatefulSet>().get("tight-0").await.unwrap();
        let (set, former) = (set.uid(), mounted(&set));
        lab.edit(
            "tight",
            &json!({"groups": {"storage": {"size": "2Gi"}}, "retention": {"hours": 3}}),
        )
        .await;
        let cluster = lab
            .until("tight", "degraded", |cluster: &RocketCluster| {
                is(cluster, ConditionType::Degraded, Truth::True)
            })
            .await;
        let condition = cluster
            .status
            .as_ref()
            .unwrap()
            .condition(ConditionType::Degraded)
            .unwrap();
        assert_eq!(condition.reason, Reason::VolumeResizeRefused);
        assert!(
            condition
                .message
                .contains("data-tight-0-0 cannot grow to 2Gi"),
            "{}",
            condition.message
        );
        assert_eq!(
            lab.api::<StatefulSet>().get("tight-0").await.unwrap().uid(),
            set
        );
        lab.until("tight-0", "mounting another file", |set: &StatefulSet| {
            mounted(set) != former
        })
        .await;
        let text = lab.config("tight-0").await.data.unwrap()["broker.conf"].clone();
        assert!(text.contains("fileReservedTime=3"), "{text}");
        lab.sweep(&class).await;
    });
}

#[test]
fn removed_groups_leave_their_volumes_and_their_record_unless_told_otherwise() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("few", &json!({"groups": {"count": 2}})).await;
        lab.until_ready("few").await;
        lab.edit("few", &json!({"groups": {"count": 1}})).await;
        lab.until_gone::<StatefulSet>("few-1").await;
        lab.until_gone::<Pod>("few-1-0").await;
        lab.until_ready("few").await;
        lab.wake("few").await;
        assert!(
            lab.api::<PersistentVolumeClaim>()
                .get_opt("data-few-1-0")
                .await
                .unwrap()
                .is_some()
        );
        assert!(
            lab.api::<RocketBrokerGroup>()
                .get_opt("few-1")
                .await
                .unwrap()
                .is_some()
        );

        lab.edit(
            "few",
            &json!({"groups": {"storage": {"reclaim": {"onScaleIn": "Delete"}}}}),
        )
        .await;
        lab.until_gone::<PersistentVolumeClaim>("data-few-1-0")
            .await;
        lab.until_gone::<RocketBrokerGroup>("few-1").await;
        assert!(
            lab.api::<PersistentVolumeClaim>()
                .get_opt("data-few-0-0")
                .await
                .unwrap()
                .is_some()
        );
    });
}

/// What keeps a pod from ending at once, as a broker does that has much to flush.
fn finalizers(list: &serde_json::Value) -> Patch<serde_json::Value> {
    Patch::Merge(json!({"metadata": {"finalizers": list}}))
}

#[test]
fn volumes_stay_until_their_brokers_have_ended() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        let both = json!({"onScaleIn": "Delete", "onDelete": "Delete"});
        lab.create(
            "slow",
            &json!({"groups": {"count": 2, "storage": {"reclaim": both}}}),
        )
        .await;
        lab.until_ready("slow").await;
        let (pods, params) = (lab.api::<Pod>(), PatchParams::default());
        let (staying, leaving) = (json!(["rocketcluster.test/stays"]), json!(null));
        for pod in ["slow-0-0", "slow-1-0"] {
            let staying = finalizers(&staying);
            pods.patch(pod, &params, &staying).await.unwrap();
        }
        let is_kept = async |name: &str| {
            let claims = lab.api::<PersistentVolumeClaim>();
            let claim = claims.get(name).await.unwrap();
            claim.metadata.deletion_timestamp.is_none()
        };
        lab.edit("slow", &json!({"groups": {"count": 1}})).await;
        lab.until_gone::<StatefulSet>("slow-1").await;
        lab.wake("slow").await;
        assert!(is_kept("data-slow-1-0").await);
        let patch = finalizers(&leaving);
        pods.patch("slow-1-0", &params, &patch).await.unwrap();
        lab.until_gone::<PersistentVolumeClaim>("data-slow-1-0")
            .await;

        let clusters = lab.api::<RocketCluster>();
        let background = DeleteParams::background();
        clusters.delete("slow", &background).await.unwrap();
        lab.until_gone::<StatefulSet>("slow-0").await;
        lab.wake("slow").await;
        assert!(is_kept("data-slow-0-0").await);
        pods.patch("slow-0-0", &params, &patch).await.unwrap();
        lab.until_gone::<PersistentVolumeClaim>("data-slow-0-0")
            .await;
        lab.until_gone::<RocketCluster>("slow").await;
    });
}

#[test]
fn a_deleted_cluster_takes_its_volumes_along_only_when_told_to() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("kept", &json!({})).await;
        lab.create(
            "gone",
            &json!({"groups": {"storage": {"reclaim": {"onDelete": "Delete"}}}}),
        )
        .await;
        for name in ["kept", "gone"] {
            let cluster = lab.until_ready(name).await;
            assert_eq!(cluster.finalizers().len(), usize::from(name == "gone"));
            lab.api::<RocketCluster>()
                .delete(name, &DeleteParams::background())
                .await
                .unwrap();
        }
        lab.until_gone::<RocketCluster>("gone").await;
        lab.until_gone::<RocketCluster>("kept").await;
        lab.until_gone::<PersistentVolumeClaim>("data-gone-0-0")
            .await;
        lab.until_gone::<StatefulSet>("kept-0").await;
        assert!(
            lab.api::<PersistentVolumeClaim>()
                .get_opt("data-kept-0-0")
                .await
                .unwrap()
                .is_some()
        );

        // A cluster of the same name finds its volume again, and it is its own from then on.
        let again = lab.create("kept", &json!({})).await;
        lab.until_ready("kept").await;
        let uid = again.uid().unwrap();
        lab.until(
            "data-kept-0-0",
            "adopted",
            |claim: &PersistentVolumeClaim| claim.labels()[rocket_api::label::CLUSTER_UID] == uid,
        )
        .await;
    });
}
