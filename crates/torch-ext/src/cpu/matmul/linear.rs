//! A linear layer over many rows, `y = x W^T + bias`, and the gradient of its input. That of its weight is libtorch's own: there
//! the packing of a long right matrix takes what the tiles gain.

use super::{Buffer, COLUMNS, Matrix, Panels, ROWS, Start, multiply, pack_panel, packed_len};
use crate::cpu::slab::Slab;
use crate::parallel_for;

/// Rows of an output that one thread takes at a time.
const BLOCK: usize = 8 * ROWS;

/// `x [rows, inputs]`, `weight [outputs, inputs]`, `y [rows, outputs]`, all dense.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl Sizes {
    /// Whether packing the weight pays.
    pub fn are_large(self) -> bool {
        self.rows >= 256 && self.inputs.min(self.outputs) >= 64
    }

    fn check(self, x: Slab<f32>, weight: Slab<f32>, y: Slab<f32>) {
        let Self { rows, inputs, outputs } = self;
        assert_eq!([x, weight, y].map(Slab::len), [rows * inputs, outputs * inputs, rows * outputs]);
    }
}

/// y = x W^T + bias.
pub fn forward(sizes: Sizes, x: Slab<f32>, weight: Slab<f32>, bias: Option<Slab<f32>>, y: Slab<f32>) {
    sizes.check(x, weight, y);
    let Sizes { rows, inputs, outputs } = sizes;
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    let start = || bias.map_or(Start::Zero, |bias| Start::Bias(bias.start()));
    product(dense(x, inputs), dense(weight, inputs).transposed(), [rows, outputs, inputs], start, y);
}

/// dx = dy W.
pub fn input_gradient(sizes: Sizes, dy: Slab<f32>, weight: Slab<f32>, dx: Slab<f32>) {
    sizes.check(dx, weight, dy);
    let Sizes { rows, inputs, outputs } = sizes;
    product(dense(dy, outputs), dense(weight, inputs), [rows, inputs, outputs], || Start::Zero, dx);
}

fn dense(values: Slab<f32>, columns: usize) -> Matrix {
    Matrix { start: values.start(), row: columns, column: 1 }
}

/// `out [m, n] = start + left [m, k] right [k, n]` on all threads.
fn product(left: Matrix, right: Matrix, [m, n, k]: [usize; 3], start: impl Fn() -> Start + Sync, out: Slab<f32>) {
    let mut packed = Buffer::new(packed_len(k, n));
    let packed = packed.values();
    let panels = Slab::from_raw(packed.as_mut_ptr(), packed.len());
    let panel_len = k * COLUMNS;
    parallel_for(n.div_ceil(COLUMNS), |panel| {
        // SAFETY: each panel is written by one thread.
        unsafe { pack_panel(right, panel, n, panels.write(panel * panel_len..(panel + 1) * panel_len)) };
    });
    parallel_for(m.div_ceil(BLOCK), |block| {
        let first = block * BLOCK;
        let rows = BLOCK.min(m - first);
        let left = Matrix { start: left.at(first, 0), ..left };
        // SAFETY: panels are complete, blocks of rows are disjoint, and whoever calls has asked for AVX-512.
        unsafe {
            let right = Panels { values: panels.all(), depth: k, columns: n };
            let out = out.write(first * n..(first + rows) * n).as_mut_ptr();
            multiply(left, right, rows, start(), out, n);
        }
    });
}
