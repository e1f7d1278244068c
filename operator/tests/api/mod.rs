//! A namespace of its own for each test, an operator that has no more rights than the chart gives, and a stand-in for kubelets.

mod edits;
mod elections;
mod lifecycle;
mod members;
mod operations;
mod record;
mod refusals;
mod replica;
mod volumes;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::client::ClientBuilder;
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, Resource, ResourceExt};
use prometheus::Registry;
use rocket_api::{
    ConditionType, RocketCluster, Truth, custom_resource_definitions, pod_of_address,
};
use rocket_operator::context::Context;
use rocket_operator::controller;
use rocket_operator::elections::Route;
use rocket_operator::metrics::{CountRequests, Metrics};
use rocket_operator::validate::Settings;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A namespace with an operator that watches it.
pub(crate) struct Lab {
    /// The test's own client, with all rights.
    pub(crate) client: Client,
    /// The namespace.
    pub(crate) namespace: String,
    /// What the operator counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Ports of the replicas that are played, by pod.
    pub(crate) ports: Arc<parking_lot::Mutex<BTreeMap<String, u16>>>,
    others: parking_lot::Mutex<Vec<Arc<Metrics>>>,
    settings: Settings,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Runs a test in a fresh namespace, or says that it was not run. No broker runs here that could register, so masters are
/// fixed, as in clusters of an earlier version.
pub(crate) fn in_lab<F: Future<Output = ()>>(test: impl FnOnce(Arc<Lab>) -> F) {
    let settings = Settings {
        elections: false,
        ..Settings::default()
    };
    in_lab_with(settings, test);
}

/// The same with the operator as it is: new clusters elect their masters, and brokers are played.
pub(crate) fn in_electing_lab<F: Future<Output = ()>>(test: impl FnOnce(Arc<Lab>) -> F) {
    in_lab_with(Settings::default(), test);
}

fn in_lab_with<F: Future<Output = ()>>(settings: Settings, test: impl FnOnce(Arc<Lab>) -> F) {
    if std::env::var_os("KUBECONFIG").is_none() {
        // Past the test runner's capture: a test that shows nothing must be heard.
        let name = std::thread::current().name().unwrap_or("this").to_owned();
        let line =
            format!("SKIPPED, not shown here: {name} needs KUBECONFIG to name an API server\n");
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        return;
    }
    // `RUST_LOG=warn` shows what the operators of the tests say.
    let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env());
    let _ = log.with_writer(std::io::stderr).try_init();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let lab = Arc::new(Lab::start(settings).await);
        tokio::time::timeout(PATIENCE * 3, test(Arc::clone(&lab)))
            .await
            .expect("the test took too long");
        lab.stop.cancel();
        lab.tasks.close();
        lab.tasks.wait().await;
        let namespaces: Api<Namespace> = Api::all(lab.client.clone());
        namespaces
            .delete(&lab.namespace, &DeleteParams::background())
            .await
            .unwrap();
    });
}

