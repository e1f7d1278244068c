//! A group: machines with disks, processes on them, wires between them, a coordinator, an elector and a sender.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rocket_ha::memory::{Image, MemoryLog, MemoryNet, MemoryRequests, Request, Told, Wish};
use rocket_ha::{
    Actor, Answers, Board, BootId, Candidates, Event, FolderId, Found, Fresh, GroupPolicy, Held,
    Items, News, Options, Parts, Residence, SelfElection, Shelf, StartError, Timing, start,
};
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_replication::coordinator::{Cas, ReadAnswer};
use rocket_replication::elector::{Circumstances, Decision, decide};
use rocket_replication::fixed::may_write;
use rocket_replication::identity::Proposals;
use rocket_replication::memory::{Fate, Memory};
use rocket_replication::messages::{LinkId, Report};
use rocket_replication::mutations::Mutations;
use rocket_replication::replica::{Flush, Replica, Settings, Writes};
use rocket_replication::{
    DiskId, GroupUid, Incarnation, Member, PhysicalOffset, Policy, Proposal, State, Version,
};

use crate::fuse::{Frozen, FusedDirectory};

mod healing;
mod wires;

use wires::Wire;

/// A handful of records.
const FILE_BYTES: u64 = 160;

type Watcher = Box<dyn FnMut(News)>;

#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) replicas: usize,
    pub(crate) min_in_sync: u8,
    pub(crate) flush: Flush,
    pub(crate) answers: Answers,
    /// The modes that the object begins with, if it asks for any.
    pub(crate) policy: Option<Policy>,
    pub(crate) mutations: Mutations,
    /// Nobody else elects.
    pub(crate) elects_itself: bool,
    /// The first one is the fixed master.
    pub(crate) is_fixed: bool,
}

impl Plan {
    pub(crate) fn sync(replicas: usize, min_in_sync: u8) -> Self {
        Self {
            replicas,
            min_in_sync,
            flush: Flush::Sync,
            answers: Answers::Committed,
            policy: None,
            mutations: Mutations::default(),
            elects_itself: false,
            is_fixed: false,
        }
    }

    fn options_of(self, n: usize) -> Options {
        Options {
            settings: Settings {
                flush: self.flush,
                address: n.to_string(),
                window_bytes_max: 200,
            },
            timing: Timing::default(),
            answers: self.answers,
            self_election: self.elects_itself.then(|| SelfElection {
                candidates: match (self.is_fixed, n) {
                    (false, _) => Candidates::All,
                    (true, 0) => Candidates::ThisOne,
                    (true, _) => Candidates::Another,
                },
                expected_replicas: self.replicas,
                ..SelfElection::default()
            }),
            data_bytes_target: 60,
            mutations: self.mutations,
        }
    }
}

pub(crate) struct Process {
    pub(crate) actor: Actor<MemoryLog, MemoryNet, Binding, Watcher>,
    pub(crate) log: MemoryLog,
    pub(crate) board: Arc<Board>,
    pub(crate) net: MemoryNet,
    pub(crate) requests: MemoryRequests,
    pub(crate) dir: FusedDirectory,
    pub(crate) news: Arc<Mutex<Vec<News>>>,
    pub(crate) moved: Arc<Mutex<bool>>,
    /// The answer of the coordinator that is on its way.
    pub(crate) answer: Option<Event>,
    /// What was committed when that was looked at last.
    pub(crate) checked: u64,
    pub(crate) needs_restart: bool,
}

/// Looks, when a write leaves, whether answers are bound already by the modes that it says are in force (A2 of §5.1).
pub(crate) struct Binding {
    requests: MemoryRequests,
    board: Arc<Board>,
    version: Arc<AtomicU64>,
}

impl rocket_ha::Coordinator for Binding {
    fn read(&mut self) {
        self.requests.read();
    }

