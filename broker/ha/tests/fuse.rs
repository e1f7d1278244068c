//! What is left of a process that ended in the middle of a step.

use rocket_ha::News;
use rocket_ha::memory::{Image, Told, Wish};
use rocket_mapped_file::memory::{self, MemoryDirectory};

use crate::world::End;

/// A folder whose process may come to a sudden end.
pub(crate) type FusedDirectory = memory::FusedDirectory<End, Frozen>;

/// What there was at the moment of the crash.
pub(crate) struct Frozen {
    pub(crate) end: End,
    pub(crate) dir: MemoryDirectory,
    pub(crate) image: Image,
    pub(crate) wishes: Vec<Wish>,
    pub(crate) told: Vec<(u64, Told)>,
    pub(crate) news: Vec<News>,
}
