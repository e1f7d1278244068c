//! What a network does to a register: a front that loses answers, delays writes, sends them twice and shows old states. For
//! tests of everything that talks to a coordinator, and of every coordinator.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rocket_replication::memory::Fate;
use rocket_replication::state::State;
use tokio::sync::watch;

use crate::{Cas, CasAnswer, Coordinator, Hints, ReadAnswer};

/// See the module.
#[derive(Debug)]
pub struct Faulty<C> {
    inner: C,
    fates: Mutex<VecDeque<Fate>>,
    late: Mutex<Vec<Cas>>,
    is_cut: Mutex<bool>,
    hints: watch::Sender<Option<Arc<State>>>,
}

impl<C: Coordinator> Faulty<C> {
    /// A front of `inner` that does no harm yet. Its hints are those that a test gives.
    pub fn new(inner: C) -> Self {
        Self {
            inner,
            fates: Mutex::default(),
            late: Mutex::default(),
            is_cut: Mutex::new(false),
            hints: watch::Sender::new(None),
        }
    }

    /// The next write meets `fate`; without a script each is answered.
    pub fn script(&self, fate: Fate) {
        self.fates.lock().push_back(fate);
    }

    /// From now on nothing arrives, or everything does again.
    pub fn cut(&self, is_cut: bool) {
        *self.is_cut.lock() = is_cut;
    }

    /// All writes that their senders gave up arrive now, in order. What they are answered nobody hears.
    pub async fn let_late_writes_arrive(&self) {
        let late = std::mem::take(&mut *self.late.lock());
        for cas in late {
            self.inner.cas(cas).await;
        }
    }

    /// The watch shows this, however old it is.
    pub fn hint(&self, state: Arc<State>) {
        self.hints.send_replace(Some(state));
    }
}

impl<C: Coordinator> Coordinator for Faulty<C> {
    fn read_current(&self) -> BoxFuture<'_, ReadAnswer> {
        if *self.is_cut.lock() {
            return Box::pin(async { ReadAnswer::Unreachable });
        }
        self.inner.read_current()
    }

    fn cas(&self, cas: Cas) -> BoxFuture<'_, CasAnswer> {
        if *self.is_cut.lock() {
            return Box::pin(async { CasAnswer::Unsent });
        }
        let fate = self.fates.lock().pop_front().unwrap_or(Fate::Answered);
        Box::pin(async move {
            match fate {
                Fate::Answered => self.inner.cas(cas).await,
                Fate::AnswerLost => {
                    self.inner.cas(cas).await;
                    CasAnswer::Unknown
                }
                Fate::Late => {
                    self.late.lock().push(cas);
                    CasAnswer::Unknown
                }
                Fate::Doubled => {
                    self.inner.cas(cas.clone()).await;
                    self.inner.cas(cas).await
                }
            }
        })
    }

    fn watch(&self) -> Hints {
        self.hints.subscribe()
    }
}
