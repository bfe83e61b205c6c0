//! mixup (Zhang 2018) and cutmix (Yun 2019): each image of a batch is blended with a partner from the same batch, and so are
//! their labels. What is drawn depends on seed, epoch and batch number alone, so both passes of a step and a resumed run
//! see the same.

use flatmin_nn::Engine;
use flatmin_optim::Target;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Beta, Distribution};
use tch::{Kind, Tensor};

use crate::config::Augment;
use crate::error::{Error, Result};
use crate::seed::mix_seed;

/// Draws recipes and carries them out.
pub struct Mixer {
    mixup: Option<Beta<f64>>,
    cutmix: Option<Beta<f64>>,
    mix_probability: f64,
    switch_probability: f64,
    seed: u64,
    num_classes: i64,
}

/// How one batch is mixed.
#[derive(Debug, PartialEq)]
struct Recipe {
    /// lambda: the share of an image, and of its label, in the result; the partner has the rest.
    share: f64,
    /// The image that each image is mixed with, a permutation of the batch.
    partners: Vec<i64>,
    /// What cutmix takes from the partner; None: mixup.
    region: Option<Region>,
}

/// Pixels of an image.
#[derive(Debug, PartialEq)]
struct Region {
    top: i64,
    left: i64,
    height: i64,
    width: i64,
}

impl Region {
    /// A rectangle of the image's proportions around a centre, as far as it lies within the image (Yun 2019, section 3.1).
    fn around(centre: [i64; 2], share: f64, [height, width]: [i64; 2]) -> Self {
        let side = (1.0 - share).sqrt();
        let span = |centre: i64, size: i64| {
            let half = (size as f64 * side) as i64 / 2;
            let (start, end) = ((centre - half).max(0), (centre + half).min(size));
            (start, end - start)
        };
        let ((top, height), (left, width)) = (span(centre[0], height), span(centre[1], width));
        Self { top, left, height, width }
    }

    fn of(&self, images: &Tensor) -> Result<Tensor> {
        Ok(images.f_narrow(2, self.top, self.height)?.f_narrow(3, self.left, self.width)?)
    }
}

impl Mixer {
    /// None if the options ask for neither.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for an alpha out of range.
    pub fn new(augment: &Augment, seed: u64, num_classes: i64) -> Result<Option<Self>> {
        let beta = |option: &str, alpha: Option<f64>| -> Result<Option<Beta<f64>>> {
            let wrong = |alpha| move |_| Error::option(option, alpha, "a finite number above 0");
            alpha.map(|alpha| Beta::new(alpha, alpha).map_err(wrong(alpha))).transpose()
        };
        let (mixup, cutmix) = (beta("augment.mixup", augment.mixup)?, beta("augment.cutmix", augment.cutmix)?);
        let Augment { mix_probability, switch_probability, .. } = *augment;
        let wanted = mixup.is_some() || cutmix.is_some();
        Ok(wanted.then_some(Self { mixup, cutmix, mix_probability, switch_probability, seed, num_classes }))
    }

