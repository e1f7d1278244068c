//! Watches and requeues: which event wakes which cluster.
//!
//! Clusters wake themselves when their specification, finalizers or annotations change, never by their own status. Children are watched as
//! metadata only, by label, and wake the cluster that they name; the objects themselves are read by the reconcile.
//! Requests have a controller of their own, and wake the cluster that they are about.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::OptionFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::{
    apps::v1 as apps, core::v1 as core, discovery::v1 as discovery, networking::v1 as networking,
    policy::v1 as policy, rbac::v1 as rbac,
};
use kube::api::PartialObjectMeta;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{Predicate as _, WatchStreamExt as _, predicates, watcher};
use kube::{Api, Resource, ResourceExt};
use rocket_api::{RocketBrokerGroup, RocketCluster, RocketOperation, label};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::names::{selector_text, slice_selector};
use crate::operations;
use crate::reconcile::{DEADLINE, Error, reconcile};

/// Label values of the metrics.
const KIND: &str = "RocketCluster";
const OPERATION: &str = "RocketOperation";

/// How many requests are looked at at a time. A look may wait for an elector.
const OPERATIONS: u16 = 16;

/// How long what has begun may take to end after the stop.
const GRACE: Duration = Duration::from_millis(500);

/// Runs the controllers of all watched namespaces until told to stop; what has begun is ended first, within reason. Standing by, they
/// write nothing but elections, and leave requests alone.
pub async fn run(
    context: Arc<Context>,
    namespaces: &[String],
    concurrency: u16,
    stop: &CancellationToken,
) {
    let scopes: Vec<Option<&str>> = if namespaces.is_empty() {
        vec![None]
    } else {
        namespaces.iter().map(|name| Some(name.as_str())).collect()
    };
    // One controller per namespace: each has a store of its own, which a relist replaces as a whole.
    let all = scopes.into_iter().map(|namespace| {
        let clusters = one(&context, namespace, concurrency, stop.clone());
        let requests = requests(&context, namespace, stop.clone());
        let requests = OptionFuture::from((!context.is_standby()).then_some(requests));
        futures::future::join(clusters, requests)
    });
    tokio::select! {
        _ = futures::future::join_all(all) => {}
        () = grace(stop) => {}
    }
    context.elections.stop().await;
}

/// Ends some time after the stop. A controller that never had its first list waits for it without end, and a reconcile that
/// hangs must not hold up a hand-over: reconciles are level-triggered, so the next leader starts it anew.
async fn grace(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

async fn one(
    context: &Arc<Context>,
    namespace: Option<&str>,
    concurrency: u16,
    stop: CancellationToken,
) {
    let watch = Watch {
        context: Arc::clone(context),
        namespace: namespace.map(str::to_owned),
    };
    let (reader, writer) = reflector::store();
    let clusters = watcher(watch.api::<RocketCluster>(), watcher::Config::default())
        .default_backoff()
        .modify(|cluster| cluster.managed_fields_mut().clear())
        .reflect(writer)
        .inspect(watch.ends(&reader))
        .applied_objects()
        .predicate_filter(
            predicates::generation
                .combine(predicates::finalizers)
                .combine(predicates::annotations),
            kube::runtime::PredicateConfig::default(),
        );
    let config = Config::default()
        .concurrency(concurrency)
        .debounce(Duration::from_millis(200));
    let present = reader.clone();
    let reconciling = move |cluster, context| until_gone(cluster, context, present.clone());
    Controller::for_stream(watch.counted(clusters), reader)
        .with_config(config)
        .watches_stream(watch.children::<RocketBrokerGroup>(), named)
        .watches_stream(watch.children::<apps::StatefulSet>(), named)
        .watches_stream(watch.children::<core::Pod>(), named)
        .watches_stream(watch.children::<core::PersistentVolumeClaim>(), named)
        .watches_stream(watch.children::<core::Service>(), named)
        .watches_stream(watch.slices(), named)
        .watches_stream(watch.children::<core::ConfigMap>(), named)
        .watches_stream(watch.children::<core::ServiceAccount>(), named)
        .watches_stream(watch.children::<rbac::Role>(), named)
        .watches_stream(watch.children::<rbac::RoleBinding>(), named)
        .watches_stream(watch.children::<policy::PodDisruptionBudget>(), named)
        .watches_stream(watch.children::<networking::NetworkPolicy>(), named)
        .watches_stream(watch.requests(), of_request)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconciling, retry, Arc::clone(context))
        .for_each(|_| std::future::ready(()))
        .await;
}

