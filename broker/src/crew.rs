//! Tasks that are stopped together.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks and the token that asks them to end.
#[derive(Debug, Clone, Default)]
pub struct Crew {
    /// Owns the tasks.
    pub tasks: TaskTracker,
    /// Asks them to end.
    pub stop: CancellationToken,
}

impl Crew {
    /// Asks all tasks to end and waits until they have.
    pub async fn dismiss(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
