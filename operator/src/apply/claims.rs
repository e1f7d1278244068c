//! Volume claims: they are enlarged, with their StatefulSet made anew around its pods, and deleted when the specification says so.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use rocket_api::Reason;
use serde_json::json;

use super::{Apply, Error, is_decision};
use crate::status::Problem;
use crate::volumes;

impl Apply<'_> {
    /// Enlarges claims; when all of a group have grown, makes its StatefulSet anew around its pods.
    pub(super) async fn volumes(&mut self, index: i32) -> Result<(), Error> {
        let plan = volumes::plan(self.cluster, index, self.observed);
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client(), &self.cluster.names.namespace);
        for name in &plan.adopt {
            let patch = json!({"metadata": {"labels": volumes::labels(self.cluster)}});
            let result = claims
                .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await;
            self.gone_is_fine("label", name, result)?;
        }
        let size = &self.cluster.spec.groups.storage.size;
        for name in &plan.grow {
            let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
            match claims
                .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await
            {
                Ok(_) => {
                    self.outcome.writes += 1;
                    self.tell(
                        ("PersistentVolumeClaim", name),
                        Reason::ResizingVolumes,
                        "ResizeVolume",
                        format!("enlarging volume claim {name} to {size}"),
                    );
                }
                Err(kube::Error::Api(status)) if is_decision(status.code) => {
                    let message = format!(
                        "volume claim {name} cannot grow to {size}: {}; the cluster goes on with the former size",
                        status.message
                    );
                    self.outcome
                        .problems
                        .push(Problem::VolumeResizeRefused(message));
                }
                Err(source) => {
                    return Err(Error {
                        verb: "enlarge",
                        kind: "PersistentVolumeClaim",
                        name: name.clone(),
                        source,
                    });
                }
            }
        }
        if let Some(uid) = plan.recreate {
            let name = self.cluster.names.group(index);
            let api: Api<StatefulSet> =
                Api::namespaced(self.client(), &self.cluster.names.namespace);
            let params = DeleteParams::orphan().preconditions(Preconditions {
                uid: Some(uid),
                resource_version: None,
            });
            let result = api.delete(&name, &params).await;
            self.gone_is_fine("make anew", &name, result)?;
            self.outcome.unsettled += 1;
            self.recreating.insert(name.clone());
            self.tell(
                ("StatefulSet", &name),
                Reason::ResizingVolumes,
                "RecreateStatefulSet",
                format!("making StatefulSet {name} anew for volumes of {size}; its pods go on"),
            );
        }
        Ok(())
    }

    pub(super) async fn delete_claim(
        &mut self,
        claim: &PersistentVolumeClaim,
    ) -> Result<(), Error> {
        let name = &*claim.name_any();
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client(), &self.cluster.names.namespace);
        let result = api.delete(name, &volumes::deletion(claim)).await;
        self.gone_is_fine("delete", name, result)?;
        self.tell(
            ("PersistentVolumeClaim", name),
            Reason::Scaling,
            "DeleteVolume",
            format!("deleted volume claim {name} as groups.storage.reclaim.onScaleIn says"),
        );
        Ok(())
    }
}
