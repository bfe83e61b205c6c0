//! What rounding to 16 bits makes of a displacement: before it is written, so that it can still be corrected.

use super::blend::Blend;
use super::combine::{Products, block_products};
use super::layout::Layout;
use super::perturb::{Perturbation, displacement};
use super::reduce::reduce;
use super::scratch::Scratch;
use super::slab::{Half, HalfSlab, Real, Slab};
use super::working::Working;
use half::{bf16, f16};
use multiversion::multiversion;

/// `aa` = <d, d>, `ab` = <d, eps> and `bb` = <eps, eps> over the segments that the network reads in 16 bits, with eps the
/// displacement that was asked for and d = round(from + half_factor eps) - round(from) the one the network would see.
pub fn rounded_displacement<T: Real>(
    layout: &Layout,
    master: Slab<T>,
    gradient: &Blend<'_, T>,
    working: Working<T>,
    perturbation: &Perturbation<'_, T>,
) -> Products {
    reduce(layout, |block| {
        let segment = layout.segment_of(block);
        if !(segment.perturbed && segment.half) {
            return Products::default();
        }
        let Some(gradient) = gradient.block(layout, block) else { return Products::default() };
        displacement(layout, block, master, &gradient, working, perturbation, |from, eps| {
            let mut seen = Scratch::new(eps.len());
            let factor = T::of(perturbation.half_factor);
            match working.half() {
                HalfSlab::BFloat16(_) => round::<T, bf16>(from, eps, factor, &mut seen),
                HalfSlab::Float16(_) => round::<T, f16>(from, eps, factor, &mut seen),
            }
            block_products(&seen, eps)
        })
    })
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn round<T: Real, H: Half>(from: &[T], eps: &[T], factor: T, seen: &mut [T]) {
    for ((seen, &from), &eps) in seen.iter_mut().zip(from).zip(eps) {
        *seen = H::round(from + factor * eps).widen::<T>() - H::round(from).widen::<T>();
    }
}
