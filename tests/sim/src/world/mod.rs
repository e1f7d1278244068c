//! A group: machines with disks, processes on them, wires between them, the coordinator's register, electors, senders and
//! consumers; and the ledger that judges them.

mod clients;
mod electors;
mod faults;
mod healing;
mod invariants;
mod ledger;
mod machines;
mod modes;
mod run;
mod serving;
mod wires;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rocket_ha::memory::{Image, MemoryNet, MemoryReader, MemoryRequests, Told, Wish};
use rocket_ha::{Actor, Board, Event, News};
use rocket_mapped_file::memory::{Dice, MemoryDirectory};
use rocket_replication::effect::Halt;
use rocket_replication::memory::Memory;
use rocket_replication::messages::{LinkId, Range};
use rocket_replication::replica::{Flush, Replica};
use rocket_replication::{DiskId, Epoch, GroupUid, Member, Proposal, ReplicaId, State, Version};

use crate::fuse::FusedDirectory;
use crate::log::{Followed, GroupLog, Mirror};
use crate::plan::Plan;
use crate::trace::Trace;

use clients::Clients;
use electors::Elector;
use ledger::Ledger;
use wires::Wire;

pub use ledger::Reached;
pub(crate) use run::run;

type Watcher = Box<dyn FnMut(News)>;

/// One run of a replica.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the run"
)]
pub(crate) struct Process<L> {
    actor: Actor<L, MemoryNet, MemoryRequests, Watcher>,
    log: L,
    board: Arc<Board>,
    net: MemoryNet,
    requests: MemoryRequests,
    reader: MemoryReader,
    dir: FusedDirectory,
    news: Arc<Mutex<Vec<News>>>,
    moved: Arc<AtomicBool>,
    /// The answer of the coordinator that is on its way.
    answer: Option<Event>,
    mirror: Mirror,
    /// What was known when it was looked at last: highest epoch and version, version acted on, confirm.
    known: (Epoch, Version, Version, u64),
    flush: Flush,
    /// It led when it was looked at last.
    has_led: bool,
    /// How far it followed the snapshots in its log when it was looked at last.
    followed: Followed,
    /// The epoch in which it serves clients, if it ever did.
    serves: Option<Epoch>,
    halted: Option<Halt>,
    needs_restart: bool,
    is_failure_told: bool,
    is_paused: bool,
}

/// What outlives a process.
pub(crate) struct Machine<L> {
    dir: MemoryDirectory,
    /// Where its residence proof is, and how often the machine lost power.
    shelf: MemoryDirectory,
    boots: u128,
    image: Image,
    process: Option<Process<L>>,
    disk: DiskId,
    starts: u128,
    /// Of its next process.
    flush: Flush,
    /// While no process runs: what the next one will find in the log.
    last: Mirror,
    /// What its last process knew when it was looked at: how far the log is committed, and the log's last epoch.
    knew: (u64, Epoch),
    /// The newest version that a watch showed the process.
    hinted: Version,
    clock_ms: u64,
    is_cut_off: bool,
}

/// See the module.
pub(crate) struct World<L> {
    plan: Plan,
    dice: Dice,
    trace: Trace,
    memory: Memory,
    /// Every state that the object ever had.
    history: Vec<Arc<State>>,
    /// The object as it is, while everybody is shown an old copy.
    forgotten: Option<Arc<State>>,
    machines: Vec<Machine<L>>,
    wires: Vec<Wire>,
    dials: VecDeque<(usize, LinkId, usize)>,
    /// Nothing arrives from the first at the second.
    stalled: Vec<(usize, usize)>,
    electors: Vec<Elector>,
    clients: Clients,
    ledger: Ledger,
    disks: u128,
}

impl<L: GroupLog> World<L> {
    fn new(plan: Plan, trace: Trace) -> Self {
        let mut state = State::new(GroupUid(7), plan.column.min_in_sync(), Proposal(1));
        if plan.changes_modes() && plan.begins_with_modes {
            state = state.begun_with(plan.column.policy());
        }
        let machine = |n: usize| Machine {
            dir: MemoryDirectory::default(),
            shelf: MemoryDirectory::default(),
            boots: 0,
            image: Image::default(),
            process: None,
            disk: DiskId(n as u128 + 1),
            starts: 0,
            flush: plan.column.flush(),
            last: Mirror::default(),
            knew: (0, Epoch(0)),
            hinted: Version(0),
            clock_ms: 1_000,
            is_cut_off: false,
        };
        let replicas = plan.column.replicas();
        Self {
            dice: Dice::new(plan.seed),
            trace,
            history: vec![Arc::new(state.clone())],
            memory: Memory::new(state, plan.mutations),
            forgotten: None,
            machines: (0..replicas).map(machine).collect(),
            wires: Vec::new(),
            dials: VecDeque::new(),
            stalled: Vec::new(),
            electors: (0..2).map(Elector::new).collect(),
            clients: Clients::new(),
            ledger: Ledger::default(),
            disks: replicas as u128,
            plan,
        }
    }

    fn say(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.say(line);
    }

    /// The object as it truly is.
    fn state(&self) -> Arc<State> {
        let shown = self.forgotten.as_ref().or(self.memory.state());
        // The register of this world is never empty.
        shown.map_or_else(|| Arc::clone(&self.history[0]), Arc::clone)
    }

    fn process(&self, n: usize) -> Option<&Process<L>> {
        self.machines[n].process.as_ref()
    }

    fn replica(&self, n: usize) -> Option<&Replica> {
        self.process(n).map(|process| process.actor.replica())
    }

    fn is_up(&self, n: usize) -> bool {
        self.machines[n].process.is_some()
    }

