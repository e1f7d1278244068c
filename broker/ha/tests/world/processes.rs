//! Machines and the processes on them: how one starts, takes a step, and ends.

use std::sync::Arc;

use parking_lot::Mutex;
use rocket_ha::memory::{Image, MemoryLog, MemoryNet, MemoryReader, MemoryRequests, Wish};
use rocket_ha::{
    Actor, Board, BootId, Event, FolderId, Found, Fresh, GroupPolicy, Held, Items, News, Parts,
    Residence, Shelf, StartError, start,
};
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_replication::messages::Range;
use rocket_replication::mutations::Mutations;
use rocket_replication::replica::Flush;
use rocket_replication::{DiskId, Incarnation, PhysicalOffset, Version};

use super::World;
use super::coordinator::Binding;
use crate::fuse::{Frozen, FusedDirectory};

type Watcher = Box<dyn FnMut(News)>;

pub(crate) struct Process {
    pub(crate) actor: Actor<MemoryLog, MemoryNet, Binding, Watcher>,
    pub(crate) log: MemoryLog,
    pub(crate) board: Arc<Board>,
    pub(crate) net: MemoryNet,
    pub(crate) requests: MemoryRequests,
    pub(crate) reader: MemoryReader,
    /// Its disk gives other replicas nothing for now.
    pub(crate) is_slow: bool,
    pub(crate) dir: FusedDirectory,
    pub(crate) news: Arc<Mutex<Vec<News>>>,
    pub(crate) moved: Arc<Mutex<bool>>,
    /// The answer of the coordinator that is on its way.
    pub(crate) answer: Option<Event>,
    /// What was committed when that was looked at last.
    pub(crate) checked: u64,
    pub(crate) needs_restart: bool,
}

pub(crate) struct Machine {
    pub(crate) dir: MemoryDirectory,
    pub(crate) image: Image,
    pub(crate) process: Option<Process>,
    pub(crate) starts: u128,
    /// Where the residence proof is, and how often the machine lost power.
    pub(crate) shelf: MemoryDirectory,
    pub(crate) boots: u128,
    /// Of the files of its log.
    pub(crate) file_bytes: u64,
    /// The newest version that a watch showed the process.
    pub(crate) hinted: Version,
}

impl Machine {
    /// What its next process proves by.
    fn residence(&self, mutations: Mutations) -> Residence {
        let shelf = Shelf {
            dir: Arc::new(self.shelf.clone()),
            boot: BootId(self.boots),
        };
        Residence::on(shelf).with_mutations(mutations)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The page cache stays.
    Kill,
    /// What was not flushed is gone, from a byte on.
    Power(u64),
}

impl End {
    /// What is left for the next process.
    pub(crate) fn left_of(self, dir: &MemoryDirectory, image: Image) -> (MemoryDirectory, Image) {
        match self {
            Self::Kill => (dir.killed(), image),
            Self::Power(byte) => (dir.crashed(byte), image.crashed(byte)),
        }
    }
}

impl World {
    pub(crate) fn start(&mut self, n: usize) {
        let plan = self.plan;
        let machine = &mut self.machines[n];
        machine.starts += 1;
        let dir = FusedDirectory::new(machine.dir.clone());
        let board = Arc::new(Board::default());
        let moved = Arc::new(Mutex::new(false));
        let set = Arc::clone(&moved);
        board.wake_by(move || *set.lock() = true);
        let flush = match plan.flush {
            Flush::Sync => rocket_store::Flush::Sync,
            Flush::Async => rocket_store::Flush::Async,
        };
        let policy = Arc::new(GroupPolicy::new(Arc::clone(&board), flush, plan.answers));
        let residence = Arc::new(machine.residence(plan.mutations));
        let items = Items::new(Arc::new(dir.clone())).proving(Arc::clone(&residence));
        residence.look(&items, FolderId(1));
        let run = ((n as u128 + 1) << 64) | (machine.starts << 32);
        let fresh = Fresh {
            disk_id: DiskId(n as u128 + 1),
            incarnation: Incarnation(run),
        };
        let news = Arc::new(Mutex::new(Vec::new()));
        let open = || {
            let image = machine.image.clone();
            let found = Found {
                damaged: !image.damaged.is_empty(),
                confirm: PhysicalOffset(image.confirm),
            };
            let mut log = MemoryLog::open(image, policy.clone(), machine.file_bytes);
            let tell = &mut |item: News| news.lock().push(item);
            let started = start(&items, &mut log, found, fresh, Held::Refuse, tell);
            started.map(|recovered| (log, recovered))
        };
        let opened = match open() {
            // The next start finishes it.
            Err(StartError::Cut { .. }) => open(),
            opened => opened,
        };
        let (log, recovered) = opened.unwrap();
        let (net, requests) = (MemoryNet::default(), MemoryRequests::default());
        let seen = (
            log.clone(),
            net.clone(),
            requests.clone(),
            Arc::clone(&news),
        );
        dir.freeze_by(move |dir, end| {
            let (log, net, requests, news) = &seen;
            // A request that was sent by then may arrive or not: here it does not.
            requests.take();
            let (dir, image) = end.left_of(dir, log.image());
            Frozen {
                end,
                dir,
                image,
                wishes: std::iter::from_fn(|| net.take()).collect(),
                told: log.take_told(),
                news: news.lock().clone(),
            }
        });
        let heard = Arc::clone(&news);
        let reader = MemoryReader::default();
        let parts = Parts {
            items,
            log: log.clone(),
            reader: Box::new(reader.clone()),
            net: net.clone(),
            coordinator: Binding {
                requests: requests.clone(),
                board: Arc::clone(&board),
                version: Arc::clone(&self.version),
            },
            observer: Box::new(move |news| heard.lock().push(news)) as Watcher,
            board: Arc::clone(&board),
        };
        machine.process = Some(Process {
            actor: Actor::new(plan.options_of(n), recovered, parts, self.now_ms),
            log,
            board,
            net,
            requests,
            reader,
            is_slow: false,
            dir,
            news,
            moved,
            answer: None,
            checked: 0,
            needs_restart: false,
        });
        self.step(n, None);
    }

