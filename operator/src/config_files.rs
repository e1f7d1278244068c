//! Which ConfigMaps with the brokers' files are in use. Pure.
//!
//! A file does not change under a broker that runs: the next start of its container would read a mistake that was meant for the next pod
//! first. So the name of a ConfigMap carries a hash of all in the file whose change restarts brokers, and one that a pod mounts stays.

use k8s_openapi::api::core::v1::PodSpec;

use crate::names::{CONFIG_HASH, Names};
use crate::observe::Observed;

/// The hash of the file that a group's pods are to mount from the ConfigMap without a hash in its name, which earlier versions made. As
/// long as the file stays, so does the name: another one would restart brokers for nothing.
pub fn unhashed(names: &Names, index: i32, observed: &Observed) -> Option<String> {
    let set = observed.stateful_sets.get(&names.group(index))?;
    let template = &set.spec.as_ref()?.template;
    let name = names.group_config(index);
    let hash = template.metadata.as_ref()?.annotations.as_ref()?;
    let hash = hash.get(CONFIG_HASH)?;
    mounts(template.spec.as_ref()?, &name).then(|| hash.clone())
}

/// Whether a pod, or a StatefulSet in its pods, mounts a ConfigMap.
pub fn is_mounted(name: &str, observed: &Observed) -> bool {
    let sets = observed.stateful_sets.values();
    let templates = sets.filter_map(|set| set.spec.as_ref()?.template.spec.as_ref());
    let pods = observed.pods.iter().filter_map(|pod| pod.spec.as_ref());
    templates.chain(pods).any(|pod| mounts(pod, name))
}

fn mounts(pod: &PodSpec, name: &str) -> bool {
    let volumes = pod.volumes.iter().flatten();
    let mut maps = volumes.filter_map(|volume| volume.config_map.as_ref());
    maps.any(|map| map.name == name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn name_of_an_earlier_version_is_known_by_what_the_pods_are_to_mount() {
        let names = Names {
            cluster: "orders".into(),
            namespace: "mq".into(),
            domain: "cluster.local".into(),
        };
        let observed = |map: &str| {
            let annotations = json!({CONFIG_HASH: "0123"});
            let spec: Value = json!({"containers": [], "volumes": [{"name": "data"}, {"name": "config", "configMap": {"name": map}}]});
            let set = json!({"metadata": {"name": "orders-0"}, "spec": {"selector": {}, "serviceName": "", "template": {"metadata": {"annotations": annotations}, "spec": spec}}});
            let set = serde_json::from_value(set).unwrap();
            Observed {
                stateful_sets: [("orders-0".to_owned(), set)].into(),
                ..Observed::default()
            }
        };
        let former = observed("orders-0-config");
        assert_eq!(unhashed(&names, 0, &former).as_deref(), Some("0123"));
        assert!(is_mounted("orders-0-config", &former));
        let present = observed("orders-0-config-0123");
        assert_eq!(unhashed(&names, 0, &present), None);
        assert!(!is_mounted("orders-0-config", &present));
    }
}
