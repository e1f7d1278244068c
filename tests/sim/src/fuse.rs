//! How processes and machines end, and what is left of one that ends in the middle of a step.

use rocket_ha::News;
use rocket_ha::memory::{Image, Request, Told, Wish};
use rocket_mapped_file::memory::{self, Change, MemoryDirectory};
use rocket_replication::mutations::{Mutant, Mutations};

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The page cache stays.
    Kill,
    /// Of what was not flushed a part stays that this number decides.
    Power(u64),
}

impl End {
    /// What is left for the next process.
    pub(crate) fn left_of(self, dir: &MemoryDirectory, image: Image) -> (MemoryDirectory, Image) {
        match self {
            Self::Kill => (dir.killed(), image),
            Self::Power(seed) => (dir.crashed(seed), cut_by_power(image, seed)),
        }
    }
}

/// Whole records of what was not flushed stay, up to one that the seed decides.
fn cut_by_power(image: Image, seed: u64) -> Image {
    let unflushed = image.end().saturating_sub(image.durable);
    // All, none, or some.
    let kept = match seed % 4 {
        0 => 0,
        1 => unflushed,
        _ => (seed / 4) % (unflushed + 1),
    };
    let end = image.durable + kept;
    image.crashed(end)
}

/// What there was at the moment of the crash.
pub(crate) struct Frozen {
    pub(crate) end: End,
    pub(crate) dir: MemoryDirectory,
    /// Where the residence proof is.
    pub(crate) shelf: MemoryDirectory,
    pub(crate) image: Image,
    pub(crate) wishes: Vec<Wish>,
    /// On its way to the coordinator.
    pub(crate) request: Option<Request>,
    pub(crate) told: Vec<(u64, Told)>,
    /// What the process had let its store take for committed.
    pub(crate) committed: u64,
    /// What it had told and nobody had looked at.
    pub(crate) news: Vec<News>,
}

impl Frozen {
    /// A process that had not begun to talk to anybody.
    pub(crate) fn of_start(
        (dir, shelf): (&MemoryDirectory, &MemoryDirectory),
        image: Image,
        end: End,
        news: Vec<News>,
    ) -> Self {
        let (dir, image) = end.left_of(dir, image);
        Self {
            end,
            dir,
            shelf: shelf.killed(),
            image,
            wishes: Vec::new(),
            request: None,
            told: Vec::new(),
            committed: 0,
            news,
        }
    }
}

/// The folder of a process that may come to a sudden end.
pub(crate) type FusedDirectory = memory::FusedDirectory<End, Frozen>;

/// `dir` for a process. Rules that are broken on purpose make its disk lie.
pub(crate) fn fused(dir: MemoryDirectory, mutations: Mutations) -> FusedDirectory {
    FusedDirectory::new(dir).lying(move |change| match change {
        Change::Remove(path) => path.ends_with("replica/clean") && mutations.has(Mutant::M29),
        Change::Replace(path) => path.ends_with("replica/cut") && mutations.has(Mutant::M14),
    })
}
