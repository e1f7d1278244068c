//! The secret that the brokers of a cluster prove themselves to each other with: made once, never written again, never logged.
//!
//! The operator reads it for one thing: its electors ask replicas over the same authenticated links how they fare. It asks
//! for no other secret than this one, by name.

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use crate::build;
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

/// The secret of a cluster, if it was made.
///
/// # Errors
/// When the API server does not tell.
pub async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
) -> kube::Result<Option<rocket_link::Secret>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let present = api.get_opt(name).await?;
    let bytes = present.and_then(|secret| secret.data?.remove(KEY));
    Ok(bytes.map(|bytes| rocket_link::Secret::new(bytes.0.trim_ascii())))
}
