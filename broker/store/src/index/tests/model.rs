//! Random steps with crashes that keep any subset of unflushed sectors, killed processes, orderly stops, retention and
//! flipped bits. After every step each key is looked up and compared with a list of the log's messages.

use std::ops::Range;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use rocket_mapped_file::Directory;
use rocket_mapped_file::memory::{Dice, MemoryDirectory};
use rocket_protocol::UnixMillis;

use super::{NEW, find, open};
use crate::index::{Add, FOLDER, Index, Known};
use crate::mutant::{self, Mutant};

const HASHES: i32 = 9;

#[derive(Debug, Clone, Copy)]
enum Op {
    Add { count: u8, seed: u64 },
    FlushLog,
    Secure,
    Step,
    Fill,
    Retain { share: u8 },
    Lose { seed: u64 },
    Kill,
    Close,
    Flip { seed: u64 },
}

fn op(flips: u32) -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (1_u8..25, any::<u64>()).prop_map(|(count, seed)| Op::Add { count, seed }),
        5 => Just(Op::FlushLog),
        5 => Just(Op::Secure),
        8 => Just(Op::Step),
        2 => Just(Op::Fill),
        1 => (0_u8..100).prop_map(|share| Op::Retain { share }),
        3 => any::<u64>().prop_map(|seed| Op::Lose { seed }),
        1 => Just(Op::Kill),
        1 => Just(Op::Close),
        flips => any::<u64>().prop_map(|seed| Op::Flip { seed }),
    ]
}

struct Message {
    offset: u64,
    len: u64,
    hashes: Vec<i32>,
    time: i64,
}

struct World {
    dir: MemoryDirectory,
    index: Option<Index>,
    log: Vec<Message>,
    min: u64,
    durable: u64,
    /// The dispatched position as noted, and as a crash leaves it at least.
    noted: u64,
    noted_safe: u64,
    time: i64,
    flipped: bool,
}

impl World {
    fn new() -> Self {
        let dir = MemoryDirectory::default();
        let (index, _) = open(&dir, NEW);
        Self {
            dir,
            index: Some(index),
            log: Vec::new(),
            min: 0,
            durable: 0,
            noted: 0,
            noted_safe: 0,
            time: 1_700_000_000_000,
            flipped: false,
        }
    }

    fn index(&self) -> &Index {
        self.index.as_ref().unwrap()
    }

