//! What a driver said: one JSON object a line, each with `scenario` and `fact`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// All facts of one run of a driver, in the order in which they were said.
#[derive(Debug, Default)]
pub struct Facts {
    lines: Vec<Value>,
    complaint: String,
}

impl Facts {
    /// Runs a driver to its end, feeding it `input`; other lines than facts are kept as its complaint.
    ///
    /// # Errors
    /// When it can't be started or has not ended after `patience` (it is killed then).
    pub fn of(command: &mut Command, input: &str, patience: Duration) -> Result<Self> {
        Self::watched(command, input, patience, |_| {})
    }

    /// The same, with a look at each fact as soon as it is said.
    ///
    /// # Errors
    /// As [`Facts::of`].
    pub fn watched(
        command: &mut Command,
        input: &str,
        patience: Duration,
        mut look: impl FnMut(&Value),
    ) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let (said, lines) = mpsc::channel();
        let outputs: [Option<Box<dyn std::io::Read + Send>>; 2] = [
            child.stdout.take().map(|o| Box::new(o) as _),
            child.stderr.take().map(|o| Box::new(o) as _),
        ];
        for output in outputs.into_iter().flatten() {
            let said = said.clone();
            std::thread::spawn(move || {
                BufReader::new(output)
                    .lines()
                    .map_while(Result::ok)
                    .all(|line| said.send(line).is_ok())
            });
        }
        drop(said);
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let mut facts = Self::default();
        let end = Instant::now() + patience;
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => facts.add(&line, &mut look),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    child.kill()?;
                    child.wait()?;
                    bail!(
                        "driver still running after {patience:?}: {command:?}\n{}",
                        facts.complaint
                    );
                }
            }
        }
        child.wait()?;
        Ok(facts)
    }

    fn add(&mut self, line: &str, look: &mut impl FnMut(&Value)) {
        match serde_json::from_str::<Value>(line) {
            Ok(fact) if fact.get("fact").is_some() => {
                look(&fact);
                self.lines.push(fact);
            }
            _ if line.contains(" |-") => {} // what logback says of itself
            _ => {
                self.complaint.push_str(line);
                self.complaint.push('\n');
            }
        }
    }

    /// The facts of one scenario.
    ///
    /// # Errors
    /// When the scenario failed in the driver, or never came to its end.
    pub fn scenario(&self, name: &str) -> Result<Vec<&Value>> {
        let facts: Vec<&Value> = self
            .lines
            .iter()
            .filter(|f| f["scenario"] == name)
            .collect();
        if let Some(failed) = facts.iter().find(|f| f["fact"] == "failed") {
            bail!(
                "scenario {name} failed: {}\nits last facts: {}",
                failed["error"].as_str().unwrap_or("?"),
                render(&facts)
            );
        }
        if !facts.iter().any(|f| f["fact"] == "end") {
            bail!(
                "scenario {name} has no end\nits last facts: {}\nthe driver also said: {}",
                render(&facts),
                self.complaint
            );
        }
        Ok(facts)
    }

    /// Every fact, whatever its scenario.
    pub fn all(&self) -> &[Value] {
        &self.lines
    }

    /// What the driver said that was no fact.
    pub fn complaint(&self) -> &str {
        &self.complaint
    }
}

/// The last facts, one a line: what happened just before something went wrong.
fn render(facts: &[&Value]) -> String {
    facts
        .iter()
        .skip(facts.len().saturating_sub(12))
        .fold(String::new(), |all, f| format!("{all}\n  {f}"))
}
