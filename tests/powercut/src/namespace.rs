//! A mount namespace of our own, so that nothing stays mounted whatever becomes of this process.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::Context;

/// Tells the second start that it is one.
const INSIDE: &str = "ROCKET_POWERCUT_INSIDE";

/// Why power cuts cannot be shown here; `None` when they can.
pub fn obstacle() -> Option<String> {
    if let Err(error) = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
    {
        return Some(format!("/dev/fuse cannot be opened ({error})"));
    }
    let unshared = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "true"])
        .stderr(Stdio::null())
        .status();
    match unshared {
        Ok(status) if status.success() => {}
        Ok(_) => return Some("no right to a mount namespace; it needs root".to_owned()),
        Err(error) => return Some(format!("unshare cannot be run ({error})")),
    }
    match Command::new("setpriv").args(["--version"]).output() {
        Ok(_) => None,
        Err(error) => Some(format!("setpriv cannot be run ({error})")),
    }
}

/// Goes on inside a mount namespace: starts this program again there, in the place of this process, unless it is there.
///
/// # Errors
/// When it cannot be started.
pub fn enter() -> anyhow::Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let own = std::env::current_exe().context("this program's own path")?;
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("unshare")
}
