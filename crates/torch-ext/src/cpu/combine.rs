//! What variants need beside a norm pass and a write pass: inner products of two gradients, sums kept in a state arena,
//! and weights moved along a combination.

use multiversion::multiversion;

use super::blend::Blend;
use super::descent::{Descent, descend};
use super::layout::Layout;
use super::memory::{CHUNK, prefetch};
use super::reduce::reduce;
use super::slab::{HalfSlab, Real, Slab};

/// Inner products over all segments that both gradients have.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Products {
    /// <a, a>.
    pub aa: f64,
    /// <a, b>.
    pub ab: f64,
    /// <b, b>.
    pub bb: f64,
}

impl Products {
    /// norm2(x a + y b). Rounding may leave a little below 0 where the two cancel.
    pub fn norm(self, x: f64, y: f64) -> f64 {
        (x * x * self.aa + 2.0 * x * y * self.ab + y * y * self.bb).abs().sqrt()
    }
}

impl std::ops::Add for Products {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { aa: self.aa + other.aa, ab: self.ab + other.ab, bb: self.bb + other.bb }
    }
}

/// One pass over both, summed in f64.
pub fn products<T: Real>(layout: &Layout, a: &Blend<'_, T>, b: &Blend<'_, T>) -> Products {
    reduce(layout, |block| match (a.block(layout, block), b.block(layout, block)) {
        (Some(a), Some(b)) => block_products(&a, &b),
        _ => Products::default(),
    })
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn block_products<T: Real>(a: &[T], b: &[T]) -> Products {
    const LANES: usize = CHUNK / 2;
    let (mut aa, mut ab, mut bb) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        prefetch(a);
        prefetch(b);
        for (lane, (a, b)) in a.iter().zip(b).enumerate() {
            let (a, b) = (a.wide(), b.wide());
            aa[lane] += a * a;
            ab[lane] += a * b;
            bb[lane] += b * b;
        }
    }
    let sum = |lanes: [f64; LANES]| lanes.iter().sum();
    Products { aa: sum(aa), ab: sum(ab), bb: sum(bb) }
}

/// arena = blend, on the segments that the blend has. The arena may be among its terms.
pub fn assign<T: Real>(layout: &Layout, arena: Slab<T>, blend: &Blend<'_, T>) {
    layout.for_each_block(|block| {
        let Some(lines) = blend.block(layout, block) else { return };
        // SAFETY: blocks are disjoint, and what the blend read of this one was either copied or lies elsewhere.
        unsafe { arena.write(block.global.clone()) }.copy_from_slice(&lines);
    });
}

/// master += blend; weights of 16 bits are rounded anew.
pub fn translate<T: Real>(layout: &Layout, master: Slab<T>, half: Option<HalfSlab>, blend: &Blend<'_, T>) {
    descend(layout, master, half, blend, |Descent { weights, gradient, .. }| {
        for (w, &d) in weights.iter_mut().zip(gradient) {
            *w += d;
        }
    });
}
