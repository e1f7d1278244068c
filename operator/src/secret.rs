//! The secret that the brokers of a cluster prove themselves to each other with: made once, never written again, never logged.
//!
//! The operator reads it for one thing: its electors ask replicas over the same authenticated links how they fare. It asks
//! for no other secret than this one, by name.

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;

use crate::build;
use crate::context::SIDE_CALL;
use crate::names::FIELD_MANAGER;
use crate::observe::is_controlled_by;
use crate::validate::ValidatedCluster;

/// The key in the Secret, and the name of the file in a pod.
pub const KEY: &str = "secret";

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It was there.
    There,
    /// It was made.
    Made,
    /// Somebody else has a Secret of the name.
    Taken,
}

/// Makes the Secret of a cluster unless there is one.
///
/// # Errors
/// When the API server does not do it.
pub async fn keep(client: &Client, cluster: &ValidatedCluster) -> kube::Result<Kept> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &cluster.names.namespace);
    let present = api
        .get_metadata_opt(&cluster.names.replication_secret())
        .await?;
    if let Some(present) = present {
        let is_ours = is_controlled_by(present.owner_references(), &cluster.uid);
        return Ok(if is_ours { Kept::There } else { Kept::Taken });
    }
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let secret = build::replication_secret(cluster, &rand::random());
    match api.create(&params, &secret).await {
        Ok(_) => Ok(Kept::Made),
        // Another operator was faster: its random bytes are as good.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Kept::There),
        Err(error) => Err(error),
    }
}

/// A secret that was read.
#[derive(Debug, Clone)]
pub struct Found {
    /// What it says.
    pub secret: rocket_link::Secret,
    /// Which object that was, and in which version: another one may say something else.
    pub version: String,
}

/// Why none was read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// There is none.
    #[error("there is no such Secret")]
    Missing,
    /// It is not what [`keep`] made for this cluster: brokers that begin now prove themselves with another one, or there are none.
    #[error("it belongs to somebody else, or to a former RocketCluster of the name")]
    Taken,
    /// It says nothing.
    #[error("there is no key `{KEY}` in it")]
    Empty,
    /// The API server does not answer.
    #[error("the API server does not answer")]
    Silent,
    /// The API server does not give it.
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// The secret of the cluster with this UID.
///
/// # Errors
/// [`Unread`]: all of it is worth another try.
pub async fn read(
    client: &Client,
    (namespace, name): (&str, &str),
    cluster_uid: &str,
) -> Result<Found, Unread> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let present = timeout(SIDE_CALL, api.get_opt(name)).await;
    let present = present.map_err(|_| Unread::Silent)??;
    let mut present = present.ok_or(Unread::Missing)?;
    if !is_controlled_by(present.owner_references(), cluster_uid) {
        return Err(Unread::Taken);
    }
    let bytes = present.data.as_mut().and_then(|data| data.remove(KEY));
    let bytes = bytes.ok_or(Unread::Empty)?;
    let (uid, version) = (present.uid(), present.resource_version());
    Ok(Found {
        secret: rocket_link::Secret::new(bytes.0.trim_ascii()),
        version: format!("{uid:?} {version:?}"),
    })
}
