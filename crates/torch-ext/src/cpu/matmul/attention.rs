//! Self-attention over few tokens: a head's weights, tokens x tokens, stay in the cache of the thread that computes them.
//!
//! Queries, keys and values are read from, and their gradients written to, the one array that the linear map before makes:
//! nothing is copied or transposed in memory. The weights are computed again for the backward pass from the scores' logarithm
//! of the sum of exponentials, one number for each token and head, so that no more than that is kept.

use super::{Buffer, COLUMNS, Matrix, Panels, Start, multiply, pack, packed_len, softmax};
use crate::cpu::slab::Slab;
use crate::parallel_for;

/// Two squares of so many float32 are half a MiB.
const MOST_TOKENS: usize = 256;

/// `qkv [batch, tokens, 3, heads, size]`, `out [batch, tokens, heads, size]`, `normalizers [batch, heads, tokens]`, all dense.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub batch: usize,
    pub tokens: usize,
    pub heads: usize,
    /// Features of a head.
    pub size: usize,
}

impl Sizes {
    fn features(self) -> usize {
        self.heads * self.size
    }

    fn scale(self) -> f32 {
        (self.size as f32).powf(-0.5)
    }

    /// Of a row of weights in the buffer.
    fn stride(self) -> usize {
        self.tokens.next_multiple_of(COLUMNS)
    }

    /// Whether weights and their gradients stay in the cache of a core.
    pub fn fit_the_cache(self) -> bool {
        self.tokens <= MOST_TOKENS
    }

    fn check(self, qkv: Slab<f32>, out: Slab<f32>, normalizers: Slab<f32>) {
        let tokens = self.batch * self.tokens;
        let expected = [3 * tokens * self.features(), tokens * self.features(), tokens * self.heads];
        assert_eq!([qkv.len(), out.len(), normalizers.len()], expected);
    }

    /// Image and head of a task.
    fn place(self, task: usize) -> (usize, usize) {
        (task / self.heads, task % self.heads)
    }

    /// Where queries (0), keys (1) or values (2) of one head of one image begin.
    fn part(self, (image, head): (usize, usize), which: usize) -> usize {
        image * self.tokens * 3 * self.features() + which * self.features() + head * self.size
    }

    fn output(self, (image, head): (usize, usize)) -> usize {
        image * self.tokens * self.features() + head * self.size
    }
}

/// One head of one image, `[tokens, size]` each.
struct Head {
    sizes: Sizes,
    query: Matrix,
    key: Matrix,
    value: Matrix,
}

impl Head {
    fn new(sizes: Sizes, qkv: Slab<f32>, place: (usize, usize)) -> Self {
        let part = |which| Matrix {
            start: qkv.start().wrapping_add(sizes.part(place, which)),
            row: 3 * sizes.features(),
            column: 1,
        };
        Self { sizes, query: part(0), key: part(1), value: part(2) }
    }

    /// `out [tokens, tokens] = left [tokens, size] right^T`.
    ///
    /// # Safety
    /// AVX-512; the buffers are large enough.
    #[target_feature(enable = "avx512f")]
    unsafe fn scores(&self, left: Matrix, right: Matrix, panels: &mut [f32], out: &mut [f32]) {
        let Sizes { tokens, size, .. } = self.sizes;
        let panels = &mut panels[..packed_len(size, tokens)];
        unsafe {
            pack(right.transposed(), [size, tokens], panels);
            let panels = Panels { values: panels, depth: size, columns: tokens };
            multiply(left, panels, tokens, Start::Zero, out.as_mut_ptr(), self.sizes.stride());
        }
    }

    /// `out [tokens, size] = weights [tokens, tokens] right [tokens, size]`, rows of `out` being `stride` apart.
    ///
    /// # Safety
    /// As for [`Self::scores`]; nobody else touches the rows.
    #[target_feature(enable = "avx512f")]
    unsafe fn mix(&self, weights: Matrix, right: Matrix, panels: &mut [f32], out: *mut f32, stride: usize) {
        let Sizes { tokens, size, .. } = self.sizes;
        let panels = &mut panels[..packed_len(tokens, size)];
        unsafe {
            pack(right, [tokens, size], panels);
            let panels = Panels { values: panels, depth: tokens, columns: size };
            multiply(weights, panels, tokens, Start::Zero, out, stride);
        }
    }

