//! Writes what differs: objects by server-side apply in a stated order, roles onto pods, volumes, restarts, and deletions.
//!
//! Every write is guarded: an object of somebody else is never taken over, a deletion names the UID that it means, and
//! nothing is written that is already so.

mod claims;
mod following;
mod pods;
mod records;

use std::collections::BTreeSet;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use rocket_api::{GroupRule, Reason};
use serde_json::Value;

use crate::build::Desired;
use crate::config_files;
use crate::context::{Context, Decision};
use crate::drift;
use crate::kind::{Key, Kind};
use crate::names::FIELD_MANAGER;
use crate::observe::{Observed, is_controlled_by};
use crate::secret::{self, Kept};
use crate::status::Problem;
use crate::validate::ValidatedCluster;
use crate::volumes;

pub use following::follow;

/// A write that did not come through; try again later.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {kind} {name}")]
pub struct Error {
    verb: &'static str,
    kind: &'static str,
    name: String,
    #[source]
    source: kube::Error,
}

/// What one pass did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many objects were written or deleted.
    pub writes: usize,
    /// How many of them have to be taken up before what was seen says anything about the specification: StatefulSets, records that
    /// ask for something else, and whatever is on its way out.
    pub unsettled: usize,
    /// What is not as it was written, each object with the first such place.
    pub mutated: Vec<String>,
    /// What trying again does not cure.
    pub problems: Vec<Problem>,
    /// What to tell people.
    pub decisions: Vec<Decision>,
    /// A handover is due, and nobody tells when it can be asked for; or a group is yet to be begun.
    pub soon: bool,
}

/// One pass over one cluster.
pub struct Apply<'a> {
    context: &'a Context,
    cluster: &'a ValidatedCluster,
    observed: &'a Observed,
    outcome: Outcome,
    /// StatefulSets that are being deleted to be made anew: writing to them now would bring the former ones back.
    recreating: BTreeSet<String>,
    /// The Secret of the replication links is not ours. A pod that began with another one would never find to those that
    /// begin with ours.
    lacks_secret: bool,
    /// Groups whose records could not be had, or not be begun.
    lacking: BTreeSet<String>,
}

impl<'a> Apply<'a> {
    /// A pass that has done nothing yet.
    pub fn new(
        context: &'a Context,
        cluster: &'a ValidatedCluster,
        observed: &'a Observed,
    ) -> Self {
        Self {
            context,
            cluster,
            observed,
            outcome: Outcome::default(),
            recreating: BTreeSet::new(),
            lacks_secret: false,
            lacking: BTreeSet::new(),
        }
    }

    /// Does all of it.
    ///
    /// # Errors
    /// At the first write that the API server did not answer as a decision: the rest waits for the next try.
    pub async fn run(mut self, desired: &[Desired]) -> Result<Outcome, Error> {
        if self.cluster.rule == GroupRule::Elected {
            self.secret().await?;
        }
        for index in 0..self.cluster.spec.groups.count {
            self.volumes(index).await?;
        }
        for object in desired {
            let live = self.object(object).await?;
            if object.key.0 == Kind::BrokerGroup {
                if live.is_none() {
                    self.lacking.insert(object.key.1.clone());
                }
                self.record(live).await?;
            }
        }
        self.roles().await?;
        self.restarts().await?;
        self.prune(desired).await?;
        for claim in volumes::surplus(self.cluster, self.observed) {
            self.delete_claim(claim).await?;
        }
        Ok(self.outcome)
    }

    /// Makes the secret of the replication links, before any pod needs it.
    async fn secret(&mut self) -> Result<(), Error> {
        let name = self.cluster.names.replication_secret();
        let problem = match secret::keep(&self.client(), self.cluster).await {
            Ok(Kept::There) => return Ok(()),
            Ok(Kept::Made) => {
                self.outcome.writes += 1;
                return Ok(());
            }
            Ok(Kept::Taken) => Problem::NameTaken(format!(
                "Secret {name} exists and does not belong to this RocketCluster: delete or rename it, or choose another metadata.name"
            )),
            Err(kube::Error::Api(status)) if is_decision(status.code) => {
                Problem::ApplyRefused(format!("Secret {name}: {}", status.message))
            }
            Err(source) => {
                return Err(Error {
                    verb: "make",
                    kind: "Secret",
                    name,
                    source,
                });
            }
        };
        self.lacks_secret = true;
        self.outcome.problems.push(problem);
        Ok(())
    }

    /// Applies one object if it differs; returns what is there afterwards.
    async fn object(&mut self, desired: &Desired) -> Result<Option<Value>, Error> {
        let (kind, name) = &desired.key;
        let live = self.observed.children.get(&desired.key);
        // What a group is begun with stands in its record.
        let lacks = self.lacks_secret || self.lacking.contains(name);
        let must_wait = self.recreating.contains(name) || (lacks && live.is_none());
        if *kind == Kind::StatefulSet && must_wait {
            return Ok(None);
        }
        if let Some(live) = live {
            if live.pointer("/metadata/deletionTimestamp").is_some() {
                // It is on its way out (a StatefulSet that is made anew): its end wakes us again.
                self.outcome.writes += 1;
                self.outcome.unsettled += 1;
                return Ok(None);
            }
            if !drift::differs(&desired.object, live) {
                self.context.metrics.applies_skipped.inc();
                return Ok(Some(live.clone()));
            }
        }
        let api = self.api(*kind);
        if live.is_none() && self.is_taken(&api, &desired.key).await? {
            return Ok(None);
        }
        let params = PatchParams::apply(FIELD_MANAGER)
            .force()
            .validation_strict();
        let result = api
            .patch(name, &params, &Patch::Apply(&desired.object))
            .await;
        match result {
            Ok(object) => {
                let object = serde_json::to_value(object).unwrap_or_default();
                self.applied(desired, live, &object);
                tracing::debug!(
                    kind = kind.as_str(),
                    name,
                    created = live.is_none(),
                    "applied"
                );
                if live.is_none() && *kind == Kind::StatefulSet {
                    self.tell(
                        ("StatefulSet", name),
                        Reason::Creating,
                        "Create",
                        format!("made {} {name}", kind.as_str()),
                    );
                }
                Ok(Some(object))
            }
            Err(kube::Error::Api(status)) if is_decision(status.code) => {
                self.outcome.writes += 1;
                self.outcome.problems.push(Problem::ApplyRefused(format!(
                    "{} {name}: {}",
                    kind.as_str(),
                    status.message
                )));
                Ok(None)
            }
            Err(source) => Err(failed("apply", &desired.key, source)),
        }
    }