    fn cas(&mut self, cas: Cas) {
        // One that a newer version has overtaken while it waited for its turn can never be applied.
        let may_apply = cas.expected.0 == self.version.load(Ordering::Relaxed);
        if let (true, Some(said), Some(bound)) = (may_apply, cas.new.in_force, self.board.modes()) {
            let strongest = bound.stronger(said.policy());
            assert_eq!(bound, strongest, "said before it binds");
        }
        self.requests.cas(cas);
    }
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

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now_ms: u64,
    pub(crate) memory: Memory,
    /// Of the object.
    version: Arc<AtomicU64>,
    pub(crate) history: Vec<Arc<State>>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) wires: Vec<Wire>,
    pub(crate) dials: VecDeque<(usize, LinkId, usize)>,
    pub(crate) elector: Proposals,
    pub(crate) tickets: u64,
    /// Where each message was appended, and what it says.
    pub(crate) sent: BTreeMap<u64, (u64, Vec<u8>)>,
    pub(crate) acked: BTreeSet<u64>,
    /// Told that their outcome is unknown.
    pub(crate) unknown: BTreeSet<u64>,
    /// Every byte that any process ever took for committed.
    pub(crate) committed: Vec<u8>,
    pub(crate) news: Vec<(usize, News)>,
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
    /// Nobody runs yet.
    pub(crate) fn new(plan: Plan) -> Self {
        let mut state = State::new(GroupUid(7), plan.min_in_sync, Proposal(1));
        if let Some(policy) = plan.policy {
            state = state.begun_with(policy);
        }
        let machine = || Machine {
            dir: MemoryDirectory::default(),
            image: Image::default(),
            process: None,
            starts: 0,
            shelf: MemoryDirectory::default(),
            boots: 0,
            file_bytes: FILE_BYTES,
            hinted: Version(0),
        };
        Self {
            plan,
            now_ms: 1_000,
            history: vec![Arc::new(state.clone())],
            version: Arc::new(AtomicU64::new(state.version.0)),
            memory: Memory::new(state, plan.mutations),
            machines: (0..plan.replicas).map(|_| machine()).collect(),
            wires: Vec::new(),
            dials: VecDeque::new(),
            elector: Proposals::new(1 << 120),
            tickets: 0,
            sent: BTreeMap::new(),
            acked: BTreeSet::new(),
            unknown: BTreeSet::new(),
            committed: Vec::new(),
            news: Vec::new(),
        }
    }

    /// All run and follow a master that takes sends.
    pub(crate) fn healthy(plan: Plan) -> Self {
        let mut world = Self::new(plan);
        for n in 0..plan.replicas {
            world.start(n);
        }
        world.heal();
        world
    }

    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(self.memory.state().unwrap())
    }

    pub(crate) fn process(&self, n: usize) -> &Process {
        self.machines[n].process.as_ref().expect("it runs")
    }

    pub(crate) fn replica(&self, n: usize) -> &Replica {
        self.process(n).actor.replica()
    }

    pub(crate) fn is_up(&self, n: usize) -> bool {
        self.machines[n].process.is_some()
    }

    pub(crate) fn machine_of(&self, member: Member) -> Option<usize> {
        (0..self.machines.len())
            .find(|n| self.is_up(*n) && self.replica(*n).member() == Some(member))
    }

    /// Who takes sends.
    pub(crate) fn open_master(&self) -> Option<usize> {
        let n = self.machine_of(self.state().master?)?;
        (self.process(n).board.writes() == Writes::Open && self.process(n).log.takes_sends())
            .then_some(n)
    }

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
        let parts = Parts {
            items,
            log: log.clone(),
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

    pub(crate) fn hear(&mut self, _n: usize, told: Vec<(u64, Told)>) {
        for (ticket, told) in told {
            match told {
                Told::Ok => assert!(self.acked.insert(ticket), "answered twice"),
                Told::Unknown => assert!(self.unknown.insert(ticket), "answered twice"),
            }
        }
    }

    /// The request of `n` reaches the coordinator; the answer is on its way. Returns whether there was one.
    pub(crate) fn request(&mut self, n: usize, fate: Fate) -> bool {
        let Some(process) = self.machines[n].process.as_ref() else {
            return false;
        };
        let answer = match process.requests.take() {
            None => return false,
            Some(Request::Read) if fate == Fate::AnswerLost => Event::Read(ReadAnswer::Unreachable),
            Some(Request::Read) => Event::Read(self.memory.read()),
            Some(Request::Cas(cas)) => {
                let proposal = cas.new.proposal;
                if self.plan.is_fixed && n > 0 {
                    self.check_rights(n, &cas);
                }
                let answer = self.memory.cas(cas, fate).expect("a well-formed write");
                Event::Cas { proposal, answer }
            }
        };
        let process = self.machines[n].process.as_mut().expect("it runs");
        assert!(process.answer.replace(answer).is_none(), "one at a time");
        self.remember();
        true
    }

    /// The register of a fixed master would not apply anything else.
    fn check_rights(&self, n: usize, cas: &Cas) {
        let state = self.state();
        let writer = DiskId(n as u128 + 1);
        assert!(
            state.version != cas.expected || may_write(&state, &cas.new, writer),
            "{n} writes what is not its own: {state:?} {:?}",
            cas.new
        );
    }

    /// The coordinator's answer reaches `n`.
    pub(crate) fn answer(&mut self, n: usize) -> bool {
        let process = self.machines[n].process.as_mut();
        let Some(event) = process.and_then(|process| process.answer.take()) else {
            return false;
        };
        self.step(n, Some(event));
        true
    }

    pub(crate) fn remember(&mut self) {
        let state = self.state();
        self.version.store(state.version.0, Ordering::Relaxed);
        if self.history.last() != Some(&state) {
            self.history.push(state);
        }
    }

    pub(crate) fn reports(&self) -> Vec<Report> {
        let up = (0..self.machines.len()).filter(|n| self.is_up(*n));
        up.filter_map(|n| self.replica(n).report()).collect()
    }

    /// One try of the elector, by these reports.
    pub(crate) fn elect(&mut self, reports: &[Report], is_master_suspected: bool) {
        let state = self.state();
        let circumstances = Circumstances {
            reports,
            master_suspected: is_master_suspected,
            waited: true,
            ..Circumstances::default()
        };
        let proposal = self.elector.fresh();
        if let Decision::Elect(new) = decide(&state, &circumstances, proposal, self.plan.mutations)
        {
            let cas = Cas {
                expected: state.version,
                new: Arc::new(*new),
            };
            self.memory.cas(cas, Fate::Answered).unwrap();
            self.remember();
        }
    }

    /// Somebody asks the master to hand over.
    pub(crate) fn ask_handover(&mut self, n: usize) {
        if let Some(member) = self.replica(n).member() {
            let to = Some(member.replica_id);
            self.write(|state, proposal| state.handover_asked(proposal, to));
        }
    }

    /// Somebody asks for other modes.
    pub(crate) fn ask_for(&mut self, policy: Policy) {
        self.write(|state, proposal| state.with_policy(proposal, policy));
    }

    /// Somebody changes the object.
    fn write(&mut self, change: impl FnOnce(&State, Proposal) -> State) {
        let state = self.state();
        let new = change(&state, self.elector.fresh());
        let cas = Cas {
            expected: state.version,
            new: Arc::new(new),
        };
        self.memory.cas(cas, Fate::Answered).unwrap();
        self.remember();
    }

    /// The process of `n` is about to stop; whether something is still to come of what it does before.
    pub(crate) fn takes_leave(&mut self, n: usize) -> bool {
        let process = self.machines[n].process.as_mut().expect("it runs");
        let goes_on = process.actor.take_leave();
        self.after(n);
        goes_on
    }

    /// A watch shows `n` a state, however old.
    pub(crate) fn hint(&mut self, n: usize, state: Arc<State>) {
        self.step(n, Some(Event::Watched(state)));
    }

    /// The watch of `n` shows the present state, if it did not yet.
    pub(crate) fn show(&mut self, n: usize) -> bool {
        let state = self.state();
        let is_news = self.is_up(n) && self.machines[n].hinted < state.version;
        if is_news {
            self.machines[n].hinted = state.version;
            self.hint(n, state);
        }
        is_news
    }

    /// A message of `len` bytes for the log of `n`. Returns its ticket if it was taken.
    pub(crate) fn send(&mut self, n: usize, len: u64) -> Option<u64> {
        let ticket = self.tickets + 1;
        let mut payload = ticket.to_be_bytes().to_vec();
        payload.resize(8 + usize::try_from(len).unwrap(), b'.');
        let log = self.machines[n].process.as_ref()?.log.clone();
        let at = log.send(&payload, ticket).ok()?.0;
        self.tickets = ticket;
        self.sent.insert(ticket, (at, payload));
        self.hear(n, log.take_told());
        Some(ticket)
    }

    /// A flush of `n` ends.
    pub(crate) fn flush(&mut self, n: usize) {
        if let Some(process) = &self.machines[n].process {
            let log = process.log.clone();
            log.flush();
            self.hear(n, log.take_told());
        }
    }

    /// The actor of `n` wakes up if its log moved.
    pub(crate) fn wake(&mut self, n: usize) -> bool {
        let moved = self.machines[n].process.as_ref();
        let is_moved = moved.is_some_and(|process| *process.moved.lock());
        if is_moved {
            self.step(n, Some(Event::LogMoved));
        }
        is_moved
    }

    /// An answer of the coordinator is on its way to `n`.
    pub(crate) fn is_answering(&self, n: usize) -> bool {
        self.process(n).answer.is_some()
    }
}
