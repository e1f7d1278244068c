//! Tells every name server where this broker is and what it serves.
//!
//! Each configured name stands for all addresses that it resolves to, and every one of them is told over a connection of its own: a name server
//! forgets a broker the moment that connection closes. An address has one task: connect, register, then again every period, at once when topics
//! change, and soon after the connection broke. A name server that is down costs nothing but a log line a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rocket_protocol::{Command, ResponseCode};
use rocket_remoting::{Client, ClientConfig, Connection, NoRequests, Processor, Reply};
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::HostPort;
use crate::crew::Alarm;

/// How often names are looked up while all is well: a name server that began anew elsewhere knows nobody until it is found.
const LOOKUP_PERIOD: Duration = Duration::from_secs(2);
/// A DNS server that does not answer is asked again later.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// A farewell must not hold up a stop.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after the first failure; doubled up to the period.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// At most one log line per address and this time.
const LOG_PERIOD: Duration = Duration::from_mins(1);

/// What is told, made anew for each registration: it carries the topics of the moment.
pub trait Announcement: Send + Sync + 'static {
    /// REGISTER_BROKER.
    fn register(&self) -> Command;
    /// UNREGISTER_BROKER.
    fn unregister(&self) -> Command;
}

/// When and whom to tell.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names of name servers.
    pub targets: Vec<HostPort>,
    /// How often.
    pub period: Duration,
    /// How long one registration may take.
    pub timeout: Duration,
}

/// How far registration has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reached {
    /// Addresses that took the last registration.
    pub registered: usize,
    /// Addresses that the names resolve to.
    pub known: usize,
}

/// A registration. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Registration {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Counts changes of the topic table; every address task waits on it.
    changed: watch::Sender<u64>,
    reached: watch::Sender<Reached>,
    registered: Mutex<BTreeSet<SocketAddr>>,
    /// An address could not be reached: its name may mean another one by now.
    suspicious: tokio::sync::Notify,
    alarm: Alarm,
}

impl Registration {
    /// One that has not begun. `alarm` is told when a task of it panics.
    pub fn new(alarm: Alarm) -> Self {
        Self {
            shared: Arc::new(Shared {
                changed: watch::Sender::new(0),
                reached: watch::Sender::new(Reached::default()),
                registered: Mutex::default(),
                suspicious: tokio::sync::Notify::new(),
                alarm,
            }),
        }
    }

    /// Starts telling, as tasks of `tasks`. Ends, with a farewell to everyone who was told, when `stop` is cancelled. To be called
    /// again only when those tasks have ended.
    pub fn start(
        &self,
        plan: Plan,
        announcement: Arc<dyn Announcement>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) {
        if !plan.targets.is_empty() {
            let supervisor = Supervisor {
                plan: Arc::new(plan),
                announcement,
                shared: Arc::clone(&self.shared),
                tasks: tasks.clone(),
                stop,
            };
            let alarm = &self.shared.alarm;
            tasks.spawn(alarm.watch("registration", supervisor.run()));
        }
    }

