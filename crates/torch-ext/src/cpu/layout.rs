//! How an arena is cut for the kernels: its segments, the rule by which each is rescaled, and blocks of a size that fits
//! the inner caches.

use std::ops::Range;

use crate::parallel_for;

/// How T_w rescales a segment (Kwon 2021, section 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Geometry {
    /// 1: the ball of SAM.
    Plain,
    /// |w| + eta for each element.
    Element,
    /// norm2(filter) + eta for each run of so many elements (the filter of one output channel).
    Filter { len: usize },
}

/// A segment of an arena, in elements.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentLayout {
    pub offset: usize,
    pub len: usize,
    pub geometry: Geometry,
    /// Which of the optimizer's parameter groups it belongs to.
    pub group: usize,
    /// False leaves it out of the perturbation and out of its norm.
    pub perturbed: bool,
    /// Whether the network reads it in 16 bits.
    pub half: bool,
}

impl SegmentLayout {
    pub(super) fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// A part of one segment: whole filters where the geometry is by filter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Block {
    pub segment: usize,
    /// From the segment's start.
    pub local: Range<usize>,
    /// From the arena's start.
    pub global: Range<usize>,
    /// Index of its first filter among all filters of the layout.
    pub first_filter: usize,
}

/// Elements a block holds, about: 64 KiB of f32 each of weights, gradient and result stay in the second-level cache.
const BLOCK: usize = 16 << 10;

/// The cut of an arena. Made once for a model and optimizer.
#[derive(Debug, Clone)]
pub struct Layout {
    segments: Vec<SegmentLayout>,
    blocks: Vec<Block>,
    filters: usize,
}

impl Layout {
    pub fn new(segments: Vec<SegmentLayout>) -> Self {
        let mut blocks = Vec::new();
        let mut filters = 0;
        for (index, segment) in segments.iter().enumerate() {
            let size = match segment.geometry {
                Geometry::Filter { len } => (BLOCK / len).max(1) * len,
                _ => BLOCK,
            };
            for start in (0..segment.len).step_by(size) {
                let local = start..(start + size).min(segment.len);
                let global = segment.offset + local.start..segment.offset + local.end;
                let first_filter = match segment.geometry {
                    Geometry::Filter { len } => filters + start / len,
                    _ => filters,
                };
                blocks.push(Block { segment: index, local, global, first_filter });
            }
            if let Geometry::Filter { len } = segment.geometry {
                filters += segment.len / len;
            }
        }
        Self { segments, blocks, filters }
    }

    /// The same cut with nothing perturbed: norms then read gradients only.
    pub fn unperturbed(&self) -> Self {
        let mut layout = self.clone();
        for segment in &mut layout.segments {
            segment.perturbed = false;
        }
        layout
    }

    pub(super) fn is_perturbed(&self) -> bool {
        self.segments.iter().any(|segment| segment.perturbed)
    }

    pub fn segments(&self) -> &[SegmentLayout] {
        &self.segments
    }

    /// Filters in all segments together, the length of the array of their scales.
    pub fn filters(&self) -> usize {
        self.filters
    }

    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Calls `body` for each block, on all threads.
    pub(super) fn for_each_block(&self, body: impl Fn(&Block) + Sync) {
        parallel_for(self.blocks.len(), |index| body(&self.blocks[index]));
    }

    pub(super) fn segment_of(&self, block: &Block) -> &SegmentLayout {
        &self.segments[block.segment]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_segments_and_keep_filters_whole() {
        let segment =
            |offset, len, geometry| SegmentLayout { offset, len, geometry, group: 0, perturbed: true, half: false };
        let layout = Layout::new(vec![
            segment(0, 100_000, Geometry::Element),
            segment(100_032, 9 * 3000, Geometry::Filter { len: 9 }),
            segment(130_016, 40_000, Geometry::Filter { len: 20_000 }),
        ]);
        for (index, segment) in layout.segments().iter().enumerate() {
            let mut end = 0;
            for block in layout.blocks().iter().filter(|block| block.segment == index) {
                assert_eq!(block.local.start, end);
                assert_eq!(block.global.start, segment.offset + end);
                if let Geometry::Filter { len } = segment.geometry {
                    assert_eq!(block.local.start % len, 0);
                    assert_eq!(block.local.len() % len, 0);
                }
                end = block.local.end;
            }
            assert_eq!(end, segment.len);
        }
        assert_eq!(layout.filters(), 3002);
        assert_eq!(layout.blocks().last().unwrap().first_filter, 3001);
    }
}
