//! Random operators. Their numbers are a function of the seed and the position alone: a model gives
//! the same answers on every run. Without a seed attribute the seed is [`UNSEEDED`].

use landfall_graph::Op;
use landfall_kernels::generate::{
    Random, sample_bernoulli, sample_classes, sample_normal, sample_uniform,
};

use super::movement::boxed;
use super::types::{float_type, number_type};
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

/// The seed of an operator that has none.
const UNSEEDED: u64 = 0;

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    let normal = |mean: f32, scale: f32| Draw::Normal(mean.into(), scale.into());
    let uniform = |low: f32, high: f32| Draw::Uniform(low.into(), high.into());
    let (seed, draw) = match site.op {
        Op::RandomNormal(op) => (op.seed, normal(op.mean, op.scale)),
        Op::RandomNormalLike(op) => (op.seed, normal(op.mean, op.scale)),
        Op::RandomUniform(op) => (op.seed, uniform(op.low, op.high)),
        Op::RandomUniformLike(op) => (op.seed, uniform(op.low, op.high)),
        Op::Bernoulli(op) => (op.seed, Draw::Bernoulli),
        Op::Multinomial(op) => match classes(site) {
            Ok(classes) => (op.seed, Draw::Classes(classes)),
            Err(error) => return Some(Err(error)),
        },
        _ => return None,
    };
    // A seed is a real number: its bits tell apart what its integer part would not.
    let random = Random::new(seed.map_or(UNSEEDED, |seed| seed.to_bits().into()));
    Some(boxed(Sample { random, draw, seeded: seed.is_some() }))
}

fn classes(site: &Site<'_>) -> Result<usize, KernelError> {
    match *site.shape(0)? {
        [_, classes] if classes > 0 => Ok(classes),
        _ => KernelError::invalid(format!("input {}, expected [batch,classes]", site.shape(0)?)),
    }
}

#[derive(Clone, Copy)]
enum Draw {
    /// Mean and standard deviation.
    Normal(f64, f64),
    /// Bounds.
    Uniform(f64, f64),
    /// Probabilities are operand 0.
    Bernoulli,
    /// Number of classes, whose logits are operand 0.
    Classes(usize),
}

struct Sample {
    random: Random,
    draw: Draw,
    seeded: bool,
}

impl Kernel for Sample {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.optional(0);
        let input = || input.ok_or_else(|| KernelError::Invalid("operand 0 is missing".into()));
        let out = &mut io.outputs[0];
        let random = self.random;
        number_type!(out.dtype(), T => {
            let out = out.as_mut_slice::<T>()?;
            match self.draw {
                Draw::Normal(mean, deviation) => sample_normal(random, mean, deviation, out),
                Draw::Uniform(low, high) => sample_uniform(random, low, high, out),
                Draw::Bernoulli => {
                    let input = input()?;
                    float_type!(input.dtype(), P => {
                        sample_bernoulli::<P, T>(random, input.as_slice()?, out);
                    });
                }
                Draw::Classes(classes) => {
                    let input = input()?;
                    float_type!(input.dtype(), L => {
                        sample_classes::<L, T>(random, classes, input.as_slice()?, out);
                    });
                }
            }
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        let info = KernelInfo::portable("random", "f64");
        if self.seeded { info } else { info.because("no seed is given: a fixed one is used") }
    }
}
