//! Stores that one broker fills and another serves: the `store_` scenarios of the Java driver, and what they said.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::facts::Facts;
use crate::process::scratch;
use crate::programs::{Programs, java};

const PATIENCE: Duration = Duration::from_mins(2);

/// Runs one `store_` scenario with the client 5.4.0 and returns its facts.
pub fn drive(programs: &Programs, namesrv: SocketAddr, scenario: &str) -> Result<Vec<Value>> {
    drive_while(programs, namesrv, scenario, |_| {})
}

/// The same, with a look at each fact as it is said.
pub fn drive_while(
    programs: &Programs,
    namesrv: SocketAddr,
    scenario: &str,
    look: impl FnMut(&Value),
) -> Result<Vec<Value>> {
    let mut command = java(
        &programs.client_5,
        256,
        &scratch("store-driver")?,
        &BTreeMap::new(),
    );
    command.args([
        "Driver",
        &format!("ns={namesrv}"),
        "prefix=fixture",
        &format!("scenarios={scenario}"),
    ]);
    let facts = Facts::watched(&mut command, "", PATIENCE, look)?;
    Ok(facts.scenario(scenario)?.into_iter().cloned().collect())
}

/// The unique keys of all acknowledged sends.
pub fn acknowledged(said: &[Value]) -> Vec<String> {
    let sent = said
        .iter()
        .filter(|f| f["fact"] == "sent" && f["status"] == "SEND_OK")
        .filter_map(|f| f["id"].as_str());
    sent.flat_map(|ids| ids.split(','))
        .map(str::to_owned)
        .collect()
}

/// What `store_read` found, by topic and queue.
pub fn served(stored: &[Value]) -> BTreeMap<(String, i64), Vec<&Value>> {
    let mut queues: BTreeMap<(String, i64), Vec<&Value>> = BTreeMap::new();
    for m in stored.iter().filter(|f| f["fact"] == "stored") {
        if let (Some(topic), Some(queue)) = (m["topic"].as_str(), m["queue"].as_i64()) {
            queues.entry((topic.to_owned(), queue)).or_default().push(m);
        }
    }
    queues
}
