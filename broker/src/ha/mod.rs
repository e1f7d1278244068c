//! The replica of this broker in its group: the thread that owns it (`rocket_ha::Actor`) over the store, and what brings it
//! its events: replication links, the coordinator, the store, time.
//!
//! Everything comes through one inbox. Links put no more into it than their `inbound_bytes_max`, the coordinator one answer at
//! a time and whoever reads for other replicas too, a watch what was not looked at yet, and the store one wake-up until the thread
//! has looked: so it has a bound.

mod coordinator;
mod follow;
mod join;
mod links;
mod ranges;
mod requests;
mod witness;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rocket_coordinator::Coordinator;
use rocket_coordinator::fixed::Register;
use rocket_ha::{
    Actor, Board, CutError, Event, Found, Fresh, Held, Items, News, Observer, Options, Parts,
    Residence, StartError, StoreLog, look_at_failures, start,
};
use rocket_link::{Links, Secret, Share};
use rocket_mapped_file::Directory;
use rocket_replication::effect::Halt;
use rocket_replication::messages::RoleName;
use rocket_replication::recovery::CleanMark;
use rocket_replication::replica::Writes;
use rocket_replication::{DiskId, Epoch, Incarnation};
use rocket_store::{Completion, Store};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::crew::Crew;
pub(crate) use follow::Follower;
pub use join::JoinError;
pub(crate) use join::{Joined, Joining};
use links::LinkNet;
use ranges::Ranges;
use requests::Requests;
pub(crate) use witness::Witness;

/// The thread looks at least so often whether it is to end.
const LOOK: Duration = Duration::from_secs(1);

enum Mail {
    Happened(Event),
    /// An event of a link, whose peer may send more when it is served.
    Served(Event, Share),
    /// It is about to stop; whoever waits for what comes before is told when nothing more does.
    TakeLeave(oneshot::Sender<()>),
    End(Last),
}

/// What a replica does before its thread ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// All that an orderly stop does.
    Goodbye,
    /// Nothing.
    Nothing,
}

/// Brings events to the replica. Clones bring them to the same one.
#[derive(Clone)]
pub struct Post(Sender<Mail>);

/// Where a replica's events wait for it.
pub struct Inbox(Receiver<Mail>);

/// Made before the store is opened, whose failures go there.
pub fn inbox() -> (Post, Inbox) {
    let (sender, receiver) = channel();
    (Post(sender), Inbox(receiver))
}

impl Post {
    /// A write or flush of the store failed.
    pub fn log_failed(&self) {
        self.happened(Event::LogFailed);
    }

    fn happened(&self, event: Event) {
        self.mail(Mail::Happened(event));
    }

    /// `false`: the replica has ended, and nobody is interested.
    fn mail(&self, mail: Mail) -> bool {
        self.0.send(mail).is_ok()
    }
}

/// How a replica fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its role.
    pub role: RoleName,
    /// The highest epoch that it saw.
    pub epoch: Epoch,
    /// Whether it takes sends.
    pub writes: Writes,
    /// Where the replication listener of the master is, if there is one.
    pub master: Option<Arc<str>>,
    /// Bytes that were cut off the end of its log since this process began, those of a cut that its start finished among
    /// them. A cut that a crash ended may be counted by the run before it too.
    pub cut_bytes: u64,
    /// A part of its log is damaged, and to be had from another replica.
    pub is_damaged: bool,
    /// Why it does nothing any more.
    pub ended: Option<Ended>,
}

/// Why a replica does nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It acknowledges nothing until a restart or a human.
    Halted(Halt),
    /// Only the next start of this process can finish a cut of its log.
    NeedsRestart,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a replica is made of.
pub struct Setup<C: Completion> {
    /// How it behaves.
    pub options: Options,
    /// What to do with messages that belong to no group.
    pub held: Held,
    /// What the store's recovery found.
    pub found: Found,
    /// `disk_fail_window`. A failure of the run before was counted when the folder was locked.
    pub disk_fail_window: Duration,
    /// The proof that the page cache of former runs is there; the store tells it of its flushes.
    pub residence: Arc<Residence>,
    /// The store's folder, which the store has locked.
    pub dir: Arc<dyn Directory>,
    /// The store, whose policy is a `rocket_ha::GroupPolicy` of `board`.
    pub store: Arc<Store<C>>,
    /// See there.
    pub board: Arc<Board>,
    /// Bytes of what cuts take away that are kept aside (`quarantine_limit`).
    pub quarantine_bytes_max: u64,
    /// The group's coordinator.
    pub coordinator: Arc<dyn Coordinator>,
    /// What is served of it to the other replicas, if this one is their fixed master.
    pub register: Option<Register>,
    /// Told whose folder this is, for a coordinator that asks who writes.
    pub writer: Arc<OnceLock<DiskId>>,
    /// Where other replicas reach this one.
    pub listener: TcpListener,
    /// What all replicas of the cluster have.
    pub secret: Secret,
}

