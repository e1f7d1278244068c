//! Child processes that never outlive their owner.
//!
//! A server that several tests share sits in a `static`, and statics are not dropped. Each child therefore has a watchdog: a shell
//! that waits for the end of a pipe whose other end only this process holds, and then kills that one pid. A dropped `Process`
//! kills its child itself.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long the folders of an ended run stay.
const KEPT: Duration = Duration::from_hours(1);

/// A running child whose output goes to a log file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    watchdog: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with standard output and error in `log`, and returns once `ready` holds for a line of its standard output.
    ///
    /// # Errors
    /// When it can't be started, or ends or says nothing fitting within `patience`; the text then carries the end of the log.
    pub fn start(
        name: &str,
        command: &mut Command,
        log: &Path,
        patience: Duration,
        ready: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<Self> {
        let mut out = File::create(log).with_context(|| format!("log {}", log.display()))?;
        let err = out.try_clone()?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(err)
            .spawn()
            .with_context(|| format!("start of {name}"))?;
        let watchdog = watchdog(child.id())?;
        let pipe = child.stdout.take().context("standard output of a child")?;
        let (line_seen, seen) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = writeln!(out, "{line}");
                if ready(&line) {
                    let _ = line_seen.send(());
                }
            }
        });
        let process = Self {
            name: name.to_owned(),
            child,
            watchdog,
            log: log.to_owned(),
        };
        if seen.recv_timeout(patience).is_err() {
            bail!(
                "{name} did not become ready within {patience:?}:\n{}",
                process.log_end()
            );
        }
        Ok(process)
    }

    /// The pid of the child.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of what the child wrote.
    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|l| !l.contains(" |-")).collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(60))
            .fold(String::new(), |all, l| all + l + "\n")
    }

    /// Asks the child to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// When it is still there after `patience`.
    pub fn stop(mut self, patience: Duration) -> Result<ExitStatus> {
        Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .status()?;
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!(
                    "{} did not stop within {patience:?}:\n{}",
                    self.name,
                    self.log_end()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the child at once (SIGKILL) and waits for its end.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn watchdog(pid: u32) -> Result<Child> {
    // In a process group of its own: an interrupt from the keyboard must not end it before its charge.
    Command::new("sh")
        .args(["-c", &format!("cat >/dev/null; kill -9 {pid} 2>/dev/null")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("watchdog")
}

/// A fresh folder for one server or driver. It stays for whoever looks into a failure; those of old ended runs are removed here.
///
/// # Errors
/// When the folder can't be made.
pub fn scratch(name: &str) -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let root = std::env::temp_dir().join("rocket-conformance");
    for run in std::fs::read_dir(&root).into_iter().flatten().flatten() {
        let ended = !Path::new("/proc").join(run.file_name()).exists();
        let age = run
            .metadata()
            .and_then(|m| m.modified())
            .ok()
            .and_then(|m| m.elapsed().ok());
        if ended && age.is_some_and(|a| a > KEPT) {
            let _ = std::fs::remove_dir_all(run.path());
        }
    }
    let dir = root
        .join(std::process::id().to_string())
        .join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&dir).with_context(|| format!("folder {}", dir.display()))?;
    Ok(dir)
}

/// A port p of 127.0.0.1 with p-2 and p+1 free too: a broker also listens there (VIP and replication).
///
/// Taken below the range of outgoing connections, so that nobody gets it by chance before the server does.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + u16::try_from(std::process::id() % 1000)? * 10;
    for _ in 0..1000 {
        let port = 20_000 + (start - 20_000 + NEXT.fetch_add(10, Ordering::Relaxed)) % 12_000;
        if [port - 2, port, port + 1]
            .iter()
            .all(|p| TcpListener::bind(("127.0.0.1", *p)).is_ok())
        {
            return Ok(port);
        }
    }
    bail!("no free port between 20000 and 32000")
}
