//! Logs: `tracing` events on standard error, text for people or JSON for collectors.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line, coloured on a terminal.
    Text,
    /// One JSON object.
    Json,
}

/// Starts logging for the whole process; only the first call has an effect.
///
/// # Errors
/// When `level` is not a filter such as `info` or `info,rocket_store=debug`.
pub fn start(format: LogFormat, level: &str) -> Result<(), String> {
    use std::io::IsTerminal as _;
    let filter =
        EnvFilter::try_new(level).map_err(|error| format!("--log-level {level}: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A line that cannot be written is lost: to say so on the same stream would panic, and end the process.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // A second call (tests that start two processes' worth in one) keeps the first subscriber.
    let _ = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .finish()
            .try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .finish()
            .try_init(),
    };
    Ok(())
}
