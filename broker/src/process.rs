//! Signals: the first SIGTERM or SIGINT asks for an orderly stop, the second ends the process at once. SIGXFSZ is taken over
//! too and does nothing: a write beyond the largest size of a file (`ulimit -f`) then fails with an error that the store can
//! name, and does not kill the process.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals, taken over from the moment this exists.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    _file_too_large: Signal,
}

impl Signals {
    /// Takes them over. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the system has no signal handlers left.
    pub fn take() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _file_too_large: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// Waits for the next one and returns its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
