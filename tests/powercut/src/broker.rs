//! The process under test: the built `rocket-broker standalone`, on a loopback address of its own.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

const STEP: Duration = Duration::from_millis(2);

/// How to start it.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program.
    pub bin: PathBuf,
    /// Settings on top of its defaults.
    pub settings: Vec<(&'static str, String)>,
    /// Environment on top of ours.
    pub environment: Vec<(String, String)>,
    /// Its store.
    pub data: PathBuf,
    /// Where its output is added to.
    pub log: PathBuf,
}

/// A process that was started. It ends with this value, or with the thread that started it.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    ready: Receiver<()>,
    log: PathBuf,
    log_from: u64,
}

/// What became of a start.
#[derive(Debug, PartialEq, Eq)]
pub enum Start {
    /// It serves.
    Ready,
    /// Not yet.
    Pending,
    /// It ended.
    Ended,
}

/// The address of brokers that this process starts. All of 127.0.0.0/8 is the loopback, so no two runs meet.
pub fn address() -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + (high & 63), low, 1)
}

/// Where clients ask for routes.
pub fn namesrv() -> String {
    format!("{}:9876", address())
}

impl Program {
    /// Starts it; see [`Broker::wait_ready`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self) -> anyhow::Result<Broker> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| self.log.display().to_string())?;
        let log_from = log.metadata()?.len();
        // It dies with the thread that starts it, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.bin)
            .args(["standalone", "--bind", &address().to_string(), "--data"])
            .arg(&self.data)
            .args(["--log-format", "text"]);
        for (key, value) in &self.settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        let mut child = command
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("setpriv rocket-broker")?;
        let pipe = child.stdout.take().context("standard output of a child")?;
        let (seen, ready) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if line.trim() == "ready" {
                    let _ = seen.send(());
                }
            }
        });
        Ok(Broker {
            child,
            ready,
            log: self.log.clone(),
            log_from,
        })
    }
}

impl Broker {
    /// Waits for so long until it serves or ends.
    pub fn wait_ready(&mut self, patience: Duration) -> Start {
        match self.ready.recv_timeout(patience) {
            Ok(()) => Start::Ready,
            Err(RecvTimeoutError::Timeout) => Start::Pending,
            Err(RecvTimeoutError::Disconnected) => Start::Ended,
        }
    }

    /// Sends SIGKILL and does not wait.
    ///
    /// # Errors
    /// The system's.
    pub fn send_kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("kill")
    }

    /// Asks it to end in order.
    ///
    /// # Errors
    /// The system's.
    pub fn send_terminate(&self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok();
        let pid = pid
            .and_then(rustix::process::Pid::from_raw)
            .context("pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("terminate")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It is still there after `patience`.
    pub fn wait(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!(
                    "the broker did not end within {patience:?}:\n{}",
                    self.log()
                );
            }
            std::thread::sleep(STEP);
        }
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// The system's.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// What it has logged, without colours.
    pub fn log(&self) -> String {
        read_from(&self.log, self.log_from).unwrap_or_default()
    }
}

fn read_from(path: &Path, from: u64) -> std::io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
