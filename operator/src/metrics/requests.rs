//! Counts every request to the API server by verb and code, below everything that makes requests: what is not counted
//! here was not sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use kube::client::Body;
use tower::{Layer, Service};

use super::Metrics;

/// A layer around the client's transport.
#[derive(Clone)]
pub struct CountRequests(pub Arc<Metrics>);

impl<S> Layer<S> for CountRequests {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting {
            inner,
            metrics: Arc::clone(&self.0),
        }
    }
}

/// The transport with its counter.
#[derive(Clone)]
pub struct Counting<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B> Service<http::Request<Body>> for Counting<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Counted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let verb = verb(request.method(), request.uri());
        Counted {
            inner: Box::pin(self.inner.call(request)),
            metrics: Arc::clone(&self.metrics),
            verb,
        }
    }
}

/// The verb as Kubernetes names it.
fn verb(method: &http::Method, uri: &http::Uri) -> &'static str {
    let has = |flag: &str| {
        uri.query()
            .is_some_and(|query| query.split('&').any(|pair| pair.starts_with(flag)))
    };
    match *method {
        http::Method::GET if has("watch=") => "watch",
        http::Method::GET => "get",
        http::Method::POST => "create",
        http::Method::PUT => "update",
        http::Method::PATCH => "patch",
        http::Method::DELETE => "delete",
        _ => "other",
    }
}

/// A request that is counted when its answer begins.
pub struct Counted<F> {
    inner: Pin<Box<F>>,
    metrics: Arc<Metrics>,
    verb: &'static str,
}

impl<F, B, E> Future for Counted<F>
where
    F: Future<Output = Result<http::Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let result = ready!(self.inner.as_mut().poll(cx));
        let code = result.as_ref().map_or_else(
            |_| "error".to_owned(),
            |response| response.status().as_u16().to_string(),
        );
        self.metrics
            .api_requests
            .with_label_values(&[self.verb, &code])
            .inc();
        Poll::Ready(result)
    }
}
