//! What people ask for: the examples of RocketOperation, applied under acknowledged load to brokers that run.

use std::collections::BTreeSet;
use std::io::Write as _;

use serde_json::{Value, json};

use super::stage::Lead;
use super::{CLUSTER, Column, GROUP, Load, Mastership, Stage, rounds};
use crate::kubernetes::objects::{condition, merge, text};

impl Stage {
    /// Applies an example as `name`, changed by `spec`, and waits for its end.
    #[track_caller]
    pub(super) fn request(&self, example: &str, name: &str, spec: &Value) -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/");
        let path = format!("{path}{example}");
        let read = ["create", "--dry-run=client", "-o", "json", "-f", &path];
        let mut request: Value = serde_json::from_str(&self.space.kubectl(&read)).unwrap();
        let ours = json!({"metadata": {"name": name, "namespace": self.space.name}, "spec": {"cluster": CLUSTER}});
        merge(&mut request, &ours);
        merge(&mut request, &json!({"spec": spec}));
        self.space.apply(&request);
        let has_ended = |request: &Value| {
            request
                .pointer("/status/finishedAt")
                .is_some_and(Value::is_string)
        };
        self.space.until_one("rop", name, "an end", has_ended)["status"].clone()
    }

    fn uids(&self) -> BTreeSet<String> {
        let brokers = self
            .space
            .list("pods")
            .into_iter()
            .filter(|pod| text(pod, "/metadata/name").starts_with("demo-0-"));
        brokers
            .map(|pod| text(&pod, "/metadata/uid").to_owned())
            .collect()
    }
}

/// A replica that is not master.
pub(super) fn another_than(master: &Lead) -> &'static str {
    let heirs = ["demo-0-2", "demo-0-1"];
    heirs.into_iter().find(|pod| *pod != master.pod).unwrap()
}

fn tell(what: &str, ended: &Value) {
    let pause = text(ended, "/writePause");
    let told = format!("\nSEEN: {what}: no replica took sends for at most {pause}\n");
    let _ = std::io::stderr().write_all(told.as_bytes());
}

#[test]
fn switchover_moves_the_mastership_to_the_named_replica() {
    let Some(mut stage) = Stage::new("switched", "a Switchover") else {
        return;
    };
    for round in rounds() {
        stage.round(round, Mastership::Moves, |stage, master, _| {
            let to = another_than(master);
            let name = format!("switchover-{round}");
            let ended = stage.request("switchover.yaml", &name, &json!({"to": to}));
            assert_eq!(ended["phase"], "Succeeded", "{ended}");
            assert_eq!(ended["conditions"][0]["type"], "Complete", "{ended}");
            assert_eq!(
                (text(&ended, "/from"), text(&ended, "/to")),
                (master.pod.as_str(), to)
            );
            assert_eq!(stage.lead().pod, to);
            tell("a Switchover", &ended);
            Vec::new()
        });
    }
}

#[test]
fn restart_replaces_every_pod_once() {
    let Some(mut stage) = Stage::new("restarted", "a Restart") else {
        return;
    };
    for round in rounds() {
        stage.round(round, Mastership::Changes, |stage, _, _| {
            let before = stage.uids();
            let name = format!("restart-{round}");
            let ended = stage.request("restart.yaml", &name, &json!({}));
            assert_eq!(ended["phase"], "Succeeded", "{ended}");
            assert_eq!(ended["progress"], "3/3", "{ended}");
            let after = stage.uids();
            assert_eq!(after.len(), 3);
            assert!(before.is_disjoint(&after), "{before:?} {after:?}");
            tell("a Restart", &ended);
            Vec::new()
        });
    }
}

/// A choice that was made about another epoch, or over the head of a master that answers, changes nothing.
#[test]
fn force_elect_is_refused_while_the_master_answers() {
    let Some(mut stage) = Stage::new("forced", "a ForceElect while the master answers") else {
        return;
    };
    stage.round(0, Mastership::Stays, |stage, master, _| {
        for (name, epoch, says) in [
            ("outdated", master.epoch + 6, "epoch"),
            ("needless", master.epoch, "answers"),
        ] {
            let ended = stage.request(
                "force-elect.yaml",
                name,
                &json!({"to": "demo-0-2", "epoch": epoch}),
            );
            assert_eq!(ended["phase"], "Failed", "{ended}");
            assert!(text(&ended, "/message").contains(says), "{ended}");
        }
        Vec::new()
    });
}

