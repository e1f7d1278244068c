//! The operator on a real API server with its controller manager: `tests/cluster/cluster --nodes 0 up`, then
//! `KUBECONFIG=$(tests/cluster/cluster kubeconfig) cargo test -p rocket-operator --test main`.
//!
//! Without KUBECONFIG nothing of this is shown, and each test says so. No kubelet is needed: a task of the test says of every pod
//! that it is ready.
#![forbid(unsafe_code)]

mod api;
