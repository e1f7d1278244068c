//! The disk and its twin in memory: the same operations, the same results.

use std::io::{self, IoSlice};
use std::sync::Arc;

use proptest::prelude::*;
use rocket_mapped_file::disk::DiskDirectory;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_mapped_file::{Directory, Fill, Segment, SegmentOptions};

const NAMES: [&str; 3] = ["f/a", "f/b", "g/c"];
const OPTIONS: SegmentOptions = SegmentOptions {
    fill: Fill::Reserve,
    lanes: 2,
};

#[derive(Debug, Clone, Copy)]
enum Op {
    Create { name: usize, len: u16 },
    Open { name: usize },
    OpenLater { name: usize, len: u16 },
    Write { at: u16, len: u16, byte: u8 },
    Zero { from: u16, to: u16 },
    Publish { end: u16 },
    Read { at: u16, len: u16 },
    ReadAside { at: u16, len: u16 },
    Lease { at: u16, len: u16 },
    Copy { at: u16, len: u16 },
    Flush { lane: bool },
    Retire,
    Named,
    Rename { from: usize, to: usize },
    Remove { name: usize },
    Replace { name: usize, len: u8 },
    List,
}

fn op() -> impl Strategy<Value = Op> {
    let (name, at, len) = (0..NAMES.len(), 0_u16..3000, 0_u16..2000);
    prop_oneof![
        3 => (name.clone(), 1_u16..3000).prop_map(|(name, len)| Op::Create { name, len }),
        2 => name.clone().prop_map(|name| Op::Open { name }),
        2 => (name.clone(), 1_u16..3000).prop_map(|(name, len)| Op::OpenLater { name, len }),
        6 => (at.clone(), len.clone(), 1..=u8::MAX).prop_map(|(at, len, byte)| Op::Write { at, len, byte }),
        2 => (at.clone(), at.clone()).prop_map(|(from, to)| Op::Zero { from, to }),
        3 => at.clone().prop_map(|end| Op::Publish { end }),
        3 => (at.clone(), len.clone()).prop_map(|(at, len)| Op::Read { at, len }),
        2 => (at.clone(), len.clone()).prop_map(|(at, len)| Op::ReadAside { at, len }),
        3 => (at.clone(), len.clone()).prop_map(|(at, len)| Op::Lease { at, len }),
        2 => (at, len).prop_map(|(at, len)| Op::Copy { at, len }),
        2 => any::<bool>().prop_map(|lane| Op::Flush { lane }),
        1 => Just(Op::Retire),
        1 => Just(Op::Named),
        1 => (name.clone(), name.clone()).prop_map(|(from, to)| Op::Rename { from, to }),
        1 => name.clone().prop_map(|name| Op::Remove { name }),
        1 => (name, any::<u8>()).prop_map(|(name, len)| Op::Replace { name, len }),
        1 => Just(Op::List),
    ]
}

/// What an operation came to, comparable.
type Result = std::result::Result<Vec<u8>, io::ErrorKind>;

fn done(result: io::Result<()>) -> Result {
    result.map(|()| Vec::new()).map_err(|error| error.kind())
}

struct World {
    dir: Box<dyn Directory>,
    segment: Option<(usize, Arc<dyn Segment>)>,
}

impl World {
    fn new(dir: Box<dyn Directory>) -> Self {
        dir.create_folder("f").unwrap();
        dir.create_folder("g").unwrap();
        Self { dir, segment: None }
    }

    fn take(&mut self, name: usize, opened: io::Result<Arc<dyn Segment>>) -> Result {
        let segment = opened.map_err(|error| error.kind())?;
        let len = segment.len().to_be_bytes().to_vec();
        self.segment = Some((name, segment));
        Ok(len)
    }

    fn on(&self, call: impl FnOnce(&dyn Segment) -> Result) -> Result {
        self.segment
            .as_ref()
            .map_or(Ok(Vec::new()), |(_, segment)| call(&**segment))
    }

