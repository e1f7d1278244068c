//! The pod template that name servers and brokers share: security, scheduling, probes, resources.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    LocalObjectReference, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, SeccompProfile, SecurityContext, TopologySpreadConstraint, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rocket_api::{Resources, ZoneSpread};

use super::selector;
use crate::drift::stable_hash;
use crate::names::{CONFIG_HASH, PORT_METRICS, USER};
use crate::validate::ValidatedCluster;

/// Where configuration files are mounted.
pub(super) const CONFIG_DIR: &str = "/etc/rocketcluster";
/// Where data is mounted.
pub(super) const DATA_DIR: &str = "/data";
/// Where the secret of the replication links is mounted.
pub(super) const SECRET_DIR: &str = "/etc/rocketcluster-replication";
/// Name of the volume with that secret.
pub(super) const SECRET_VOLUME: &str = "replication";

/// What differs between a name server's pod and a broker's.
pub(super) struct Shape<'a> {
    /// Container name.
    pub(super) container: &'a str,
    /// Arguments of the program.
    pub(super) args: Vec<String>,
    /// Named ports besides the metrics port.
    pub(super) ports: &'a [(&'a str, i32)],
    /// Resources of the container.
    pub(super) resources: &'a Resources,
    /// Labels of the pod, without the user's.
    pub(super) labels: BTreeMap<String, String>,
    /// What selects the pods that should be apart from each other.
    pub(super) spread: BTreeMap<String, String>,
    /// The configuration file's text; its hash is on the pod.
    pub(super) config: &'a str,
    /// Volumes besides those of claims.
    pub(super) volumes: Vec<Volume>,
    /// ServiceAccount, if it is not the namespace's default.
    pub(super) account: Option<String>,
    /// Whether the pod is one of a group that elects: it speaks to the API server, and to its like with a secret.
    pub(super) elects: bool,
}

/// The pod template.
pub(super) fn template(cluster: &ValidatedCluster, shape: Shape<'_>) -> PodTemplateSpec {
    let spec = &cluster.spec;
    let mut labels = spec.pod_template.metadata.labels.clone();
    labels.extend(shape.labels.clone());
    let mut annotations = BTreeMap::from([
        ("prometheus.io/scrape".to_owned(), "true".to_owned()),
        ("prometheus.io/port".to_owned(), PORT_METRICS.to_string()),
        ("prometheus.io/path".to_owned(), "/metrics".to_owned()),
    ]);
    annotations.extend(spec.pod_template.metadata.annotations.clone());
    annotations.insert(CONFIG_HASH.to_owned(), config_hash(shape.config));
    let container = container(cluster, &shape);
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container],
            volumes: Some(shape.volumes),
            automount_service_account_token: Some(shape.elects),
            service_account_name: shape.account,
            enable_service_links: Some(false),
            security_context: Some(pod_security()),
            termination_grace_period_seconds: Some(
                spec.pod_template.termination_grace_period_seconds,
            ),
            image_pull_secrets: none_if_empty(
                spec.image_pull_secrets
                    .iter()
                    .map(|secret| LocalObjectReference {
                        name: secret.name.clone(),
                    })
                    .collect(),
            ),
            node_selector: (!spec.scheduling.node_selector.is_empty())
                .then(|| spec.scheduling.node_selector.clone()),
            tolerations: none_if_empty(spec.scheduling.tolerations.clone()),
            affinity: spec.scheduling.affinity.clone(),
            priority_class_name: spec.scheduling.priority_class_name.clone(),
            topology_spread_constraints: Some(spread(spec.scheduling.zone_spread, &shape.spread)),
            ..PodSpec::default()
        }),
    }
}

/// What tells one configuration file from another.
pub(super) fn config_hash(config: &str) -> String {
    format!("{:016x}", stable_hash(config.as_bytes()))
}

fn container(cluster: &ValidatedCluster, shape: &Shape<'_>) -> Container {
    let port = |(name, port): (&str, i32)| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        mount("config", CONFIG_DIR, true),
        mount("data", DATA_DIR, false),
    ];
    if shape.elects {
        mounts.push(mount(SECRET_VOLUME, SECRET_DIR, true));
    }
    Container {
        name: shape.container.to_owned(),
        image: Some(cluster.image.clone()),
        image_pull_policy: Some(cluster.spec.image_pull_policy.as_str().to_owned()),
        args: Some(shape.args.clone()),
        env: Some(env(cluster)),
        ports: Some(
            shape
                .ports
                .iter()
                .copied()
                .chain([("metrics", PORT_METRICS)])
                .map(port)
                .collect(),
        ),
        resources: Some(resources(shape.resources)),
        volume_mounts: Some(mounts),
        security_context: Some(container_security()),
        // A broker answers /livez from its first moment, also while it recovers; ten minutes without an answer is a hang.
        startup_probe: Some(probe("/livez", 2, 300)),
        liveness_probe: Some(probe("/livez", 10, 3)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        ..Container::default()
    }
}

/// What every program is told: to be done before it is killed, so that it says itself what held it up. The difference is a tenth of
/// the time that the pod has, one second at least and five at most.
pub(super) fn grace(cluster: &ValidatedCluster) -> [String; 2] {
    let period = cluster.spec.pod_template.termination_grace_period_seconds;
    let seconds = period - (period / 10).clamp(1, 5);
    ["--grace".to_owned(), seconds.max(1).to_string()]
}

fn env(cluster: &ValidatedCluster) -> Vec<EnvVar> {
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let mut env = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
    ];
    let own = |var: &rocket_api::EnvVar| EnvVar {
        name: var.name.clone(),
        value: Some(var.value.clone()),
        ..EnvVar::default()
    };
    env.extend(cluster.spec.pod_template.env.iter().map(own));
    env
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("metrics".to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        success_threshold: Some(1),
        ..Probe::default()
    }
}

/// As the `restricted` Pod Security level asks: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.
fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

/// Apart by node when possible, and by zone as asked.
fn spread(zones: ZoneSpread, labels: &BTreeMap<String, String>) -> Vec<TopologySpreadConstraint> {
    let over = |key: &str, when: &str| TopologySpreadConstraint {
        topology_key: key.to_owned(),
        max_skew: 1,
        when_unsatisfiable: when.to_owned(),
        label_selector: Some(selector(labels.clone())),
        ..TopologySpreadConstraint::default()
    };
    let zone = match zones {
        ZoneSpread::Preferred => Some("ScheduleAnyway"),
        ZoneSpread::Required => Some("DoNotSchedule"),
        ZoneSpread::Off => None,
    };
    let mut constraints = vec![over("kubernetes.io/hostname", "ScheduleAnyway")];
    constraints.extend(zone.map(|when| over("topology.kubernetes.io/zone", when)));
    constraints
}

fn resources(resources: &Resources) -> ResourceRequirements {
    let amounts = |map: &BTreeMap<String, IntOrString>| -> Option<BTreeMap<String, Quantity>> {
        (!map.is_empty()).then(|| {
            map.iter()
                .map(|(name, value)| (name.clone(), Quantity(amount(value))))
                .collect()
        })
    };
    ResourceRequirements {
        requests: amounts(&resources.requests),
        limits: amounts(&resources.limits),
        claims: None,
    }
}

/// An amount as Kubernetes' text.
pub fn amount(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

fn none_if_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
