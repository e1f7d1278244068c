//! The secret of the replication links. It is not among the objects that a reconcile applies: what is applied is compared and
//! written again, this is made once.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Secret;

use super::metadata;
use crate::secret::KEY;
use crate::validate::ValidatedCluster;

/// The Secret of a cluster with these random bytes, as text: white space around a secret in a file does not count.
pub fn replication_secret(cluster: &ValidatedCluster, bytes: &[u8; 32]) -> Secret {
    let text = bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    Secret {
        metadata: metadata(
            cluster,
            cluster.names.replication_secret(),
            cluster.names.labels(),
        ),
        type_: Some("Opaque".to_owned()),
        immutable: Some(true),
        string_data: Some(BTreeMap::from([(KEY.to_owned(), text)])),
        ..Secret::default()
    }
}
