//! Whether an object has to be written: what the operator set is compared with what is there.
//!
//! Two questions, both needed. Is everything that we set still there as we set it? (Somebody may have edited it; what others
//! added is not ours.) And was it we who last said all of it? (A field that we no longer set must be given up, which a
//! comparison of what we do set cannot see; the hash in the object tells.)

use rocket_api::Quantity;
use serde_json::Value;

use crate::names::APPLIED_HASH;

/// Whether `desired` must be applied over `live`.
pub fn differs(desired: &Value, live: &Value) -> bool {
    hash_of(desired) != hash_of(live) || !covers(live, desired)
}

/// The hash that is written in an object.
pub fn hash_of(object: &Value) -> Option<&str> {
    object
        .get("metadata")?
        .get("annotations")?
        .get(APPLIED_HASH)?
        .as_str()
}

/// Whether all of `wanted` is in `live`.
fn covers(live: &Value, wanted: &Value) -> bool {
    lacks(live, wanted).is_none()
}

/// The first place at which `live` is not as `wanted`, such as `spec.containers[broker].image`. Lists of named things are compared
/// by name, others by place. A selector to which something was added selects something else.
pub fn lacks(live: &Value, wanted: &Value) -> Option<String> {
    let path = compare(Some(live), wanted)?;
    Some(path.trim_start_matches('.').to_owned())
}

fn compare(live: Option<&Value>, wanted: &Value) -> Option<String> {
    let here = |is_here: bool| (!is_here).then(String::new);
    match (wanted, live) {
        (wanted, None) => here(is_empty(wanted)),
        (Value::Object(wanted), Some(Value::Object(live))) => {
            wanted.iter().find_map(|(key, value)| {
                let lack = match live.get(key) {
                    Some(present) if key == "selector" => here(present == value),
                    present => compare(present, value),
                };
                Some(format!(".{key}{}", lack?))
            })
        }
        (Value::Array(wanted), Some(Value::Array(live)))
            if wanted.iter().all(|item| name_of(item).is_some()) =>
        {
            wanted.iter().find_map(|item| {
                let name = name_of(item);
                let same = live.iter().filter(|present| name_of(present) == name);
                let mut found = same.map(|present| compare(Some(present), item)).peekable();
                let first = found.peek().cloned().unwrap_or_else(|| here(false))?;
                let is_missing = found.all(|lack| lack.is_some());
                is_missing.then(|| format!("[{}]{first}", name.unwrap_or_default()))
            })
        }
        (Value::Array(wanted), Some(Value::Array(live))) if wanted.len() == live.len() => {
            let mut pairs = wanted.iter().zip(live).enumerate();
            pairs.find_map(|(place, (item, present))| {
                Some(format!("[{place}]{}", compare(Some(present), item)?))
            })
        }
        (Value::String(wanted), Some(Value::String(live))) => {
            here(wanted == live || Quantity::same(wanted, live))
        }
        (wanted, Some(live)) => here(wanted == live),
    }
}

/// The API server leaves empty maps, lists and texts out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn name_of(item: &Value) -> Option<&str> {
    item.get("name")
        .or_else(|| item.get("uid"))
        .and_then(Value::as_str)
}

/// FNV-1a: stable over versions and machines, which the standard library's hasher does not promise.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_added_is_not_a_difference_and_what_they_changed_is() {
        let wanted = json!({"spec": {"replicas": 2, "limits": {"cpu": "1000m"}, "containers": [{"name": "broker", "image": "a"}], "args": ["x"], "labels": {}}});
        let live = json!({"spec": {"replicas": 2, "limits": {"cpu": "1"}, "containers": [{"name": "sidecar"}, {"name": "broker", "image": "a", "policy": "Always"}], "args": ["x"], "extra": 1}});
        assert!(!differs(&wanted, &live));
        assert_eq!(lacks(&live, &wanted), None);
        for (pointer, value, place) in [
            ("/spec/replicas", json!(3), "spec.replicas"),
            ("/spec/limits/cpu", json!("2"), "spec.limits.cpu"),
            (
                "/spec/containers/1/image",
                json!("b"),
                "spec.containers[broker].image",
            ),
            (
                "/spec/containers/1/name",
                json!("b"),
                "spec.containers[broker]",
            ),
            ("/spec/args", json!(["x", "y"]), "spec.args"),
            ("/spec/args/0", json!("y"), "spec.args[0]"),
        ] {
            let mut edited = live.clone();
            *edited.pointer_mut(pointer).unwrap() = value;
            assert!(differs(&wanted, &edited), "{pointer}");
            assert_eq!(lacks(&edited, &wanted).as_deref(), Some(place));
        }
        let mut without = live.clone();
        without["spec"].as_object_mut().unwrap().remove("replicas");
        assert_eq!(lacks(&without, &wanted).as_deref(), Some("spec.replicas"));
    }

    #[test]
    fn what_was_added_to_a_selector_is_a_difference() {
        let service = |selector: Value| json!({"spec": {"selector": selector, "ports": []}});
        let wanted = service(json!({"group": "0"}));
        assert!(!differs(&wanted, &service(json!({"group": "0"}))));
        let narrower = service(json!({"group": "0", "role": "standby"}));
        assert!(differs(&wanted, &narrower));
    }

    #[test]
    fn a_field_that_is_no_longer_wanted_is_seen_by_the_hash() {
        let object = |hash: &str| json!({"metadata": {"annotations": {APPLIED_HASH: hash}}});
        assert!(differs(&object("new"), &object("old")));
        assert!(!differs(&object("same"), &object("same")));
    }

    #[test]
    fn the_hash_of_today_is_the_hash_of_tomorrow() {
        assert_eq!(stable_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(stable_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
