//! One test's namespace: what to say to Kubernetes, what to wait for, and what to tell when a test fails.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kubernetes::objects::{is_ready, text};

/// How long anything may take on a busy machine. A verdict on time is never meant by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);
/// An event between two looks could be missed, so one looks again after this time at the latest.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Namespace of the operator.
pub(crate) fn operator_namespace() -> String {
    std::env::var("OPERATOR_NAMESPACE").unwrap_or_else(|_| "rocket-system".to_owned())
}

/// A program that the environment names, or none after a loud skip.
pub(crate) fn program(variable: &str, not_shown: &str) -> Option<String> {
    let program = std::env::var(variable)
        .ok()
        .filter(|program| !program.is_empty());
    if program.is_none() {
        // Past the capture of test output: a skip that nobody sees is a lie.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED, NOT SHOWN: {not_shown}: {variable} is not set, run tests/conformance/on-cluster"
        );
    }
    program
}

/// Runs a program with `input` and returns what it printed, or all that it said when it failed.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    Err(printed + &String::from_utf8_lossy(&output.stderr))
}

/// A namespace that ends with its test.
pub(crate) struct Space {
    kubectl: String,
    /// Its name.
    pub(crate) name: String,
    /// What the test shows, for the words of a failure.
    shows: String,
    temporary: bool,
}

