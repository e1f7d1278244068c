//! Tables of texts, as JSON and as the lines of a properties file.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A table of texts: GET_BROKER_RUNTIME_INFO, GET_KVLIST_BY_NAMESPACE, REGISTER_BROKER's response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KvTable {
    /// Values by key.
    pub table: BTreeMap<String, String>,
}

/// Reads the lines `key=value` of GET_BROKER_CONFIG and its like. Blank lines and comments (`#`, `!`) are passed over; a
/// line without `=` is a key with an empty value.
pub fn parse_properties(text: &str) -> BTreeMap<String, String> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    lines
        .map(|line| {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            (key.trim().to_owned(), value.trim().to_owned())
        })
        .collect()
}

/// Writes lines `key=value`.
pub fn write_properties<'a>(table: impl IntoIterator<Item = (&'a str, &'a str)>) -> Bytes {
    let mut text = String::new();
    for (key, value) in table {
        text.push_str(key);
        text.push('=');
        text.push_str(value);
        text.push('\n');
    }
    text.into()
}
