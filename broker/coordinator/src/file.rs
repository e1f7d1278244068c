//! The register as a file, for several processes on one machine, and for the record of a fixed master.
//!
//! ```text
//! <folder>/state.json       the state, replaced as a whole
//! <folder>/state.json.new   what a writer was about to put in its place
//! <folder>/lock             held by a writer
//! ```
//!
//! A reader takes no lock: a state takes its name at once and whole. But it flushes the folder before it answers: a state that somebody
//! acted on must not be gone after a power cut, and a writer that was killed may have renamed without having flushed. A process that
//! stands still while it writes keeps the others from writing, and from nothing else; they wait for it only for a while.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use rocket_replication::state::State;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::{Cas, CasAnswer, Coordinator, Hints, ReadAnswer};

const STATE: &str = "state.json";
const NEW: &str = "state.json.new";
const LOCK: &str = "lock";
/// A state is a few kilobytes; a file beyond this is none.
const STATE_BYTES_MAX: u64 = 4 << 20;
/// How long another writer is waited for: many times what one takes.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// How often the file is looked at although no notification came: some file systems send none.
const POLL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 250_000_000,
};

/// See the module. Clones share the watch.
#[derive(Debug, Clone)]
pub struct FileCoordinator {
    folder: Arc<Path>,
    hints: Hints,
    _watching: Arc<DropGuard>,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the coordinator's folder {folder}: {source}")]
pub struct FolderError {
    folder: PathBuf,
    source: io::Error,
}

impl FileCoordinator {
    /// Opens the register in `folder`, which is made if it is missing. If it holds no state yet, `first` is written: of several
    /// processes that start at once, one does. The task that watches belongs to `tasks` and ends with the last clone.
    ///
    /// # Errors
    /// [`FolderError`] when the folder cannot be made or written.
    pub async fn open(
        folder: &Path,
        first: State,
        tasks: &TaskTracker,
    ) -> Result<Self, FolderError> {
        let error = |source| FolderError {
            folder: folder.to_owned(),
            source,
        };
        let folder: Arc<Path> = folder.into();
        let there = Arc::clone(&folder);
        blocking(move || create(&there, &first))
            .await
            .map_err(error)?;
        let (sender, hints) = watch::channel(None);
        let stop = CancellationToken::new();
        tasks.spawn(
            stop.clone()
                .run_until_cancelled_owned(look(Arc::clone(&folder), sender)),
        );
        Ok(Self {
            folder,
            hints,
            _watching: Arc::new(stop.drop_guard()),
        })
    }
}

impl Coordinator for FileCoordinator {
    fn read_current(&self) -> BoxFuture<'_, ReadAnswer> {
        let folder = Arc::clone(&self.folder);
        Box::pin(async move {
            match blocking(move || read_kept(&folder)).await {
                Ok(Some(state)) => ReadAnswer::State(Arc::new(state)),
                Ok(None) => ReadAnswer::Gone,
                Err(error) => {
                    tracing::error!(folder = %self.folder.display(), %error, "the coordinator's state cannot be read");
                    ReadAnswer::Unreachable
                }
            }
        })
    }

    fn cas(&self, cas: Cas) -> BoxFuture<'_, CasAnswer> {
        let folder = Arc::clone(&self.folder);
        Box::pin(async move {
            blocking(move || Ok(replace(&folder, &cas)))
                .await
                .unwrap_or(CasAnswer::Unknown)
        })
    }

    fn watch(&self) -> Hints {
        self.hints.clone()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

fn create(folder: &Path, first: &State) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let _lock = lock(folder)?;
    if read(folder)?.is_none() {
        write_new(folder, first)?;
        fs::rename(folder.join(NEW), folder.join(STATE))?;
    }
    sync(folder)?;
    if let Some(parent) = folder.parent().filter(|path| !path.as_os_str().is_empty()) {
        sync(parent)?;
    }
    Ok(())
}

