//! The operator on a real API server with its controller manager: `tests/cluster/cluster --nodes 0 up`, then
//! `KUBECONFIG=$(tests/cluster/cluster kubeconfig) cargo test -p rocket-operator --test main`.
//!
//! Without KUBECONFIG nothing of this is shown, and each test says so. No kubelet is needed: a task of the test says of every pod
//! that it is ready.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test says what is wrong by ending; tables of cases are long"
)]

mod api;
