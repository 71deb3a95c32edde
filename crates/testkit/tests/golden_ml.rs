//! `ai.onnx.ml` against the trainers' own answers: `tests/golden/ml`.
#![allow(clippy::unwrap_used, reason = "test data that cannot be read fails the test")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use landfall_graph::{Graph, Op};
use landfall_optimize::{Evaluate, optimize};
use landfall_runtime::{Cpu, Evaluator, Model, Options};
use landfall_tensor::{DType, Tensor};
use landfall_testkit::npz;
use serde::Deserialize;

#[derive(Deserialize)]
struct Index {
    tolerance: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    compare: Compare,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Compare {
    Exact,
    Float,
}

struct Folding(Evaluator);

impl Evaluate for Folding {
    fn evaluate(&self, op: &Op, inputs: &[Option<Tensor>], outputs: usize) -> Option<Vec<Tensor>> {
        self.0.evaluate(op, inputs, outputs).ok()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ml")
}

fn reals(tensor: &Tensor) -> Vec<f64> {
    match tensor.dtype() {
        DType::F32 => tensor.as_slice::<f32>().unwrap().iter().map(|&x| f64::from(x)).collect(),
        DType::F64 => tensor.as_slice::<f64>().unwrap().to_vec(),
        DType::I64 => tensor.as_slice::<i64>().unwrap().iter().map(|&x| x as f64).collect(),
        DType::I32 => tensor.as_slice::<i32>().unwrap().iter().map(|&x| f64::from(x)).collect(),
        DType::Bool => tensor.as_slice::<u8>().unwrap().iter().map(|&x| f64::from(x)).collect(),
        other => panic!("no numbers in {other}"),
    }
}

/// What is wrong with an output, if anything is.
fn difference(found: &Tensor, expected: &Tensor, tolerance: f64) -> Option<String> {
    if found.shape() != expected.shape() {
        return Some(format!("shape {}, expected {}", found.shape(), expected.shape()));
    }
    if (found.dtype() == DType::String) != (expected.dtype() == DType::String) {
        return Some(format!("type {}, expected {}", found.dtype(), expected.dtype()));
    }
    if found.dtype() == DType::String {
        let pairs = found.strings().unwrap().iter().zip(expected.strings().unwrap());
        let wrong = pairs.enumerate().find(|(_, (found, expected))| found != expected);
        return wrong.map(|(at, pair)| format!("element {at}: (found, expected) = {pair:?}"));
    }
    let equal = |found: f64, expected: f64| {
        found == expected
            || (found.is_nan() && expected.is_nan())
            || (found - expected).abs() <= tolerance * expected.abs().max(1.0)
    };
    let (found, expected) = (reals(found), reals(expected));
    let wrong = found.iter().zip(&expected).enumerate().find(|(_, (f, e))| !equal(**f, **e));
    wrong.map(|(at, pair)| format!("element {at}: (found, expected) = {pair:?}"))
}

fn run(
    graph: Graph,
    case: &Case,
    arrays: &HashMap<String, Tensor>,
    index: &Index,
) -> Option<String> {
    let model = match Model::compile(graph, &Options::default()) {
        Ok(model) => model,
        Err(error) => return Some(format!("compile: {error}")),
    };
    let array = |name: String| arrays.get(&name).cloned();
    let inputs = model.signature().inputs.iter().map(|input| {
        array(format!("input.{}", input.name)).unwrap_or_else(|| panic!("input {}", input.name))
    });
    let outputs = match model.run(&inputs.collect::<Vec<_>>()) {
        Ok(outputs) => outputs,
        Err(error) => return Some(format!("run: {error}")),
    };
    let names: Vec<String> =
        model.signature().outputs.iter().map(|output| output.name.clone()).collect();
    case.outputs.iter().find_map(|output| {
        let Some(at) = names.iter().position(|name| *name == output.name) else {
            return Some(format!("there is no output {}", output.name));
        };
        let expected = array(format!("expected.{}", output.name));
        let Some(expected) = expected else {
            return Some(format!("the archive has no answer for {}", output.name));
        };
        let tolerance = if output.compare == Compare::Float { index.tolerance } else { 0.0 };
        let wrong = difference(&outputs[at], &expected, tolerance)?;
        Some(format!("{}: {wrong}", output.name))
    })
}

#[test]
fn every_case_gives_the_trainers_answers() {
    let index: Index =
        serde_json::from_slice(&std::fs::read(folder().join("index.json")).unwrap()).unwrap();
    assert!(index.cases.len() >= 126, "{} cases", index.cases.len());
    let folding = Folding(Evaluator::new(Cpu::detect()));
    let mut failures = Vec::new();
    for case in &index.cases {
        let path = |extension| folder().join(format!("cases/{}.{extension}", case.name));
        let arrays = npz::read(&std::fs::read(path("npz")).unwrap()).unwrap().into_iter().collect();
        let graph = match landfall_onnx::import_file(path("onnx")) {
            Ok(imported) => imported.graph,
            Err(error) => {
                failures.push(format!("{}: import: {error}", case.name));
                continue;
            }
        };
        let optimized = optimize(graph.clone(), &landfall_optimize::Options::default(), &folding);
        let graphs = [("as it is", graph), ("optimised", optimized.unwrap().graph)];
        for (form, graph) in graphs {
            if let Some(failure) = run(graph, case, &arrays, &index) {
                failures.push(format!("{} {form}: {failure}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
