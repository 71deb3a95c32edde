//! Choices change how steps run, never what they compute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use landfall_graph::text::parse;
use landfall_tensor::Tensor;

use super::floats;
use crate::{Choice, Model, Options, Tuning, tune};

const SIDE: usize = 96;

/// Two equal products and a sum, on two threads.
fn model() -> Model {
    let weights = floats([SIDE, SIDE], &values(1));
    let text = format!(
        "graph \"g\" {{
           input %x: f32[n,{SIDE}]
           const %w: f32[{SIDE},{SIDE}] = @0
           %a = MatMul(%x, %w)
           %b = MatMul(%a, %w)
           %y = Add(%a, %b)
           output %y
         }}"
    );
    let options = Options { threads: 2, ..Options::default() };
    Model::compile(parse(&text, &[weights]).unwrap(), &options).unwrap()
}

fn values(seed: usize) -> Vec<f32> {
    (0..SIDE * SIDE).map(|i| ((i * 7919 + seed) % 1000) as f32 * 1e-3 - 0.5).collect()
}

fn input() -> Tensor {
    floats([SIDE, SIDE], &values(2))
}

#[test]
fn every_distinct_step_is_measured_once_for_each_way() {
    let model = model();
    let time = AtomicU64::new(0);
    let clock = || Duration::from_micros(time.fetch_add(1, Ordering::Relaxed));
    let found = tune(&model, &[input()], Duration::from_millis(1), &clock).unwrap();
    // By this clock every step takes equally long, whatever it does.
    assert_eq!(found.tuning, Tuning::default());
    let mut steps: BTreeMap<&str, _> = BTreeMap::new();
    for step in &found.steps {
        let threads: Vec<usize> = step.candidates.iter().map(|c| c.threads).collect();
        steps.insert(step.signature.as_str(), (step.steps, threads, step.chosen));
    }
    let product = format!("MatMul(f32[{SIDE},{SIDE}], f32[{SIDE},{SIDE}])");
    let sum = format!("Add(f32[{SIDE},{SIDE}], f32[{SIDE},{SIDE}])");
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert_eq!(steps[product.as_str()], (2, vec![2, 1], 0));
    assert_eq!(steps[sum.as_str()], (1, vec![2, 1], 0));
}

#[test]
fn a_tuned_model_gives_the_same_bits() {
    let model = model();
    let x = input();
    let expected = model.run(std::slice::from_ref(&x)).unwrap();
    let product = format!("MatMul(f32[{SIDE},{SIDE}], f32[{SIDE},{SIDE}])");
    let choice = Choice { threads: Some(1), algorithm: Some("unheard of".to_owned()) };
    let tuning = Tuning { choices: [(product.clone(), choice)].into() };
    let tuned = model.tuned(Arc::new(tuning)).unwrap();
    assert_eq!(tuned.run(std::slice::from_ref(&x)).unwrap(), expected);
    let steps = tuned.report(&[x.shape().clone()]).unwrap().steps;
    assert_eq!(steps.iter().filter(|step| step.signature == product).count(), 2);
    assert_eq!(tuned.packed().len(), 1, "weights are shared");
}