/// The state, which no power cut takes back.
fn read_kept(folder: &Path) -> io::Result<Option<State>> {
    let state = read(folder)?;
    sync(folder)?;
    Ok(state)
}

fn replace(folder: &Path, cas: &Cas) -> CasAnswer {
    // Until the rename nothing has happened that anybody could see.
    let unsent = |error: io::Error| {
        tracing::error!(folder = %folder.display(), %error, "the coordinator's state cannot be written");
        CasAnswer::Unsent
    };
    let _lock = match lock(folder) {
        Ok(lock) => lock,
        Err(error) => return unsent(error),
    };
    let before = match read(folder) {
        Ok(Some(state)) if state.version == cas.expected => state,
        Ok(_) => return CasAnswer::Conflict,
        Err(error) => return unsent(error),
    };
    if let Err(violation) = State::check_transition(&before, &cas.new) {
        tracing::error!(%violation, "a state that must never be written was refused");
        return CasAnswer::Unsent;
    }
    if let Err(error) = write_new(folder, &cas.new) {
        return unsent(error);
    }
    let renamed = fs::rename(folder.join(NEW), folder.join(STATE)).and_then(|()| sync(folder));
    match renamed {
        Ok(()) => CasAnswer::Applied(cas.new.version),
        Err(error) => {
            tracing::error!(folder = %folder.display(), %error, "whether the coordinator's state was written is not known");
            CasAnswer::Unknown
        }
    }
}

/// The right to write, as long as the file that comes back is open. Blocks.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(LOCK))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => {
                let why = format!("another process has held {LOCK} for {LOCK_PATIENCE:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    }
}

fn read(folder: &Path) -> io::Result<Option<State>> {
    let path = folder.join(STATE);
    match fs::metadata(&path) {
        Ok(meta) if meta.len() > STATE_BYTES_MAX => Err(io::ErrorKind::InvalidData.into()),
        Ok(_) => Ok(Some(serde_json::from_slice(&fs::read(&path)?)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_new(folder: &Path, state: &State) -> io::Result<()> {
    let mut file = File::create(folder.join(NEW))?;
    file.write_all(&serde_json::to_vec_pretty(state)?)?;
    file.sync_all()
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Tells of every state that is seen in the folder, until nobody listens.
async fn look(folder: Arc<Path>, hints: watch::Sender<Option<Arc<State>>>) {
    let queue = notifications(&folder).map(Arc::new);
    if let Err(error) = &queue {
        tracing::warn!(folder = %folder.display(), %error, "no notifications of changes; the folder is looked at now and then");
    }
    let queue = queue.ok();
    while !hints.is_closed() {
        let there = Arc::clone(&folder);
        if let Ok(Some(state)) = blocking(move || read(&there)).await {
            hints.send_if_modified(|seen| {
                let is_news = seen.as_deref() != Some(&state);
                if is_news {
                    *seen = Some(Arc::new(state));
                }
                is_news
            });
        }
        let queue = queue.clone();
        let _: io::Result<()> = blocking(move || wait(queue.as_deref())).await;
    }
}

/// A queue of notifications of files that took their final name in `folder`.
fn notifications(folder: &Path) -> io::Result<OwnedFd> {
    let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    inotify::add_watch(&queue, folder, WatchFlags::MOVED_TO)?;
    Ok(queue)
}

/// Waits for a notification, but not for long, and takes all that wait. What they say does not matter: the state is read again.
fn wait(queue: Option<&OwnedFd>) -> io::Result<()> {
    let mut sources: Vec<PollFd<'_>> = queue
        .iter()
        .map(|queue| PollFd::new(*queue, PollFlags::IN))
        .collect();
    poll(&mut sources, Some(&POLL))?;
    let mut events = [0_u8; 4096];
    while let Some(queue) = queue
        && matches!(rustix::io::read(queue, &mut events), Ok(1..))
    {}
    Ok(())
}
