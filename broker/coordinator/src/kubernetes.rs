//! The register as the status of a `RocketBrokerGroup`.
//!
//! A current read is a get without a resource version. A write is a full replace of the status that carries resource version
//! and uid, so it applies to the very object that was read or not at all. The resource version is a precondition and is never
//! compared by order: order is `state.version`. No heartbeat is ever written.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use rocket_api::{GroupState, RocketBrokerGroup};
use rocket_replication::identity::{GroupUid, Version};
use rocket_replication::state::State;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::{Cas, CasAnswer, Coordinator, Hints, ReadAnswer};

/// A request that has no answer for so long is told as unanswered.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module. Clones share the watch.
#[derive(Clone)]
pub struct KubernetesCoordinator {
    api: Api<RocketBrokerGroup>,
    name: Arc<str>,
    /// The object as last read, for the precondition of the next write.
    last: Arc<Mutex<Option<RocketBrokerGroup>>>,
    hints: Hints,
    _watching: Arc<DropGuard>,
}

impl std::fmt::Debug for KubernetesCoordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KubernetesCoordinator")
            .field(&self.name)
            .finish()
    }
}

/// The object's status is not a state of the protocol.
#[derive(Debug, thiserror::Error)]
pub enum BadStatus {
    /// It has none yet: the operator writes the first.
    #[error("the group object has no status yet")]
    Missing,
    /// It cannot be read.
    #[error("the group object's status is not a state: {0}")]
    Shape(#[from] serde_json::Error),
    /// It speaks of another object: a restored or copied one.
    #[error("the status is of group {found}, the object is {object}")]
    OtherGroup {
        /// In the status.
        found: GroupUid,
        /// The object's own uid.
        object: String,
    },
}

/// There is no way to the API server from where this process runs.
#[derive(Debug, thiserror::Error)]
#[error("no way to the API server: {0}")]
pub struct ConnectError(String);

impl KubernetesCoordinator {
    /// As [`KubernetesCoordinator::new`], with the service account of the pod that this process runs in, else with the
    /// kubeconfig of the person who runs it.
    ///
    /// # Errors
    /// [`ConnectError`]: there is neither. Whether the server answers is not asked.
    pub async fn connect(
        namespace: &str,
        name: &str,
        tasks: &TaskTracker,
    ) -> Result<Self, ConnectError> {
        let client = Client::try_default().await;
        let client = client.map_err(|error| ConnectError(error.to_string()))?;
        Ok(Self::new(client, namespace, name, tasks))
    }

    /// The register in the object `name`. The task that watches belongs to `tasks` and ends with the last clone.
    pub fn new(client: Client, namespace: &str, name: &str, tasks: &TaskTracker) -> Self {
        let api: Api<RocketBrokerGroup> = Api::namespaced(client, namespace);
        let (sender, hints) = watch::channel(None);
        let stop = CancellationToken::new();
        let watching = look(api.clone(), name.to_owned(), sender);
        tasks.spawn(stop.clone().run_until_cancelled_owned(watching));
        Self {
            api,
            name: name.into(),
            last: Arc::default(),
            hints,
            _watching: Arc::new(stop.drop_guard()),
        }
    }

    async fn get(&self) -> Result<Option<(RocketBrokerGroup, State)>, String> {
        let got = tokio::time::timeout(PATIENCE, self.api.get_opt(&self.name)).await;
        let object = got
            .map_err(|_| format!("no answer within {PATIENCE:?}"))?
            .map_err(|error| error.to_string())?;
        let Some(object) = object else {
            return Ok(None);
        };
        let state = state_of(&object).map_err(|error| error.to_string())?;
        *self.last.lock() = Some(object.clone());
        Ok(Some((object, state)))
    }

    /// The object at the version that a write expects: as last read, else read now.
    async fn at(&self, expected: Version) -> Result<Option<RocketBrokerGroup>, String> {
        let last = self.last.lock().clone();
        if let Some(object) = last
            && state_of(&object).is_ok_and(|state| state.version == expected)
        {
            return Ok(Some(object));
        }
        let now = self.get().await?;
        Ok(now
            .filter(|(_, state)| state.version == expected)
            .map(|(object, _)| object))
    }

