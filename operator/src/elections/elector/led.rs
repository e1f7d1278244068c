//! Has a group's address and its pods' labels follow the master that the record names.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt};
use rocket_replication::identity::Epoch;
use rocket_replication::state::State;
use tokio::time::timeout;

use super::{Elector, master_pod};
use crate::address::Address;
use crate::build;
use crate::context::SIDE_CALL;
use crate::names::FIELD_MANAGER;
use crate::roles::{self, Change};
use crate::validate;

impl Elector {
    /// Moves the group's address to a new master, and notes when it has opened for writes. The next look does not wait for an API server
    /// that does not take it.
    pub(super) async fn follow(&mut self, state: &State) {
        if let Some((epoch, missed_at_ms)) = self.opening
            && state.activated.is_some_and(|opened| opened.epoch >= epoch)
        {
            self.opening = None;
            let took = Duration::from_millis(self.now_ms().saturating_sub(missed_at_ms));
            let metrics = &self.post.context.metrics;
            metrics.failover_seconds.observe(took.as_secs_f64());
        }
        let master = master_pod(state);
        let Some((epoch, former)) = &self.led else {
            self.led = Some((state.epoch, master));
            return;
        };
        if *epoch >= state.epoch || master.is_none() {
            return;
        }
        let change = |pod: Option<String>, is_master| {
            pod.map(|pod| Change {
                is_master,
                pod,
                uid: None,
            })
        };
        let former = former.clone().filter(|pod| Some(pod) != master.as_ref());
        let changes = [change(former, false), change(master.clone(), true)];
        let leading = self.lead_to(state.epoch, master.as_deref());
        self.led = Some((state.epoch, master));
        let client = self.post.context.client.clone();
        let api: Api<Pod> = Api::namespaced(client, &self.post.namespace);
        let writes = changes.iter().flatten().map(|change| {
            let api = &api;
            async move {
                if let Err(error) = roles::write(api, change).await {
                    // The next reconcile does it.
                    tracing::debug!(pod = change.pod, %error, "a role was not written");
                }
            }
        });
        let moving = futures::future::join(leading, futures::future::join_all(writes));
        if timeout(SIDE_CALL, moving).await.is_err() {
            tracing::debug!(
                group = self.post.group,
                "roles and address were not moved in time"
            );
        }
    }

    /// Has the Service of the group lead to the pod of a master; the next reconcile does it where this does not come through, also that of
    /// a paused cluster.
    fn lead_to(&self, epoch: Epoch, pod: Option<&str>) -> impl Future<Output = ()> + use<> {
        let wanted = self.post.wanted.borrow();
        let home = pod.and_then(|pod| wanted.homes.get(pod)).cloned();
        let desired = home.map(|home| {
            let address = Address {
                epoch: i64::try_from(epoch.0).unwrap_or(i64::MAX),
                home,
            };
            let names = validate::names(&wanted.cluster, &self.post.context.settings);
            let uid = wanted.cluster.uid().unwrap_or_default();
            build::master_address(&names, &uid, self.post.index, &address)
        });
        let client = self.post.context.client.clone();
        let namespace = self.post.namespace.clone();
        async move {
            let Some(desired) = desired else { return };
            let resource = desired.key.0.api_resource();
            let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource);
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let patch = Patch::Apply(&desired.object);
            if let Err(error) = api.patch(&desired.key.1, &params, &patch).await {
                tracing::debug!(slice = desired.key.1, %error, "the address of a group was not moved");
            }
        }
    }
}
