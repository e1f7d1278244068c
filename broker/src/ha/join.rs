//! How a broker joins its group: what there must be before its store is opened, and what begins when that has recovered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rocket_coordinator::file::FolderError;
use rocket_coordinator::kubernetes::ConnectError;
use rocket_ha::{Answers, Board, Found, GroupPolicy, Held, Options, Timing};
use rocket_link::{Secret, SecretError};
use rocket_mapped_file::disk::DiskDirectory;
use rocket_replication::recovery::CleanMark;
use rocket_replication::replica::Settings;
use tokio::net::TcpListener;

use super::coordinator::{Agreement, flush};
use super::{Group, Inbox, Post, Setup, Witness, inbox};
use crate::config::{BrokerConfig, CoordinatorAt, ReplicationMode};
use crate::crew::{Alarm, Crew, joined};
use crate::kept::Kept;
use crate::metadata::{Following, Metadata};
use crate::mutant::mutations;
use crate::{clock, store_settings};

/// Bytes on the way to a slave and not acknowledged from which on nothing more is sent.
const WINDOW_BYTES_MAX: u64 = 16 << 20;
/// About how many bytes of records go into one message to a slave.
const DATA_BYTES_TARGET: u64 = 512 << 10;
/// `quarantine_limit` of docs/replication.md §15.
const QUARANTINE_BYTES_MAX: u64 = 1 << 30;
/// How long a stop waits for another replica to take over, and for the master to hear of it. A handover gives up after 2 s.
const LEAVE_PATIENCE: Duration = Duration::from_secs(3);

