//! Folders of data between versions and makers: ours survives a kill, opens what Apache wrote, and Apache opens ours.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::apache::{Broker, BrokerOptions, NameServer};
use conformance::process::scratch;
use conformance::programs::{Programs, programs_or_skip};
use conformance::standalone::{Standalone, broker_bin};
use conformance::stores::{acknowledged, drive, drive_while, served};
use serde_json::Value;

use crate::cluster::target_is_apache;

/// The file sizes of the fixtures, for whoever opens or writes such a store.
const SIZES: [(&str, &str); 5] = [
    ("maxMessageSize", "65536"),
    ("mappedFileSizeCommitLog", "1048576"),
    ("mappedFileSizeConsumeQueue", "2000"),
    ("maxHashSlotNum", "128"),
    ("maxIndexNum", "512"),
];
/// The load is cut off after this many acknowledged messages.
const ENOUGH: usize = 500;

/// The programs, unless Apache's servers are the target: these tests are about ours.
fn ours(not_shown: &str) -> Option<&'static Programs> {
    if target_is_apache() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED, NOT SHOWN: {not_shown}: the target is Apache's"
        );
        return None;
    }
    programs_or_skip(not_shown)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    Killed,
}

/// Fills a store of ours and ends its broker; returns the store and the unique keys of what was acknowledged.
fn filled(programs: &Programs, end: End) -> (PathBuf, Vec<String>) {
    let data = scratch("our-store").unwrap();
    let ours = Standalone::open(&data, &SIZES).unwrap();
    let mut said = drive(programs, ours.namesrv, "store_fill_plain").unwrap();
    match end {
        End::Stopped => ours.stop().unwrap(),
        End::Killed => {
            let namesrv = ours.namesrv;
            let mut victim = Some(ours);
            let mut acked = 0;
            let load = drive_while(programs, namesrv, "store_load", |fact| {
                acked += usize::from(fact["fact"] == "sent");
                if acked >= ENOUGH
                    && let Some(victim) = victim.take()
                {
                    victim.kill();
                }
            });
            said.extend(load.unwrap());
        }
    }
    (data, acknowledged(&said))
}

fn assert_served(acked: &[String], stored: &[Value]) {
    let mut served = served(stored);
    for (queue, messages) in &served {
        let offsets: Vec<i64> = messages
            .iter()
            .map(|m| m["offset"].as_i64().unwrap())
            .collect();
        assert_eq!(
            offsets,
            (0..i64::try_from(offsets.len()).unwrap()).collect::<Vec<_>>(),
            "offsets of {queue:?}"
        );
    }
    let mut present: BTreeMap<&str, usize> = BTreeMap::new();
    for m in served.values_mut().flatten() {
        *present.entry(m["id"].as_str().unwrap()).or_default() += 1;
    }
    let wrong: Vec<_> = acked
        .iter()
        .filter(|id| present.get(id.as_str()) != Some(&1))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} acknowledged messages are not there exactly once, as {:?}",
        wrong.len(),
        acked.len(),
        wrong.first()
    );
}

fn reopened_by_us(end: End, behaviour: &str) {
    let Some(programs) = ours(behaviour) else {
        return;
    };
    let (data, acked) = filled(programs, end);
    let again = Standalone::open(&data, &SIZES).unwrap();
    assert_served(
        &acked,
        &drive(programs, again.namesrv, "store_read").unwrap(),
    );
}

#[test]
fn a_stopped_broker_serves_all_it_acknowledged() {
    reopened_by_us(End::Stopped, "a_stopped_broker_serves_all_it_acknowledged");
}

#[test]
fn a_killed_broker_serves_all_it_acknowledged() {
    reopened_by_us(End::Killed, "a_killed_broker_serves_all_it_acknowledged");
}

fn opened_by_apache(end: End, behaviour: &str) {
    let Some(programs) = ours(behaviour) else {
        return;
    };
    let (data, acked) = filled(programs, end);
    if end == End::Killed {
        // Only a store that was closed in order is exported: our recovery comes first.
        Standalone::open(&data, &SIZES).unwrap().stop().unwrap();
    }
    let out = scratch("exported").unwrap().join("store");
    let export = Command::new(broker_bin().unwrap())
        .args(["export", "--data"])
        .arg(&data)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(
        export.status.success(),
        "export: {}",
        String::from_utf8_lossy(&export.stderr)
    );
    let namesrv = NameServer::start(programs).unwrap();
    let mut options = BrokerOptions::plain(namesrv.addr, &out).unwrap();
    for (key, value) in SIZES {
        options = options.set(key, value);
    }
    let broker = Broker::start(programs, &options).unwrap();
    assert_served(
        &acked,
        &drive(programs, namesrv.addr, "store_read").unwrap(),
    );
    broker.stop().unwrap();
}

#[test]
fn apache_opens_our_directory() {
    opened_by_apache(End::Stopped, "apache_opens_our_directory");
}

#[test]
fn apache_opens_our_directory_after_a_kill() {
    opened_by_apache(End::Killed, "apache_opens_our_directory_after_a_kill");
}

/// Our broker on a copy of a store that Apache wrote serves each message of the manifest at its place.
fn apaches_store_served_by_us(name: &str, behaviour: &str) {
    let Some(programs) = ours(behaviour) else {
        return;
    };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/store");
    let data = scratch("apaches-store").unwrap();
    let tar = Command::new("tar")
        .arg("-C")
        .arg(&data)
        .arg("-xmzf")
        .arg(fixtures.join(format!("{name}.tar.gz")))
        .status()
        .unwrap();
    assert!(tar.success());
    let manifest: Value = serde_json::from_str(
        &std::fs::read_to_string(fixtures.join(format!("{name}.json"))).unwrap(),
    )
    .unwrap();
    // A transaction is open in it.
    let settings = [&SIZES[..], &[("giveUpUnfinishedMessages", "true")]].concat();
    let ours = Standalone::open(&data, &settings).unwrap();
    let stored = drive(programs, ours.namesrv, "store_read").unwrap();
    let served = served(&stored);
    let mut compared = 0;
    for queue in manifest["queues"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|q| q["topic"].as_str().unwrap().starts_with("fixture_"))
    {
        let key = (
            queue["topic"].as_str().unwrap().to_owned(),
            queue["queue"].as_i64().unwrap(),
        );
        let there = served.get(&key).map_or(&[][..], Vec::as_slice);
        for (expected, m) in queue["messages"].as_array().unwrap().iter().zip(there) {
            for (ours, theirs) in [
                ("offset", "offset"),
                ("physical", "physical"),
                ("id", "uniq_key"),
                ("keys", "keys"),
                ("tags", "tags"),
                ("crc", "body_crc"),
                ("offset_id", "msg_id"),
                ("store_time", "store_time"),
            ] {
                assert_eq!(
                    m[ours], expected[theirs],
                    "{ours} of {key:?} {}",
                    expected["offset"]
                );
            }
            compared += 1;
        }
    }
    let expected: usize = manifest["queues"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|q| q["topic"].as_str().unwrap().starts_with("fixture_"))
        .map(|q| q["messages"].as_array().unwrap().len())
        .sum();
    assert_eq!(
        compared, expected,
        "messages served of those in the manifest"
    );
}

#[test]
fn our_broker_serves_what_apache_stored() {
    apaches_store_served_by_us("apache-5.4.0-clean", "our_broker_serves_what_apache_stored");
}

#[test]
fn our_broker_serves_what_apache_stored_before_a_kill() {
    apaches_store_served_by_us(
        "apache-5.4.0-killed",
        "our_broker_serves_what_apache_stored_before_a_kill",
    );
}
