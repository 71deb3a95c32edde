//! Choices change how steps run, never what they compute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use landfall_graph::text::parse;
use landfall_tensor::Tensor;

use super::floats;
use crate::{Model, Options, TuneCase, Tuning, tune};

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
    let found = {
        let cases = [1, 2].map(|threads| TuneCase { inputs: vec![input()], threads });
        tune(&model, &cases, Duration::from_millis(1), &clock).unwrap()
    };
    // By this clock every step takes equally long, whatever it does.
    assert_eq!(found.tuning, Tuning::default());
    let product = format!("MatMul(f32[{SIDE},{SIDE}], f32[{SIDE},{SIDE}])");
    let sum = format!("Add(f32[{SIDE},{SIDE}], f32[{SIDE},{SIDE}])");
    for (case, expected) in found.cases.iter().zip([vec![1], vec![2, 1]]) {
        let mut steps: BTreeMap<&str, _> = BTreeMap::new();
        for step in &case.steps {
            let threads: Vec<usize> = step.candidates.iter().map(|c| c.threads).collect();
            steps.insert(step.signature.as_str(), (step.steps, threads, step.chosen));
        }
        assert_eq!(steps.len(), 2, "{steps:?}");
        assert_eq!(steps[product.as_str()], (2, expected.clone(), 0));
        assert_eq!(steps[sum.as_str()], (1, expected, 0));
    }
}

#[test]
fn a_tuned_model_gives_the_same_bits() {
    let model = model();
    let x = input();
    let expected = model.run(std::slice::from_ref(&x)).unwrap();
    let product = format!("MatMul(f32[{SIDE},{SIDE}], f32[{SIDE},{SIDE}])");
    let kind = format!("MatMul(f32[n,{SIDE}], f32[{SIDE},{SIDE}])");
    let tuning = Tuning {
        algorithms: [(kind.clone(), "unheard of".to_owned())].into(),
        threads: [(2, [(product.clone(), 1)].into())].into(),
    };
    let tuned = model.tuned(Arc::new(tuning), 2).unwrap();
    assert_eq!(tuned.run(std::slice::from_ref(&x)).unwrap(), expected);
    let steps = tuned.report(&[x.shape().clone()]).unwrap().steps;
    let identities: Vec<_> = steps.into_iter().filter_map(|step| step.identity).collect();
    let products = identities.iter().filter(|id| id.signature == product && id.kind == kind);
    assert_eq!(products.count(), 2, "{identities:?}");
    assert_eq!(tuned.packed().len(), 1, "weights are shared");
}

#[test]
fn an_algorithm_holds_for_any_number_of_rows_and_threads() {
    let (side, channels) = (20, 32);
    let text = "graph \"g\" {
        input %x: f32[n,20,20,32]
        const %w: f32[32,32,3,3] = @0
        %y = landfall.FusedConv(%x, %w) {channels_last=1,pads=[1,1,1,1]}
        output %y }";
    let some = |shape: [usize; 4], seed: usize| {
        let value = |i: usize| ((i * 7919 + seed) % 65_521) as f32 / 65_521.0 - 0.5;
        floats(shape, &(0..shape.iter().product()).map(value).collect::<Vec<_>>())
    };
    let graph = parse(text, &[some([channels, channels, 3, 3], 1)]).unwrap();
    let model = Model::compile(graph, &Options { threads: 3, ..Options::default() }).unwrap();
    let step = |model: &Model, n| {
        let shape = [n, side, side, channels].into();
        model.report(&[shape]).unwrap().steps.remove(0)
    };
    let identity = step(&model.tuned(Arc::default(), 1).unwrap(), 1).identity.unwrap();
    let untuned = step(&model, 1).algorithms.unwrap();
    let others = untuned.names.iter().enumerate().filter(|&(index, _)| index != untuned.chosen);
    let mut tried = 0;
    for (index, name) in others {
        tried += 1;
        let algorithms = [(identity.kind.clone(), (*name).to_owned())].into();
        let tuning = Arc::new(Tuning { algorithms, ..Tuning::default() });
        let x = some([8, side, side, channels], 2);
        let each = side * side * channels;
        let rows =
            |tensor: &Tensor, n: usize| tensor.as_slice::<f32>().unwrap()[..n * each].to_vec();
        let whole =
            model.tuned(Arc::clone(&tuning), 1).unwrap().run(std::slice::from_ref(&x)).unwrap();
        for (threads, n) in [(1, 1), (2, 1), (3, 2), (2, 7), (3, 8)] {
            let tuned = model.tuned(Arc::clone(&tuning), threads).unwrap();
            assert_eq!(step(&tuned, n).algorithms.unwrap().chosen, index, "{threads} {n}");
            let part = floats([n, side, side, channels], &rows(&x, n));
            let y = tuned.run(&[part]).unwrap();
            assert!(rows(&y[0], n) == rows(&whole[0], n), "{name} on {threads} threads, {n} rows");
        }
    }
    assert!(tried > 0, "{untuned:?}");
}
