//! The Secret by which an elector proves itself: this cluster's own, and not the first one for ever.

use k8s_openapi::ByteString;

use super::*;
use crate::elections::elector::proving::{first, probes};
use crate::elections::played::SECRET;

const FORMER: &[u8] = b"a secret of a former cluster of the name";

/// A Secret of a cluster with this UID.
fn made_for(cluster: &str, bytes: &[u8]) -> Value {
    let owner = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "name": "orders", "uid": cluster, "controller": true});
    json!({"metadata": {"name": "orders-replication", "uid": format!("of {cluster}"), "resourceVersion": "3", "ownerReferences": [owner]}, "data": {"secret": ByteString(bytes.to_vec())}})
}

impl Stage {
    fn prove_with(&mut self, bytes: &[u8]) {
        let secret = rocket_link::Secret::new(bytes);
        self.elector.probes = probes(&self.elector.post, secret);
    }

    /// What the elector has people told.
    fn found(&self) -> Option<String> {
        self.elector.post.finding.lock().clone()
    }

    /// Looks, and looks again when so much time has passed.
    async fn look_after(&mut self, seconds: u64) {
        self.look().await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        self.look().await;
    }
}

/// That of a former cluster is about to go, and people are told of one that stays.
#[tokio::test]
async fn secret_that_is_not_the_clusters_is_waited_out_and_told() {
    let stage = Stage::new();
    let waited = |seconds| {
        let reading = first(&stage.elector.post);
        async move { tokio::time::timeout(Duration::from_secs(seconds), reading).await }
    };
    tokio::time::pause();
    for (held, why) in [
        (made_for("former", FORMER), "belongs to somebody else"),
        (
            json!({"metadata": {"name": "orders-replication"}}),
            "belongs to somebody else",
        ),
        (json!(null), "there is no such Secret"),
    ] {
        *stage.held.lock() = held;
        assert!(waited(25).await.is_err(), "{why}");
        assert_eq!(stage.found(), None, "{why}");
        assert!(waited(35).await.is_err(), "{why}");
        let said = stage.found().unwrap();
        assert!(said.contains(why), "{said}");
        *stage.held.lock() = made_for("u", SECRET);
        assert!(waited(25).await.is_ok());
        assert_eq!(stage.found(), None);
    }
    stage.is_mute.store(true, Ordering::Relaxed);
    assert!(waited(45).await.is_err());
    let said = stage.found().unwrap();
    assert!(said.contains("the API server does not answer"), "{said}");
    tokio::time::resume();
    stage.end().await;
}

#[tokio::test]
async fn secret_is_read_again_when_no_replica_answers() {
    let mut stage = Stage::new();
    stage.prove_with(FORMER);
    *stage.held.lock() = made_for("u", SECRET);
    stage.look_after(6).await;
    stage.look().await;
    assert_eq!(stage.state().await.epoch, Epoch(2));
    stage.end().await;
}

#[tokio::test]
async fn secret_that_is_gone_is_told_when_no_replica_answers() {
    let mut stage = Stage::new();
    stage.prove_with(FORMER);
    stage.look_after(6).await;
    assert_eq!(stage.found(), None);
    stage.look_after(31).await;
    let said = stage.found().unwrap();
    assert!(
        said.contains("cannot read Secret orders-replication"),
        "{said}"
    );
    stage.end().await;
}
