//! The side that asks.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use rocket_link::{Secret, dial_register};
use rocket_replication::DiskId;
use rocket_replication::register::{Frame, encode};
use rocket_replication::state::State;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::connection::{Broken, Connection};
use super::register::BEAT;
use crate::{Cas, CasAnswer, Coordinator, Hints, ReadAnswer};

/// How long connecting and proving may take, each.
const DIALING: Duration = Duration::from_secs(1);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before the register is called again for hints.
const AGAIN: Duration = Duration::from_millis(200);

/// The register of a fixed master, from elsewhere. Clones share the watch.
#[derive(Clone)]
pub struct FixedCoordinator {
    inner: Arc<Inner>,
    hints: Hints,
    _watching: Arc<DropGuard>,
}

struct Inner {
    address: String,
    secret: Secret,
    writer: Arc<OnceLock<DiskId>>,
}

impl fmt::Debug for FixedCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FixedCoordinator")
            .field(&self.inner.address)
            .finish()
    }
}

/// Why a request has no answer.
enum Failed {
    /// It did not begin to leave.
    Unsent(String),
    /// It may have arrived.
    Unanswered(Broken),
}

impl FixedCoordinator {
    /// The register at `address` (`host:port`, looked up for each request). Writes go out when `writer` says whose data directory
    /// this replica has, not before. The task that watches belongs to `tasks` and ends with the last clone.
    pub fn new(
        address: String,
        secret: Secret,
        writer: Arc<OnceLock<DiskId>>,
        tasks: &TaskTracker,
    ) -> Self {
        let inner = Arc::new(Inner {
            address,
            secret,
            writer,
        });
        let (sender, hints) = watch::channel(None);
        let stop = CancellationToken::new();
        let looking = look(Arc::clone(&inner), sender);
        tasks.spawn(stop.clone().run_until_cancelled_owned(looking));
        Self {
            inner,
            hints,
            _watching: Arc::new(stop.drop_guard()),
        }
    }
}

impl Inner {
    async fn dial(&self) -> Result<Connection, String> {
        let dialed = dial_register(&self.address, &self.secret, DIALING).await;
        dialed
            .map(Connection::new)
            .map_err(|error| error.to_string())
    }

    async fn ask(&self, request: &Frame) -> Result<Frame, Failed> {
        // Refused before anything is opened for it.
        encode(request).map_err(|error| Failed::Unsent(error.to_string()))?;
        let mut register = self.dial().await.map_err(Failed::Unsent)?;
        let asking = async {
            register.say(request, PATIENCE).await?;
            register.hear(PATIENCE).await
        };
        asking.await.map_err(Failed::Unanswered)
    }

    async fn read(&self) -> ReadAnswer {
        let address = &self.address;
        match self.ask(&Frame::Read).await {
            Ok(Frame::State(text)) => match serde_json::from_slice::<State>(&text) {
                Ok(state) => return ReadAnswer::State(Arc::new(state)),
                Err(error) => {
                    tracing::error!(address, %error, "what the fixed master shows is no state");
                }
            },
            Ok(Frame::Gone) => return ReadAnswer::Gone,
            Ok(Frame::Unreachable) => {
                tracing::warn!(address, "the fixed master cannot read its group's state");
            }
            Ok(_) => tracing::error!(address, "the fixed master gave no answer to a read"),
            Err(failed) => {
                tracing::debug!(address, %failed, "the fixed master's register cannot be read");
            }
        }
        ReadAnswer::Unreachable
    }

    async fn write(&self, cas: Cas) -> CasAnswer {
        let address = &self.address;
        let Some(writer) = self.writer.get().copied() else {
            return CasAnswer::Unsent;
        };
        let state = match serde_json::to_vec(&*cas.new) {
            Ok(text) => text.into(),
            Err(error) => {
                tracing::error!(%error, "a state that cannot be sent was refused");
                return CasAnswer::Unsent;
            }
        };
        let request = Frame::Cas {
            writer,
            expected: cas.expected,
            state,
        };
        match self.ask(&request).await {
            Ok(Frame::Written(answer)) => answer,
            Ok(_) => {
                tracing::error!(address, "the fixed master gave no answer to a write");
                CasAnswer::Unknown
            }
            Err(failed) => {
                tracing::debug!(address, %failed, "the fixed master's register was not written");
                match failed {
                    Failed::Unsent(_) => CasAnswer::Unsent,
                    Failed::Unanswered(_) => CasAnswer::Unknown,
                }
            }
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(error) => f.write_str(error),
            Self::Unanswered(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl Coordinator for FixedCoordinator {
    fn read_current(&self) -> BoxFuture<'_, ReadAnswer> {
        Box::pin(self.inner.read())
    }

    fn cas(&self, cas: Cas) -> BoxFuture<'_, CasAnswer> {
        Box::pin(self.inner.write(cas))
    }

    fn watch(&self) -> Hints {
        self.hints.clone()
    }
}

/// Tells of every state that the register shows, until nobody listens.
async fn look(register: Arc<Inner>, hints: watch::Sender<Option<Arc<State>>>) {
    while !hints.is_closed() {
        if let Err(error) = listen(&register, &hints).await {
            tracing::debug!(
                address = register.address,
                error,
                "no hints of the fixed master"
            );
        }
        sleep(AGAIN).await;
    }
}

async fn listen(register: &Inner, hints: &watch::Sender<Option<Arc<State>>>) -> Result<(), String> {
    let mut connection = register.dial().await?;
    let broken = |error: Broken| error.to_string();
    connection
        .say(&Frame::Watch, PATIENCE)
        .await
        .map_err(broken)?;
    loop {
        // Some beats may come late.
        match connection.hear(BEAT * 4).await.map_err(broken)? {
            Frame::State(text) => {
                let state: State =
                    serde_json::from_slice(&text).map_err(|error| error.to_string())?;
                hints.send_replace(Some(Arc::new(state)));
            }
            Frame::Beat => {}
            _ => return Err(Broken::Unexpected.to_string()),
        }
    }
}
