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

/// Whether all of `wanted` is in `live`. Lists of named things are compared by name, others by place.
fn covers(live: &Value, wanted: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(key, value)| {
            live.get(key)
                .map_or_else(|| is_empty(value), |present| covers(present, value))
        }),
        (Value::Array(wanted), Value::Array(live))
            if wanted.iter().all(|item| name_of(item).is_some()) =>
        {
            wanted.iter().all(|item| {
                live.iter()
                    .any(|present| name_of(present) == name_of(item) && covers(present, item))
            })
        }
        (Value::Array(wanted), Value::Array(live)) => {
            wanted.len() == live.len()
                && live
                    .iter()
                    .zip(wanted)
                    .all(|(present, item)| covers(present, item))
        }
        (Value::String(wanted), Value::String(live)) => {
            wanted == live || Quantity::same(wanted, live)
        }
        _ => wanted == live,
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
        for (pointer, value) in [
            ("/spec/replicas", json!(3)),
            ("/spec/limits/cpu", json!("2")),
            ("/spec/containers/1/image", json!("b")),
            ("/spec/args", json!(["x", "y"])),
        ] {
            let mut edited = live.clone();
            *edited.pointer_mut(pointer).unwrap() = value;
            assert!(differs(&wanted, &edited), "{pointer}");
        }
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