/// Why a broker cannot join its group.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No file of the shared secret is configured. A checked configuration has one.
    #[error("a replica needs the secret of its group; set replicationSecretFile")]
    NoSecret,
    /// The shared secret cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The port for replicas is taken, or the address is not this machine's.
    #[error("cannot listen on {address} for replicas: {source}")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The coordinator's folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The coordinator's state could not be brought to what the configuration says.
    #[error("the coordinator's state cannot be read or changed; the lines above say why")]
    State,
    /// The store's folder.
    #[error("the folder of the store: {0}")]
    Directory(#[source] std::io::Error),
    /// The system has no thread left.
    #[error("the thread of metadata: {0}")]
    Follow(#[source] std::io::Error),
    /// The replica.
    #[error("the replica does not start: {0}")]
    Replica(#[from] super::Error),
    /// A thread of this process panicked.
    #[error("a thread of the replica: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// What there is before the store is opened.
pub(crate) struct Joining {
    agreement: Agreement,
    secret: Secret,
    listener: TcpListener,
    board: Arc<Board>,
    mailbox: (Post, Inbox),
    witness: Arc<Witness>,
    crew: Crew,
}

/// A replica at work, with what it stands on.
pub(crate) struct Joined {
    pub(crate) group: Group,
    /// Whether it may serve clients: a slave of a fixed master never does.
    pub(crate) serves: bool,
    pub(crate) board: Arc<Board>,
    pub(crate) metadata: Arc<Metadata>,
    /// What follows the changes of metadata.
    following: Mutex<Option<Following>>,
    /// Tasks of the coordinator. They end when nothing of the group uses it any more.
    crew: Crew,
}

impl Joining {
    /// Takes the port for replicas and opens the coordinator at `at`. `client_port`: the port for clients.
    pub(crate) async fn prepare(
        config: &BrokerConfig,
        at: &CoordinatorAt,
        client_port: u16,
    ) -> Result<Self, JoinError> {
        let secret_file = config.replication_secret_file.as_deref();
        let secret = Secret::read(secret_file.ok_or(JoinError::NoSecret)?)?;
        let address = SocketAddr::new(config.bind_address, config.ha_port(client_port));
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| JoinError::Bind { address, source })?;
        let crew = Crew::default();
        let agreement = Agreement::open(config, at, &secret, &crew.tasks).await?;
        Ok(Self {
            agreement,
            secret,
            listener,
            board: Arc::default(),
            mailbox: inbox(),
            witness: Arc::new(Witness::of(config)),
            crew,
        })
    }

    /// Where failures of the store are to be told.
    pub(crate) fn post(&self) -> Post {
        self.mailbox.0.clone()
    }

    /// Who is to hear of the store's flushes.
    pub(crate) fn witness(&self) -> Arc<Witness> {
        Arc::clone(&self.witness)
    }

    /// The policy of the store.
    pub(crate) fn policy(&self, config: &BrokerConfig) -> GroupPolicy {
        let flush = store_settings::flush(config);
        GroupPolicy::new(Arc::clone(&self.board), flush, answers(config))
            .with_mutations(mutations())
    }

    /// Starts the replica on what recovery found; the store has locked its folder. `told`: where others reach it, unless the
    /// configuration says so. `alarm` is told of a thread that panics.
    pub(crate) async fn start(
        self,
        config: &BrokerConfig,
        kept: &Kept,
        told: &str,
        alarm: Alarm,
    ) -> Result<Joined, JoinError> {
        self.agreement.ask().await?;
        let address = match &config.coordinator {
            Some(CoordinatorAt::Static(address)) if !config.is_standby() => Some(address),
            _ => config.replication_address.as_ref(),
        };
        let settings = Settings {
            flush: flush(config),
            address: address.map_or_else(|| told.to_owned(), ToString::to_string),
            window_bytes_max: WINDOW_BYTES_MAX,
        };
        let options = Options {
            settings,
            timing: Timing::default(),
            answers: answers(config),
            self_election: self.agreement.self_election,
            data_bytes_target: DATA_BYTES_TARGET,
            mutations: mutations(),
        };
        let (store, report) = (Arc::clone(&kept.store), kept.report);
        let (board, dir) = (Arc::clone(&self.board), config.store_path_root_dir.clone());
        let held = if config.adopt_messages {
            Held::Adopt
        } else {
            Held::Refuse
        };
        let disk_fail_window = config.disk_fail_window;
        let starting = move || {
            let dir = DiskDirectory::open(&dir).map_err(JoinError::Directory)?;
            let found = Found {
                damaged: report.damaged_ranges > 0,
                confirm: report.confirm.max(store.positions().dispatched),
            };
            let setup = Setup {
                options,
                held,
                found,
                disk_fail_window,
                residence: self.witness.residence(),
                dir: Arc::new(dir),
                store,
                board: self.board,
                quarantine_bytes_max: QUARANTINE_BYTES_MAX,
                coordinator: self.agreement.coordinator,
                register: self.agreement.register,
                writer: self.agreement.writer,
                listener: self.listener,
                secret: self.secret,
            };
            Ok::<_, JoinError>(Group::start(setup, self.mailbox)?)
        };
        let metadata = Arc::clone(&kept.metadata);
        let following = metadata.follow(alarm).map_err(JoinError::Follow)?;
        let group = tokio::task::spawn_blocking(starting).await??;
        Ok(Joined {
            group,
            serves: !config.is_standby(),
            board,
            metadata,
            following: Mutex::new(Some(following)),
            crew: self.crew,
        })
    }
}

impl Joined {
    /// Tells the group the last positions, has another replica take over if this one is master, and tells the master that this
    /// one stops. Clients are served meanwhile: what they have consumed from then on is consumed again.
    pub(crate) async fn take_leave(&self) {
        let metadata = Arc::clone(&self.metadata);
        let told = tokio::task::spawn_blocking(move || metadata.farewell(clock::now())).await;
        if let Some(Err(error)) = joined(told) {
            tracing::warn!(%error, "the last positions were not told to the group");
        }
        self.group.take_leave(LEAVE_PATIENCE).await;
    }

    /// Ends the replica in order. What comes back is for [`Group::vouch`], when the store was closed.
    pub(crate) async fn stop(&self) -> Option<CleanMark> {
        let mark = self.group.stop().await;
        self.crew.dismiss().await;
        let (following, metadata) = (self.following.lock().take(), Arc::clone(&self.metadata));
        let ended = tokio::task::spawn_blocking(move || {
            drop(following);
            metadata.stand_down();
        });
        joined(ended.await);
        mark
    }
}

fn answers(config: &BrokerConfig) -> Answers {
    match config.replication().mode {
        ReplicationMode::Sync => Answers::Committed,
        ReplicationMode::Async => Answers::Counted,
    }
}