/// The requests of a namespace, or of all.
async fn requests(context: &Arc<Context>, namespace: Option<&str>, stop: CancellationToken) {
    let watch = Watch {
        context: Arc::clone(context),
        namespace: namespace.map(str::to_owned),
    };
    let (reader, writer) = reflector::store();
    let requests = watcher(watch.api::<RocketOperation>(), watcher::Config::default())
        .default_backoff()
        .modify(|request| request.managed_fields_mut().clear())
        .reflect(writer)
        .applied_objects();
    Controller::for_stream(watch.counted(requests), reader)
        .with_config(Config::default().concurrency(OPERATIONS))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(measured_request, retry_request, Arc::clone(context))
        .for_each(|_| std::future::ready(()))
        .await;
}

/// Streams of one namespace, or of all.
struct Watch {
    context: Arc<Context>,
    namespace: Option<String>,
}

impl Watch {
    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.context.client.clone(), namespace),
            None => Api::all(self.context.client.clone()),
        }
    }

    /// Has a cluster forgotten when it is gone: no reconcile comes of that, as there is nothing to reconcile any more.
    fn ends(
        &self,
        present: &reflector::Store<RocketCluster>,
    ) -> impl FnMut(&watcher::Result<watcher::Event<RocketCluster>>) + use<> {
        let (context, scope) = (Arc::clone(&self.context), self.namespace.clone());
        let present = present.clone();
        move |event| {
            // After a list anew a cluster may be missing whose end nobody told.
            if !matches!(
                event,
                Ok(watcher::Event::Delete(_) | watcher::Event::InitDone)
            ) {
                return;
            }
            context.forget(|namespace, name| {
                let reference = ObjectRef::new(name).within(namespace);
                scope.as_deref().is_none_or(|scope| scope == namespace)
                    && present.get(&reference).is_none()
            });
        }
    }

    /// Metadata of all objects of a kind that the operator made, at every change and at their end.
    fn children<K>(&self) -> BoxStream<'static, watcher::Result<PartialObjectMeta<K>>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + 'static,
    {
        let ours = (label::MANAGED_BY, label::MANAGED_BY_VALUE);
        self.labelled(&[(ours.0.to_owned(), ours.1.to_owned())].into())
    }

    /// The same of the EndpointSlices, but not of those that Kubernetes makes for the operator's Services.
    fn slices(
        &self,
    ) -> BoxStream<'static, watcher::Result<PartialObjectMeta<discovery::EndpointSlice>>> {
        self.labelled(&slice_selector())
    }

    fn labelled<K>(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> BoxStream<'static, watcher::Result<PartialObjectMeta<K>>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + 'static,
    {
        let events = watcher(
            self.api::<PartialObjectMeta<K>>(),
            watcher::Config::default().labels(&selector_text(labels)),
        )
        .default_backoff();
        self.counted(events.touched_objects()).boxed()
    }

    /// All requests, at every change and at their end.
    fn requests(&self) -> BoxStream<'static, watcher::Result<RocketOperation>> {
        let events = watcher(self.api::<RocketOperation>(), watcher::Config::default());
        self.counted(events.default_backoff().touched_objects())
            .boxed()
    }

    /// Counts the failures of a stream, logs them, and goes on without them.
    ///
    /// Each stream waits by itself before it tries again. The controller would wait once more, for all of its streams
    /// together and twice as long for each failure: a dozen watches that fail at the same moment, as they do when the API
    /// server restarts, would then hold up every event for minutes.
    fn counted<T: Send + 'static>(
        &self,
        stream: impl Stream<Item = watcher::Result<T>> + Send + 'static,
    ) -> impl Stream<Item = watcher::Result<T>> + Send + 'static {
        let metrics = Arc::clone(&self.context.metrics);
        stream.filter_map(move |item| {
            if let Err(error) = &item {
                metrics.watch_restarts.inc();
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "a watch ended and begins again"
                );
            }
            std::future::ready(item.ok().map(Ok))
        })
    }
}