    async fn replace(&self, cas: Cas) -> CasAnswer {
        let mut object = match self.at(cas.expected).await {
            Ok(Some(object)) => object,
            Ok(None) => return CasAnswer::Conflict,
            Err(error) => {
                tracing::warn!(group = %self.name, %error, "the group object cannot be read");
                return CasAnswer::Unsent;
            }
        };
        match status_of(&cas.new) {
            Ok(status) => object.status = Some(status),
            Err(error) => {
                tracing::error!(%error, "a state that does not fit the group object was refused");
                return CasAnswer::Unsent;
            }
        }
        // Server-side fields that a replace has no use for.
        object.metadata.managed_fields = None;
        let params = PostParams::default();
        let request = self.api.replace_status(&self.name, &params, &object);
        let answer = match tokio::time::timeout(PATIENCE, request).await {
            Ok(Ok(written)) => {
                *self.last.lock() = Some(written);
                return CasAnswer::Applied(cas.new.version);
            }
            Ok(Err(error)) => {
                let answer = meaning(&error);
                tracing::debug!(group = %self.name, %error, ?answer, "a write of the group object was not answered with success");
                if let kube::Error::Api(status) = &error
                    && matches!(status.code, 400 | 401 | 403 | 422)
                {
                    tracing::error!(group = %self.name, message = status.message, "the API server refuses a write of the group object");
                }
                answer
            }
            Err(_) => CasAnswer::Unknown,
        };
        *self.last.lock() = None;
        answer
    }
}

/// What an error of a write proves. Only an answer of the API server that says so proves that nothing was or will be written.
fn meaning(error: &kube::Error) -> CasAnswer {
    match error {
        kube::Error::Api(status) => match status.code {
            // Also "gone": the read that follows tells.
            404 | 409 => CasAnswer::Conflict,
            400 | 401 | 403 | 405 | 413 | 422 => CasAnswer::Unsent,
            _ => CasAnswer::Unknown,
        },
        _ => CasAnswer::Unknown,
    }
}

impl Coordinator for KubernetesCoordinator {
    fn read_current(&self) -> BoxFuture<'_, ReadAnswer> {
        Box::pin(async {
            match self.get().await {
                Ok(Some((_, state))) => ReadAnswer::State(Arc::new(state)),
                Ok(None) => ReadAnswer::Gone,
                Err(error) => {
                    tracing::warn!(group = %self.name, %error, "the group object cannot be read");
                    ReadAnswer::Unreachable
                }
            }
        })
    }

    fn cas(&self, cas: Cas) -> BoxFuture<'_, CasAnswer> {
        Box::pin(self.replace(cas))
    }

    fn watch(&self) -> Hints {
        self.hints.clone()
    }
}

/// The state in an object.
///
/// # Errors
/// [`BadStatus`].
pub fn state_of(object: &RocketBrokerGroup) -> Result<State, BadStatus> {
    let status = object.status.as_ref().ok_or(BadStatus::Missing)?;
    let state: State = serde_json::from_value(serde_json::to_value(status)?)?;
    let object = object.metadata.uid.clone().unwrap_or_default();
    if GroupUid::from_uuid(&object).ok() != Some(state.group_uid) {
        return Err(BadStatus::OtherGroup {
            found: state.group_uid,
            object,
        });
    }
    Ok(state)
}

/// The status that holds a state, with the names that people read.
///
/// # Errors
/// A number that JSON's readers in Kubernetes cannot hold.
pub fn status_of(state: &State) -> Result<GroupState, serde_json::Error> {
    let mut status: GroupState = serde_json::from_value(serde_json::to_value(state)?)?;
    for replica in status.replicas.values_mut() {
        rocket_api::pod_of_address(&replica.address).clone_into(&mut replica.name);
    }
    let name = |member: &rocket_api::Member| {
        let replica = status.replicas.get(&member.replica_id.to_string())?;
        Some(replica.name.clone())
    };
    let master_name = status.master.as_ref().and_then(name);
    let in_sync: Vec<String> = status.in_sync.iter().filter_map(name).collect();
    status.rule = rocket_api::GroupRule::Elected;
    (status.master_name, status.in_sync_names) = (master_name, in_sync.join(", "));
    Ok(status)
}

/// Tells of every state that the API server shows, until nobody listens.
async fn look(api: Api<RocketBrokerGroup>, name: String, hints: watch::Sender<Option<Arc<State>>>) {
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut objects = std::pin::pin!(watcher(api, only).default_backoff().applied_objects());
    while let Some(seen) = objects.next().await {
        match seen.map(|object| state_of(&object)) {
            Ok(Ok(state)) => {
                hints.send_replace(Some(Arc::new(state)));
            }
            Ok(Err(BadStatus::Missing)) => {}
            Ok(Err(error)) => {
                tracing::error!(group = name, %error, "the group object was changed by hand or restored");
            }
            Err(error) => {
                tracing::debug!(group = name, %error, "the watch of the group object was interrupted");
            }
        }
    }
}
