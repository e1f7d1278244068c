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
        .fold(String::new(), |stream, (_, text)| stream + "---\n" + &text))
}

fn yaml(crd: &CustomResourceDefinition) -> anyhow::Result<String> {
    let value = serde_json::to_value(crd)?;
    let body = serde_yaml::to_string(&value)
        .with_context(|| format!("cannot write {} as YAML", crd.spec.names.kind))?;
    Ok(format!(
        "# Generated from operator/api by `rocket-operator crd --out-dir crds`; not edited by hand.\n{body}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_definitions_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        for (name, text) in files().unwrap() {
            let committed = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
            assert!(
                committed == text,
                "crds/{name} is stale: run `cargo run -p rocket-operator -- crd --out-dir crds`"
            );
        }
        assert_eq!(
            std::fs::read_dir(&folder).unwrap().count(),
            custom_resource_definitions().len(),
            "crds/ holds generated files only"
        );
    }

    #[test]
    fn words_that_yaml_1_1_reads_as_booleans_are_quoted() {
        for (name, text) in files().unwrap() {
            assert!(text.len() < 64 * 1024, "{name} has {} bytes", text.len());
            for line in text.lines() {
                let value = line
                    .trim_start()
                    .trim_start_matches("- ")
                    .split_once(": ")
                    .map_or(line.trim_start().trim_start_matches("- "), |(_, value)| {
                        value
                    });
                let is_ambiguous = ["y", "n", "yes", "no", "on", "off"]
                    .contains(&value.to_ascii_lowercase().as_str());
                assert!(!is_ambiguous, "{name}: {line}");
            }
            let back: CustomResourceDefinition = serde_yaml::from_str(&text).unwrap();
            assert!(
                custom_resource_definitions().contains(&back),
                "{name} does not read back as it was written"
            );
        }
    }
}
