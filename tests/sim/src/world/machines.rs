//! Processes begin and end: by a start, an orderly stop, a kill, a loss of power, a lost disk, or in the middle of a step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rocket_ha::memory::{Image, MemoryNet, MemoryReader, MemoryRequests};
use rocket_ha::{
    Actor, Board, BootId, FolderId, Fresh, GroupPolicy, Held, Items, News, Options, Parts,
    Residence, SelfElection, Shelf, StartError, Timing,
};
use rocket_mapped_file::Directory;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_replication::mutations::Mutations;
use rocket_replication::replica::{Flush, Recovered, Settings};
use rocket_replication::{DiskId, Epoch, Incarnation, Version};

use super::ledger::Loss;
use super::{Process, Watcher, World};
use crate::fuse::{End, Frozen, FusedDirectory, fused};
use crate::log::{Followed, GroupLog, Mirror};
use crate::plan::Plan;

/// A log that is open, and what its replica begins with.
struct Opened<L> {
    dir: FusedDirectory,
    board: Arc<Board>,
    moved: Arc<AtomicBool>,
    items: Items,
    log: L,
    recovered: Recovered,
    news: Heard,
}

/// What a process told, from its start on.
type Heard = Arc<Mutex<Vec<News>>>;

/// A start that did not become a process.
enum Unopened {
    /// It ended in the middle.
    Frozen(Box<Frozen>),
    /// It gave up.
    Refused(String),
}

/// How a flush mode is called by the store.
fn flush_of_store(flush: Flush) -> rocket_store::Flush {
    match flush {
        Flush::Sync => rocket_store::Flush::Sync,
        Flush::Async => rocket_store::Flush::Async,
    }
}

impl<L: GroupLog> World<L> {
    /// Starts a process; with a fuse it ends before so many changes of its disk, if the start makes as many.
    pub(super) fn start(&mut self, n: usize, fuse: Option<(u64, End)>) {
        self.machines[n].starts += 1;
        match self.open(n, fuse) {
            Ok(opened) => self.begin(n, opened),
            Err(Unopened::Frozen(frozen)) => {
                self.say(format_args!("{n} starts, and ends in the middle of it"));
                self.ledger.reached.mid_step += 1;
                self.note_cuts(n, &frozen.news);
                let Frozen {
                    end,
                    dir,
                    shelf,
                    image,
                    ..
                } = *frozen;
                self.machines[n].shelf = shelf;
                self.bury(n, end, (dir, image), None);
            }
            Err(Unopened::Refused(error)) => {
                self.say(format_args!("{n} does not start: {error}"));
                // The lock and what else the attempt held is gone; the disk is as the attempt left it.
                let machine = &mut self.machines[n];
                machine.dir = machine.dir.killed();
                // §8.15: a full disk is waited out.
                let is_full = machine.dir.space().is_ok_and(|it| it.capacity < u64::MAX);
                self.machines[n].last = self.survey(n).unwrap_or_default();
                if !is_full {
                    self.fail(format!("machine {n} does not start: {error}"));
                }
            }
        }
    }

    fn open(&mut self, n: usize, fuse: Option<(u64, End)>) -> Result<Opened<L>, Unopened> {
        let plan = self.plan;
        let machine = &self.machines[n];
        let dir = fused(machine.dir.clone(), plan.mutations);
        let board = Arc::new(Board::default());
        let moved = Arc::new(AtomicBool::new(false));
        let set = Arc::clone(&moved);
        board.wake_by(move || set.store(true, Ordering::Relaxed));
        let flush = flush_of_store(machine.flush);
        let policy = GroupPolicy::new(Arc::clone(&board), flush, plan.column.answers());
        let policy = Arc::new(policy.with_mutations(plan.mutations));
        let residence = Arc::new(residence(machine, plan.mutations));
        let items = Items::new(Arc::new(dir.clone())).proving(Arc::clone(&residence));
        residence.look(&items, FolderId(1));
        let shelf = machine.shelf.clone();
        let fresh = Fresh {
            disk_id: machine.disk,
            incarnation: self.run_of(n),
        };
        let news = Heard::default();
        if let Some((left, end)) = fuse {
            let image = machine.image.clone();
            let shelf = shelf.clone();
            dir.freeze_by(move |dir, end| {
                Frozen::of_start((dir, &shelf), image.clone(), end, Vec::new())
            });
            dir.light(left, end);
        }
        let open = || -> Result<_, (String, bool)> {
            let image = machine.image.clone();
            let opened = L::open(&dir, image, policy.clone(), flush, &residence);
            let (mut log, found) = opened.map_err(|error| (error, false))?;
            if fuse.is_some() {
                let (log, news, shelf) = (log.clone(), Arc::clone(&news), shelf.clone());
                dir.freeze_by(move |dir, end| {
                    let news = news.lock().clone();
                    Frozen::of_start((dir, &shelf), log.left(), end, news)
                });
            }
            let tell = &mut |item: News| news.lock().push(item);
            match rocket_ha::start(&items, &mut log, found, fresh, Held::Refuse, tell) {
                Ok(recovered) => Ok((log, recovered)),
                Err(error) => {
                    let is_cut = matches!(error, StartError::Cut { .. });
                    Err((error.to_string(), is_cut))
                }
            }
        };
        let mut opened = open();
        if let Err((_, true)) = opened {
            // The next start finishes it.
            if let Some(frozen) = dir.take_frozen() {
                return Err(Unopened::Frozen(Box::new(frozen)));
            }
            dir.forget();
            opened = open();
        }
        if let Some(frozen) = dir.take_frozen() {
            return Err(Unopened::Frozen(Box::new(frozen)));
        }
        let (log, recovered) = opened.map_err(|(error, _)| {
            dir.forget();
            Unopened::Refused(error)
        })?;
        Ok(Opened {
            dir,
            board,
            moved,
            items,
            log,
            recovered,
            news,
        })
    }