impl Space {
    /// A fresh namespace, or none after a loud skip.
    pub(crate) fn new(slug: &str, shows: &str) -> Option<Self> {
        let space = Self {
            kubectl: program("KUBECTL", shows)?,
            name: format!("e2e-{slug}-{}", std::process::id()),
            shows: shows.to_owned(),
            temporary: true,
        };
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        space.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space.name, "labels": labels}}));
        Some(space)
    }

    /// The operator's own namespace, which stays.
    pub(crate) fn operator(shows: &str) -> Option<Self> {
        Self::lasting(&operator_namespace(), shows)
    }

    /// Another namespace that stays.
    pub(crate) fn lasting(name: &str, shows: &str) -> Option<Self> {
        Some(Self {
            kubectl: program("KUBECTL", shows)?,
            name: name.to_owned(),
            shows: shows.to_owned(),
            temporary: false,
        })
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.args(["-n", &self.name]).args(args);
        command
    }

    /// `kubectl` in this namespace, with its refusal.
    pub(crate) fn ask(&self, args: &[&str], input: &str) -> Result<String, String> {
        run(&mut self.command(args), input)
    }

    /// `kubectl` in this namespace.
    #[track_caller]
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        self.ask(args, "")
            .unwrap_or_else(|e| panic!("kubectl {}: {e}", args.join(" ")))
    }

    /// Applies an object.
    #[track_caller]
    pub(crate) fn apply(&self, object: &Value) {
        if let Err(error) = self.ask(&["apply", "--server-side", "-f", "-"], &object.to_string()) {
            panic!("apply of {}: {error}", object["metadata"]["name"]);
        }
    }

    /// Changes the specification of a RocketCluster as a merge patch does.
    #[track_caller]
    pub(crate) fn edit(&self, cluster: &str, spec: &Value) {
        let patch = json!({"spec": spec}).to_string();
        self.kubectl(&["patch", "rkt", cluster, "--type=merge", "-p", &patch]);
    }

    /// One object, null when there is none.
    #[track_caller]
    pub(crate) fn get(&self, kind: &str, name: &str) -> Value {
        let text = self.kubectl(&["get", kind, name, "--ignore-not-found", "-o", "json"]);
        if text.trim().is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap()
        }
    }

    /// Name of the ConfigMap with the file that the pods of a group are to mount.
    #[track_caller]
    pub(crate) fn config(&self, group: &str) -> String {
        let set = self.get("sts", group);
        let volumes = set["spec"]["template"]["spec"]["volumes"].as_array();
        let mut names = volumes
            .into_iter()
            .flatten()
            .filter_map(|volume| volume["configMap"]["name"].as_str());
        names.next().unwrap_or_default().to_owned()
    }

    /// All objects of a kind.
    #[track_caller]
    pub(crate) fn list(&self, kind: &str) -> Vec<Value> {
        let list: Value =
            serde_json::from_str(&self.kubectl(&["get", kind, "-o", "json"])).unwrap();
        list["items"].as_array().cloned().unwrap()
    }

    /// Watches a kind until `holds` for all its objects, and returns these.
    #[track_caller]
    pub(crate) fn until(
        &self,
        kind: &str,
        promise: &str,
        holds: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let watch = self.watch(kind);
            loop {
                let objects = self.list(kind);
                if holds(&objects) {
                    return objects;
                }
                let left = end.saturating_duration_since(Instant::now());
                assert!(
                    !left.is_zero(),
                    "{kind} not as expected after {PATIENCE:?}: {promise}"
                );
                match watch.events.recv_timeout(left.min(LOOK_AGAIN)) {
                    Ok(_) => while watch.events.try_recv().is_ok() {},
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => break, // the server ended the watch
                }
            }
        }
    }

    /// Watches one object (null while there is none) until `holds`.
    #[track_caller]
    pub(crate) fn until_one(
        &self,
        kind: &str,
        name: &str,
        promise: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let one = |objects: &[Value]| {
            objects
                .iter()
                .find(|object| object["metadata"]["name"] == name)
                .cloned()
                .unwrap_or(Value::Null)
        };
        one(&self.until(kind, &format!("{name}: {promise}"), |objects| {
            holds(&one(objects))
        }))
    }

    /// Waits until a RocketCluster is Ready with its present specification.
    #[track_caller]
    pub(crate) fn ready(&self, cluster: &str) -> Value {
        self.until_one(
            "rkt",
            cluster,
            "Ready with its present specification",
            is_ready,
        )
    }

    /// Applies a cluster and waits until it is Ready.
    #[track_caller]
    pub(crate) fn make(&self, cluster: &Value) -> Value {
        self.apply(cluster);
        self.ready(text(cluster, "/metadata/name"))
    }

    /// What happens to objects of a kind, beginning with those that there are.
    pub(crate) fn watch(&self, kind: &str) -> Watch {
        let args = ["get", kind, "-w", "--output-watch-events", "-o", "json"];
        let mut child = self
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (seen, events) = mpsc::channel();
        std::thread::spawn(move || {
            serde_json::Deserializer::from_reader(output)
                .into_iter::<Value>()
                .map_while(Result::ok)
                .all(|event| seen.send(event).is_ok())
        });
        Watch { child, events }
    }

    fn tell(&self) {
        let operator = operator_namespace();
        let log = [
            "-n",
            &operator,
            "logs",
            "-l",
            "app.kubernetes.io/name=rocket-operator",
            "--tail=40",
            "--prefix",
        ];
        let mut told = format!("==== {}: {} failed\n", self.name, self.shows);
        for args in [
            &["get", "rkt,rbg,sts,pods,pvc", "-o", "wide"][..],
            &[
                "get",
                "rkt,rbg",
                "-o",
                "jsonpath={range .items[*]}{.status}{\"\\n\"}{end}",
            ],
            &[
                "get",
                "events",
                "--sort-by=.metadata.creationTimestamp",
                "-o",
                "custom-columns=OF:.involvedObject.name,ABOUT:.regarding.name,REASON:.reason,MESSAGE:.message,NOTE:.note",
            ],
            &[
                "logs",
                "-l",
                "rocketcluster.io/cluster",
                "--tail=15",
                "--prefix",
            ],
            &log,
        ] {
            let said = self.ask(args, "").unwrap_or_else(|error| error);
            let lines: Vec<&str> = said.lines().collect();
            let _ = writeln!(told, "---- kubectl {}", args.join(" "));
            told += &lines[lines.len().saturating_sub(80)..].join("\n");
            told += "\n";
        }
        let _ = std::io::stderr().write_all(told.as_bytes());
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        if self.temporary {
            let _ = self.ask(&["delete", "namespace", &self.name, "--wait=false"], "");
        }
    }
}

/// A running `kubectl get --watch`.
pub(crate) struct Watch {
    child: Child,
    /// What it saw: `{type, object}`.
    pub(crate) events: mpsc::Receiver<Value>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
