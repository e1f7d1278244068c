//! The key-value settings: read from memory, changed on the disk.

use std::sync::Arc;

use rocket_protocol::body::KvTable;
use rocket_protocol::header::{
    GetKvConfigResponseHeader, KvKeyHeader, NamespaceHeader, PutKvConfigHeader,
};
use rocket_protocol::{Command, ResponseCode};

use super::{Answered, Namesrv, Outcome, Refusal, success};
use crate::kv::KvConfig;

/// A change of the key-value settings.
#[derive(Debug)]
pub(crate) struct KvChange {
    kv: Arc<KvConfig>,
    namespace: String,
    key: String,
    /// `None` deletes.
    value: Option<String>,
}

impl KvChange {
    pub(crate) fn apply(self) -> Command {
        let done = match &self.value {
            Some(value) => self.kv.put(&self.namespace, &self.key, value),
            None => self.kv.delete(&self.namespace, &self.key),
        };
        match done {
            Ok(()) => success(),
            Err(error) => {
                tracing::error!(%error, "key-value settings could not be changed");
                Refusal::from(error).into_command()
            }
        }
    }
}

impl Namesrv {
    pub(super) fn put_kv(&self, request: &Command) -> Outcome {
        let read = || -> Result<_, Refusal> {
            let header: PutKvConfigHeader = request.header()?;
            not_empty(&header.namespace, &header.key)?;
            Ok(header)
        };
        match read() {
            Ok(header) => Outcome::Disk(KvChange {
                kv: Arc::clone(&self.kv),
                namespace: header.namespace.to_string(),
                key: header.key.to_string(),
                value: Some(header.value.to_string()),
            }),
            Err(refusal) => Outcome::Answer(refusal.into_command()),
        }
    }

    pub(super) fn delete_kv(&self, request: &Command) -> Outcome {
        match request.header::<KvKeyHeader>() {
            Ok(header) => Outcome::Disk(KvChange {
                kv: Arc::clone(&self.kv),
                namespace: header.namespace.to_string(),
                key: header.key.to_string(),
                value: None,
            }),
            Err(error) => Outcome::Answer(Refusal::from(error).into_command()),
        }
    }

    pub(super) fn get_kv(&self, request: &Command) -> Answered {
        let KvKeyHeader { namespace, key } = request.header()?;
        match self.kv.get(&namespace, &key) {
            Some(value) => Ok(success().with_header(&GetKvConfigResponseHeader {
                value: Some(value.into()),
            })),
            None => Err(Refusal::new(
                ResponseCode::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {namespace} Key: {key}"),
            )),
        }
    }

    pub(super) fn kv_list(&self, request: &Command) -> Answered {
        let NamespaceHeader { namespace } = request.header()?;
        match self.kv.namespace(&namespace) {
            Some(table) => Ok(success().with_body(KvTable { table }.to_json())),
            None => Err(Refusal::new(
                ResponseCode::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {namespace}"),
            )),
        }
    }
}

fn not_empty(namespace: &str, key: &str) -> Result<(), Refusal> {
    if namespace.is_empty() || key.is_empty() {
        return Err(Refusal::new(
            ResponseCode::SYSTEM_ERROR,
            "namespace or key is null",
        ));
    }
    Ok(())
}
