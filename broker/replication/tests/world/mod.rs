//! A small world around the production state machines: disks with a page cache, links that are cut half-open, a coordinator
//! that loses answers and applies writes late, electors that suspect at any time, crashes of processes and of machines.
//!
//! A record is a value, of one byte or several; every send writes a value that was never written before. Ghost state remembers what was ever
//! committed. The searches (`model`) and the random walks (`walks`) drive the same actions.

pub(crate) mod action;
mod answers;
mod checks;
mod enabled;
mod healing;
mod perform;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rocket_replication::coordinator::Cas;
use rocket_replication::effect::Input;
use rocket_replication::epochs::Epochs;
use rocket_replication::identity::*;
use rocket_replication::memory::Memory;
use rocket_replication::messages::{LinkId, Message};
use rocket_replication::mutations::{Mutant, Mutations};
use rocket_replication::recovery::Evidence;
use rocket_replication::replica::{Flush, Recovered, Replica, Settings};
use rocket_replication::{PhysicalOffset, Policy, State};

pub(crate) use action::Action;

/// How much of everything may happen in one run.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) replicas: usize,
    pub(crate) min_in_sync: u8,
    pub(crate) flush: Flush,
    /// A restart may change the flush mode.
    pub(crate) mixed: bool,
    pub(crate) values: u8,
    pub(crate) epochs: u64,
    pub(crate) kills: u8,
    pub(crate) power_cuts: u8,
    /// Writes to the coordinator whose answer is lost, or that come late or twice.
    pub(crate) strange_writes: u8,
    pub(crate) link_cuts: u8,
    /// Times that a member of S is taken for too slow.
    pub(crate) lags: u8,
    pub(crate) handovers: u8,
    /// Changes of m.
    pub(crate) min_changes: u8,
    /// The modes that the object begins with, if it asks for any.
    pub(crate) policy: Option<Policy>,
    /// Changes of them.
    pub(crate) policy_changes: u8,
    /// Signs of life, which carry confirm without data.
    pub(crate) beats: u8,
    /// Orderly stops.
    pub(crate) stops: u8,
    /// Times that a machine loses power in the middle of a step, after some of its effects.
    pub(crate) mid_step_cuts: u8,
    /// Images that are made of disks, and times that one is put back.
    pub(crate) images: u8,
    /// The elector's own decision takes part, besides elections of anyone electable.
    pub(crate) elector: bool,
    /// Elections outside S ∪ E may happen (§8.14).
    pub(crate) unclean: bool,
    /// Slaves notice closed links at once (a reduction for full searches).
    pub(crate) eager_notice: bool,
    /// Bytes of a record.
    pub(crate) record_bytes: u64,
    /// The most bytes in one `Data`, unless one record is larger.
    pub(crate) data_bytes: u64,
    pub(crate) mutations: Mutations,
}

