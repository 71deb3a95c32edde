//! The golden case of a package: what loading expects, and how far off an answer may be.
//!
//! # Expected outputs are those of the scalar kernels
//!
//! Instruction sets round sums of floats differently, so outputs of the fastest one would make the
//! bytes of a package depend on the processor that wrote it. Every machine has the scalar twins of
//! the kernels, which use no instruction set in particular. They are slow: packaging ResNet-50
//! takes some ten seconds, nearly all of them for one golden row; packaging is rare enough.
//!
//! # The tolerance is measured
//!
//! Where a model rounds to integers on the way, as dynamically quantised ones do, a difference in
//! the last bit becomes one of a whole level, and a tolerance that suits other models would refuse
//! this one on the next processor. So the case is run with every instruction set of this machine.
//! If the default tolerance covers [`MARGIN`] times the largest difference, it is taken; otherwise
//! its absolute part becomes the next power of ten that does, which hides which instruction sets
//! the machine had in all but the rarest cases. Authors who want the bytes fixed in those too
//! declare `tolerance` in the manifest, which is then checked and kept.
//!
//! AMX forms the sums of products in bf16 in an order of its own, and the machine that packages
//! need not have it: of models in bf16 its scalar twin is run as well.

use anyhow::{Context, Result, bail, ensure};
use landfall_package::{Golden, Tolerance};
use landfall_runtime::{Cpu, Isa};
use landfall_tensor::{Precision, Tensor};

use crate::engine::{Opened, excess};
use crate::npz::Arrays;

/// How much larger than the measured one a difference may be on processors not at hand.
const MARGIN: f64 = 4.0;
/// The largest difference that is taken for rounding unless the author declares more, as a fraction
/// of an output's largest element. A dynamically quantised MiniLM differs by 0.1 on eight sequences
/// of 128 tokens.
const MAX_SPREAD: f64 = 0.25;

/// What a model gives for some inputs, by name.
pub(super) fn run(opened: &Opened, inputs: &Arrays) -> Result<Arrays> {
    let tensors: Vec<Tensor> = inputs.iter().map(|(_, tensor)| tensor.clone()).collect();
    let outputs = opened.predict(&tensors).context(
        "the golden inputs cannot be run; give ones that the model can take with --golden",
    )?;
    Ok(opened.signature().outputs.iter().map(|spec| spec.name.clone()).zip(outputs).collect())
}

/// The case of some inputs and the outputs that the scalar kernels give in `precision`. `compile`
/// makes the model for another instruction set.
pub(super) fn case(
    inputs: Arrays,
    outputs: Arrays,
    precision: Precision,
    declared: Option<Tolerance>,
    compile: impl Fn(Cpu) -> Result<Opened>,
) -> Result<Golden> {
    let relative = declared.unwrap_or_default().relative;
    let limit = if declared.is_some() { f64::INFINITY } else { MAX_SPREAD };
    let mut largest = 0f64;
    let twin = (precision == Precision::Bf16).then(Cpu::amx_twin);
    for cpu in Cpu::available().filter(|cpu| cpu.isa() != Isa::Reference).chain(twin) {
        let found = run(&compile(cpu)?, &inputs)?;
        let difference = spread(&outputs, &found, relative, limit).with_context(|| {
            format!(
                "the golden inputs give other results with {} than with the scalar kernels; give \
                 inputs that do not stand on a threshold with --golden",
                if cpu.isa() == Isa::Reference { Isa::Amx } else { cpu.isa() }
            )
        })?;
        largest = largest.max(difference);
    }
    let tolerance = match declared {
        Some(declared) if declared.absolute >= largest => declared,
        Some(Tolerance { absolute, .. }) => bail!(
            "tolerance: absolute {absolute:e} does not cover the {largest:e} by which instruction \
             sets of this machine differ"
        ),
        None => covering(largest),
    };
    Ok(Golden { inputs, outputs, tolerance })
}