impl Lab {
    async fn start(settings: Settings) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let namespace = format!(
            "operator-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let client = Client::try_default()
            .await
            .expect("KUBECONFIG names an API server");
        install_definitions(&client).await;
        let object = json!({"metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &from(object))
            .await
            .unwrap();
        grant(&client, &namespace).await;

        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let lab = Self {
            client,
            namespace: namespace.clone(),
            metrics: Arc::clone(&metrics),
            ports: Arc::default(),
            others: parking_lot::Mutex::default(),
            settings,
            stop,
            tasks,
        };
        lab.operate(metrics).await;
        lab
    }

    /// Starts an operator that has no more rights than the chart gives.
    async fn operate(&self, metrics: Arc<Metrics>) {
        let namespace = self.namespace.clone();
        let mut config = Config::infer().await.unwrap();
        config.auth_info.impersonate = Some(format!("system:serviceaccount:{namespace}:operator"));
        let restricted = ClientBuilder::try_from(config)
            .unwrap()
            .with_layer(&CountRequests(Arc::clone(&metrics)))
            .build();
        let mut context = Context::new(
            restricted,
            self.settings.clone(),
            metrics,
            Some("test".into()),
        );
        // Replicas are played on this machine, whatever address is theirs.
        let ports = Arc::clone(&self.ports);
        context.route = Route::new(move |address| {
            let port = ports.lock().get(pod_of_address(address)).copied();
            // Nobody listens at the other one.
            format!("127.0.0.1:{}", port.unwrap_or(1))
        });
        let (context, stop) = (Arc::new(context), self.stop.clone());
        self.tasks
            .spawn(async move { controller::run(context, &[namespace], 4, &stop).await });
    }

    /// Starts one more operator beside the first, without a lease between them.
    pub(crate) async fn another_operator(&self) {
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        self.others.lock().push(Arc::clone(&metrics));
        self.operate(metrics).await;
    }

    /// What each operator counted.
    pub(crate) fn operators(&self) -> Vec<Arc<Metrics>> {
        let others = self.others.lock().clone();
        others
            .into_iter()
            .chain([Arc::clone(&self.metrics)])
            .collect()
    }

    /// An API of the namespace.
    pub(crate) fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(
        &self,
    ) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Says of every pod that it is ready, as soon as it appears.
    pub(crate) fn play_kubelet(&self) {
        let (pods, stop) = (self.api::<Pod>(), self.stop.clone());
        self.tasks.spawn(async move {
            let events = watcher(pods.clone(), watcher::Config::default()).default_backoff().applied_objects();
            let mut events = std::pin::pin!(events.take_until(stop.cancelled_owned()));
            while let Ok(Some(pod)) = events.try_next().await {
                let name = pod.name_any();
                if pod.metadata.deletion_timestamp.is_some() {
                    // This very pod: its successor of the same name may be there already.
                    let this = Preconditions { uid: pod.uid(), resource_version: None };
                    let now = DeleteParams::default().grace_period(0).preconditions(this);
                    let _ = pods.delete(&name, &now).await;
                } else if !rocket_operator::roll::is_ready(&pod) || !is_placed(&pod) {
                    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]}});
                    let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
                }
            }
        });
    }

    /// Makes a cluster.
    pub(crate) async fn create(&self, name: &str, spec: &Value) -> RocketCluster {
        self.api()
            .create(&PostParams::default(), &cluster(name, spec))
            .await
            .unwrap()
    }

    /// Edits a cluster by a merge patch of its specification.
    pub(crate) async fn edit(&self, name: &str, spec: &Value) -> RocketCluster {
        self.api()
            .patch(
                name,
                &PatchParams::default(),
                &Patch::Merge(json!({"spec": spec})),
            )
            .await
            .unwrap_or_else(|error| panic!("{spec}: {error}"))
    }

    /// Waits until something holds of an object.
    pub(crate) async fn until<K>(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&K) -> bool + Send + Sync,
    ) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let wait = await_condition(self.api::<K>(), name, |object: Option<&K>| {
            object.is_some_and(&holds)
        });
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found.unwrap().unwrap(),
            Err(tokio::time::error::Elapsed { .. }) => panic!(
                "{name}: not {what}; it is {:?}",
                self.api::<K>().get_opt(name).await
            ),
        }
    }

    /// Waits until the present specification is carried out and everything is ready.
    pub(crate) async fn until_ready(&self, name: &str) -> RocketCluster {
        self.until(name, "ready", |cluster: &RocketCluster| {
            is(cluster, ConditionType::Ready, Truth::True)
        })
        .await
    }

    /// Waits until an object is gone.
    pub(crate) async fn until_gone<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let Some(object) = self.api::<K>().get_opt(name).await.unwrap() else {
            return;
        };
        let uid = object.uid().unwrap();
        let wait = await_condition(self.api::<K>(), name, conditions::is_deleted(&uid));
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("{name} is still there"))
            .unwrap();
    }

    /// The ConfigMap with the file that the pods of a group are to mount.
    pub(crate) async fn config(&self, group: &str) -> ConfigMap {
        let name = mounted(&self.api::<StatefulSet>().get(group).await.unwrap());
        self.api().get(&name).await.unwrap()
    }

    /// How many writes the operator has sent.
    pub(crate) fn writes(&self) -> u64 {
        let mut sum = 0;
        for family in prometheus::core::Collector::collect(&self.metrics.api_requests) {
            for metric in family.get_metric() {
                let verb = metric
                    .get_label()
                    .iter()
                    .find(|label| label.name() == "verb")
                    .map(|label| label.value().to_owned());
                if !matches!(verb.as_deref(), Some("get" | "watch")) {
                    sum += metric.get_counter().get_value() as u64;
                }
            }
        }
        sum
    }

    /// Wakes a cluster without changing anything, and waits until it was reconciled twice more.
    pub(crate) async fn wake(&self, name: &str) {
        for _ in 0..2 {
            let before = self.reconciles();
            let patch = json!({"metadata": {"annotations": {"test/wake": before.to_string()}}});
            self.api::<RocketCluster>()
                .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .unwrap();
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            let wait = async {
                while self.reconciles() == before {
                    ticks.tick().await;
                }
            };
            tokio::time::timeout(PATIENCE, wait)
                .await
                .expect("no reconcile followed");
        }
    }

    fn reconciles(&self) -> u64 {
        ["ok", "error"]
            .iter()
            .map(|result| {
                self.metrics
                    .reconciles
                    .with_label_values(&["RocketCluster", result])
                    .get()
            })
            .sum()
    }
}