    fn run(&mut self, op: Op) -> Result {
        match op {
            Op::Create { name, len } => {
                let made = self.dir.create(NAMES[name], u64::from(len), OPTIONS);
                self.take(name, made)
            }
            Op::Open { name } => {
                let opened = self.dir.open(NAMES[name], OPTIONS);
                self.take(name, opened)
            }
            Op::OpenLater { name, len } => {
                let later = self
                    .dir
                    .open_later(NAMES[name], u64::from(len), OPTIONS)
                    .unwrap();
                let mut byte = [0];
                // Opened for reading at once, so that a later change of names is no difference.
                let first = later.read_at(0, &mut byte).map(|()| later);
                self.take(name, first)
            }
            Op::Write { at, len, byte } => self.on(|segment| {
                let bytes = vec![byte; usize::from(len)];
                let (one, two) = bytes.split_at(bytes.len() / 3);
                let parts = [IoSlice::new(one), IoSlice::new(two)];
                done(segment.write_at(u64::from(at), &parts))
            }),
            Op::Zero { from, to } => {
                self.on(|segment| done(segment.zero(u64::from(from), u64::from(to))))
            }
            Op::Publish { end } => self.on(|segment| {
                segment.publish(u64::from(end).min(segment.len()));
                Ok(segment.published().to_be_bytes().to_vec())
            }),
            Op::Read { at, len } => self.on(|segment| {
                let mut bytes = vec![0; usize::from(len)];
                done(segment.read_at(u64::from(at), &mut bytes)).map(|_| bytes)
            }),
            Op::ReadAside { at, len } => self.on(|segment| {
                let mut bytes = vec![0; usize::from(len)];
                done(segment.read_aside(u64::from(at), &mut bytes)).map(|_| bytes)
            }),
            Op::Lease { at, len } => self.on(|segment| {
                let lease = segment.lease(u64::from(at), usize::from(len));
                let lease = lease.map_err(|error| error.kind())?;
                Ok(lease.map_or_else(|| b"none".to_vec(), |bytes| bytes.to_vec()))
            }),
            Op::Copy { at, len } => self.on(|segment| {
                let mut into = vec![1];
                let copied = segment.copy(u64::from(at), usize::from(len), &mut into);
                into.push(u8::from(copied.map_err(|error| error.kind())?));
                Ok(into)
            }),
            Op::Flush { lane } => self.on(|segment| done(segment.flush(usize::from(lane)))),
            Op::Retire => self.on(|segment| {
                segment.retire();
                Ok(Vec::new())
            }),
            Op::Named => self.on(|segment| {
                let named = segment.is_named().map_err(|error| error.kind())?;
                Ok(vec![u8::from(named)])
            }),
            Op::Rename { from, to } => {
                self.forget(from);
                if from == to {
                    return Ok(Vec::new());
                }
                done(self.dir.rename(NAMES[from], NAMES[to]))
            }
            Op::Remove { name } => {
                self.forget(name);
                done(self.dir.remove(NAMES[name]))
            }
            Op::Replace { name, len } => {
                self.forget(name);
                done(self.dir.replace(NAMES[name], &vec![7; usize::from(len)]))
            }
            Op::List => {
                let lists = ["f", "g", "none"].map(|folder| format!("{:?}", self.dir.list(folder)));
                Ok(lists.concat().into_bytes())
            }
        }
    }

    /// An open file whose name goes is not used any more: what it could still do is shown elsewhere.
    fn forget(&mut self, name: usize) {
        if self.segment.as_ref().is_some_and(|(of, _)| *of == name) {
            self.segment = None;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_twin_in_memory_does_what_the_disk_does(ops in prop::collection::vec(op(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = World::new(Box::new(DiskDirectory::open(folder.path()).unwrap()));
        let mut memory = World::new(Box::new(MemoryDirectory::default()));
        for op in ops {
            prop_assert_eq!(disk.run(op), memory.run(op), "{:?}", op);
        }
    }
}
