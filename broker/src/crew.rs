//! Tasks that are stopped together, and tasks that must not end unseen.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::task::JoinError;
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

/// Told of a task that panicked. Nobody would see it otherwise: its work would not be done any more, that is all.
#[derive(Clone)]
pub struct Alarm(Arc<dyn Fn(String) + Send + Sync>);

impl Alarm {
    /// `tell` gets the name of the task and what it said.
    pub fn new(tell: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Runs the task called `name`, and ends when it panics.
    pub fn watch<F: Future<Output = ()> + Send>(
        &self,
        name: &'static str,
        task: F,
    ) -> impl Future<Output = ()> + Send + use<F> {
        let alarm = self.clone();
        async move {
            let mut task = pin!(task);
            let ended = std::future::poll_fn(|context| {
                let poll = AssertUnwindSafe(|| task.as_mut().poll(context));
                match catch_unwind(poll) {
                    Ok(poll) => poll.map(Ok),
                    // Not polled any more.
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            });
            if let Err(panic) = ended.await {
                alarm.raise(name, &*panic);
            }
        }
    }

    /// Says that what is called `name` panicked with these words.
    pub(crate) fn raise(&self, name: &str, panic: &(dyn Any + Send)) {
        let said = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no words");
        tracing::error!(task = name, said, "a task panicked");
        (self.0)(format!("{name}: {said}"));
    }
}

/// What is said of it is all.
impl Default for Alarm {
    fn default() -> Self {
        Self::new(|_| ())
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").finish_non_exhaustive()
    }
}

/// What a thread of the task came to; `None` when the runtime ended before it began. A panic of the thread is the task's.
pub(crate) fn joined<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended {
        Ok(value) => Some(value),
        Err(error) => {
            if let Ok(panic) = error.try_into_panic() {
                std::panic::resume_unwind(panic);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_told_of_and_one_that_ends_is_not() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let alarm = {
            let told = Arc::clone(&told);
            Alarm::new(move |what| told.lock().push(what))
        };
        let crew = Crew::default();
        let spawn = |name, what: Option<&'static str>| {
            let task = alarm.watch(name, async move {
                tokio::task::yield_now().await;
                let thread = move || assert!(what.is_none(), "{}", what.unwrap_or_default());
                joined(tokio::task::spawn_blocking(thread).await).unwrap();
            });
            crew.tasks.spawn(task);
        };
        spawn("good", None);
        spawn("bad", Some("no more"));
        crew.dismiss().await;
        assert_eq!(*told.lock(), ["bad: no more"]);
    }
}