/// Why a replica does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It must not.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system has no thread left.
    #[error("the thread of the replica: {0}")]
    Thread(#[from] io::Error),
}

impl Error {
    /// Whether the next start may find what this one lacked, without anybody's decision: room.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Start(StartError::Cut {
                source: CutError::NoRoom(_),
                ..
            })
        )
    }
}

/// A replica at work.
pub struct Group {
    post: Post,
    thread: Mutex<Option<JoinHandle<Option<CleanMark>>>>,
    crew: Crew,
    standing: watch::Receiver<Standing>,
    items: Items,
}

impl Group {
    /// Starts the replica. To be called inside a runtime, on a thread that may wait for the disk.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub fn start<C: Completion>(
        setup: Setup<C>,
        (post, inbox): (Post, Inbox),
    ) -> Result<Self, Error> {
        let items = Items::new(setup.dir).proving(setup.residence);
        look_at_failures(&items, None, millis(setup.disk_fail_window))?;
        let store = setup.store;
        let mut log = StoreLog::new(Arc::clone(&store), setup.quarantine_bytes_max);
        let fresh = Fresh {
            disk_id: DiskId(rand::random()),
            incarnation: Incarnation(rand::random()),
        };
        let (sender, standing) = watch::channel(Standing {
            role: RoleName::Booting,
            epoch: Epoch(0),
            writes: Writes::NotMaster,
            master: None,
            cut_bytes: 0,
            is_damaged: false,
            ended: None,
        });
        let mut teller = Teller(sender);
        let recovered = start(
            &items,
            &mut log,
            setup.found,
            fresh,
            setup.held,
            &mut teller,
        )?;
        // Told once, here.
        let _ = setup.writer.set(recovered.disk_id);
        let max_epoch = recovered.max_epoch;
        teller.0.send_modify(|standing| standing.epoch = max_epoch);
        let crew = Crew::default();
        let told = post.clone();
        let links = Links::delivering(
            rocket_link::Settings::default(),
            setup.secret,
            crew.tasks.clone(),
            crew.stop.clone(),
            move |event| told.mail(links::mail(event)),
        );
        match setup.register {
            Some(register) => {
                let serving = crew.clone();
                links.listen_with_register(setup.listener, move |caller| {
                    let (register, stop) = (register.clone(), serving.stop.clone());
                    let answering = async move { register.serve(caller).await };
                    let answering = stop.run_until_cancelled_owned(answering);
                    serving.tasks.spawn(answering);
                });
            }
            None => links.listen(setup.listener),
        }
        let stop = crew.stop.clone();
        let watching = requests::watch(setup.coordinator.watch(), post.clone());
        crew.tasks.spawn(stop.run_until_cancelled_owned(watching));
        let waker = post.clone();
        setup.board.wake_by(move || waker.happened(Event::LogMoved));
        let parts = Parts {
            items: items.clone(),
            log,
            reader: Box::new(Ranges::new(store, crew.clone(), post.clone())),
            net: LinkNet::new(links),
            coordinator: Requests::new(setup.coordinator, crew.clone(), post.clone()),
            observer: teller,
            board: setup.board,
        };
        let (options, runtime) = (setup.options, Handle::current());
        let thread = std::thread::Builder::new()
            .name("replica".to_owned())
            .spawn(move || {
                let _inside = runtime.enter();
                let started = Instant::now();
                let actor = Actor::new(options, recovered, parts, 0);
                run(actor, &inbox, started)
            })?;
        Ok(Self {
            post,
            thread: Mutex::new(Some(thread)),
            crew,
            standing,
            items,
        })
    }

    /// How it fares, now and from now on.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// What comes before a stop: a master has another replica take over, a slave tells its master. Waits for that, at most
    /// `patience`.
    pub async fn take_leave(&self, patience: Duration) {
        let (done, waiting) = oneshot::channel();
        self.post.mail(Mail::TakeLeave(done));
        // Told, given up, or ended before: nothing more can be done for it.
        let _ = timeout(patience, waiting).await;
    }

    /// Ends in order: no send is taken any more, those that wait are answered, links are closed. The store is then to be
    /// closed, and what comes back to be handed to [`Group::vouch`] if that went well.
    pub async fn stop(&self) -> Option<CleanMark> {
        self.end(Last::Goodbye).await
    }

    /// Ends as a killed process does, as far as a process can do that to a part of itself. For tests.
    pub async fn abandon(&self) {
        self.end(Last::Nothing).await;
    }

    /// Notes that this run stopped in order and its log is flushed: the last thing that a process does (§4.1, `clean`).
    ///
    /// # Errors
    /// The next start has no such proof then.
    pub fn vouch(&self, mark: &CleanMark) -> Result<(), rocket_ha::ItemError> {
        self.items.save_clean(mark)
    }

    async fn end(&self, last: Last) -> Option<CleanMark> {
        self.post.mail(Mail::End(last));
        let thread = self.thread.lock().take();
        let ended = match thread {
            Some(thread) => tokio::task::spawn_blocking(move || thread.join()).await,
            None => return None,
        };
        self.crew.dismiss().await;
        if let Ok(Ok(mark)) = ended {
            mark
        } else {
            tracing::error!("the thread of the replica panicked");
            None
        }
    }
}

