//! rocket-bench inside the cluster's network.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use conformance::process::scratch;
use serde_json::Value;

use crate::kubernetes::space::{PATIENCE, Space, program, run};

/// The name servers of a cluster, as clients are told them.
pub(crate) fn namesrv(space: &Space, cluster: &str) -> String {
    format!("{cluster}-namesrv.{}.svc.cluster.local:9876", space.name)
}

/// rocket-bench inside the cluster's network.
pub(crate) struct Bench {
    cluster: String,
    program: String,
    folder: PathBuf,
}

impl Bench {
    /// The program and the way in, or none after a loud skip.
    pub(crate) fn new(shows: &str) -> Option<Self> {
        Some(Self {
            cluster: program("CLUSTER_CTL", shows)?,
            program: program("ROCKET_BENCH_BIN", shows)?,
            folder: scratch("bench").unwrap(),
        })
    }

    /// The way for a program of this machine into the cluster's network, or behind the cable of `node`.
    pub(crate) fn inside(&self, node: Option<&str>) -> Command {
        let mut command = Command::new(&self.cluster);
        command.arg("run");
        if let Some(node) = node {
            command.args(["--on", node]);
        }
        command.current_dir(&self.folder);
        command
    }

    /// The program inside, with the name servers of a cluster.
    pub(crate) fn command(
        &self,
        space: &Space,
        cluster: &str,
        node: Option<&str>,
        args: &[&str],
    ) -> Command {
        let mut command = self.inside(node);
        command
            .arg(&self.program)
            .args(args)
            .args(["--namesrv", &namesrv(space, cluster)]);
        command
    }

    /// Where the history of a run is.
    pub(crate) fn history(&self, run: &str) -> PathBuf {
        self.folder.join(format!("{run}.jsonl"))
    }

    /// Runs it, again as long as name servers or brokers cannot be reached yet: a pod is Ready a moment before every node leads to it,
    /// and clients try again too.
    fn run(&self, space: &Space, cluster: &str, args: &[&str]) -> Result<String, String> {
        let end = Instant::now() + PATIENCE;
        loop {
            match run(&mut self.command(space, cluster, None, args), "") {
                Err(error)
                    if Instant::now() < end
                        && (error.contains("cannot connect") || error.contains("no route for")) => {
                }
                ended => return ended,
            }
        }
    }

    /// Sends `count` messages, noting what was acknowledged in a history named `run`; returns the summary.
    pub(crate) fn produce(
        &self,
        space: &Space,
        cluster: &str,
        (topic, run): (&str, &str),
        count: u64,
        body_bytes: u64,
    ) -> Value {
        let (count, body) = (count.to_string(), body_bytes.to_string());
        let history = format!("{run}.jsonl");
        let args = [
            "produce",
            "--json",
            "--topic",
            topic,
            "--run",
            run,
            "--history",
            &history,
            "--count",
            &count,
            "--body-bytes",
            &body,
        ];
        let printed = self
            .run(space, cluster, &args)
            .unwrap_or_else(|error| panic!("rocket-bench produce: {error}"));
        serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e} in {printed}"))
    }

    /// Holds the topic against the histories: nothing lost, twice, out of order or made up.
    #[track_caller]
    pub(crate) fn verify(
        &self,
        space: &Space,
        cluster: &str,
        topic: &str,
        runs: &[&str],
    ) -> String {
        self.verify_but(space, cluster, topic, runs, &[])
    }

    /// The same, but for what these arguments let through.
    #[track_caller]
    pub(crate) fn verify_but(
        &self,
        space: &Space,
        cluster: &str,
        topic: &str,
        runs: &[&str],
        but: &[&str],
    ) -> String {
        let histories: Vec<String> = runs.iter().map(|run| format!("{run}.jsonl")).collect();
        let mut args = vec!["verify", "--topic", topic];
        args.extend(but);
        args.push("--history");
        args.extend(histories.iter().map(String::as_str));
        self.run(space, cluster, &args)
            .unwrap_or_else(|error| panic!("rocket-bench verify: {error}"))
    }
}