/// The cluster that a child names by its label.
#[expect(clippy::needless_pass_by_value, reason = "the controller passes it so")]
fn named<K: Resource<DynamicType = ()>>(
    child: PartialObjectMeta<K>,
) -> Option<ObjectRef<RocketCluster>> {
    let name = child.labels().get(label::CLUSTER)?.clone();
    Some(ObjectRef::new(&name).within(&child.namespace()?))
}

/// The cluster that a request is about.
#[expect(clippy::needless_pass_by_value, reason = "the controller passes it so")]
fn of_request(request: RocketOperation) -> Option<ObjectRef<RocketCluster>> {
    Some(ObjectRef::new(&request.spec.cluster).within(&request.namespace()?))
}

/// A reconcile that leaves nothing behind when the end of its cluster was told meanwhile.
async fn until_gone(
    cluster: Arc<RocketCluster>,
    context: Arc<Context>,
    present: reflector::Store<RocketCluster>,
) -> Result<Action, Error> {
    let reference = ObjectRef::from_obj(cluster.as_ref());
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let result = measured(cluster, Arc::clone(&context)).await;
    if present.get(&reference).is_none() {
        context.forget(|of, cluster| (of, cluster) == (namespace.as_str(), name.as_str()));
    }
    result
}

/// A reconcile with a deadline and its measurements.
async fn measured(cluster: Arc<RocketCluster>, context: Arc<Context>) -> Result<Action, Error> {
    let start = Instant::now();
    let key = key(KIND, cluster.as_ref());
    let result = tokio::time::timeout(DEADLINE, reconcile(cluster, Arc::clone(&context)))
        .await
        .unwrap_or(Err(Error::Deadline));
    measure(&context, KIND, start, &key, result.is_ok());
    result
}

/// The same for a request.
async fn measured_request(
    request: Arc<RocketOperation>,
    context: Arc<Context>,
) -> Result<Action, operations::Error> {
    let start = Instant::now();
    let key = key(OPERATION, request.as_ref());
    let work = operations::reconcile(request, Arc::clone(&context));
    let result = tokio::time::timeout(operations::DEADLINE, work)
        .await
        .unwrap_or(Err(operations::Error::Deadline));
    measure(&context, OPERATION, start, &key, result.is_ok());
    result
}

fn measure(context: &Context, kind: &str, start: Instant, key: &str, is_ok: bool) {
    let metrics = &context.metrics;
    let seconds = metrics.reconcile_seconds.with_label_values(&[kind]);
    seconds.observe(start.elapsed().as_secs_f64());
    let word = if is_ok { "ok" } else { "error" };
    metrics.reconciles.with_label_values(&[kind, word]).inc();
    if is_ok {
        context.succeeded(key);
    }
}

/// What to do about a reconcile that failed: again, later and later.
#[expect(clippy::needless_pass_by_value, reason = "the controller passes it so")]
fn retry(cluster: Arc<RocketCluster>, error: &Error, context: Arc<Context>) -> Action {
    again(&context, &key(KIND, cluster.as_ref()), error.word(), error)
}

/// The same for a request.
#[expect(clippy::needless_pass_by_value, reason = "the controller passes it so")]
fn retry_request(
    request: Arc<RocketOperation>,
    error: &operations::Error,
    context: Arc<Context>,
) -> Action {
    let key = key(OPERATION, request.as_ref());
    again(&context, &key, error.word(), error)
}

fn again(
    context: &Context,
    key: &str,
    word: &str,
    error: &(dyn std::error::Error + 'static),
) -> Action {
    let errors = &context.metrics.reconcile_errors;
    errors.with_label_values(&[word]).inc();
    let wait = context.failed(key);
    tracing::warn!(
        error,
        object = key,
        retry_in_s = wait.as_secs_f64(),
        "a reconcile failed"
    );
    Action::requeue(wait)
}

fn key<K: Resource<DynamicType = ()>>(kind: &str, object: &K) -> String {
    let namespace = object.namespace().unwrap_or_default();
    format!("{kind} {namespace}/{}", object.name_any())
}
