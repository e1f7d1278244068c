//! What the process has of the system: limits and signals. The first SIGTERM or SIGINT asks for an orderly stop, the second ends the process at once. SIGXFSZ is taken over
//! too and does nothing: a write beyond the largest size of a file (`ulimit -f`) then fails with an error that the store can
//! name, and does not kill the process.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Raises the number of files that may be open to what the system allows this process. Log files, queues and connections
/// all count, and the usual limit is there for programs that look at all of them with `select`.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(?current, ?maximum, %error, "the limit of open files stays as it is");
    }
}

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
