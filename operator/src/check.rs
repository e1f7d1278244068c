//! `rocket-operator check`: whether this Kubernetes cluster is ready for the operator. `helm test` runs it.

use anyhow::{Context as _, bail};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use rocket_api::{RocketBrokerGroup, RocketCluster, RocketOperation, custom_resource_definitions};
use serde::de::DeserializeOwned;

/// Checks what the operator needs; returns what was found, one line each.
///
/// # Errors
/// The first thing that is missing.
pub async fn check(client: Client, namespaces: &[String]) -> anyhow::Result<Vec<String>> {
    let version = client
        .apiserver_version()
        .await
        .context("the API server does not answer")?;
    let mut found = vec![format!("API server {}", version.git_version)];
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for wanted in custom_resource_definitions() {
        let name = wanted.metadata.name.unwrap_or_default();
        let present = api
            .get_opt(&name)
            .await
            .with_context(|| format!("cannot read the resource definition {name}"))?;
        let Some(present) = present else {
            bail!(
                "the resource definition {name} is not installed: apply crds/ or install the chart with crds.create=true"
            )
        };
        let conditions = present
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        if !conditions
            .iter()
            .any(|condition| condition.type_ == "Established" && condition.status == "True")
        {
            bail!("the resource definition {name} is not established");
        }
        found.push(format!("resource definition {name} is established"));
    }
    let one = ListParams::default().limit(1);
    let scopes: Vec<Option<&String>> = if namespaces.is_empty() {
        vec![None]
    } else {
        namespaces.iter().map(Some).collect()
    };
    for namespace in scopes {
        let namespace_of = namespace.map(String::as_str);
        can_list::<RocketCluster>(&client, namespace_of, &one).await?;
        can_list::<RocketBrokerGroup>(&client, namespace_of, &one).await?;
        can_list::<RocketOperation>(&client, namespace_of, &one).await?;
        found.push(format!(
            "resources in {} can be read",
            namespace.map_or("all namespaces", String::as_str)
        ));
    }
    Ok(found)
}

async fn can_list<K>(
    client: &Client,
    namespace: Option<&str>,
    params: &ListParams,
) -> anyhow::Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let listed = api.list(params).await;
    listed.with_context(|| format!("cannot list {}", K::plural(&())))?;
    Ok(())
}