    /// Mixes images `[batch, channels, height, width]` and class numbers `[batch]`; the target is then a distribution over
    /// classes, `[batch, classes]`. A batch that is not drawn stays as it is.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn mix(&self, images: Tensor, target: Target, epoch: u64, batch: u64) -> Result<(Tensor, Target)> {
        let size = images.size();
        let recipe = self.draw(epoch, batch, size[0], [size[2], size[3]]);
        let (Some(recipe), Target::Classes(labels)) = (recipe, &target) else { return Ok((images, target)) };
        let one_hot = labels.f_one_hot(self.num_classes)?.f_to_kind(Kind::Double)?;
        let partners = Tensor::f_from_slice(&recipe.partners)?;
        let partners = Engine::on(one_hot.device()).bring(&partners)?;
        let soft = one_hot.f_lerp(&one_hot.f_index_select(0, &partners)?, 1.0 - recipe.share)?;
        // Selected with channels last, as they lie in memory.
        let partners = Engine::on(images.device()).bring(&partners)?;
        let others = images.f_permute([0, 2, 3, 1])?.f_index_select(0, &partners)?.f_permute([0, 3, 1, 2])?;
        let mixed = match &recipe.region {
            None => images.f_lerp(&others, 1.0 - recipe.share)?,
            Some(region) => {
                region.of(&images)?.f_copy_(&region.of(&others)?)?;
                images
            }
        };
        Ok((mixed, Target::Dense(soft)))
    }

    fn draw(&self, epoch: u64, batch: u64, count: i64, size: [i64; 2]) -> Option<Recipe> {
        let mut random = ChaCha8Rng::seed_from_u64(mix_seed(self.seed, epoch, batch));
        // Always both, so that one probability does not shift what the other draws.
        let (mixed, switched) = (random.random::<f64>(), random.random::<f64>());
        if mixed >= self.mix_probability {
            return None;
        }
        let mut partners: Vec<i64> = (0..count).collect();
        partners.shuffle(&mut random);
        let (beta, cut) = match (&self.mixup, &self.cutmix) {
            (Some(mixup), None) => (mixup, false),
            (Some(mixup), Some(_)) if switched >= self.switch_probability => (mixup, false),
            (_, cutmix) => (cutmix.as_ref()?, true),
        };
        let share = beta.sample(&mut random);
        if !cut {
            return Some(Recipe { share, partners, region: None });
        }
        let centre = size.map(|size| random.random_range(0..size));
        let region = Region::around(centre, share, size);
        let share = 1.0 - (region.height * region.width) as f64 / (size[0] * size[1]) as f64;
        Some(Recipe { share, partners, region: Some(region) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    const SIZE: [i64; 2] = [6, 9];

    fn mixer(change: impl FnOnce(&mut Augment)) -> Mixer {
        let mut augment = Augment::default();
        change(&mut augment);
        Mixer::new(&augment, 3, 4).unwrap().unwrap()
    }

    fn batch() -> (Tensor, Target) {
        let nhwc = Tensor::arange(5 * 6 * 9 * 2, (Kind::Double, Device::Cpu)).reshape([5, 6, 9, 2]);
        (nhwc.permute([0, 3, 1, 2]), Target::Classes(Tensor::from_slice(&[0i64, 3, 1, 2, 3])))
    }

    fn soft(target: &Target) -> &Tensor {
        let Target::Dense(soft) = target else { panic!("{target:?}") };
        soft
    }

    #[test]
    fn mixup_is_lambda_of_an_image_and_the_rest_of_its_partner() {
        let mixer = mixer(|augment| augment.mixup = Some(0.4));
        for number in 0..20 {
            let Recipe { share, partners, region } = mixer.draw(1, number, 5, SIZE).unwrap();
            assert!(region.is_none() && (0.0..=1.0).contains(&share));
            let (images, labels) = batch();
            let (mixed, target) = mixer.mix(images.copy(), labels, 1, number).unwrap();
            assert_eq!(mixed.stride(), images.stride());
            for (own, &partner) in (0..5).zip(&partners) {
                let expected = images.get(own) * share + images.get(partner) * (1.0 - share);
                assert!((mixed.get(own) - expected).abs().max().double_value(&[]) < 1e-9);
                for class in 0..4 {
                    let is = |image: i64| f64::from([0i64, 3, 1, 2, 3][image as usize] == class);
                    let expected = share * is(own) + (1.0 - share) * is(partner);
                    assert!((soft(&target).double_value(&[own, class]) - expected).abs() < 1e-15);
                }
            }
        }
    }

    #[test]
    fn cutmix_takes_a_region_of_the_partner_and_its_area_of_the_label() {
        let mixer = mixer(|augment| augment.cutmix = Some(1.0));
        for number in 0..50 {
            let Recipe { share, partners, region } = mixer.draw(0, number, 5, SIZE).unwrap();
            let region = region.unwrap();
            let (images, labels) = batch();
            let (mixed, target) = mixer.mix(images.copy(), labels, 0, number).unwrap();
            let mut taken = 0;
            for (own, &partner) in (0..5).zip(&partners) {
                for y in 0..6 {
                    for x in 0..9 {
                        let inside = (region.top..region.top + region.height).contains(&y)
                            && (region.left..region.left + region.width).contains(&x);
                        taken += i64::from(inside);
                        let from = if inside { partner } else { own };
                        for channel in 0..2 {
                            let place = |image| images.double_value(&[image, channel, y, x]);
                            assert_eq!(mixed.double_value(&[own, channel, y, x]), place(from));
                        }
                    }
                }
                let sum = soft(&target).get(own).sum(Kind::Double).double_value(&[]);
                assert!((sum - 1.0).abs() < 1e-15);
            }
            assert!((share - (1.0 - taken as f64 / (5.0 * 54.0))).abs() < 1e-12);
        }
    }

    #[test]
    fn a_region_has_the_share_of_both_sides_and_is_cut_at_the_border() {
        let region = |centre, share| {
            let Region { top, left, height, width } = Region::around(centre, share, [32, 20]);
            [top, left, height, width]
        };
        assert_eq!(region([16, 10], 0.75), [8, 5, 16, 10]);
        assert_eq!(region([0, 19], 0.75), [0, 14, 8, 6]);
        assert_eq!(region([5, 5], 1.0), [5, 5, 0, 0]);
        assert_eq!(region([16, 10], 0.0), [0, 0, 32, 20]);
    }

    #[test]
    fn what_is_drawn_depends_on_seed_epoch_and_batch_alone() {
        let both = |seed| {
            let augment = Augment { mixup: Some(0.2), cutmix: Some(1.0), ..Augment::default() };
            Mixer::new(&augment, seed, 4).unwrap().unwrap()
        };
        let first = both(1).draw(2, 3, 64, SIZE);
        assert_eq!(first, both(1).draw(2, 3, 64, SIZE));
        for other in [both(2).draw(2, 3, 64, SIZE), both(1).draw(3, 3, 64, SIZE), both(1).draw(2, 4, 64, SIZE)] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn shares_and_probabilities_are_those_asked_for() {
        let mixer = mixer(|augment| {
            (augment.mixup, augment.cutmix) = (Some(0.5), Some(1.0));
            (augment.mix_probability, augment.switch_probability) = (0.8, 0.25);
        });
        let recipes: Vec<_> = (0..4000).map(|number| mixer.draw(0, number, 2, SIZE)).collect();
        let mixed: Vec<_> = recipes.iter().flatten().collect();
        let mixups: Vec<_> = mixed.iter().filter(|recipe| recipe.region.is_none()).collect();
        // Five standard deviations each; Beta(a, a) has mean 1/2 and variance 1 / (8 a + 4).
        assert!((mixed.len() as f64 / 4000.0 - 0.8).abs() < 0.032, "{}", mixed.len());
        assert!((mixups.len() as f64 / mixed.len() as f64 - 0.75).abs() < 0.039, "{}", mixups.len());
        let mean =
            |of: &dyn Fn(f64) -> f64| mixups.iter().map(|recipe| of(recipe.share)).sum::<f64>() / mixups.len() as f64;
        assert!((mean(&|share| share) - 0.5).abs() < 0.037);
        assert!((mean(&|share| (share - 0.5) * (share - 0.5)) - 0.125).abs() < 0.012);
    }

    #[test]
    fn batches_that_are_not_drawn_stay() {
        let mixer = mixer(|augment| (augment.mixup, augment.mix_probability) = (Some(1.0), 0.0));
        let (images, target) = batch();
        let (same, target) = mixer.mix(images.copy(), target, 0, 0).unwrap();
        assert_eq!(same, images);
        assert!(matches!(target, Target::Classes(_)));
        assert!(Mixer::new(&Augment::default(), 0, 4).unwrap().is_none());
    }
}
