//! Connections to the register of a fixed master (docs/replication.md §14, static), on its port for replication links. They are
//! opened as links are; what is said on them is `rocket_coordinator::fixed`'s business.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::opening::{self, OpeningError};
use crate::secret::{Secret, Side};

/// No connection to a register: nobody is there, or it is not one that has the secret.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DialError(#[from] OpeningError);

/// Opens a connection to the register at `address` (`host:port`, looked up now). Connecting and proving may take `patience` each.
///
/// # Errors
/// [`DialError`]. Nothing but the opening was said then.
pub async fn dial_register(
    address: &str,
    secret: &Secret,
    patience: Duration,
) -> Result<TcpStream, DialError> {
    let connecting = timeout(patience, TcpStream::connect(address)).await;
    let stream = connecting.map_err(|_| OpeningError::Slow)?;
    let stream = stream.map_err(OpeningError::Io)?;
    let (stream, _) = opening::within(patience, stream, Side::Asker, secret).await?;
    Ok(stream)
}
