//! Acknowledged load that goes on over a fault: a program that writes its history while it runs, and ends in order when it is told to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::stage::CLUSTER;
use crate::kubernetes::bench::Bench;
use crate::kubernetes::space::{PATIENCE, Space};

/// What RocketMQ's clients wait for an answer by default, in seconds.
const DEFAULT_TIMEOUT: &str = "3";

/// A load that runs. It ends with its test, however that ends.
pub(super) struct Load {
    child: Child,
    run: String,
    /// How many messages are acknowledged; told some five times a second.
    told: mpsc::Receiver<u64>,
}

impl Load {
    /// rocket-bench begins to send to a topic, from behind the cable of `node` if one is named. `run` names its history.
    pub(super) fn start(
        bench: &Bench,
        space: &Space,
        names: (&str, &str),
        node: Option<&str>,
    ) -> Self {
        // Three brokers, Kubernetes and this share a small machine; what a round waits for comes sooner when it is not full.
        Self::sending(bench, space, names, node, DEFAULT_TIMEOUT, "0.002")
    }

    /// As [`Load::start`], but few messages from a client that does not wait long: when they are acknowledged tells when the group takes
    /// sends, where a client of the other kind still waits for what a lost master owes it.
    pub(super) fn impatient(bench: &Bench, space: &Space, names: (&str, &str)) -> Self {
        Self::sending(bench, space, names, None, "0.2", "0.02")
    }

    fn sending(
        bench: &Bench,
        space: &Space,
        (topic, run): (&str, &str),
        node: Option<&str>,
        timeout: &str,
        rest: &str,
    ) -> Self {
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
            "--seconds",
            "3600",
            "--connections",
            "2",
            "--in-flight",
            "4",
            "--body-bytes",
            "200",
            "--timeout",
            timeout,
            "--rest",
            rest,
        ];
        Self::of(bench.command(space, CLUSTER, node, &args), run)
    }

    /// A program that tells of `run` as rocket-bench does: on standard error how many messages are acknowledged, and after SIGTERM
    /// on standard output what came of all.
    pub(super) fn of(mut command: Command, run: &str) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (teller, told) = mpsc::channel();
        let name = run.to_owned();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let count = line.strip_suffix(" acknowledged");
                if let Some(count) = count.and_then(|count| count.parse().ok()) {
                    let _ = teller.send(count);
                } else {
                    let _ = writeln!(std::io::stderr(), "{name}: {line}");
                }
            }
        });
        Self {
            child,
            run: run.to_owned(),
            told,
        }
    }

    /// Waits until more is acknowledged than was when this was called, by so much that no answer under way then can be all of it.
    #[track_caller]
    pub(super) fn goes_on(&self) {
        const MORE: u64 = 100;
        while self.told.try_recv().is_ok() {}
        let end = Instant::now() + PATIENCE;
        let next = || {
            let left = end.saturating_duration_since(Instant::now());
            self.told.recv_timeout(left)
        };
        let mut first = None;
        loop {
            match next() {
                Ok(count) if count >= *first.get_or_insert(count) + MORE => return,
                Ok(_) => {}
                Err(error) => panic!(
                    "nothing is acknowledged any more in {} ({error}; {first:?} at first)",
                    self.run
                ),
            }
        }
    }

    /// Ends it in order, and returns what it sums up.
    pub(super) fn stop(mut self) -> Value {
        let pid = self.child.id().to_string();
        let is_told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(is_told.unwrap().success(), "{} had ended before", self.run);
        let mut printed = String::new();
        let mut output = self.child.stdout.take().unwrap();
        output.read_to_string(&mut printed).unwrap();
        assert!(self.child.wait().unwrap().success(), "{printed}");
        // What logback says of its own set-up is no part of it.
        let lines = printed.lines().filter(|line| !line.contains(" |-"));
        let summary: String = lines.collect();
        serde_json::from_str(&summary).unwrap_or_else(|error| panic!("{error} in {printed}"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// When the messages of a run were acknowledged, in microseconds since 1970, in order.
pub(super) fn acknowledged_at(bench: &Bench, run: &str) -> Vec<u64> {
    let history = std::fs::read_to_string(bench.history(run)).unwrap();
    let events = history
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut times: Vec<u64> = events
        .filter(|event| event["event"] == "acked")
        .filter_map(|event| event["at_us"].as_u64())
        .collect();
    times.sort_unstable();
    times
}

/// The longest time without any acknowledgement: from the last one before it to the first one after it.
pub(super) fn longest_pause(times: &[u64]) -> (u64, u64) {
    let pauses = times.windows(2).map(|pair| (pair[0], pair[1]));
    pauses
        .max_by_key(|(from, to)| to - from)
        .unwrap_or_default()
}

/// Microseconds as seconds, for people.
pub(super) fn seconds((from, to): (u64, u64)) -> f64 {
    Duration::from_micros(to - from).as_secs_f64()
}
