//! Who may connect to name servers and brokers. Only incoming traffic is restricted.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rocket_api::{ClientSelector, GroupRule, label};

use super::{metadata, selector};
use crate::names::{PORT_BROKER, PORT_HA, PORT_METRICS, PORT_NAMESRV};
use crate::validate::ValidatedCluster;

pub(super) fn name_servers(cluster: &ValidatedCluster) -> NetworkPolicy {
    // Brokers register with the name servers, whatever clients are allowed.
    let mut peers = clients(cluster);
    if !peers.is_empty() {
        peers.push(pods(cluster.names.broker_selector()));
    }
    policy(
        cluster,
        cluster.names.namesrv(),
        cluster.names.namesrv_labels(),
        cluster.names.namesrv_selector(),
        vec![rule(PORT_NAMESRV, peers), rule(PORT_METRICS, Vec::new())],
    )
}

pub(super) fn brokers(cluster: &ValidatedCluster) -> NetworkPolicy {
    let name = format!("{}-broker", cluster.names.cluster);
    let mut labels = cluster.names.labels();
    labels.extend(cluster.names.broker_selector());
    let mut replicas = vec![pods(cluster.names.broker_selector())];
    if cluster.rule == GroupRule::Elected {
        replicas.push(operator());
    }
    policy(
        cluster,
        name,
        labels,
        cluster.names.broker_selector(),
        vec![
            rule(PORT_BROKER, senders(cluster)),
            rule(PORT_HA, replicas),
            rule(PORT_METRICS, Vec::new()),
        ],
    )
}

fn policy(
    cluster: &ValidatedCluster,
    name: String,
    labels: BTreeMap<String, String>,
    pods: BTreeMap<String, String>,
    ingress: Vec<NetworkPolicyIngressRule>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(cluster, name, labels),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(pods)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(ingress),
            ..NetworkPolicySpec::default()
        }),
    }
}

/// An open port; without peers for everybody.
fn rule(port: i32, peers: Vec<NetworkPolicyPeer>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: (!peers.is_empty()).then_some(peers),
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port)),
            protocol: Some("TCP".to_owned()),
            ..NetworkPolicyPort::default()
        }]),
    }
}

fn pods(labels: BTreeMap<String, String>) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(selector(labels)),
        ..NetworkPolicyPeer::default()
    }
}

/// The operator asks replicas how they fare, from whichever namespace it runs in. A label is no proof: the link asks for one.
fn operator() -> NetworkPolicyPeer {
    let name = (label::NAME.to_owned(), label::MANAGED_BY_VALUE.to_owned());
    NetworkPolicyPeer {
        namespace_selector: Some(selector(BTreeMap::new())),
        ..pods(BTreeMap::from([name]))
    }
}

/// Clients, and replicas that pass on to the next master what still comes to them.
fn senders(cluster: &ValidatedCluster) -> Vec<NetworkPolicyPeer> {
    let mut peers = clients(cluster);
    if !peers.is_empty() && cluster.rule == GroupRule::Elected {
        peers.push(pods(cluster.names.broker_selector()));
    }
    peers
}

fn clients(cluster: &ValidatedCluster) -> Vec<NetworkPolicyPeer> {
    let labels =
        |labels: &BTreeMap<String, String>| (!labels.is_empty()).then(|| selector(labels.clone()));
    let peer = |client: &ClientSelector| NetworkPolicyPeer {
        namespace_selector: labels(&client.namespace_labels),
        pod_selector: labels(&client.pod_labels),
        ..NetworkPolicyPeer::default()
    };
    cluster
        .spec
        .network_policy
        .clients
        .iter()
        .map(peer)
        .collect()
}
