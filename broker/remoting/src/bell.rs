//! How others wake the task of a connection, and how they avoid it: a task that is at work, or that was woken already, looks
//! for what is new before it sleeps, so of many answers only the first costs a wake-up.
//!
//! The order that makes this safe: whoever has news makes them visible first and rings then; the task says that it sleeps
//! first and looks for news then. One of the two sees the other.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::Waker;

use crate::connection::Inner;
use crate::sync::{AtomicU8, Mutex, SeqCst};

/// Connections that a thread writes to in a row.
const WRITES_MAX: usize = 64;

/// The task is at work, or was woken and will be.
const AWAKE: u8 = 0;
/// The socket takes no more; new answers are no reason to wake.
const BLOCKED: u8 = 1;
/// Nothing waits to be written.
const IDLE: u8 = 2;
/// As idle, but somebody has answers for it and will write them or wake the task.
const HELD: u8 = 3;

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

    /// Whether nobody sees to a new answer but the caller, who then does so.
    fn claim(&self, as_what: u8) -> bool {
        self.state.load(SeqCst) == IDLE
            && self
                .state
                .compare_exchange(IDLE, as_what, SeqCst, SeqCst)
                .is_ok()
    }

    /// What was held is done. `false`: the task is awake, or was since, and looked for itself.
    fn release(&self) -> bool {
        self.state
            .compare_exchange(HELD, IDLE, SeqCst, SeqCst)
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

/// There is a new answer for `connection`: wakes it, or keeps it for the end of this thread's [`HeldWakes`].
pub(crate) fn announce(connection: &Arc<Inner>) {
    ANSWERED.with_borrow_mut(|held| {
        if held.depth > 0 && connection.bell.claim(HELD) {
            held.connections.push(Arc::clone(connection));
        }
    });
    if connection.bell.claim(AWAKE) {
        connection.bell.wake();
    }
}

/// Writes the answers of a connection that is held, or leaves that to its task.
fn deliver(connection: &Inner, may_write: bool) {
    if !(may_write && connection.write_aside()) {
        connection.bell.ring();
    } else if connection.bell.release()
        // Whoever gave an answer meanwhile left it to this thread.
        && !connection.outbox.is_empty()
        && connection.bell.claim(AWAKE)
    {
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
    static ANSWERED: RefCell<Held> = RefCell::default();
}

/// While this lives, answers that this thread gives wake nobody; when it ends they are written, one write for each connection
/// that has some, by this thread: to wake a task that does it would cost more. For whoever answers many requests at a time.
///
/// What a socket does not take at once is left to the connection's task, and so is all beyond the first 64 connections, which
/// other threads can share.
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
        ANSWERED.with_borrow_mut(|held| held.depth += 1);
        Self {
            _of_one_thread: PhantomData,
        }
    }
}

impl Drop for HeldWakes {
    fn drop(&mut self) {
        let ended = ANSWERED.with_borrow_mut(|held| {
            held.depth -= 1;
            let is_due = held.depth == 0 && !held.connections.is_empty();
            is_due.then(|| {
                let spare = std::mem::take(&mut held.spare);
                std::mem::replace(&mut held.connections, spare)
            })
        });
        if let Some(mut connections) = ended {
            for (number, connection) in connections.drain(..).enumerate() {
                deliver(&connection, number < WRITES_MAX);
            }
            ANSWERED.with_borrow_mut(|held| held.spare = connections);
        }
    }
}

#[cfg(test)]
#[cfg(feature = "loom")]
#[allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends by panicking"
)]
mod interleavings {
    use std::task::Wake;

    use loom::sync::{Arc, Notify};
    use loom::thread;

    use super::*;

    struct Alarm(Notify);

    impl Wake for Alarm {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.notify();
        }
    }

    /// The task of a connection: it ends when it has seen `wanted` pieces of news, and a ring that is lost leaves it asleep
    /// for ever, which the search reports.
    fn serve(bell: &Bell, news: &Mutex<u32>, sleep: Sleep, wanted: u32) {
        let alarm = std::sync::Arc::new(Alarm(Notify::new()));
        let waker = Waker::from(std::sync::Arc::clone(&alarm));
        loop {
            bell.awake();
            let seen = *news.lock();
            if seen == wanted {
                return;
            }
            bell.sleep(&waker, sleep);
            if *news.lock() == seen {
                alarm.0.wait();
            }
        }
    }

    #[test]
    fn no_answer_is_left_with_a_task_that_sleeps() {
        loom::model(|| {
            let bell = Arc::new(Bell::default());
            let news = Arc::new(Mutex::new(0));
            let announcers = [(); 2].map(|()| {
                let (bell, news) = (Arc::clone(&bell), Arc::clone(&news));
                thread::spawn(move || {
                    *news.lock() += 1;
                    if bell.claim(AWAKE) {
                        bell.wake();
                    }
                })
            });
            serve(&bell, &news, Sleep::Idle, 2);
            for announcer in announcers {
                announcer.join().unwrap();
            }
        });
    }

    /// Takes all that waits. Returns how much was taken so far.
    fn take(outbox: &Mutex<u32>, taken: &Mutex<u32>) -> u32 {
        let waited = std::mem::take(&mut *outbox.lock());
        let mut taken = taken.lock();
        *taken += waited;
        *taken
    }

    /// One thread holds the connection and writes for it, another one gives an answer meanwhile, the task sleeps or is about
    /// to. Whoever takes the last answer tells the task, which ends then.
    #[test]
    fn no_answer_is_left_when_who_holds_a_connection_lets_it_go() {
        loom::model(|| {
            let shared = Arc::new((Bell::default(), Mutex::new(0), Mutex::new(0)));
            let holder = Arc::clone(&shared);
            let holder = thread::spawn(move || {
                let (bell, outbox, taken) = &*holder;
                *outbox.lock() += 1;
                let is_held = bell.claim(HELD);
                if bell.claim(AWAKE) {
                    bell.wake();
                }
                if is_held {
                    let so_far = take(outbox, taken);
                    if bell.release() && *outbox.lock() > 0 && bell.claim(AWAKE) {
                        bell.wake();
                    }
                    if so_far == 2 {
                        bell.ring();
                    }
                }
            });
            let other = Arc::clone(&shared);
            let other = thread::spawn(move || {
                let (bell, outbox, _) = &*other;
                *outbox.lock() += 1;
                if bell.claim(AWAKE) {
                    bell.wake();
                }
            });
            let (bell, outbox, taken) = &*shared;
            let alarm = std::sync::Arc::new(Alarm(Notify::new()));
            let waker = Waker::from(std::sync::Arc::clone(&alarm));
            loop {
                bell.awake();
                if take(outbox, taken) == 2 {
                    break;
                }
                bell.sleep(&waker, Sleep::Idle);
                if *outbox.lock() == 0 && *taken.lock() < 2 {
                    alarm.0.wait();
                }
            }
            holder.join().unwrap();
            other.join().unwrap();
        });
    }

    #[test]
    fn a_ring_wakes_a_task_that_sleeps_for_another_reason() {
        loom::model(|| {
            let bell = Arc::new(Bell::default());
            let news = Arc::new(Mutex::new(0));
            let (other, told) = (Arc::clone(&bell), Arc::clone(&news));
            let ringer = thread::spawn(move || {
                *told.lock() += 1;
                other.ring();
            });
            serve(&bell, &news, Sleep::Blocked, 1);
            ringer.join().unwrap();
        });
    }
}
