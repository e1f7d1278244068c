//! What people ask for: the examples of RocketOperation, applied under acknowledged load to brokers that run.

use std::collections::BTreeSet;
use std::io::Write as _;

use serde_json::{Value, json};

use super::{CLUSTER, Mastership, Stage, rounds};
use crate::kubernetes::space::{merge, text};

impl Stage {
    /// Applies an example as `name`, changed by `spec`, and waits for its end.
    #[track_caller]
    fn request(&self, example: &str, name: &str, spec: &Value) -> Value {
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
            let heirs = ["demo-0-2", "demo-0-1"];
            let to = heirs.into_iter().find(|pod| *pod != master.pod).unwrap();
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
