//! Child processes that never outlive their owner.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// A program that can be started again and again on the same data.
#[derive(Debug, Clone)]
pub struct Program {
    /// Program and arguments; the process itself must be the server.
    pub command: Vec<String>,
    /// Folder that it starts in; this process's own if there is none.
    pub dir: Option<PathBuf>,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// As starting a process.
    pub fn start(&self) -> anyhow::Result<Running> {
        let (program, args) = self.command.split_first().context("no command")?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| self.log.display().to_string())?;
        let mut command = Command::new(program);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        let watchdog = watchdog(child.id())?;
        Ok(Running { child, watchdog })
    }

    /// The last lines of what it said.
    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(15);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

/// Kills `pid` when this process ends, however it ends: it waits for the end of a pipe that only this process holds.
fn watchdog(pid: u32) -> anyhow::Result<Child> {
    Command::new("sh")
        .args(["-c", &format!("cat >/dev/null; kill -9 {pid} 2>/dev/null")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("the watchdog of a child")
}

/// A started process that ends with this value.
#[derive(Debug)]
pub struct Running {
    child: Child,
    watchdog: Child,
}

impl Running {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it by SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits; after `patience` it is killed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stop(mut self, patience: Duration) -> anyhow::Result<()> {
        Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .status()?;
        let end = Instant::now() + patience;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                return self.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
    }
}
