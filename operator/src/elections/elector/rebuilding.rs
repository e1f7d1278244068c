//! What an elector does while its group has no record to go by (docs/replication.md §8.16): it asks all pods what they hold, and when
//! a person has decided so it makes the record anew, or takes one away that is not to be obeyed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use rocket_api::{GroupRule, Reason, RocketBrokerGroup};
use rocket_coordinator::kubernetes::{BadStatus, state_of, status_of};
use rocket_replication::identity::{GroupUid, ReplicaId};
use rocket_replication::state::State;
use tokio::time::timeout;

use super::{Elector, WAIT};
use crate::context::{self, SIDE_CALL};
use crate::elected;
use crate::elections::force::Obstacle;
use crate::elections::rebuild::{self, Survey};
use crate::elections::{Answer, Standing};
use crate::names::{FIELD_MANAGER, PORT_HA};
use crate::validate;

/// How often all pods are asked what they hold.
const PAUSE: Duration = Duration::from_secs(1);
/// What is said when the API server was not heard.
const NOT_HEARD: &str = "the API server did not answer";

impl Elector {
    /// Asks all pods what they hold, and notes it for those who ask; returns how long to rest.
    pub(super) async fn survey(&mut self) -> Duration {
        let survey = self.surveyed().await;
        let is_asked = !self.post.wanted.borrow().lives.is_empty();
        self.heard(!is_asked || !survey.is_empty()).await;
        let mut seen = self.post.seen.lock();
        let handed = seen.take().and_then(|standing| standing.handed);
        *seen = Some(Standing {
            reports: Vec::new(),
            survey,
            handed,
        });
        PAUSE
    }

    async fn surveyed(&mut self) -> Survey {
        let pods: Vec<String> = self.post.wanted.borrow().lives.keys().cloned().collect();
        let addresses: BTreeMap<String, String> = pods
            .into_iter()
            .map(|pod| {
                let address = self.address_of(&pod);
                (pod, address)
            })
            .collect();
        self.probes.survey(&addresses, WAIT).await
    }

    /// Where a pod of the group listens for its replicas, as its broker is told to say.
    fn address_of(&self, pod: &str) -> String {
        let cluster = Arc::clone(&self.post.wanted.borrow().cluster);
        let names = validate::names(&cluster, &self.post.context.settings);
        let host = names.host(&names.group_replicas(self.post.index));
        format!("{pod}.{host}:{PORT_HA}")
    }

    /// Makes the record anew, by the decision of a person. `volumes`: the pods whose volumes exist. First it is seen that there is none,
    /// then all are asked: no write of the lost record lands after that.
    pub(super) async fn rebuild(&mut self, volumes: &BTreeSet<String>, reason: &str) -> Answer {
        let mut object = self.object().await?;
        match state_of(&object) {
            Err(BadStatus::Missing) => {}
            Ok(_) => return Err("there is a record by now".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        let survey = self.surveyed().await;
        let cluster = Arc::clone(&self.post.wanted.borrow().cluster);
        let uid = object.uid().unwrap_or_default();
        let uid = GroupUid::from_uuid(&uid).map_err(|error| error.to_string())?;
        let is_known = |(known, _): (GroupUid, ReplicaId)| known == uid;
        if survey.values().any(|held| held.group.is_some_and(is_known)) {
            // Emptied, not deleted: brokers that run would take the next state for one of the former record's.
            self.take_away(&object).await?;
            return Err("the emptied object is made again, under a UID of its own".to_owned());
        }
        let copies = validate::min_in_sync(&cluster.spec, GroupRule::Elected);
        let copies = u8::try_from(copies).unwrap_or(1);
        let proposal = self.post.context.proposal();
        let has_pod = |pod: &str| self.post.wanted.borrow().lives.contains_key(pod);
        let planned = rebuild::plan(
            State::new(uid, copies, proposal),
            volumes,
            &survey,
            has_pod,
            |pod| self.address_of(pod),
        );
        let state = match planned {
            Ok(state) => state.begun_with(elected::policy(&cluster.spec)),
            Err(Obstacle::Yet(why) | Obstacle::Never(why)) => return Err(why),
        };
        let status = status_of(&state).map_err(|error| error.to_string())?;
        object.status = Some(status);
        object.metadata.managed_fields = None;
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        // Resource version and UID are those that were read: nobody else has made a record meanwhile.
        let api = self.objects();
        let written = api.replace_status(&self.post.group, &params, &object);
        written.await.map_err(|error| error.to_string())?;
        let note = format!(
            "group {}: its record was made anew in epoch {} from what {} replicas hold; {reason}",
            self.post.index,
            state.epoch,
            state.replicas.len(),
        );
        tracing::warn!(group = self.post.group, "{note}");
        self.publish_rebuilt(note).await;
        Ok(())
    }

    /// Takes away a record that is not to be obeyed: one that cannot be read, is another object's, or is older than what a replica
    /// said before it was read here. The object is made again by the next reconcile, without a state.
    pub(super) async fn discard(&mut self) -> Answer {
        let newest = {
            let seen = self.post.seen.lock();
            let reports = seen.iter().flat_map(|standing| &standing.reports);
            reports.map(|report| report.version).max()
        };
        let object = self.object().await?;
        if object.status.as_ref().map(|status| status.rule) != Some(GroupRule::Elected) {
            return Err("there is no record of a group that elects".to_owned());
        }
        match state_of(&object) {
            Ok(state) if newest.is_none_or(|newest| newest <= state.version) => {
                return Err("the record is usable by now".to_owned());
            }
            Ok(_) | Err(_) => {}
        }
        self.take_away(&object).await
    }

    /// Deletes the very object that was read.
    async fn take_away(&self, object: &RocketBrokerGroup) -> Answer {
        let this = Preconditions {
            uid: object.uid(),
            resource_version: object.resource_version(),
        };
        let params = DeleteParams::default().preconditions(this);
        let deleted = self.objects().delete(&self.post.group, &params).await;
        deleted.map_err(|error| error.to_string())?;
        tracing::warn!(
            group = self.post.group,
            "a record that cannot be obeyed was taken away by a person's decision"
        );
        Ok(())
    }

    /// The record went back: only a person can mend that.
    pub(super) fn is_behind(&self) {
        let message = format!(
            "RocketBrokerGroup {} is older than what was seen of it, as if restored from a backup: nobody is elected by it. If it cannot be put right, a RocketOperation of type Rebuild makes it anew from what all replicas hold (examples/rebuild.yaml, docs/failover.md)",
            self.post.group
        );
        self.post.find(&message);
    }

    fn objects(&self) -> Api<RocketBrokerGroup> {
        Api::namespaced(self.post.context.client.clone(), &self.post.namespace)
    }

    async fn object(&self) -> Result<RocketBrokerGroup, String> {
        let objects = self.objects();
        let read = timeout(SIDE_CALL, objects.get_opt(&self.post.group)).await;
        let object = read.map_err(|_| NOT_HEARD)?.map_err(|error| {
            tracing::debug!(group = self.post.group, %error, "the record cannot be read");
            NOT_HEARD.to_owned()
        })?;
        object.ok_or_else(|| format!("there is no RocketBrokerGroup {}", self.post.group))
    }

    async fn publish_rebuilt(&self, note: String) {
        let decision = context::Decision {
            warning: true,
            reason: Reason::RecordRebuilt,
            action: "Rebuild",
            note,
            about: Some(("RocketBrokerGroup", self.post.group.clone())),
        };
        let cluster = Arc::clone(&self.post.wanted.borrow().cluster);
        self.post.context.publish(&cluster, &decision).await;
    }
}
