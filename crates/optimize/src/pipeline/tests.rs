//! The whole pipeline over small networks.

use landfall_graph::text::{parse, print};

use super::*;
use crate::testing::TinyEvaluator;

const NETWORK: &str = r#"graph "g" {
  input %x: f32[N,1,4,4]
  const %w: f32[2,1,1,1] = [3.0, 5.0]
  const %v: f32[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
  const %g: f32[2] = [2.0, 4.0]
  const %b: f32[2] = [1.0, 1.0]
  const %m: f32[2] = [0.5, 1.0]
  const %s: f32[2] = [3.0, 15.0]
  const %k: f32[2,3] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
  %a = Conv(%x, %w) "first"
  %n = BatchNormalization(%a, %g, %b, %m, %s) {epsilon=1.0}
  %r = Relu(%n)
  %c = Conv(%r, %v) "second"
  %d = Add(%c, %r)
  %e = Relu(%d)
  %p = GlobalAveragePool(%e)
  %f = Flatten(%p)
  %t = Identity(%f)
  %y = Gemm(%t, %k) "head"
  output %y
}"#;

fn optimized(text: &str, options: &Options) -> Optimized {
    let graph = parse(text, &[]).expect("the test's graph parses");
    optimize(graph, options, &TinyEvaluator).expect("the test's graph is sound")
}

#[test]
fn every_stage_gives_its_reason() {
    assert!(PIPELINE.iter().all(|stage| stage.reason.len() > 20 && !stage.passes.is_empty()));
}

#[test]
fn a_residual_network_becomes_its_kernels() {
    let result = optimized(NETWORK, &Options::default());
    let operators: Vec<&str> = result.graph.nodes().map(|(_, node)| node.op.name()).collect();
    let expected = ["Reshape", "FusedConv", "FusedConv", "ReduceMean", "Reshape", "FusedMatMul"];
    assert_eq!(operators, expected, "{}", print(&result.graph).text);
    assert_eq!(result.report.changes("batch-norm-folding"), 1);
    assert_eq!((result.report.nodes_before, result.report.nodes_after), (10, 6));
    let signature = result.graph.signature();
    let text = parse(NETWORK, &[]).expect("parses").signature();
    assert_eq!(signature.inputs, text.inputs);
    assert_eq!(signature.outputs[0].name, "y");
}

#[test]
fn what_is_optimised_stays_as_it_is() {
    let once = optimized(NETWORK, &Options::default());
    let text = print(&once.graph).text;
    let twice = optimized(&text, &Options::default());
    assert_eq!(print(&twice.graph).text, text);
    assert!(twice.report.passes.is_empty(), "{}", twice.report);
}

#[test]
fn exact_effects_leave_arithmetic_alone() {
    let options = Options { effect: Effect::Exact, ..Options::default() };
    let result = optimized(NETWORK, &options);
    assert!(result.graph.nodes().any(|(_, node)| node.op.name() == "BatchNormalization"));
    assert!(result.report.passes.iter().all(|pass| pass.effect == Effect::Exact));
}

#[test]
fn sub_graphs_are_optimised_too() {
    let text = r#"graph "g" {
      input %c: bool[]
      input %x: f32[2]
      %y = If(%c, %x) {then_branch=graph "t" {
        input %x: f32[2]
        %a = Identity(%x)
        %b = Identity(%a)
        %d = Neg(%b)
        output %d
      }, else_branch=graph "e" {
        input %x: f32[2]
        %d = Abs(%x)
        output %d
      }}
      output %y
    }"#;
    let result = optimized(text, &Options::default());
    assert_eq!(result.report.changes("no-op"), 2);
    assert!(!print(&result.graph).text.contains("Identity"));
}

#[test]
fn an_invalid_graph_is_refused() {
    let mut graph = Graph::new("g");
    let nowhere = graph.add_detached("y");
    graph.outputs.push(nowhere);
    let error = optimize(graph, &Options::default(), &TinyEvaluator).unwrap_err();
    assert!(matches!(error, OptimizeError::Invalid(_)), "{error}");
}