    /// What is open becomes a process.
    fn begin(&mut self, n: usize, opened: Opened<L>) {
        let Opened {
            dir,
            board,
            moved,
            items,
            log,
            recovered,
            news,
        } = opened;
        let (flush, clock_ms) = (self.machines[n].flush, self.machines[n].clock_ms);
        let starts = self.machines[n].starts;
        let (net, requests) = (MemoryNet::default(), MemoryRequests::default());
        let seen = (
            log.clone(),
            net.clone(),
            requests.clone(),
            Arc::clone(&board),
            Arc::clone(&news),
            self.machines[n].shelf.clone(),
        );
        dir.freeze_by(move |dir, end| {
            let (log, net, requests, board, news, shelf) = &seen;
            let (dir, image) = end.left_of(dir, log.left());
            Frozen {
                end,
                dir,
                shelf: shelf.killed(),
                image,
                wishes: std::iter::from_fn(|| net.take()).collect(),
                request: requests.take(),
                told: log.take_told(),
                committed: board.committed().0,
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
            coordinator: requests.clone(),
            observer: Box::new(move |news: News| heard.lock().push(news)) as Watcher,
            board: Arc::clone(&board),
        };
        let options = options::<L>(&self.plan, n, flush);
        self.say(format_args!(
            "{n} starts, run {starts}: log to {}, confirm {}",
            recovered.log_end, recovered.confirm
        ));
        let mut mirror = Mirror::default();
        log.refresh(&mut mirror);
        self.machines[n].process = Some(Process {
            actor: Actor::new(options, recovered, parts, clock_ms),
            log,
            board,
            net,
            requests,
            reader,
            dir,
            news,
            moved,
            answer: None,
            mirror,
            known: (Epoch(0), Version(0), Version(0), 0),
            flush,
            has_led: false,
            followed: Followed::Later,
            serves: None,
            halted: None,
            needs_restart: false,
            is_failure_told: false,
            is_paused: false,
        });
        self.step(n, None);
    }

    /// The last run that began on `n`.
    pub(super) fn run_of(&self, n: usize) -> Incarnation {
        Incarnation(((n as u128 + 1) << 64) | (self.machines[n].starts << 32))
    }

    /// The process ends now.
    pub(super) fn crash(&mut self, n: usize, end: End) {
        let Some(process) = self.machines[n].process.take() else {
            return;
        };
        self.say(format_args!("{n} ends: {end:?}"));
        process.dir.forget();
        let left = end.left_of(process.dir.memory(), process.log.left());
        let has_failed = process.log.has_failed();
        let mut before = process.mirror;
        process.log.refresh(&mut before);
        self.bury(n, end, left, Some(has_failed));
        self.judge_end(n, end, has_failed, &before);
    }

    /// Nothing runs on `n` any more, and this is left of it. `has_failed`: what the process that ended says of its log; `None`
    /// where none had come to be.
    pub(super) fn bury(
        &mut self,
        n: usize,
        end: End,
        left: (MemoryDirectory, Image),
        has_failed: Option<bool>,
    ) {
        let machine = &mut self.machines[n];
        machine.process = None;
        (machine.dir, machine.image) = left;
        machine.shelf = machine.shelf.killed();
        if end != End::Kill {
            machine.boots += 1;
            // On every other machine somebody has put the proof on a disk.
            if n.is_multiple_of(2) {
                machine.shelf = MemoryDirectory::default();
            }
        }
        machine.hinted = Version(0);
        self.machines[n].last = self.survey(n).unwrap_or_default();
        self.dials.retain(|(from, _, _)| *from != n);
        self.hang_up(n);
        if end != End::Kill || has_failed == Some(true) {
            self.judge_loss(n, Loss::Unflushed);
        }
        self.look_for_the_gone();
    }

    /// What the next start of `n` would find of its log, by a start over a copy of what is left. Nothing if it would not start.
    fn survey(&self, n: usize) -> Option<Mirror> {
        let (machine, plan) = (&self.machines[n], &self.plan);
        let copy = machine.dir.killed();
        copy.set_capacity(u64::MAX);
        let dir = fused(copy, plan.mutations);
        let items = Items::new(Arc::new(dir.clone()));
        let flush = flush_of_store(machine.flush);
        let fresh = Fresh {
            disk_id: machine.disk,
            incarnation: Incarnation(0),
        };
        // A cut that only a start can finish takes another one.
        for _ in 0..2 {
            let board = Arc::new(Board::default());
            let policy = Arc::new(GroupPolicy::new(board, flush, plan.column.answers()));
            let none = Arc::default();
            let opened = L::open(&dir, machine.image.clone(), policy, flush, &none);
            let (mut log, found) = opened.ok()?;
            let deaf = &mut |_: News| {};
            if rocket_ha::start(&items, &mut log, found, fresh, Held::Refuse, deaf).is_ok() {
                let mut mirror = Mirror::default();
                log.refresh(&mut mirror);
                return Some(mirror);
            }
        }
        None
    }

    /// Bits flip on its disk below what is flushed, the scrubber finds it, and the process is killed. Not before it is noted: of
    /// damage that nobody has found nothing is promised.
    pub(super) fn rot_disk(&mut self, n: usize, number: u64) {
        let Some(process) = self.machines[n].process.as_mut() else {
            return;
        };
        process.dir.forget();
        let is_found = !process.log.has_failed() && process.log.rot(&process.dir, number);
        if !is_found {
            self.tell_failure(n);
            return;
        }
        let Some(process) = self.machines[n].process.take() else {
            return;
        };
        self.say(format_args!("bits flip on the disk of {n}, and it ends"));
        self.ledger.reached.rotten += 1;
        let left = End::Kill.left_of(process.dir.memory(), process.log.left());
        self.bury(n, End::Kill, left, Some(process.log.has_failed()));
        self.judge_loss(n, Loss::Disk);
    }

    /// An orderly stop.
    pub(super) fn stop(&mut self, n: usize) {
        if !self.is_awake(n) {
            return;
        }
        let Some(process) = self.machines[n].process.take() else {
            return;
        };
        process.dir.forget();
        self.say(format_args!("{n} stops in order"));
        let (dir, log, mut mirror) = (process.dir.memory().clone(), process.log, process.mirror);
        let mark = process.actor.end();
        log.refresh(&mut mirror);
        self.machines[n].last = mirror.clone();
        self.hear(n, log.take_told());
        log.flush();
        log.keep_house(3);
        log.refresh(&mut mirror);
        if let Some(mark) = mark.filter(|_| !log.has_failed()) {
            // Without it the next start has no such proof.
            let _unproven = Items::new(Arc::new(dir.clone())).save_clean(&mark);
        }
        let (left, has_failed) = (End::Kill.left_of(&dir, log.left()), log.has_failed());
        self.bury(n, End::Kill, left, Some(has_failed));
        self.judge_end(n, End::Kill, has_failed, &mirror);
    }

    /// Its disk is gone, and another one in its place.
    pub(super) fn lose_disk(&mut self, n: usize) {
        self.crash(n, End::Kill);
        self.say(format_args!("{n} gets another disk"));
        self.disks += 1;
        let disk = DiskId(self.disks);
        let machine = &mut self.machines[n];
        machine.last = Mirror::default();
        self.judge_loss(n, Loss::Disk);
        let machine = &mut self.machines[n];
        machine.dir = MemoryDirectory::default();
        machine.image = Image::default();
        machine.disk = disk;
    }

    /// The step ended in its middle.
    pub(super) fn froze(&mut self, n: usize, frozen: Frozen) {
        let end = frozen.end;
        self.say(format_args!("{n} ends in the middle of a step: {end:?}"));
        self.committed_by_dying(n, frozen.committed);
        self.note_cuts(n, &frozen.news);
        for wish in frozen.wishes {
            self.carry(n, wish);
        }
        self.hear(n, frozen.told);
        if let Some(request) = frozen.request {
            self.send_late(request);
        }
        self.ledger.reached.mid_step += 1;
        let process = self.machines[n].process.take();
        if let Some(process) = &process {
            process.dir.forget();
        }
        let has_failed = process.is_some_and(|process| process.log.has_failed());
        self.machines[n].shelf = frozen.shelf;
        self.bury(n, end, (frozen.dir, frozen.image), Some(has_failed));
    }
}

/// What a process on `machine` proves by.
fn residence<L: GroupLog>(machine: &super::Machine<L>, mutations: Mutations) -> Residence {
    let shelf = Shelf {
        dir: Arc::new(machine.shelf.clone()),
        boot: BootId(machine.boots),
    };
    Residence::on(shelf).with_mutations(mutations)
}

fn options<L: GroupLog>(plan: &Plan, n: usize, flush: Flush) -> Options {
    Options {
        settings: Settings {
            flush,
            address: n.to_string(),
            window_bytes_max: 4 * L::DATA_BYTES,
        },
        timing: Timing::default(),
        answers: plan.column.answers(),
        self_election: plan.elects_itself.then(|| SelfElection {
            expected_replicas: plan.column.replicas(),
            ..SelfElection::default()
        }),
        data_bytes_target: L::DATA_BYTES,
        mutations: plan.mutations,
    }
}
