//! The program under test: our broker with its name server in one process, as `rocket-broker standalone` runs it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{Process, free_port, scratch};

const START_PATIENCE: Duration = Duration::from_secs(30);
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A running `rocket-broker standalone` on free ports of 127.0.0.1.
#[derive(Debug)]
pub struct Standalone {
    process: Process,
    /// Where clients ask for routes.
    pub namesrv: SocketAddr,
    /// The broker's main port.
    pub broker: SocketAddr,
    /// Prometheus metrics.
    pub metrics: SocketAddr,
    /// Its store.
    pub data: PathBuf,
}

impl Standalone {
    /// Starts it with an empty store in a temporary folder.
    pub fn start() -> Result<Self> {
        Self::open(&scratch("standalone-data")?, &[])
    }

    /// Starts it on the store in `data`, with settings on top of its defaults, and waits for the line `ready`.
    pub fn open(data: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let logs = scratch("standalone")?;
        let (namesrv, broker, metrics) = (free_port()?, free_port()?, free_port()?);
        let mut command = Command::new(broker_bin()?);
        command
            .args(["standalone", "--bind", "127.0.0.1", "--data"])
            .arg(data);
        for (flag, port) in [
            ("--namesrv-port", namesrv),
            ("--broker-port", broker),
            ("--metrics-port", metrics),
        ] {
            command.args([flag, &port.to_string()]);
        }
        for (key, value) in settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        let process = Process::start(
            "rocket-broker standalone",
            &mut command,
            &logs.join("out.log"),
            START_PATIENCE,
            |l| l.trim() == "ready",
        )?;
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Self {
            process,
            namesrv: at(namesrv),
            broker: at(broker),
            metrics: at(metrics),
            data: data.to_owned(),
        })
    }

    /// Its pid, for who wants to kill it in a particular way.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The end of what it printed.
    pub fn log_end(&self) -> String {
        self.process.log_end()
    }

    /// Ends it by SIGKILL; its store stays.
    pub fn kill(self) {
        self.process.kill();
    }

    /// Ends it in order (SIGTERM); its store stays.
    ///
    /// # Errors
    /// When it does not end in time or with another status than 0.
    pub fn stop(self) -> Result<()> {
        let status = self.process.stop(STOP_PATIENCE)?;
        if !status.success() {
            bail!("rocket-broker ended with {status}");
        }
        Ok(())
    }
}

/// The built program: `ROCKET_BROKER_BIN`, else beside this test's own profile folder.
///
/// # Errors
/// When there is none, with the command that builds it.
pub fn broker_bin() -> Result<PathBuf> {
    if let Some(bin) = std::env::var_os("ROCKET_BROKER_BIN") {
        return Ok(bin.into());
    }
    let own = std::env::current_exe()?; // <target dir>/<triple>/<profile>/deps/<test>, or without deps for a program
    let profile = own
        .ancestors()
        .find(|d| d.ends_with("debug") || d.ends_with("release"))
        .context("profile folder")?;
    let bin = profile.join("rocket-broker");
    if !bin.exists() {
        bail!(
            "{} does not exist: build it with `cargo build -p rocket-broker`, or set ROCKET_BROKER_BIN",
            bin.display()
        );
    }
    Ok(bin)
}
