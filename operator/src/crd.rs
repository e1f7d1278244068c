//! The custom resource definitions as YAML files.

use std::path::Path;

use anyhow::Context as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use rocket_api::custom_resource_definitions;

/// File name and content of each definition.
///
/// # Errors
/// When a definition cannot be written as YAML.
pub fn files() -> anyhow::Result<Vec<(String, String)>> {
    custom_resource_definitions()
        .iter()
        .map(|crd| Ok((format!("{}.yaml", crd.spec.names.plural), yaml(crd)?)))
        .collect()
}

/// Writes all definitions into a folder.
///
/// # Errors
/// When the folder cannot be written.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text) in files()? {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// All definitions as one YAML stream.
///
/// # Errors
/// When a definition cannot be written as YAML.
pub fn stream() -> anyhow::Result<String> {
    Ok(files()?
        .into_iter()
        .map(|(_, text)| format!("---\n{text}"))
        .collect())
}

fn yaml(crd: &CustomResourceDefinition) -> anyhow::Result<String> {
    let value = serde_json::to_value(crd)?;
    let body = serde_yaml::to_string(&value)
        .with_context(|| format!("cannot write {} as YAML", crd.spec.names.kind))?;
    Ok(format!(
        "# Generated from operator/api by `rocket-operator crd --out-dir crds`; not edited by hand.\n{body}"
    ))
}
