//! What a broker may do in the API: read and watch its own group object and replace that object's status, nothing else.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use rocket_api::{API_GROUP, GroupRule};

use super::metadata;
use crate::validate::ValidatedCluster;

pub(super) fn service_account(cluster: &ValidatedCluster, index: i32) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(
            cluster,
            cluster.names.group(index),
            cluster.names.group_labels(index),
        ),
        // Whoever borrows this account does not get its token by accident; the pods of a group that elects ask for it by name.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

pub(super) fn role(cluster: &ValidatedCluster, index: i32) -> Role {
    let name = cluster.names.group(index);
    let rule = |resource: &str, verbs: &[&str]| PolicyRule {
        api_groups: Some(vec![API_GROUP.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: Some(vec![name.clone()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    };
    // A list or watch that names one object by a field selector is allowed by that object's name.
    let read: &[&str] = match cluster.rule {
        GroupRule::Static => &["get"],
        GroupRule::Elected => &["get", "list", "watch"],
    };
    Role {
        metadata: metadata(cluster, name.clone(), cluster.names.group_labels(index)),
        rules: Some(vec![
            rule("rocketbrokergroups", read),
            rule("rocketbrokergroups/status", &["get", "update"]),
        ]),
    }
}

pub(super) fn role_binding(cluster: &ValidatedCluster, index: i32) -> RoleBinding {
    let name = cluster.names.group(index);
    RoleBinding {
        metadata: metadata(cluster, name.clone(), cluster.names.group_labels(index)),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name,
            namespace: Some(cluster.names.namespace.clone()),
            ..Subject::default()
        }]),
    }
}