    /// Counts a write that changed something. Where admission undoes what we set nothing changes, however often it is written: a
    /// person is told, and nobody waits for it.
    fn applied(&mut self, desired: &Desired, live: Option<&Value>, present: &Value) {
        let (kind, name) = &desired.key;
        let version = |object: &Value| object.pointer("/metadata/resourceVersion").cloned();
        if live.is_none_or(|live| version(live) != version(present)) {
            self.outcome.writes += 1;
            self.outcome.unsettled += usize::from(*kind == Kind::StatefulSet);
        }
        if let Some(place) = drift::lacks(present, &desired.object) {
            let place = format!("{place} of {} {name}", kind.as_str());
            self.outcome.mutated.push(place);
        }
    }

    /// Whether an object that we do not own has the name. One of ours that lost its labels is not taken.
    async fn is_taken(&mut self, api: &Api<DynamicObject>, key: &Key) -> Result<bool, Error> {
        let present = api
            .get_metadata_opt(&key.1)
            .await
            .map_err(|source| failed("read", key, source))?;
        let taken = present
            .is_some_and(|object| !is_controlled_by(object.owner_references(), &self.cluster.uid));
        if taken {
            let message = format!(
                "{} {} exists and does not belong to this RocketCluster: delete or rename it, or choose another metadata.name",
                key.0.as_str(),
                key.1
            );
            self.outcome.problems.push(Problem::NameTaken(message));
        }
        Ok(taken)
    }

    /// Deletes what is ours and no longer wanted. The record of a group stays as long as a volume of it, a file as long as a pod mounts it.
    async fn prune(&mut self, desired: &[Desired]) -> Result<(), Error> {
        for (key, live) in self.observed.children.iter().rev() {
            let is_wanted = desired.iter().any(|object| &object.key == key);
            let leaving = live.pointer("/metadata/deletionTimestamp").is_some();
            let is_mounted =
                key.0 == Kind::ConfigMap && config_files::is_mounted(&key.1, self.observed);
            if is_wanted || leaving || is_mounted || self.keeps_record(key, live) {
                continue;
            }
            let text = |pointer| live.pointer(pointer).and_then(Value::as_str);
            let mut params = only(text("/metadata/uid").unwrap_or_default().to_owned());
            if let (Kind::EndpointSlice, Some(this)) = (key.0, &mut params.preconditions) {
                // An elector may have it lead to the next master at this moment.
                this.resource_version = text("/metadata/resourceVersion").map(str::to_owned);
            }
            let result = self.api(key.0).delete(&key.1, &params).await;
            self.gone_is_fine("delete", &key.1, result)?;
            if key.0 == Kind::StatefulSet {
                self.outcome.unsettled += 1;
                self.tell(
                    ("StatefulSet", &key.1),
                    Reason::Scaling,
                    "Delete",
                    format!(
                        "deleted StatefulSet {}, which the specification no longer asks for",
                        key.1
                    ),
                );
            }
        }
        Ok(())
    }

    fn keeps_record(&self, key: &Key, live: &Value) -> bool {
        let index = live
            .pointer("/spec/index")
            .and_then(Value::as_i64)
            .and_then(|index| i32::try_from(index).ok());
        key.0 == Kind::BrokerGroup
            && index
                .is_some_and(|index| volumes::has_claims(&self.cluster.names, index, self.observed))
    }

    /// Counts a write. An object that is gone, or that is another one by now, is none of our business any more.
    fn gone_is_fine<T>(
        &mut self,
        verb: &'static str,
        name: &str,
        result: kube::Result<T>,
    ) -> Result<(), Error> {
        self.outcome.writes += 1;
        match result {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(source) => Err(Error {
                verb,
                kind: "object",
                name: name.to_owned(),
                source,
            }),
        }
    }

    fn tell(
        &mut self,
        (kind, name): (&'static str, &str),
        reason: Reason,
        action: &'static str,
        note: String,
    ) {
        let about = Some((kind, name.to_owned()));
        self.outcome.decisions.push(Decision {
            warning: false,
            reason,
            action,
            note,
            about,
        });
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.client(),
            &self.cluster.names.namespace,
            &kind.api_resource(),
        )
    }

    fn client(&self) -> Client {
        self.context.client.clone()
    }
}

/// Whether an answer is a decision that stays the same however often one asks.
fn is_decision(code: u16) -> bool {
    matches!(code, 400 | 403 | 405 | 422)
}

/// Deletes this very object, in the background.
fn only(uid: String) -> DeleteParams {
    DeleteParams::background().preconditions(Preconditions {
        uid: Some(uid),
        resource_version: None,
    })
}

fn failed(verb: &'static str, key: &Key, source: kube::Error) -> Error {
    Error {
        verb,
        kind: key.0.as_str(),
        name: key.1.clone(),
        source,
    }
}
