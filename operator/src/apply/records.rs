//! What a reconcile writes into the record of a group. Each write replaces the very status that was read, or does nothing.

use kube::api::PostParams;
use kube::{Api, ResourceExt};
use rocket_api::{GroupRule, Reason, RocketBrokerGroup};
use rocket_coordinator::kubernetes::{state_of, status_of};
use rocket_replication::{ReplicaId, State};
use serde_json::Value;

use super::{Apply, Error, failed};
use crate::elected;
use crate::elections::{Task, handover};
use crate::kind::Kind;
use crate::master;
use crate::members;
use crate::names::FIELD_MANAGER;
use crate::status::Problem;
use crate::volumes;

impl Apply<'_> {
    /// Writes the record of a group by compare-and-set, as far as that is the operator's affair.
    pub(super) async fn record(&mut self, live: Option<Value>) -> Result<(), Error> {
        let Some(mut group) =
            live.and_then(|live| serde_json::from_value::<RocketBrokerGroup>(live).ok())
        else {
            return Ok(());
        };
        let index = group.spec.index;
        let names = &self.cluster.names;
        let rule = group.status.as_ref().map_or(self.cluster.rule, |s| s.rule);
        let state = match rule {
            GroupRule::Static => {
                let master = usize::try_from(index)
                    .ok()
                    .and_then(|index| self.cluster.masters.get(index).copied());
                let ordinal = master.flatten().unwrap_or_default();
                master::next_state(&group, names, ordinal, self.cluster.min_in_sync)
            }
            GroupRule::Elected => {
                let has_volumes = volumes::has_claims(names, index, self.observed);
                let asked = (
                    elected::min_in_sync(self.cluster, group.status.as_ref()),
                    elected::policy(&self.cluster.spec),
                );
                let proposal = self.context.proposal();
                match elected::next_state(&group, asked, has_volumes, proposal) {
                    Ok(None) => return self.members(group).await,
                    Ok(state) => state,
                    Err(error) => {
                        let message = format!("RocketBrokerGroup {}: {error}", group.name_any());
                        self.outcome.problems.push(Problem::RecordUnusable(message));
                        None
                    }
                }
            }
        };
        let Some(state) = state else {
            return Ok(());
        };
        let is_first = group.status.is_none();
        let told = is_first.then(|| match rule {
            GroupRule::Static => (
                Reason::FixedMaster,
                "RecordMaster",
                format!(
                    "group {index}: recorded {} as master of epoch {}",
                    state.master_name.as_deref().unwrap_or_default(),
                    state.epoch
                ),
            ),
            GroupRule::Elected => (
                Reason::Creating,
                "RecordGroup",
                format!("group {index}: its replicas elect a master when they have registered"),
            ),
        });
        group.status = Some(state);
        let name = group.name_any();
        // What it asks for now its brokers have not seen yet.
        self.outcome.unsettled += 1;
        let is_written = self.replace(group).await?;
        if let Some((reason, action, note)) = told.filter(|_| is_written) {
            self.tell(("RocketBrokerGroup", &name), reason, action, note);
        }
        if is_first && !is_written {
            // Its pods would bring volumes, and beside these a record without a state is a lost one.
            self.outcome.soon = true;
            self.lacking.insert(name);
        }
        Ok(())
    }

    /// Cordons the replicas that the group shall not have any more, and takes those away whose bytes nobody needs.
    async fn members(&mut self, mut group: RocketBrokerGroup) -> Result<(), Error> {
        let index = group.spec.index;
        let Ok(state) = state_of(&group) else {
            return Ok(());
        };
        let wanted = (index, self.cluster.spec.groups.replicas);
        let has_pod = |pod: &str| self.observed.pod(pod).is_some();
        let step = members::next(&state, wanted, &self.cluster.names, has_pod);
        let proposal = self.context.proposal();
        let Some((step, new)) = step.and_then(|step| {
            let new = step.written(&state, proposal)?;
            Some((step, new))
        }) else {
            return Ok(());
        };
        let written = State::check_transition(&state, &new).map_err(|error| error.to_string());
        let written = written.and_then(|()| status_of(&new).map_err(|error| error.to_string()));
        let status = match written {
            Ok(status) => status,
            Err(error) => {
                let message = format!("RocketBrokerGroup {}: {error}", group.name_any());
                self.outcome.problems.push(Problem::RecordUnusable(message));
                return Ok(());
            }
        };
        group.status = Some(status);
        let (name, id) = (group.name_any(), step.replica_id());
        let pod = handover::pod(&state, id);
        let leaves = state.replicas.get(&id).is_some_and(|it| it.cordoned);
        let why = if leaves {
            "was scaled away"
        } else {
            "has another disk now"
        };
        if self.replace(group).await? && matches!(step, members::Step::Remove(_)) {
            let note =
                format!("group {index}: {pod} {why}, and the record knows replica {id} no more");
            let about = ("RocketBrokerGroup", name.as_str());
            self.tell(about, Reason::Scaling, "RemoveReplica", note);
        }
        Ok(())
    }

    /// Replaces the status of the very object that was read; tells whether it was that one still.
    async fn replace(&mut self, mut group: RocketBrokerGroup) -> Result<bool, Error> {
        let name = group.name_any();
        group.metadata.managed_fields = None;
        let api: Api<RocketBrokerGroup> =
            Api::namespaced(self.client(), &self.cluster.names.namespace);
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        self.outcome.writes += 1;
        match api.replace_status(&name, &params, &group).await {
            Ok(_) => Ok(true),
            // A broker or an elector was faster. The change wakes us, and then it is looked at anew.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(source) => Err(failed("record", &(Kind::BrokerGroup, name), source)),
        }
    }

    /// Has the elector of a group ask the master to hand over; what comes of it is seen by the next reconcile. Once asked, not again
    /// and again: a handover that does not come about stops writes for as long as the master tries.
    pub(super) fn hand_over(&mut self, index: i32, to: ReplicaId) {
        self.outcome.soon = true;
        let name = self.cluster.names.group(index);
        let Some(Ok(state)) = self.observed.groups.get(&name).map(state_of) else {
            return;
        };
        let namespace = &self.cluster.names.namespace;
        let elections = &self.context.elections;
        if state.handover.is_some() || !elections.may_hand_over(namespace, &name) {
            return;
        }
        let task = Task::HandOver {
            to,
            at: state.epoch,
            by: None,
        };
        // What it does is told where it is done: one that cannot be asked now is tried again at every look.
        let _unawaited = elections.ask(namespace, &name, task);
    }
}