/// The object that says who is master is deleted under load: its master goes on. Every replica tells what it holds, and the group goes
/// on with everything that was acknowledged, also when there was no master any more.
#[test]
fn record_that_was_deleted_is_made_anew_and_nothing_is_lost() {
    let shows = "the record deleted, and a Rebuild";
    let Some(mut stage) = Stage::with("rebuilt", shows, Column::D, &json!({})) else {
        return;
    };
    for (round, is_led) in [(1, true), (0, false)] {
        stage.unclean = 1;
        stage.round(round, Mastership::Changes, |stage, master, load| {
            stage.make_record_anew(round, is_led.then_some(load), &master.pod);
            Vec::new()
        });
    }
}

impl Stage {
    /// Deletes the record, with the pod of the master unless that one shall go on, and has it made anew.
    #[track_caller]
    fn make_record_anew(&self, round: u32, goes_on: Option<&Load>, master: &str) {
        let former = self.space.get("rbg", GROUP);
        self.space.kubectl(&["delete", "rbg", GROUP]);
        let says = |cluster: &Value| {
            let degraded = condition(cluster, "Degraded");
            text(degraded, "/reason") == "RecordUnusable"
                && text(degraded, "/message").contains("type Rebuild")
        };
        let promise = "Degraded: RecordUnusable";
        self.space.until_one("rkt", CLUSTER, promise, says);
        match goes_on {
            Some(load) => load.goes_on(),
            None => drop(self.space.kubectl(&["delete", "pod", master])),
        }
        let ended = self.request("rebuild.yaml", &format!("rebuild-{round}"), &json!({}));
        assert_eq!(ended["phase"], "Succeeded", "{ended}");
        let record = self.space.get("rbg", GROUP);
        assert_ne!(record["status"]["groupUid"], former["status"]["groupUid"]);
        let disks = |record: &Value| -> BTreeSet<String> {
            let replicas = record["status"]["replicas"].as_object().unwrap();
            let disks = replicas.values().map(|replica| text(replica, "/diskId"));
            disks.map(str::to_owned).collect()
        };
        assert_eq!(disks(&record), disks(&former));
    }
}

/// Three replicas become two and three again: the record forgets the third, and knows a new one.
#[test]
fn replica_that_was_scaled_away_is_forgotten_and_comes_back_as_another() {
    let shows = "groups.replicas lowered and raised again";
    let Some(mut stage) = Stage::with("fewer", shows, Column::D, &json!({})) else {
        return;
    };
    stage.round(0, Mastership::Stays, |stage, master, load| {
        assert_ne!(
            master.pod,
            format!("{GROUP}-2"),
            "the lowest number of equals"
        );
        let third = |record: &Value| {
            let replicas = record["status"]["replicas"].as_object().cloned();
            let mut replicas = replicas.unwrap_or_default().into_iter();
            let third = format!("{GROUP}-2");
            let found = replicas.find(|(_, replica)| text(replica, "/name") == third);
            found.map(|(id, _)| id)
        };
        let former = third(&stage.space.get("rbg", GROUP)).unwrap();
        let fewer = json!({"groups": {"replicas": 2}});
        stage.space.edit(CLUSTER, &fewer);
        let is_forgotten = |record: &Value| third(record).is_none();
        let promise = "a record without the third replica";
        stage.space.until_one("rbg", GROUP, promise, is_forgotten);
        load.goes_on();
        let again = json!({"groups": {"replicas": 3}});
        stage.space.edit(CLUSTER, &again);
        let is_another = |record: &Value| third(record).is_some_and(|id| id != former);
        let promise = "the third replica under another id";
        stage.space.until_one("rbg", GROUP, promise, is_another);
        load.goes_on();
        Vec::new()
    });
}