    fn end(&self) -> u64 {
        self.log
            .last()
            .map_or(self.durable, |last| last.offset + last.len)
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Add { count, seed } => self.add(count, seed),
            Op::FlushLog => self.durable = self.end(),
            Op::Secure => self.secure(true),
            Op::Step => drop(self.index().step(self.durable, self.min).unwrap()),
            Op::Fill => drop(self.fill()),
            Op::Retain { share } => {
                // Retention takes only what is secured.
                let count = self
                    .log
                    .partition_point(|message| message.offset < self.noted_safe);
                let count = count * usize::from(share) / 100;
                self.min = self
                    .log
                    .get(count)
                    .map_or(self.min, |message| message.offset);
                self.log.drain(..count);
                self.index().remove_before(self.min).unwrap();
            }
            Op::Lose { seed } => self.lose(seed),
            Op::Kill => self.restart(self.dir.killed(), self.noted, false),
            Op::Close => {
                self.durable = self.end();
                self.secure(true);
                self.restart(self.dir.killed(), self.noted, true);
            }
            Op::Flip { seed } => self.flip(seed),
        }
        self.check();
    }

    fn add(&mut self, count: u8, seed: u64) {
        let mut dice = Dice::new(seed);
        for _ in 0..count {
            self.time += i64::try_from(dice.below(900)).unwrap() - 100;
            let keys = [1, 1, 1, 1, 0, 2, 5][usize::try_from(dice.below(7)).unwrap()];
            let mut hash = || i32::try_from(dice.below(HASHES.unsigned_abs().into())).unwrap();
            let hashes = (0..keys).map(|_| hash()).collect();
            self.log.push(Message {
                offset: self.end(),
                len: 60 + dice.below(400),
                hashes,
                time: self.time,
            });
        }
        let from = self.log.len() - usize::from(count);
        self.dispatch(from);
    }

    fn dispatch(&self, from: usize) {
        for message in &self.log[from..] {
            let mut live = self.index().lock();
            for &hash in &message.hashes {
                live.add(hash, message.offset, UnixMillis(message.time));
            }
        }
    }

    /// As `checkpoint_step`: nothing is noted that a flush has not covered.
    fn secure(&mut self, is_safe: bool) {
        let secured = self.index().save(self.end()).unwrap();
        for (_, segment) in self.index().take_unflushed() {
            segment.flush(0).unwrap();
        }
        self.noted = self.noted.max(self.end().min(self.durable).min(secured));
        if is_safe {
            self.noted_safe = self.noted;
        }
    }

    fn lose(&mut self, seed: u64) {
        let mut dice = Dice::new(seed);
        if dice.below(2) == 0 {
            self.secure(false);
        }
        let kept = self
            .log
            .partition_point(|message| message.offset < self.durable);
        let lost = dice.below((self.log.len() - kept) as u64 + 1);
        self.log
            .truncate(self.log.len() - usize::try_from(lost).unwrap());
        let noted = if dice.below(2) == 0 {
            self.noted
        } else {
            self.noted_safe
        };
        let dir = self.dir.crashed(seed);
        self.restart(dir, noted, false);
    }

    fn restart(&mut self, dir: MemoryDirectory, dispatched: u64, clean: bool) {
        self.index = None;
        self.dir = dir;
        self.durable = self.end();
        (self.noted, self.noted_safe) = (dispatched, dispatched);
        let known = Known {
            clean,
            dispatched: dispatched.max(self.min),
            min: self.min,
            end: self.end(),
            ..NEW
        };
        let (index, missing) = open(&self.dir, known);
        assert!(
            missing == 0 || self.flipped,
            "{missing} bytes of the log are to be indexed again"
        );
        self.index = Some(index);
        let from = self
            .log
            .partition_point(|message| message.offset < known.dispatched);
        self.dispatch(from);
    }

    fn fill(&self) -> bool {
        let read = |range: Range<u64>, add: &mut Add<'_>| {
            let mut at = range.start;
            let from = self
                .log
                .partition_point(|message| message.offset < range.start);
            for message in self.log[from..]
                .iter()
                .take(7)
                .take_while(|message| message.offset < range.end)
            {
                assert_eq!(message.offset, at, "reading begins with a whole message");
                message
                    .hashes
                    .iter()
                    .for_each(|&hash| add(hash, at, message.time));
                at += message.len;
            }
            Some(at)
        };
        self.index().fill_step(self.min, read).unwrap()
    }

    fn flip(&mut self, seed: u64) {
        let mut dice = Dice::new(seed);
        let files = self.dir.list(FOLDER).unwrap();
        let file = &files[usize::try_from(dice.below(files.len() as u64)).unwrap()];
        let len = if file.name.starts_with("tail") {
            300
        } else {
            file.len
        };
        let at = usize::try_from(dice.below(len)).unwrap();
        self.dir.flip(&format!("{FOLDER}/{}", file.name), at);
        self.flipped = true;
    }

    fn found(&self, hash: i32, begin: i64, end: i64) -> Vec<u64> {
        let mut found = find(self.index(), hash, begin, end);
        found.retain(|&offset| offset >= self.min);
        found.dedup();
        found
    }

    fn check(&self) {
        let middle = self
            .log
            .get(self.log.len() / 2)
            .map_or(0, |message| message.time);
        for hash in 0..HASHES {
            let expected = |begin, end| -> Vec<u64> {
                let matches = self.log.iter().rev().filter(|message| {
                    message.hashes.contains(&hash) && (begin..=end).contains(&message.time)
                });
                matches.map(|message| message.offset).collect()
            };
            if self.flipped {
                self.found(hash, 0, i64::MAX);
                while self.fill() {}
            }
            let all = expected(0, i64::MAX);
            assert_eq!(self.found(hash, 0, i64::MAX), all, "hash {hash}");
            for (begin, end) in [(middle, i64::MAX), (0, middle), (middle, middle)] {
                let found = self.found(hash, begin, end);
                assert!(found.is_sorted_by(|a, b| a > b));
                assert!(
                    expected(begin, end)
                        .iter()
                        .all(|offset| found.contains(offset))
                );
                assert!(found.iter().all(|offset| all.contains(offset)));
            }
        }
    }
}

fn search(cases: u32, flips: u32, shrinks: u32) -> Result<(), TestError<Vec<Op>>> {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: shrinks,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    runner.run(&prop::collection::vec(op(flips), 1..80), |ops| {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
        Ok(())
    })
}

/// A crash left a tail with keys of messages that the log lost; the run of those that came there is damaged later.
#[test]
fn keys_of_a_former_end_of_the_log_are_not_taken_where_a_run_is_damaged() {
    let add = |count, seed| Op::Add { count, seed };
    let lose = |seed| Op::Lose { seed };
    let mut world = World::new();
    for op in [
        add(1, 0),
        Op::Close,
        add(4, 132_075_520_298_404_379),
        add(18, 73_291_513_677_050_596),
        add(18, 11_619_789_267_165_180_971),
        lose(14_288_270_496_506_852_016),
        add(5, 532_295_310_327_311_310),
        Op::Step,
        lose(14_201_136_580_319_839_640),
        Op::Step,
        add(1, 3_110_400_928_250_668),
        Op::Step,
        Op::Flip {
            seed: 13_963_637_312_811_720_130,
        },
        Op::Secure,
        lose(0),
    ] {
        world.run(op);
    }
}

fn cases() -> u32 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the number of cases is for whoever runs the tests to choose"
    )]
    let cases = std::env::var("ROCKET_STORE_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(100)
}

#[test]
fn no_crash_makes_the_index_lose_a_key_or_read_the_log_again() {
    if let Err(error) = search(cases(), 0, 2000) {
        panic!("{error}");
    }
}

#[test]
fn damage_is_seen_and_made_good_from_the_log() {
    if let Err(error) = search(cases(), 3, 2000) {
        panic!("{error}");
    }
}

#[test]
fn the_model_catches_a_tail_that_is_not_secured_before_the_checkpoint() {
    let found = mutant::with(Some(Mutant::IndexTailNotSecured), || search(500, 0, 0));
    assert!(found.is_err());
}

#[test]
fn the_model_catches_a_run_that_is_dropped_too_early() {
    let found = mutant::with(Some(Mutant::RunDroppedEarly), || search(500, 0, 0));
    assert!(found.is_err());
}
