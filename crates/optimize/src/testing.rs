//! How passes are tested: text in, text out, the verifier after every pass.

use landfall_graph::infer::annotate;
use landfall_graph::text::{parse, print};
use landfall_graph::{Graph, Op, Origin, verify};
use landfall_tensor::{Shape, Tensor};

use crate::editor::Editor;
use crate::pipeline::Pass;
use crate::{Evaluate, Options};

/// Computes just enough for the tests: same-shape or scalar arithmetic of `f32`, and concatenation
/// of integer vectors.
pub(crate) struct TinyEvaluator;

impl Evaluate for TinyEvaluator {
    fn evaluate(&self, op: &Op, inputs: &[Option<Tensor>], _: usize) -> Option<Vec<Tensor>> {
        let tensor = |i: usize| inputs.get(i)?.as_ref();
        if matches!(op, Op::Concat(_)) {
            let parts = inputs.iter().map(|t| t.as_ref()?.as_slice::<i64>().ok());
            let all = parts.collect::<Option<Vec<_>>>()?.concat();
            return Some(vec![Tensor::from_slice(Shape::from([all.len()]), &all).ok()?]);
        }
        let f: fn(f32, f32) -> f32 = match op {
            Op::Add => |a, b| a + b,
            Op::Mul => |a, b| a * b,
            Op::Div => |a, b| a / b,
            Op::Sqrt => |a, _| a.sqrt(),
            _ => return None,
        };
        let a = tensor(0)?;
        let b = tensor(1).unwrap_or(a);
        let (x, y) = (a.as_slice::<f32>().ok()?, b.as_slice::<f32>().ok()?);
        let out: Vec<f32> = x.iter().enumerate().map(|(i, &x)| f(x, y[i % y.len()])).collect();
        Some(vec![Tensor::from_slice(a.shape().clone(), &out).ok()?])
    }
}

/// The printed graph after some passes, each run once.
pub(crate) fn after(passes: &[Pass], text: &str) -> String {
    let options = Options::default();
    let mut graph = parse(text, &[]).expect("the test's graph parses");
    annotate(&mut graph).expect("the test's graph is sound");
    let mut editor = Editor::new(graph, &options, &TinyEvaluator);
    for pass in passes {
        (pass.run)(&mut editor);
        verify(&editor.graph).unwrap_or_else(|err| panic!("after {}: {err}", pass.name));
        annotate(&mut editor.graph).unwrap_or_else(|err| panic!("after {}: {err}", pass.name));
    }
    anonymous(&editor.graph.compacted().expect("no cycle"))
}

/// The printed graph, values inside named by their order, so that only structure is compared.
fn anonymous(graph: &Graph) -> String {
    let mut graph = graph.clone();
    let ids: Vec<_> = graph.values().map(|(id, _)| id).collect();
    for id in ids {
        let input = matches!(graph.value(id).origin, Origin::Input);
        if !input && !graph.outputs.contains(&id) {
            graph.value_mut(id).name.clear();
        }
    }
    print(&graph).text
}

/// Asserts that passes turn one graph into another.
#[track_caller]
pub(crate) fn check(passes: &[Pass], text: &str, expected: &str) {
    let mut expected = parse(expected, &[]).expect("the expected graph parses");
    annotate(&mut expected).expect("the expected graph is sound");
    let expected = anonymous(&expected.compacted().expect("no cycle"));
    let found = after(passes, text);
    assert!(found == expected, "expected\n{expected}\nfound\n{found}");
}

/// Asserts that passes leave a graph alone.
#[track_caller]
pub(crate) fn check_unchanged(passes: &[Pass], text: &str) {
    check(passes, text, text);
}