    /// Room for the larger of both kinds of panels.
    fn panels(&self) -> Buffer {
        let Sizes { tokens, size, .. } = self.sizes;
        Buffer::new(packed_len(size, tokens).max(packed_len(tokens, size)))
    }

    fn square(&self) -> Buffer {
        Buffer::new(self.sizes.tokens * self.sizes.stride())
    }

    fn rows<'a>(&self, square: &'a mut [f32]) -> impl Iterator<Item = &'a mut [f32]> {
        let tokens = self.sizes.tokens;
        square.chunks_exact_mut(self.sizes.stride()).map(move |row| &mut row[..tokens])
    }

    fn matrix(&self, square: &[f32]) -> Matrix {
        Matrix { start: square.as_ptr(), row: self.sizes.stride(), column: 1 }
    }
}

/// out = softmax(q k^T / sqrt(size)) v for each head.
pub fn forward(sizes: Sizes, qkv: Slab<f32>, out: Slab<f32>, normalizers: Slab<f32>) {
    sizes.check(qkv, out, normalizers);
    parallel_for(sizes.batch * sizes.heads, |task| {
        let place = sizes.place(task);
        let head = Head::new(sizes, qkv, place);
        let (mut panels, mut weights) = (head.panels(), head.square());
        let (panels, weights) = (panels.values(), weights.values());
        // SAFETY: each task writes normalizers and columns of `out` of its own; whoever calls has asked for AVX-512.
        unsafe {
            head.scores(head.query, head.key, panels, weights);
            let normalizers = normalizers.write(task * sizes.tokens..(task + 1) * sizes.tokens);
            for (row, normalizer) in head.rows(weights).zip(normalizers) {
                *normalizer = softmax::softmax(row, sizes.scale());
            }
            let out = out.start().wrapping_add(sizes.output(place));
            head.mix(head.matrix(weights), head.value, panels, out, sizes.features());
        }
    });
}

/// The gradient of queries, keys and values, which lie in `dqkv` as they do in `qkv`.
pub fn backward(sizes: Sizes, qkv: Slab<f32>, dout: Slab<f32>, normalizers: Slab<f32>, dqkv: Slab<f32>) {
    sizes.check(qkv, dout, normalizers);
    assert_eq!(dqkv.len(), qkv.len());
    parallel_for(sizes.batch * sizes.heads, |task| {
        let place = sizes.place(task);
        let head = Head::new(sizes, qkv, place);
        let (mut panels, mut weights, mut gradients) = (head.panels(), head.square(), head.square());
        let (panels, weights, gradients) = (panels.values(), weights.values(), gradients.values());
        let start = dout.start().wrapping_add(sizes.output(place)).cast_const();
        let dout = Matrix { start, row: sizes.features(), column: 1 };
        let part = |which| dqkv.start().wrapping_add(sizes.part(place, which));
        let stride = 3 * sizes.features();
        // SAFETY: each task writes columns of `dqkv` of its own; whoever calls has asked for AVX-512.
        unsafe {
            head.scores(head.query, head.key, panels, weights);
            let normalizers = normalizers.read(task * sizes.tokens..(task + 1) * sizes.tokens);
            for (row, &normalizer) in head.rows(weights).zip(normalizers) {
                softmax::weights(row, sizes.scale(), normalizer);
            }
            head.mix(head.matrix(weights).transposed(), dout, panels, part(2), stride);
            head.scores(dout, head.value, panels, gradients);
            for (weights, gradients) in head.rows(weights).zip(head.rows(gradients)) {
                softmax::gradient(weights, gradients, sizes.scale());
            }
            let gradients = head.matrix(gradients);
            head.mix(gradients, head.key, panels, part(0), stride);
            head.mix(gradients.transposed(), head.query, panels, part(1), stride);
        }
    });
}