    /// Whether it runs and does not stand still.
    fn is_awake(&self, n: usize) -> bool {
        self.process(n).is_some_and(|process| !process.is_paused)
    }

    fn machine_of(&self, member: Member) -> Option<usize> {
        (0..self.machines.len())
            .find(|n| self.replica(*n).and_then(Replica::member) == Some(member))
    }

    /// Which replica the object knows this machine's disk as.
    fn id_of(&self, n: usize) -> Option<ReplicaId> {
        let state = self.state();
        state.replica_of(self.machines[n].disk).map(|(id, _)| id)
    }

    /// What the machine holds, whether or not a process runs on it.
    fn held_by(&self, n: usize) -> &Mirror {
        let machine = &self.machines[n];
        match &machine.process {
            Some(process) => &process.mirror,
            None => &machine.last,
        }
    }

    fn step(&mut self, n: usize, event: Option<Event>) {
        let now_ms = self.machines[n].clock_ms;
        let Some(process) = self.machines[n].process.as_mut() else {
            return;
        };
        if process.is_paused {
            // Whoever brings an event looks at this first; time alone passes.
            return;
        }
        process.moved.store(false, Ordering::Relaxed);
        let next = process.actor.step(now_ms, event);
        let frozen = process.dir.take_frozen();
        if next <= now_ms {
            self.fail(format!("{n} wants to be called again at once"));
        }
        match frozen {
            Some(frozen) => self.froze(n, frozen),
            None => self.after(n),
        }
    }

    /// Judges what the step came to, carries what the process wants, and hears what its senders were told.
    fn after(&mut self, n: usize) {
        let Some(process) = self.machines[n].process.as_mut() else {
            return;
        };
        let wishes: Vec<Wish> = std::iter::from_fn(|| process.net.take()).collect();
        let told = process.log.take_told();
        let news = std::mem::take(&mut *process.news.lock());
        self.judge_step(n, &news);
        self.note_news(n, news);
        self.hear(n, told);
        for wish in wishes {
            self.carry(n, wish);
        }
        self.tell_failure(n);
    }

    fn note_news(&mut self, n: usize, news: Vec<News>) {
        for item in news {
            self.say(format_args!("  {n}: {item:?}"));
            if let Some(process) = self.machines[n].process.as_mut() {
                match item {
                    News::Halted(why) => process.halted = Some(why),
                    News::NeedsRestart => process.needs_restart = true,
                    _ => {}
                }
            }
        }
    }

    /// A store that failed says so, once, as it does in a broker.
    fn tell_failure(&mut self, n: usize) {
        if let Some(process) = self.machines[n].process.as_mut()
            && process.log.has_failed()
            && !process.is_failure_told
            && !process.is_paused
        {
            process.is_failure_told = true;
            self.say(format_args!("  the disk of {n} failed"));
            self.step(n, Some(Event::LogFailed));
        }
    }

    /// The actor of `n` wakes up if its log moved, or gave what another replica lacks.
    fn wake(&mut self, n: usize) -> bool {
        let has_read = self.read_range(n);
        let is_moved = self.is_awake(n)
            && self
                .process(n)
                .is_some_and(|process| process.moved.load(Ordering::Relaxed));
        if is_moved {
            self.step(n, Some(Event::LogMoved));
        }
        is_moved || has_read
    }

    /// What `n` is to read for another replica is read. Returns whether there was something.
    fn read_range(&mut self, n: usize) -> bool {
        let process = self.process(n).filter(|process| !process.is_paused);
        let asked = process.and_then(|process| Some((process, process.reader.take()?)));
        let Some((process, (offset, length))) = asked else {
            return false;
        };
        let read = process.log.read_range(offset, length);
        let read = read.map(|bytes| Range::of(offset, bytes));
        let read = read.map_err(|error| error.to_string());
        self.say(format_args!(
            "{n} reads {length} bytes at {offset} for another replica"
        ));
        self.step(n, Some(Event::RangeRead(read)));
        true
    }

    /// A flush of `n` ends.
    fn flush(&mut self, n: usize) {
        if !self.is_awake(n) {
            return;
        }
        let Some(process) = self.machines[n].process.as_mut() else {
            return;
        };
        process.log.flush();
        if let Some(frozen) = process.dir.take_frozen() {
            self.froze(n, frozen);
            return;
        }
        process.log.refresh(&mut process.mirror);
        let told = process.log.take_told();
        self.hear(n, told);
        self.tell_failure(n);
    }

    /// The store of `n` does something of its own.
    fn keep_house(&mut self, n: usize, kind: u64) {
        if !self.is_awake(n) {
            return;
        }
        let Some(process) = self.machines[n].process.as_mut() else {
            return;
        };
        process.log.keep_house(kind);
        if self.plan.has_snapshots() {
            process.followed = process.log.follow_snapshots();
        }
        if let Some(frozen) = process.dir.take_frozen() {
            self.froze(n, frozen);
            return;
        }
        if self.plan.changes_modes() {
            // An answer is judged by what is in force when it is given.
            let told = process.log.take_told();
            self.hear(n, told);
        }
        self.judge_visible(n);
        self.tell_failure(n);
        if self.plan.has_snapshots() {
            self.take_snapshot_if_due(n);
        }
    }

    fn hear(&mut self, n: usize, told: Vec<(u64, Told)>) {
        for (ticket, told) in told {
            self.told(n, ticket, told);
        }
    }

    /// What the disks of all machines hold, by replica.
    fn replicas_on_disks(&self) -> BTreeMap<ReplicaId, usize> {
        let machines = 0..self.machines.len();
        machines
            .filter_map(|n| self.id_of(n).map(|id| (id, n)))
            .collect()
    }
}
