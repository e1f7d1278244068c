//! A group: machines with disks, processes on them, wires between them, a coordinator, an elector and a sender.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rocket_ha::memory::{Image, Told};
use rocket_ha::{Answers, Candidates, News, Options, SelfElection, Timing};
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_replication::identity::Proposals;
use rocket_replication::memory::Memory;
use rocket_replication::messages::LinkId;
use rocket_replication::mutations::Mutations;
use rocket_replication::replica::{Flush, Replica, Settings, Writes};
use rocket_replication::{GroupUid, Member, Policy, Proposal, State, Version};

mod coordinator;
mod healing;
mod processes;
mod wires;

pub(crate) use processes::End;
use processes::{Machine, Process};
use wires::Wire;

/// A handful of records.
const FILE_BYTES: u64 = 160;

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
    /// The coordinator applies no write, and says so at once.
    pub(crate) refuses: bool,
    /// Requests that it answered.
    pub(crate) requests: u64,
    /// Every byte that any process ever took for committed.
    pub(crate) committed: Vec<u8>,
    pub(crate) news: Vec<(usize, News)>,
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
            refuses: false,
            requests: 0,
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

    pub(crate) fn hear(&mut self, _n: usize, told: Vec<(u64, Told)>) {
        for (ticket, told) in told {
            match told {
                Told::Ok => assert!(self.acked.insert(ticket), "answered twice"),
                Told::Unknown => assert!(self.unknown.insert(ticket), "answered twice"),
            }
        }
    }
}
