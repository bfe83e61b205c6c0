//! Linear combinations of several sources, and what is made of them.

use super::*;
use crate::cpu::{Blend as CpuBlend, GradientTable};

/// Two gradients and the weights, with factors by group: as a penalty at w + eps mixed with an earlier gradient has it.
struct Sources {
    first: Vec<Option<Tensor>>,
    second: Vec<Option<Tensor>>,
    factors: Tensor,
}

impl Sources {
    fn new(case: &Case) -> Self {
        let mut second = case.gradients(80);
        second[0] = None;
        Self { first: case.gradients(70), second, factors: Tensor::from_slice(&[0.5, 0.0]) }
    }
}

fn both<T: Real>(case: &Case, run: impl Fn(&Blend<'_>, &CpuBlend<'_, T>)) {
    let sources = Sources::new(case);
    let (first, second) = (case.table(&sources.first), case.table(&sources.second));
    let weights = Table::new(&case.place, &case.cut).unwrap();
    weights.set_working(&case.place, &case.cut, &case.working, case.half.as_ref()).unwrap();
    let arena = Table::of_arena(&case.place, &case.cut, &case.master).unwrap();
    let blend = Blend::of(&first, 0.75, None)
        .plus(-0.3, Some(&sources.factors), &second)
        .plus(1.0, Some(&sources.factors), &weights)
        .plus(0.125, None, &arena);
    let (cpu_first, cpu_second) = (GradientTable::<T>::new(&sources.first), GradientTable::<T>::new(&sources.second));
    let working = Working::new(Slab::of(&case.working), case.half.as_ref().and_then(HalfSlab::of));
    let cpu_weights = GradientTable::of_working(&case.layout, working);
    let cpu_arena = GradientTable::of_arena(&case.layout, Slab::of(&case.master));
    let factors = || Some(vec![0.5, 0.0]);
    let cpu_blend = CpuBlend::of(&cpu_first, 0.75, None)
        .plus(-0.3, factors(), &cpu_second)
        .plus(1.0, factors(), &cpu_weights)
        .plus(0.125, None, &cpu_arena);
    run(&blend, &cpu_blend);
}

#[test]
fn a_combination_is_the_cpus() {
    fn check<T: Real>(case: &Case) {
        both::<T>(case, |blend, cpu_blend| {
            let (found, expected) = (case.zeros(), case.zeros());
            case.update().assign(&found, blend).unwrap();
            cpu::assign(&case.layout, Slab::of(&expected), cpu_blend);
            assert_eq!(found, expected);
        });
    }
    for (kind, half) in FORMS {
        let case = Case::new(kind, half);
        with_real!(case, check(&case));
    }
}

#[test]
fn inner_products_are_the_cpus() {
    fn check<T: Real>(case: &Case) {
        both::<T>(case, |blend, cpu_blend| {
            let gradients = case.gradients(90);
            let table = case.table(&gradients);
            let out = Tensor::zeros([3], (Kind::Double, Device::Cpu));
            case.update().products(blend, &Blend::of(&table, 1.0, None), &out).unwrap();
            let table = GradientTable::<T>::new(&gradients);
            let expected = cpu::products(&case.layout, cpu_blend, &CpuBlend::of(&table, 1.0, None));
            assert_close(&out, &Tensor::from_slice(&[expected.aa, expected.ab, expected.bb]), 1e-12);
        });
    }
    for (kind, half) in FORMS {
        let case = Case::new(kind, half);
        with_real!(case, check(&case));
    }
}

#[test]
fn weights_move_along_a_gradient_and_come_back_to_the_master() {
    fn check<T: Real>(case: &Case) {
        let reference = case.reference();
        let gradients = case.gradients(70);
        let table = case.table(&gradients);
        let cpu_table = GradientTable::<T>::new(&gradients);
        case.update().translate(&Blend::of(&table, 0.75, None)).unwrap();
        let (master, blend) = (Slab::of(&reference.master), CpuBlend::of(&cpu_table, 0.75, None));
        cpu::translate(&case.layout, master, reference.half(), &blend);
        reference.return_to_w(case);
        case.assert_same(&reference);
        let _ = case.working.shallow_clone().fill_(7.0);
        let _ = case.half.as_ref().map(|half| half.shallow_clone().fill_(7.0));
        case.update().restore().unwrap();
        // Between segments nobody writes.
        for segment in &case.segments {
            let part = |arena: &Tensor| arena.narrow(0, segment.offset as i64, segment.len as i64);
            match (&case.half, &reference.half) {
                (Some(found), Some(expected)) if segment.half => assert_eq!(part(found), part(expected)),
                _ => assert_eq!(part(&case.working), part(&reference.working)),
            }
        }
    }
    for (kind, half) in FORMS {
        let case = Case::new(kind, half);
        with_real!(case, check(&case));
    }
}
