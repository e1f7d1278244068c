//! Where an export may go.

use std::time::Duration;

use rocket_store::export::{ExportError, to_apache_layout};

use crate::support::{message, open, send, small};

#[test]
fn a_store_is_not_exported_into_itself() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = open(small(&data));
    let told = send(&store, &message("t", 0, "x", ""));
    told.recv_timeout(Duration::from_secs(20)).unwrap();
    store.close().unwrap();
    drop(store);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    // The first one is no endless copy: what is ours is left out.
    for within in [
        "data/rocket/copy",
        "data/copy",
        "data/new/copy",
        "link/copy",
    ] {
        let target = folder.path().join(within);
        let exported = to_apache_layout(&data, &target);
        assert!(
            matches!(exported, Err(ExportError::TargetWithin { .. })),
            "{within}: {exported:?}"
        );
        assert!(!target.exists(), "{within}");
    }
    let beside = to_apache_layout(&data, &folder.path().join("data-copy"));
    assert!(beside.unwrap().files > 0);
}
