//! Frames over one connection.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use rocket_replication::frame::FrameError;
use rocket_replication::register::{Frame, decode, encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Why there is no next frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a frame breaks the rules: {0}")]
    Frame(#[from] FrameError),
    #[error("the other side closed it")]
    Closed,
    #[error("the other side says nothing")]
    Silent,
    #[error("what the other side says does not belong there")]
    Unexpected,
}

/// See the module. Memory grows with the bytes that come, up to the bound of one frame.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    heard: BytesMut,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        let heard = BytesMut::new();
        Self { stream, heard }
    }

    /// Writes a frame, which may take `patience`.
    pub(super) async fn say(&mut self, frame: &Frame, patience: Duration) -> Result<(), Broken> {
        let bytes = encode(frame)?;
        let written = timeout(patience, self.stream.write_all(&bytes)).await;
        Ok(written.map_err(|_| Broken::Silent)??)
    }

    /// The next frame, within `patience`.
    pub(super) async fn hear(&mut self, patience: Duration) -> Result<Frame, Broken> {
        let hearing = async {
            loop {
                if let Some(frame) = decode(&mut self.heard)? {
                    return Ok(frame);
                }
                if self.stream.read_buf(&mut self.heard).await? == 0 {
                    return Err(Broken::Closed);
                }
            }
        };
        timeout(patience, hearing)
            .await
            .unwrap_or(Err(Broken::Silent))
    }

    /// Waits until the other side has closed it, or said what nobody asked for.
    pub(super) async fn closed(&mut self) {
        // Whatever came: it is over.
        let _ = self.stream.read_buf(&mut self.heard).await;
    }
}
