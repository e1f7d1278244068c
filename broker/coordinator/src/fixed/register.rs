//! The side that has the object.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rocket_replication::fixed::may_write;
use rocket_replication::register::Frame;
use rocket_replication::state::State;
use rocket_replication::{DiskId, Version};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::interval;

use super::connection::{Broken, Connection};
use crate::{Cas, CasAnswer, Coordinator, ReadAnswer};

/// Connections at once. A replica has one for hints and one for a request.
const CONNECTIONS_MAX: usize = 128;
/// How long a caller may take to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often somebody who waits for hints is told that there is nothing new.
pub(super) const BEAT: Duration = Duration::from_millis(500);

/// Serves a register to replicas that cannot reach it otherwise. Clones serve the same one.
#[derive(Clone)]
pub struct Register {
    kept: Arc<dyn Coordinator>,
    room: Arc<Semaphore>,
}

impl Register {
    /// Serves `kept`.
    pub fn new(kept: Arc<dyn Coordinator>) -> Self {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { kept, room }
    }

    /// Serves the connection of a caller that has proved itself, until either side ends it. Dropped earlier, a write that was
    /// asked for may still be applied.
    pub async fn serve(&self, stream: TcpStream) {
        let Ok(_room) = self.room.try_acquire() else {
            tracing::warn!("too many connections to the group's register; one was closed");
            return;
        };
        let mut caller = Connection::new(stream);
        match self.answer(&mut caller).await {
            Ok(()) | Err(Broken::Closed) => {}
            Err(error) => {
                tracing::debug!(%error, "a connection to the group's register ended");
            }
        }
    }

    async fn answer(&self, caller: &mut Connection) -> Result<(), Broken> {
        let answer = match caller.hear(PATIENCE).await? {
            Frame::Read => match self.kept.read_current().await {
                ReadAnswer::State(state) => shown(&state),
                ReadAnswer::Gone => Frame::Gone,
                ReadAnswer::Unreachable => Frame::Unreachable,
            },
            Frame::Cas {
                writer,
                expected,
                state,
            } => Frame::Written(self.write(writer, expected, &state).await),
            Frame::Watch => return self.hint(caller).await,
            _ => return Err(Broken::Unexpected),
        };
        caller.say(&answer, PATIENCE).await
    }

    async fn write(&self, writer: DiskId, expected: Version, state: &Bytes) -> CasAnswer {
        let new: State = match serde_json::from_slice(state) {
            Ok(new) => new,
            Err(error) => {
                tracing::error!(%writer, %error, "what a replica wants to write is no state");
                return CasAnswer::Unsent;
            }
        };
        let before = match self.kept.read_current().await {
            ReadAnswer::State(before) if before.version == expected => before,
            ReadAnswer::State(_) | ReadAnswer::Gone => return CasAnswer::Conflict,
            ReadAnswer::Unreachable => return CasAnswer::Unsent,
        };
        // What is read here is what is replaced: another version would be a conflict.
        if !may_write(&before, &new, writer) {
            tracing::error!(%writer, version = %expected, "a replica wants to write what is not its own");
            return CasAnswer::Unsent;
        }
        let new = Arc::new(new);
        self.kept.cas(Cas { expected, new }).await
    }

    async fn hint(&self, caller: &mut Connection) -> Result<(), Broken> {
        let mut hints = self.kept.watch();
        hints.mark_changed();
        let mut beat = interval(BEAT);
        loop {
            let next = tokio::select! {
                changed = hints.changed() => match changed {
                    Ok(()) => {
                        let hint = hints.borrow_and_update().clone();
                        hint.map_or(Frame::Beat, |state| shown(&state))
                    }
                    Err(_) => return Ok(()),
                },
                _ = beat.tick() => Frame::Beat,
                () = caller.closed() => return Ok(()),
            };
            caller.say(&next, PATIENCE).await?;
        }
    }
}

/// A state as it is sent; one that cannot be is as good as out of reach.
fn shown(state: &State) -> Frame {
    match serde_json::to_vec(state) {
        Ok(text) => Frame::State(text.into()),
        Err(error) => {
            tracing::error!(%error, "the group's state cannot be sent");
            Frame::Unreachable
        }
    }
}