fn run<L, N, C, O>(
    mut actor: Actor<L, N, C, O>,
    inbox: &Inbox,
    started: Instant,
) -> Option<CleanMark>
where
    L: rocket_ha::Log,
    N: rocket_ha::Net,
    C: rocket_ha::Coordinator,
    O: Observer,
{
    let now_ms = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut next_ms = actor.step(now_ms(), None);
    let mut leaving: Option<oneshot::Sender<()>> = None;
    loop {
        let is_over =
            |waiting: &mut oneshot::Sender<()>| waiting.is_closed() || !actor.take_leave();
        if let Some(waiting) = leaving.take_if(is_over) {
            let _ = waiting.send(());
        }
        let wait = Duration::from_millis(next_ms.saturating_sub(now_ms())).min(LOOK);
        next_ms = match inbox.0.recv_timeout(wait) {
            Ok(Mail::Happened(event)) => actor.step(now_ms(), Some(event)),
            Ok(Mail::Served(event, share)) => {
                let next_ms = actor.step(now_ms(), Some(event));
                drop(share);
                next_ms
            }
            Ok(Mail::TakeLeave(waiting)) => {
                leaving = Some(waiting);
                actor.step(now_ms(), None)
            }
            Err(RecvTimeoutError::Timeout) => actor.step(now_ms(), None),
            Ok(Mail::End(Last::Goodbye)) => return actor.end(),
            Ok(Mail::End(Last::Nothing)) | Err(RecvTimeoutError::Disconnected) => return None,
        };
    }
}

/// Tells the broker how its replica fares.
struct Teller(watch::Sender<Standing>);

impl Observer for Teller {
    fn tell(&mut self, news: News) {
        match news {
            News::Role {
                role,
                epoch,
                writes,
                master,
            } => {
                tracing::info!(?role, %epoch, ?writes, master = master.as_deref(), "the replica's role");
                self.0.send_modify(|standing| {
                    (standing.role, standing.epoch) = (role, epoch);
                    (standing.writes, standing.master) = (writes, master);
                });
            }
            News::Cut {
                to,
                from_end,
                epoch,
                report,
            } => {
                tracing::warn!(%to, %from_end, %epoch, ?report, "the end of the log was cut off and is kept in quarantine");
                self.0
                    .send_modify(|standing| standing.cut_bytes += from_end.since(to));
            }
            News::StartedAnew {
                at,
                from,
                from_end,
                epoch,
                report,
            } => {
                tracing::warn!(%at, %from, %from_end, %epoch, ?report, "the log was emptied, since the master has not kept what would continue it; what was not known to be committed is kept in quarantine");
                self.0
                    .send_modify(|standing| standing.cut_bytes += from_end.since(from));
            }
            News::Damaged(is_damaged) => {
                if is_damaged {
                    tracing::error!(
                        "a part of the log is damaged: as a slave this replica acknowledges nothing until it has that from another one"
                    );
                } else {
                    tracing::info!("nothing of the log is damaged any more");
                }
                self.0
                    .send_modify(|standing| standing.is_damaged = is_damaged);
            }
            News::Halted(why) => {
                let ended = Some(Ended::Halted(why));
                self.0.send_modify(|standing| standing.ended = ended);
            }
            // Its role says what it does.
            News::Forgot => {}
            News::NeedsRestart => {
                let ended = Some(Ended::NeedsRestart);
                self.0.send_modify(|standing| standing.ended = ended);
            }
        }
    }
}