impl Bounds {
    /// Nothing goes wrong.
    pub(crate) fn quiet(replicas: usize, min_in_sync: u8, flush: Flush) -> Self {
        Self {
            replicas,
            min_in_sync,
            flush,
            mixed: false,
            values: 2,
            epochs: 1,
            kills: 0,
            power_cuts: 0,
            strange_writes: 0,
            link_cuts: 0,
            lags: 0,
            handovers: 0,
            min_changes: 0,
            policy: None,
            policy_changes: 0,
            beats: 0,
            stops: 0,
            mid_step_cuts: 0,
            images: 0,
            elector: false,
            unclean: false,
            eager_notice: false,
            record_bytes: 1,
            data_bytes: 1,
            mutations: Mutations::default(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Disk {
    pub(crate) meta: Option<(GroupUid, ReplicaId)>,
    pub(crate) former: Option<Former>,
    pub(crate) max_epoch: Epoch,
    pub(crate) max_version: Version,
    pub(crate) epochs: Epochs,
    /// What the page cache shows.
    pub(crate) log: Vec<u8>,
    /// How much of it survives a power cut.
    pub(crate) durable: usize,
    /// The runs that it knows.
    pub(crate) runs: Option<Vec<Incarnation>>,
    /// The run that stopped in order and was the last to touch it.
    pub(crate) clean: Option<Incarnation>,
    /// All runs that wrote to it, whatever it knows of them.
    pub(crate) touched_by: Vec<Incarnation>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Node {
    pub(crate) disk: Disk,
    pub(crate) replica: Option<Replica>,
    pub(crate) starts: u8,
    /// The runs whose page cache is still there.
    pub(crate) resident: Vec<Incarnation>,
    /// What its disk held once, as after a power cut at that moment.
    pub(crate) image: Option<Disk>,
    pub(crate) flush: Flush,
    /// The write that is out and unanswered.
    pub(crate) cas: Option<Cas>,
    /// How many more effects are performed before the machine loses power.
    pub(crate) fuse: Option<(u8, Crash)>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Wire {
    pub(crate) slave: usize,
    pub(crate) master: usize,
    pub(crate) slave_open: bool,
    pub(crate) master_open: bool,
    pub(crate) to_master: VecDeque<Message>,
    pub(crate) to_slave: VecDeque<Message>,
}

/// What no process knows, kept to judge them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Ghost {
    /// Every byte that was ever below some master's confirm.
    pub(crate) committed: Vec<u8>,
    /// Who began each epoch, and where (I4).
    pub(crate) epochs: BTreeMap<Epoch, (Member, PhysicalOffset)>,
    /// Epochs whose master had a write of its own applied (I16).
    pub(crate) activated: BTreeSet<Epoch>,
    pub(crate) values: u8,
    /// Sends that are not answered yet, where the object asks for modes.
    pub(crate) waits: Vec<answers::Wait>,
    /// How many were.
    pub(crate) answered: u32,
    pub(crate) violation: Option<&'static str>,
}

/// How much has happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) kills: u8,
    pub(crate) power_cuts: u8,
    pub(crate) strange_writes: u8,
    pub(crate) link_cuts: u8,
    pub(crate) lags: u8,
    pub(crate) handovers: u8,
    pub(crate) min_changes: u8,
    pub(crate) policy_changes: u8,
    pub(crate) beats: u8,
    pub(crate) mid_step_cuts: u8,
    pub(crate) images: u8,
    pub(crate) returns: u8,
    pub(crate) stops: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) memory: Memory,
    pub(crate) nodes: Vec<Node>,
    pub(crate) wires: BTreeMap<LinkId, Wire>,
    pub(crate) elector: Proposals,
    pub(crate) ghost: Ghost,
    pub(crate) spent: Spent,
    pub(crate) last_cut: usize,
    /// Bytes that one `Data` takes at a time.
    pub(crate) data_step: u64,
    pub(crate) record_bytes: u64,
}

impl World {
    /// All replicas registered, the first one elected, nothing sent.
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let mut state = State::new(GroupUid(1), bounds.min_in_sync, Proposal(1));
        if let Some(policy) = bounds.policy {
            state = state.begun_with(policy);
        }
        let disk = Disk {
            meta: None,
            former: None,
            max_epoch: Epoch(0),
            max_version: Version(0),
            epochs: Epochs::default(),
            log: Vec::new(),
            durable: 0,
            runs: None,
            clean: None,
            touched_by: Vec::new(),
        };
        let node = Node {
            disk,
            replica: None,
            starts: 0,
            resident: Vec::new(),
            image: None,
            flush: bounds.flush,
            cas: None,
            fuse: None,
        };
        let mut world = Self {
            memory: Memory::new(state, bounds.mutations),
            nodes: vec![node; bounds.replicas],
            wires: BTreeMap::new(),
            elector: Proposals::new(1 << 100),
            ghost: Ghost::default(),
            spent: Spent::default(),
            last_cut: 0,
            data_step: data_step(bounds),
            record_bytes: bounds.record_bytes,
        };
        for n in 0..bounds.replicas {
            world.start(bounds, n, bounds.flush);
            world.calm(bounds);
        }
        world
    }

    /// The object.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(self.memory.state().expect("the object is there"))
    }

    pub(crate) fn start(&mut self, bounds: &Bounds, n: usize, flush: Flush) {
        let node = &mut self.nodes[n];
        node.starts += 1;
        node.flush = flush;
        // §8.2.5: what is no whole record is a torn tail.
        let whole = node.disk.log.len() as u64 / bounds.record_bytes * bounds.record_bytes;
        node.disk.log.truncate(whole as usize);
        node.disk.durable = node.disk.durable.min(node.disk.log.len());
        let log_end = PhysicalOffset(whole);
        node.disk.epochs.drop_beyond(log_end);
        let incarnation = Incarnation((n as u128 + 1) << 64 | u128::from(node.starts) << 32);
        let evidence = Evidence {
            damaged: false,
            clean: node.disk.clean.take(),
            resident: node.resident.clone(),
            noted: node.disk.runs.clone(),
        };
        node.resident.push(incarnation);
        node.disk.touched_by.push(incarnation);
        let settings = Settings {
            flush,
            address: format!("{n}"),
            window_bytes_max: 2 * bounds.data_bytes,
        };
        let recovered = Recovered {
            disk_id: DiskId(n as u128 + 1),
            meta: node.disk.meta,
            former: node.disk.former,
            incarnation,
            max_epoch: node.disk.max_epoch,
            max_version: node.disk.max_version,
            epochs: node.disk.epochs.clone(),
            log_min: PhysicalOffset(0),
            log_end,
            durable_end: PhysicalOffset(node.disk.durable as u64),
            confirm: PhysicalOffset(0),
            evidence,
        };
        node.replica = Some(Replica::new(settings, recovered, bounds.mutations));
        self.step(n, Input::Start);
    }

    /// The process of `n` ends. With `Power`, so does what its machine had not flushed.
    pub(crate) fn crash(&mut self, n: usize, crash: Crash) {
        let node = &mut self.nodes[n];
        node.replica = None;
        node.cas = None;
        node.fuse = None;
        match crash {
            Crash::Kill => {}
            Crash::Stop => {
                node.disk.durable = node.disk.log.len();
                node.disk.clean = node.resident.last().copied();
            }
            Crash::Power => {
                node.resident.clear();
                node.disk.log.truncate(node.disk.durable);
            }
        }
        for wire in self.wires.values_mut() {
            if wire.slave == n {
                wire.slave_open = false;
                wire.to_slave.clear();
            }
            if wire.master == n {
                wire.master_open = false;
                wire.to_master.clear();
            }
        }
        self.drop_dead_wires();
    }

    pub(crate) fn drop_dead_wires(&mut self) {
        self.wires.retain(|_, w| w.slave_open || w.master_open);
    }

    pub(crate) fn fail(&mut self, what: &'static str) {
        self.ghost.violation.get_or_insert(what);
    }

    pub(crate) fn alive(&self, member: Member) -> Option<usize> {
        self.nodes
            .iter()
            .position(|n| n.replica.as_ref().and_then(Replica::member) == Some(member))
    }

    pub(crate) fn bytes(&self, n: usize, from: PhysicalOffset, to: PhysicalOffset) -> Bytes {
        Bytes::copy_from_slice(&self.nodes[n].disk.log[from.0 as usize..to.0 as usize])
    }
}

/// Whole records, at least one.
fn data_step(bounds: &Bounds) -> u64 {
    if bounds.mutations.has(Mutant::M38) {
        return bounds.data_bytes;
    }
    (bounds.data_bytes / bounds.record_bytes).max(1) * bounds.record_bytes
}

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Crash {
    /// The page cache stays, and the residence proof with it.
    Kill,
    /// An orderly stop: the log is flushed and the mark written.
    Stop,
    /// What was not flushed is gone.
    Power,
}
