//! `/metrics`, `/livez` and `/readyz` for Prometheus and the kubelet.
//!
//! `/livez` says that the process answers; it never depends on the store, as a restart does not mend a disk. `/readyz` tells the truth about
//! what clients would meet: 200 when the node does its job, else 503, both with the reason as JSON.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::Scrape;

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether the node does its job.
    pub ready: bool,
    /// `master`, `slave`, `standby` or `nameserver`.
    pub role: &'static str,
    /// The epoch of its group, as far as it knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Readiness {
    /// It does its job.
    pub fn ready(role: &'static str) -> Self {
        Self {
            ready: true,
            role,
            epoch: None,
            reason: None,
        }
    }

    /// It does not, because of `reason`.
    pub fn not_ready(role: &'static str, reason: impl Into<String>) -> Self {
        Self {
            ready: false,
            role,
            epoch: None,
            reason: Some(reason.into()),
        }
    }
}

struct Shared {
    scrape: Arc<Scrape>,
    readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
}

/// Listens on `address` until `stop` is cancelled, as a task of `tasks`. Returns the address that was bound.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    scrape: Arc<Scrape>,
    readiness: impl Fn() -> Readiness + Send + Sync + 'static,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let shared = Arc::new(Shared {
        scrape,
        readiness: Box::new(readiness),
    });
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(shared);
    tasks.spawn(async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!(%error, "the metrics listener stopped");
        }
    });
    Ok(bound)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.scrape.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let readiness = (shared.readiness)();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::to_string(&readiness).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
