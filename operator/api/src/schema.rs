//! Schemas that derive cannot express: Kubernetes' own types without their long descriptions, integer-or-string
//! quantities, and the rules on `spec.config` that come from a table.

use k8s_openapi::api::core::v1 as core;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::config_key::{OWNED_KEYS, RENAMED, UNSERVED};

/// A quantity as people write it: `2`, `500m`, `1Gi`.
pub(crate) fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 32,
            "x-kubernetes-validations": [{
                "rule": "isQuantity(string(self)) && !quantity(string(self)).isLessThan(quantity('0'))",
                "message": "is not an amount: write a number with an optional suffix, such as 2, 500m or 1Gi",
            }],
        },
    })
}

/// `spec.config`: keys of the broker's configuration, without those that a field or the operator decides.
pub(crate) fn config(_: &mut SchemaGenerator) -> Schema {
    let mut rules: Vec<Value> = OWNED_KEYS
        .iter()
        .map(|owned| json!({"rule": format!("!('{}' in self)", owned.key), "message": format!("config.{} is decided by the operator: {}", owned.key, owned.instead)}))
        .collect();
    rules.extend(RENAMED.iter().map(|(key, instead)| json!({"rule": format!("!('{key}' in self)"), "message": format!("config.{key} means nothing to this broker: {instead}")})));
    rules.extend(UNSERVED.iter().map(|(key, what)| json!({"rule": format!("!('{key}' in self) || self['{key}'] == 'false'"), "message": format!("config.{key} asks for {what}, which this broker does not have yet, and it does not start with it: leave it out or set it to false")})));
    rules.push(json!({
        "rule": "self.all(key, key.matches('^[A-Za-z][A-Za-z0-9_.]*$'))",
        "message": "a key of config is a name from broker.conf such as maxMessageSize: letters, digits, dot and underscore",
    }));
    rules.push(json!({
        "rule": "self.all(key, !self[key].contains('\\n') && !self[key].contains('\\r'))",
        "message": "a value of config is one line: write several keys instead of a line break",
    }));
    json_schema!({
        "type": "object",
        "maxProperties": 128,
        "additionalProperties": {"type": "string", "maxLength": 1024},
        "x-kubernetes-validations": rules,
    })
}

/// Kubernetes' toleration.
pub(crate) fn tolerations(generator: &mut SchemaGenerator) -> Schema {
    let item = bare::<core::Toleration>(generator);
    json_schema!({"type": "array", "maxItems": 64, "items": item})
}

/// Kubernetes' affinity.
pub(crate) fn affinity(generator: &mut SchemaGenerator) -> Schema {
    let Ok(schema) = Schema::try_from(bare::<core::Affinity>(generator)) else {
        return json_schema!({"type": "object"});
    };
    schema
}

/// The schema of a Kubernetes type without its descriptions: people know them, and a definition that `kubectl apply`
/// can carry has to stay small.
fn bare<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    let mut schema = serde_json::to_value(T::json_schema(generator)).unwrap_or(Value::Null);
    strip_descriptions(&mut schema);
    schema
}

fn strip_descriptions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, field| !(key == "description" && field.is_string()));
            fields.values_mut().for_each(strip_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_descriptions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