/// The largest difference that a relative tolerance does not cover. Fails beyond `limit`, as a
/// fraction of the output's largest element.
fn spread(expected: &Arrays, found: &Arrays, relative: f64, limit: f64) -> Result<f64> {
    let mut largest = 0f64;
    for ((name, expected), (_, found)) in expected.iter().zip(found) {
        let excess = excess(expected, found, relative);
        let excess = excess.with_context(|| format!("output '{name}'"))?;
        ensure!(
            excess.absolute / limit <= excess.scale,
            "output '{name}': off by {:e} where the largest element is {:e}; if that is well, \
             declare a `tolerance` in the manifest",
            excess.absolute,
            excess.scale
        );
        largest = largest.max(excess.absolute);
    }
    Ok(largest)
}

/// The default, or as much more as a measured difference needs.
fn covering(largest: f64) -> Tolerance {
    let default = Tolerance::default();
    let needed = largest * MARGIN;
    if needed <= default.absolute {
        return default;
    }
    // As text, so that it is the number that people write.
    let rounded = format!("1e{}", needed.log10().ceil() as i32).parse();
    Tolerance { absolute: rounded.unwrap_or(needed), ..default }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use landfall_package::ServingDefaults;
    use landfall_runtime::{Model, Options};
    use landfall_tensor::Shape;

    use super::*;

    /// A model that multiplies by `factor`.
    fn model(factor: f32) -> Opened {
        let text = "graph \"g\" {\n  input %x: f32[n]\n  const %f: f32[1] = @0\n  \
                    %y: f32[n] = Mul(%x, %f)\n  output %y\n}\n";
        let factor = Tensor::from_slice(Shape::from([1]), &[factor]).unwrap();
        let graph = landfall_graph::text::parse(text, &[factor]).unwrap();
        let model = Arc::new(Model::compile(graph, &Options::default()).unwrap());
        let serving = ServingDefaults::default();
        Opened { model, steps: None, platform: "landfall", serving, package: None }
    }

    #[test]
    fn the_case_allows_what_instruction_sets_differ_by() {
        if Cpu::available().count() == 1 {
            return;
        }
        let inputs = || vec![("x".to_owned(), arrays(&[1.0, -0.5])[0].1.clone())];
        let outputs = || run(&model(1.0), &inputs()).unwrap();
        let with = |factor, declared| {
            case(inputs(), outputs(), Precision::F32, declared, |_| Ok(model(factor)))
        };
        let exact = with(1.0, None).unwrap();
        assert_eq!(exact.tolerance, Tolerance::default());
        assert_eq!(exact.outputs, arrays(&[1.0, -0.5]));
        assert_eq!(with(1.002, None).unwrap().tolerance.absolute, 0.01);
        let declared = Tolerance { absolute: 0.005, relative: 0.0 };
        assert_eq!(with(1.002, Some(declared)).unwrap().tolerance, declared);
        let wide = Tolerance { absolute: 2.0, relative: 0.0 };
        assert_eq!(with(2.0, Some(wide)).unwrap().tolerance, wide);
        let error = |factor, declared| format!("{:#}", with(factor, declared).unwrap_err());
        assert!(error(1.01, Some(declared)).contains("does not cover"));
        assert!(error(2.0, None).contains("with --golden: output 'y': off by"));
    }

    fn arrays(values: &[f32]) -> Arrays {
        vec![("y".to_owned(), Tensor::from_slice(Shape::from([values.len()]), values).unwrap())]
    }

    #[test]
    fn a_tolerance_covers_the_spread_and_is_a_power_of_ten() {
        for small in [0.0, 1e-9, 2.4e-6] {
            assert_eq!(covering(small), Tolerance::default());
        }
        assert_eq!(covering(2.6e-6).absolute, 1e-4);
        assert_eq!(covering(0.004).absolute, 0.1);
        assert_eq!(covering(3.0).absolute, 100.0);
    }

    #[test]
    fn what_is_no_rounding_is_refused() {
        let spread = |a: &[f32], b: &[f32]| spread(&arrays(a), &arrays(b), 0.0, MAX_SPREAD);
        assert_eq!(spread(&[1.0, 0.5], &[1.0, 0.5]).unwrap(), 0.0);
        assert_eq!(spread(&[8.0, 1.0], &[8.0, 1.5]).unwrap(), 0.5);
        let absurd = spread(&[1.0, 0.5], &[1.0, 1.0]).unwrap_err().to_string();
        assert!(absurd.starts_with("output 'y': off by"), "{absurd}");
        assert!(spread(&[1.0], &[f32::NAN]).is_err());
    }
}
