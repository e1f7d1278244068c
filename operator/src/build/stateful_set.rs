//! The StatefulSets: one for the name servers, one per broker group.
//!
//! Name servers are all alike and are replaced by Kubernetes itself. Brokers are not: the operator replaces them (`OnDelete`),
//! because it alone knows which one is master; and they start together (`Parallel`), because none waits for another.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    SecretVolumeSource, Volume, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rocket_api::GroupRule;

use super::config_map::{BROKER_CONF, File, NAMESRV_CONF};
use super::pod::{self, CONFIG_DIR, DATA_DIR, SECRET_VOLUME, Shape};
use super::{broker_conf, metadata, selector};
use crate::names::{CLAIM, PORT_BROKER, PORT_HA, PORT_NAMESRV};
use crate::validate::ValidatedCluster;

pub(super) fn name_servers(cluster: &ValidatedCluster) -> StatefulSet {
    let names = &cluster.names;
    let config = broker_conf::name_server();
    // Key-value settings are the only thing that a name server writes; they are small, and brokers register again after a restart.
    let scratch = EmptyDirVolumeSource {
        size_limit: Some(Quantity("64Mi".to_owned())),
        ..EmptyDirVolumeSource::default()
    };
    let file = format!("{CONFIG_DIR}/{NAMESRV_CONF}");
    let mut args = words(&["namesrv", "--config", &file]);
    args.extend(pod::grace(cluster));
    let template = pod::template(
        cluster,
        Shape {
            container: "namesrv",
            args,
            ports: &[("namesrv", PORT_NAMESRV)],
            resources: &cluster.spec.name_servers.resources,
            labels: names.namesrv_labels(),
            spread: names.namesrv_selector(),
            config: &config,
            volumes: vec![
                config_volume(names.namesrv_config()),
                Volume {
                    name: "data".to_owned(),
                    empty_dir: Some(scratch),
                    ..Volume::default()
                },
            ],
            account: None,
            elects: false,
        },
    );
    StatefulSet {
        metadata: metadata(cluster, names.namesrv(), names.namesrv_labels()),
        spec: Some(StatefulSetSpec {
            replicas: Some(cluster.spec.name_servers.replicas),
            service_name: Some(names.namesrv_replicas()),
            selector: selector(names.namesrv_selector()),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(strategy("RollingUpdate")),
            template,
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

pub(super) fn group(
    cluster: &ValidatedCluster,
    index: i32,
    file: &File,
    size: &str,
) -> StatefulSet {
    let names = &cluster.names;
    let path = format!("{CONFIG_DIR}/{BROKER_CONF}");
    let elects = cluster.rule == GroupRule::Elected;
    let mut args = words(&[
        "broker",
        "--config",
        &path,
        "--data",
        DATA_DIR,
        "--replica",
        "$(POD_NAME)",
    ]);
    args.extend(pod::grace(cluster));
    let mut volumes = vec![config_volume(file.name.clone())];
    if elects {
        // The file is the same for all replicas of the group, this is not.
        let host = names.host(&names.group_replicas(index));
        args.push("--replication-address".to_owned());
        args.push(format!("$(POD_NAME).{host}:{PORT_HA}"));
        volumes.push(secret_volume(names.replication_secret()));
    }
    let template = pod::template(
        cluster,
        Shape {
            container: "broker",
            args,
            ports: &[("broker", PORT_BROKER), ("ha", PORT_HA)],
            resources: &cluster.spec.groups.resources,
            labels: names.group_labels(index),
            spread: names.group_selector(index),
            config: &file.restarting,
            volumes,
            account: Some(names.group(index)),
            elects,
        },
    );
    StatefulSet {
        metadata: metadata(cluster, names.group(index), names.group_labels(index)),
        spec: Some(StatefulSetSpec {
            replicas: Some(cluster.spec.groups.replicas),
            service_name: Some(names.group_replicas(index)),
            selector: selector(names.group_selector(index)),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(strategy("OnDelete")),
            template,
            volume_claim_templates: Some(vec![claim(cluster, index, size)]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn claim(cluster: &ValidatedCluster, index: i32, size: &str) -> PersistentVolumeClaim {
    let mut labels = cluster.names.group_labels(index);
    labels.insert(
        rocket_api::label::CLUSTER_UID.to_owned(),
        cluster.uid.clone(),
    );
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(CLAIM.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: cluster.spec.groups.storage.class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(size.to_owned()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn config_volume(name: String) -> Volume {
    Volume {
        name: "config".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name,
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Readable by the group of every container, and by nobody else.
fn secret_volume(name: String) -> Volume {
    Volume {
        name: SECRET_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn strategy(type_: &str) -> StatefulSetUpdateStrategy {
    StatefulSetUpdateStrategy {
        type_: Some(type_.to_owned()),
        ..StatefulSetUpdateStrategy::default()
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
