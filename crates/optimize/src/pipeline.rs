//! The pipeline: a plain list of stages, each with the reason for its place.
//!
//! Within a stage the passes repeat until none changes anything, at most [`ROUNDS_MAX`] times.

use landfall_graph::infer::{NodeInferError, annotate};
use landfall_graph::{CycleError, Graph, Op, VerifyError, verify};

use crate::editor::Editor;
use crate::passes::*;
use crate::{Effect, Evaluate, Options, Report};

/// Rounds of one stage; a stage that still changes after so many is cut off, which is safe, since
/// every rewrite preserves the graph's meaning.
const ROUNDS_MAX: usize = 16;

/// Sub-graphs nested deeper than this are left as they are.
const DEPTH_MAX: usize = 32;

/// One pass: rewrites what it can, and counts.
#[derive(Clone, Copy)]
pub(crate) struct Pass {
    pub(crate) name: &'static str,
    pub(crate) effect: Effect,
    pub(crate) run: fn(&mut Editor<'_>) -> usize,
}

/// Passes that prepare each other's matches.
struct Stage {
    /// Why the stage stands where it does.
    #[cfg_attr(not(test), allow(dead_code, reason = "read by people and by a test"))]
    reason: &'static str,
    wanted: fn(&Options) -> bool,
    passes: &'static [Pass],
}

const PIPELINE: &[Stage] = &[
    Stage {
        reason: "Everything after looks for patterns: exporters' detours, duplicates and shape \
                 arithmetic must be gone. Constant folding leaves DequantizeLinear alone here, \
                 because the integer stage needs to see quantised weights.",
        wanted: |_| true,
        passes: &[
            dead::PASS,
            shape_values::PASS,
            fold::PASS,
            canonical::PASS,
            noop::PASS,
            reshape::PASS,
            transpose::PASS,
            share::PASS,
        ],
    },
    Stage {
        reason: "Before any float fusion, which would hide the Quantize/Dequantize pairs.",
        wanted: |options| options.integer,
        passes: &[
            quantized_movement::PASS,
            fold::PASS,
            share::PASS,
            quantized::PASS,
            quantized_sum::PASS,
            quantized_operators::PASS,
            dynamic_quantized::PASS,
            transpose::PASS,
            reshape::PASS,
        ],
    },
    Stage {
        reason: "What stayed float computes with dequantised constants.",
        wanted: |_| true,
        passes: &[fold::PASS_ALL, noop::PASS],
    },
    Stage {
        reason: "Norms, activations and softmax before matrix products: their pieces look like \
                 biases and residuals.",
        wanted: |_| true,
        passes: &[normalization::PASS, activation::PASS, softmax::PASS],
    },
    Stage {
        reason: "While convolutions and products are still plain ONNX: scales and shifts go into \
                 weights and biases. A batch norm that found no host turns into Mul and Add last.",
        wanted: |_| true,
        passes: &[pad::PASS, batch_norm::PASS, scale::PASS],
    },
    Stage {
        reason: "Only batch norms that no constant weight took are left.",
        wanted: |_| true,
        passes: &[batch_norm::DECOMPOSE, scale::PASS],
    },
    Stage {
        reason: "Attention swallows the head transposes, before anything moves them.",
        wanted: |_| true,
        passes: &[attention::PASS],
    },
    Stage {
        reason: "Epilogues: bias first, then residual, then activation, each on what the one \
                 before made.",
        wanted: |_| true,
        passes: &[matmul::PASS, conv::PASS, residual::PASS, epilogue::PASS],
    },
    Stage {
        reason: "Fused convolutions carry the layout attribute, so this follows their making.",
        wanted: |options| options.channels_last,
        passes: &[channels_last::PASS],
    },
    Stage {
        reason: "Layout changes leave transposes that cancel, sink or are only reshapes.",
        wanted: |_| true,
        passes: &[
            fold::PASS_ALL,
            transpose::PASS,
            sink::PASS,
            reshape::PASS,
            noop::PASS,
            share::PASS,
            residual::PASS,
            epilogue::PASS,
            dead::PASS,
        ],
    },
];

/// The optimised graph and what was done.
#[derive(Debug, Clone)]
pub struct Optimized {
    /// The graph; ids have changed.
    pub graph: Graph,
    /// What the passes did.
    pub report: Report,
}

/// Why a graph could not be optimised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizeError {
    /// The graph given breaks an invariant.
    #[error("the graph is not valid: {0}")]
    Invalid(#[from] VerifyError),
    /// The graph given has a cycle.
    #[error(transparent)]
    Cycle(#[from] CycleError),
    /// Operands that no model may combine.
    #[error(transparent)]
    Infer(#[from] NodeInferError),
    /// A pass broke an invariant: a bug in the pass.
    #[error("pass '{pass}' broke the graph (this is a bug in Landfall): {error}")]
    Broken {
        /// The pass.
        pass: &'static str,
        /// What it broke.
        error: String,
    },
}

/// Runs every stage on the graph and on its sub-graphs.
///
/// Inputs and outputs keep their names, order, datatypes and shapes. The result is the same for
/// the same graph, options and evaluator.
pub fn optimize(
    graph: Graph,
    options: &Options,
    evaluator: &dyn Evaluate,
) -> Result<Optimized, OptimizeError> {
    verify(&graph)?;
    let mut report = Report { nodes_before: graph.nodes().count(), ..Report::default() };
    let graph = optimize_at(graph, options, evaluator, &mut report, 0)?;
    report.nodes_after = graph.nodes().count();
    Ok(Optimized { graph, report })
}

fn optimize_at(
    mut graph: Graph,
    options: &Options,
    evaluator: &dyn Evaluate,
    report: &mut Report,
    depth: usize,
) -> Result<Graph, OptimizeError> {
    annotate(&mut graph)?;
    let mut editor = Editor::new(graph, options, evaluator);
    for stage in PIPELINE.iter().filter(|stage| (stage.wanted)(options)) {
        run_stage(&mut editor, stage, report)?;
    }
    let mut graph = editor.graph.compacted()?;
    if depth < DEPTH_MAX {
        let ids: Vec<_> = graph.nodes().map(|(id, _)| id).collect();
        for id in ids {
            let Some(node) = graph.node_mut(id) else { continue };
            let mut inner = |body: &mut Box<Graph>| {
                let body_graph = std::mem::take(&mut **body);
                **body = optimize_at(body_graph, options, evaluator, report, depth + 1)?;
                Ok::<(), OptimizeError>(())
            };
            match &mut node.op {
                Op::If(op) => {
                    inner(&mut op.then_branch)?;
                    inner(&mut op.else_branch)?;
                }
                Op::Loop(op) => inner(&mut op.body)?,
                Op::Scan(op) => inner(&mut op.body)?,
                _ => (),
            }
        }
    }
    Ok(graph)
}

fn run_stage(
    editor: &mut Editor<'_>,
    stage: &Stage,
    report: &mut Report,
) -> Result<(), OptimizeError> {
    for _ in 0..ROUNDS_MAX {
        let mut changed = false;
        for pass in stage.passes.iter().filter(|pass| pass.effect <= editor.options.effect) {
            let changes = (pass.run)(editor);
            report.add(pass.name, pass.effect, changes);
            if changes == 0 {
                continue;
            }
            changed = true;
            if cfg!(debug_assertions) {
                verify(&editor.graph).map_err(|error| OptimizeError::Broken {
                    pass: pass.name,
                    error: error.to_string(),
                })?;
            }
            // Folding can bring to light that the model's own shapes contradict one another.
            annotate(&mut editor.graph)?;
        }
        if !changed {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