/// Name of the ConfigMap with the file that the pods of a StatefulSet are to mount.
pub(crate) fn mounted(set: &StatefulSet) -> String {
    let template = &set.spec.as_ref().unwrap().template;
    let volumes = template.spec.as_ref().unwrap().volumes.iter().flatten();
    let mut maps = volumes.filter_map(|volume| volume.config_map.as_ref());
    maps.next().unwrap().name.clone()
}

/// The scheduler finds no node and says so again from time to time.
fn is_placed(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter()
            .any(|condition| condition.type_ == "PodScheduled" && condition.status == "True")
    })
}

/// Whether a condition that speaks of the present generation has this truth.
pub(crate) fn is(cluster: &RocketCluster, type_: ConditionType, truth: Truth) -> bool {
    let status = cluster.status.as_ref();
    status
        .and_then(|status| status.condition(type_))
        .is_some_and(|condition| {
            condition.status == truth
                && Some(condition.observed_generation) == cluster.metadata.generation
        })
}

/// The message of a condition.
pub(crate) fn message(cluster: &RocketCluster, type_: ConditionType) -> String {
    cluster
        .status
        .as_ref()
        .and_then(|status| status.condition(type_))
        .map(|condition| condition.message.clone())
        .unwrap_or_default()
}

pub(crate) fn cluster(name: &str, spec: &Value) -> RocketCluster {
    from(
        json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": name}, "spec": spec}),
    )
}

pub(crate) fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

async fn install_definitions(client: &Client) {
    for crd in custom_resource_definitions() {
        let (api, name) = (Api::all(client.clone()), crd.name_any());
        api.patch(
            &name,
            &PatchParams::apply("operator-test").force(),
            &Patch::Apply(&crd),
        )
        .await
        .unwrap();
        tokio::time::timeout(
            PATIENCE,
            await_condition(api, &name, conditions::is_crd_established()),
        )
        .await
        .unwrap()
        .unwrap();
    }
}

/// Gives the account that the operator works under what the chart would give it.
async fn grant(client: &Client, namespace: &str) {
    let rules: Vec<PolicyRule> = serde_yaml::from_str(include_str!("rules.yaml")).unwrap();
    let role: Role = from(json!({"metadata": {"name": "operator"}, "rules": rules}));
    let binding: RoleBinding = from(json!({
        "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}],
    }));
    Api::namespaced(client.clone(), namespace)
        .create(&PostParams::default(), &role)
        .await
        .unwrap();
    Api::namespaced(client.clone(), namespace)
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
}