    /// The process ends, and with `Power` its machine loses what was not flushed.
    pub(crate) fn crash(&mut self, n: usize, end: End) {
        let Some(process) = self.machines[n].process.take() else {
            return;
        };
        let left = end.left_of(process.dir.memory(), process.log.image());
        self.lose_memory(n, end);
        self.bury(n, left);
    }

    /// What is in memory only goes with the power.
    fn lose_memory(&mut self, n: usize, end: End) {
        if end != End::Kill {
            self.machines[n].shelf = MemoryDirectory::default();
            self.machines[n].boots += 1;
        }
    }

    pub(crate) fn bury(&mut self, n: usize, left: (MemoryDirectory, Image)) {
        let machine = &mut self.machines[n];
        machine.process = None;
        (machine.dir, machine.image) = left;
        machine.hinted = Version(0);
        self.dials.retain(|(from, _, _)| *from != n);
        for wire in &mut self.wires {
            for side in 0..2 {
                if wire.ends[side].0 == n {
                    wire.is_open[side] = false;
                    wire.to[side].clear();
                }
            }
        }
        self.drop_dead_wires();
    }

    /// An orderly stop.
    pub(crate) fn stop(&mut self, n: usize) {
        let Some(process) = self.machines[n].process.take() else {
            return;
        };
        let (dir, log) = (process.dir.memory().clone(), process.log.clone());
        let mark = process.actor.end();
        self.hear(n, log.take_told());
        log.flush();
        log.checkpoint();
        if let Some(mark) = mark {
            Items::new(Arc::new(dir.clone())).save_clean(&mark).unwrap();
        }
        self.bury(n, End::Kill.left_of(&dir, log.image()));
    }

    /// The next step of `n` ends with a crash before one of its changes to the small files, if it makes so many.
    pub(crate) fn light(&mut self, n: usize, left: u64, end: End) {
        self.process(n).dir.light(left, end);
    }

    pub(crate) fn step(&mut self, n: usize, event: Option<Event>) {
        let now_ms = self.now_ms;
        let Some(process) = self.machines[n].process.as_mut() else {
            return;
        };
        *process.moved.lock() = false;
        let next = process.actor.step(now_ms, event);
        assert!(next > now_ms, "it wants to be called again at once");
        let frozen = process.dir.take_frozen();
        if let Some(frozen) = frozen {
            let Frozen {
                end,
                dir,
                image,
                wishes,
                told,
                news,
            } = frozen;
            self.lose_memory(n, end);
            self.news.extend(news.into_iter().map(|news| (n, news)));
            self.hear(n, told);
            for wish in wishes {
                self.carry(n, wish);
            }
            self.bury(n, (dir, image));
            return;
        }
        self.after(n);
    }

    /// Carries what the process wants, and hears what its senders were told.
    pub(crate) fn after(&mut self, n: usize) {
        let process = self.process(n);
        let wishes: Vec<Wish> = std::iter::from_fn(|| process.net.take()).collect();
        let told = process.log.take_told();
        let news = std::mem::take(&mut *process.news.lock());
        let needs_restart = news.contains(&News::NeedsRestart);
        self.news.extend(news.into_iter().map(|news| (n, news)));
        self.hear(n, told);
        for wish in wishes {
            self.carry(n, wish);
        }
        if let Some(process) = &mut self.machines[n].process {
            process.needs_restart |= needs_restart;
        }
        self.check(n);
    }

    /// The process of `n` is about to stop; whether something is still to come of what it does before.
    pub(crate) fn takes_leave(&mut self, n: usize) -> bool {
        let process = self.machines[n].process.as_mut().expect("it runs");
        let goes_on = process.actor.take_leave();
        self.after(n);
        goes_on
    }

    /// The actor of `n` wakes up if its log moved, or gave what another replica lacks.
    pub(crate) fn wake(&mut self, n: usize) -> bool {
        let has_read = self.read_range(n);
        let moved = self.machines[n].process.as_ref();
        let is_moved = moved.is_some_and(|process| *process.moved.lock());
        if is_moved {
            self.step(n, Some(Event::LogMoved));
        }
        is_moved || has_read
    }

    /// What `n` is to read for another replica is read, unless its disk is slow. Returns whether there was something.
    pub(crate) fn read_range(&mut self, n: usize) -> bool {
        let process = self.machines[n].process.as_ref();
        let Some(process) = process.filter(|process| !process.is_slow) else {
            return false;
        };
        let Some((offset, length)) = process.reader.take() else {
            return false;
        };
        let read = process.log.read_range(offset, length);
        let read = read.map(|bytes| Range::of(offset, bytes));
        let read = read.map_err(|error| error.to_string());
        self.step(n, Some(Event::RangeRead(read)));
        true
    }

    /// Whether the disk of `n` gives other replicas nothing, from here on.
    pub(crate) fn slow(&mut self, n: usize, is_slow: bool) {
        let process = self.machines[n].process.as_mut().expect("it runs");
        process.is_slow = is_slow;
    }
}
