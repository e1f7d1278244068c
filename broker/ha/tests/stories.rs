//! One story each, told with three replicas, flush SYNC and replication SYNC unless it says otherwise.

mod answers;
mod disks;
mod elections;
mod forgotten;
mod images;
mod residence;
mod stops;

use crate::world::World;

fn slaves_of(world: &World, master: usize) -> Vec<usize> {
    (0..world.machines.len()).filter(|n| *n != master).collect()
}