    /// The topic table changed: tells everyone at once.
    pub fn topics_changed(&self) {
        self.shared
            .changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// How far it has come.
    pub fn reached(&self) -> Reached {
        *self.shared.reached.borrow()
    }

    /// Waits until one name server has been told.
    pub async fn first(&self) {
        let mut reached = self.shared.reached.subscribe();
        // An error means that the registration has ended, and with it the reason to wait.
        let _ = reached.wait_for(|reached| reached.registered > 0).await;
    }
}

impl Shared {
    fn set_registered(&self, address: SocketAddr, registered: bool) {
        let mut set = self.registered.lock();
        if registered {
            set.insert(address)
        } else {
            set.remove(&address)
        };
        let count = set.len();
        self.reached
            .send_modify(|reached| reached.registered = count);
    }
}

struct Supervisor {
    plan: Arc<Plan>,
    announcement: Arc<dyn Announcement>,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(self) {
        let mut running: BTreeMap<SocketAddr, CancellationToken> = BTreeMap::new();
        let mut complaints = Complaints::default();
        loop {
            let found = tokio::select! {
                found = self.look_up(&mut complaints) => found,
                () = self.stop.cancelled() => return,
            };
            // A name that could not be looked up says nothing about the addresses it had.
            if let Some(found) = found {
                running.retain(|address, token| {
                    let stays = found.contains(address);
                    if !stays {
                        token.cancel();
                    }
                    stays
                });
                for address in found {
                    running
                        .entry(address)
                        .or_insert_with(|| self.spawn(address));
                }
            }
            self.shared
                .reached
                .send_modify(|reached| reached.known = running.len());
            tokio::select! {
                () = tokio::time::sleep(LOOKUP_PERIOD) => {}
                () = self.shared.suspicious.notified() => tokio::time::sleep(RETRY_MIN).await,
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// All addresses of all names; `None` when a name could not be looked up.
    async fn look_up(&self, complaints: &mut Complaints) -> Option<BTreeSet<SocketAddr>> {
        let mut found = BTreeSet::new();
        let mut complete = true;
        for target in &self.plan.targets {
            match timeout(
                LOOKUP_TIMEOUT,
                lookup_host((target.host.as_str(), target.port)),
            )
            .await
            {
                Ok(Ok(addresses)) => found.extend(addresses),
                Ok(Err(error)) => {
                    complete = false;
                    complaints.say(|| tracing::warn!(name_server = %target, %error, "a name server's name does not resolve"));
                }
                Err(_) => {
                    complete = false;
                    complaints.say(|| tracing::warn!(name_server = %target, "a name server's name did not resolve in time"));
                }
            }
        }
        // At the start the names that do resolve are told; later an incomplete answer must not take anyone away.
        (complete || self.shared.reached.borrow().known == 0).then_some(found)
    }

    fn spawn(&self, address: SocketAddr) -> CancellationToken {
        let token = self.stop.child_token();
        let teller = Teller {
            address,
            plan: Arc::clone(&self.plan),
            announcement: Arc::clone(&self.announcement),
            shared: Arc::clone(&self.shared),
        };
        let told = teller.run(token.clone());
        self.tasks
            .spawn(self.shared.alarm.watch("registration", told));
        token
    }
}

/// One log line per minute.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
}

impl Complaints {
    fn say(&mut self, line: impl FnOnce()) {
        if self.last.is_none_or(|last| last.elapsed() >= LOG_PERIOD) {
            self.last = Some(Instant::now());
            line();
        }
    }
}

/// The task of one address.
struct Teller {
    address: SocketAddr,
    plan: Arc<Plan>,
    announcement: Arc<dyn Announcement>,
    shared: Arc<Shared>,
}

impl Teller {
    async fn run(self, stop: CancellationToken) {
        let mut changed = self.shared.changed.subscribe();
        let mut complaints = Complaints::default();
        let mut client: Option<Told> = None;
        let mut pause = RETRY_MIN;
        loop {
            changed.mark_unchanged();
            let told = tokio::select! {
                told = self.tell(&mut client) => told,
                () = stop.cancelled() => break,
            };
            self.shared.set_registered(self.address, told.is_ok());
            let wait = match told {
                Ok(()) => {
                    if complaints.last.take().is_some() {
                        tracing::info!(name_server = %self.address, "registered again");
                    }
                    pause = RETRY_MIN;
                    self.plan.period
                }
                Err(error) => {
                    complaints.say(|| tracing::warn!(name_server = %self.address, error, "registration failed; it is tried again"));
                    client = None;
                    self.shared.suspicious.notify_one();
                    let wait = pause;
                    pause = (pause * 2).min(self.plan.period);
                    wait
                }
            };
            let closed = client.as_ref().map(|told| told.closed.clone());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = until_closed(closed) => self.shared.set_registered(self.address, false),
                // The sender lives in `shared`, so it cannot be gone.
                _ = changed.changed() => {}
                () = stop.cancelled() => break,
            }
        }
        self.say_farewell(client).await;
    }

    async fn tell(&self, told: &mut Option<Told>) -> Result<(), String> {
        let told = match told {
            Some(open) if open.client.is_open() => open,
            slot => slot.insert(self.connect().await?),
        };
        let answer = told
            .client
            .call(self.announcement.register(), self.plan.timeout)
            .await
            .map_err(|error| error.to_string())?;
        if answer.response_code() == ResponseCode::SUCCESS {
            Ok(())
        } else {
            Err(format!(
                "{}: {}",
                answer.response_code(),
                answer.remark.as_deref().unwrap_or("no reason given")
            ))
        }
    }

    async fn connect(&self) -> Result<Told, String> {
        let closed = CancellationToken::new();
        let config = ClientConfig {
            connect_timeout: self.plan.timeout,
            ..ClientConfig::default()
        };
        let client = Client::connect(
            &self.address.to_string(),
            config,
            Arc::new(NoticeClose(closed.clone())),
        )
        .await
        .map_err(|error| with_source(&error))?;
        Ok(Told { client, closed })
    }

    async fn say_farewell(&self, told: Option<Told>) {
        self.shared.set_registered(self.address, false);
        let Some(told) = told.filter(|told| told.client.is_open()) else {
            return;
        };
        if let Err(error) = told
            .client
            .call(self.announcement.unregister(), UNREGISTER_TIMEOUT)
            .await
        {
            tracing::debug!(name_server = %self.address, %error, "a farewell was not answered");
        }
        told.client.close().await;
    }
}

/// A connection over which a name server was told.
struct Told {
    client: Client,
    closed: CancellationToken,
}

/// Serves nothing, and says when its connection is gone.
struct NoticeClose(CancellationToken);

impl Processor for NoticeClose {
    fn process(&self, connection: &Connection, request: Command, reply: Reply) {
        NoRequests.process(connection, request, reply);
    }

    fn closed(&self, _connection: &Connection) {
        self.0.cancel();
    }
}

async fn until_closed(closed: Option<CancellationToken>) {
    match closed {
        Some(closed) => closed.cancelled().await,
        None => std::future::pending().await,
    }
}

fn with_source(error: &dyn std::error::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
