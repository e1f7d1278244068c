//! A connection to a server.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rocket_protocol::Command;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ClientConfig;
use crate::connection::{CallError, Connection, Inner, SendError, Shared};
use crate::driver;
use crate::processor::Processor;
use crate::stats::Stats;

/// Why there is no connection. Another address may have one.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The name is not known, nobody listens, …
    #[error("cannot connect to {address}")]
    Io {
        /// What was to be reached.
        address: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No connection within the time.
    #[error("cannot connect to {address} within {patience:?}")]
    Timeout {
        /// What was to be reached.
        address: String,
        /// The time.
        patience: Duration,
    },
}

/// A connection to a server; dropping it closes the connection.
pub struct Client {
    connection: Connection,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl Client {
    /// Connects to `address`, `host:port`. `processor` serves what the server asks ([`crate::NoRequests`]: nothing).
    ///
    /// # Errors
    /// When there is no connection within the configured time.
    pub async fn connect(
        address: &str,
        config: ClientConfig,
        processor: Arc<dyn Processor>,
    ) -> Result<Self, ConnectError> {
        let failed = |source: io::Error| ConnectError::Io {
            address: address.to_owned(),
            source,
        };
        let patience = config.connect_timeout;
        let connected = timeout(patience, TcpStream::connect(address)).await;
        let connected = connected.map_err(|_| ConnectError::Timeout {
            address: address.to_owned(),
            patience,
        })?;
        let stream = connected.map_err(failed)?;
        driver::prepare(&stream).map_err(failed)?;
        let peer = stream.peer_addr().map_err(failed)?;
        let local = stream.local_addr().map_err(failed)?;
        let inner = Arc::new(Inner::new(
            peer,
            local,
            config.limits,
            Arc::new(Shared::default()),
        ));
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(driver::run(
            stream,
            Arc::clone(&inner),
            processor,
            cancel.clone(),
        ));
        tasks.close();
        Ok(Self {
            connection: Connection(inner),
            tasks,
            cancel,
        })
    }

    /// Sends a request and waits for its answer, at most `patience`.
    ///
    /// # Errors
    /// When there is no answer; a refusing answer is an answer.
    pub async fn call(&self, request: Command, patience: Duration) -> Result<Command, CallError> {
        self.connection.call(request, patience).await
    }

    /// Sends a request that wants no answer.
    ///
    /// # Errors
    /// When the connection is closed or the peer does not read.
    pub fn send_oneway(&self, request: Command) -> Result<(), SendError> {
        self.connection.send_oneway(request)
    }

    /// Whether something can still be sent.
    pub fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    /// The connection itself.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The client's counters.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.connection.0.shared.stats)
    }

    /// Writes what waits, answers what the server has asked, closes, and waits until that is done.
    pub async fn close(self) {
        self.cancel.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.cancel.is_cancelled() {
            self.connection.close();
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.connection).finish()
    }
}
