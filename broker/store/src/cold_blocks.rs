//! Which parts of the log catch-up readers have brought into memory, and which of them to give up. Pure.
//!
//! A reader far behind the end of the log must not push what everybody reads out of the page cache. What such readers bring
//! in is therefore counted, in blocks of [`BLOCK_BYTES`], and together they keep no more than a few; the block that was read
//! longest ago goes first. A block that was in memory before they came is not theirs and never given up.

/// What is brought in and given up at once.
pub(crate) const BLOCK_BYTES: u64 = 1 << 20;

/// See the module.
pub(crate) struct ColdBlocks {
    /// The number of the block and when it was last read. Few, so a list that is gone through.
    brought: Vec<(u64, u64)>,
    blocks_max: usize,
    reads: u64,
}

impl ColdBlocks {
    /// Keeps at most `blocks_max` blocks.
    pub(crate) fn new(blocks_max: usize) -> Self {
        Self {
            brought: Vec::new(),
            blocks_max,
            reads: 0,
        }
    }

    /// Whether catch-up readers brought `block` in.
    pub(crate) fn contains(&self, block: u64) -> bool {
        self.brought.iter().any(|(brought, _)| *brought == block)
    }

    /// Notes that `block` is read. `false`: it is none of theirs.
    pub(crate) fn read(&mut self, block: u64) -> bool {
        self.reads += 1;
        let found = self
            .brought
            .iter_mut()
            .find(|(brought, _)| *brought == block);
        if let Some((_, last)) = found {
            *last = self.reads;
            return true;
        }
        false
    }

    /// Notes that `block` is being brought in. Returns a block to give up in its place, if there are too many.
    pub(crate) fn bring(&mut self, block: u64) -> Option<u64> {
        if self.read(block) {
            return None;
        }
        self.brought.push((block, self.reads));
        if self.brought.len() <= self.blocks_max {
            return None;
        }
        let oldest = self
            .brought
            .iter()
            .enumerate()
            .min_by_key(|(_, (_, last))| *last)
            .map(|(index, _)| index)?;
        Some(self.brought.swap_remove(oldest).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_read_longest_ago_is_given_up_first() {
        let mut blocks = ColdBlocks::new(2);
        assert_eq!([blocks.bring(7), blocks.bring(8)], [None, None]);
        assert!(blocks.read(7));
        assert_eq!(blocks.bring(9), Some(8));
        assert_eq!(blocks.bring(9), None);
        assert_eq!(blocks.bring(10), Some(7));
        assert!(blocks.contains(9) && blocks.contains(10) && !blocks.contains(7));
        assert!(!blocks.read(7));
    }

    #[test]
    fn one_reader_that_goes_through_the_log_keeps_a_bounded_part() {
        let mut blocks = ColdBlocks::new(4);
        let given_up: Vec<u64> = (0..100).filter_map(|block| blocks.bring(block)).collect();
        assert_eq!(given_up, (0..96).collect::<Vec<u64>>());
    }
}
