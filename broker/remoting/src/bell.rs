//! How others wake the task of a connection, and how they avoid it: a task that is at work, or that was woken already, looks
//! for what is new before it sleeps, so of many answers only the first costs a wake-up.
//!
//! The order that makes this safe: whoever has news makes them visible first and rings then; the task says that it sleeps
//! first and looks for news then. One of the two sees the other.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::task::Waker;

use parking_lot::Mutex;

use crate::connection::Inner;

/// The task is at work, or was woken and will be.
const AWAKE: u8 = 0;
/// The socket takes no more; new answers are no reason to wake.
const BLOCKED: u8 = 1;
/// Nothing waits to be written.
const IDLE: u8 = 2;

#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// What a task that goes to sleep wants to be woken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// For everything but new answers.
    Blocked,
    /// For everything.
    Idle,
}

impl Bell {
    /// The task is at work.
    pub(crate) fn awake(&self) {
        self.state.store(AWAKE, SeqCst);
    }

    /// The task sleeps, unless it finds news after this.
    pub(crate) fn sleep(&self, waker: &Waker, sleep: Sleep) {
        {
            let mut known = self.waker.lock();
            if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
                *known = Some(waker.clone());
            }
        }
        let state = match sleep {
            Sleep::Blocked => BLOCKED,
            Sleep::Idle => IDLE,
        };
        self.state.store(state, SeqCst);
    }

    /// Something happened that the task must look at.
    pub(crate) fn ring(&self) {
        if self.state.swap(AWAKE, SeqCst) != AWAKE {
            self.wake();
        }
    }

    /// Whether a new answer must wake the task; the caller then does so.
    fn claim(&self) -> bool {
        self.state.load(SeqCst) == IDLE
            && self
                .state
                .compare_exchange(IDLE, AWAKE, SeqCst, SeqCst)
                .is_ok()
    }

    fn wake(&self) {
        // Waking runs code of the runtime, which is not to be done under a lock.
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// There is a new answer for `connection`: wakes it, now or when this thread's [`HeldWakes`] end.
pub(crate) fn announce(connection: &Arc<Inner>) {
    if !connection.bell.claim() {
        return;
    }
    let is_held = HELD.with_borrow_mut(|held| {
        let is_held = held.depth > 0;
        if is_held {
            held.connections.push(Arc::clone(connection));
        }
        is_held
    });
    if !is_held {
        connection.bell.wake();
    }
}

#[derive(Default)]
struct Held {
    depth: usize,
    connections: Vec<Arc<Inner>>,
    /// An empty list that is kept for its room.
    spare: Vec<Arc<Inner>>,
}

thread_local! {
    static HELD: RefCell<Held> = RefCell::default();
}

/// While this lives, answers that this thread gives wake nobody; each connection that has some is woken once when it ends. For
/// whoever answers many requests at a time.
#[derive(Debug)]
pub struct HeldWakes {
    _of_one_thread: PhantomData<*const ()>,
}

impl HeldWakes {
    /// Begins. May be nested; the outermost counts.
    #[expect(
        clippy::new_without_default,
        reason = "it is a span of time and no value"
    )]
    pub fn new() -> Self {
        HELD.with_borrow_mut(|held| held.depth += 1);
        Self {
            _of_one_thread: PhantomData,
        }
    }
}

impl Drop for HeldWakes {
    fn drop(&mut self) {
        let ended = HELD.with_borrow_mut(|held| {
            held.depth -= 1;
            let is_due = held.depth == 0 && !held.connections.is_empty();
            is_due.then(|| {
                let spare = std::mem::take(&mut held.spare);
                std::mem::replace(&mut held.connections, spare)
            })
        });
        if let Some(mut connections) = ended {
            for connection in connections.drain(..) {
                connection.bell.wake();
            }
            HELD.with_borrow_mut(|held| held.spare = connections);
        }
    }
}
