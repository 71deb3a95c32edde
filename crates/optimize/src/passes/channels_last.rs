//! Images flow channels last: `[N, C, H, W]` becomes `[N, H, W, C]` inside the graph.
//!
//! One walk in schedule order. Every value may have a *twin*, its channels-last form. Convolutions
//! always move to channels last; operators that do not care (see [`agnostic`]) move when an operand
//! has a twin. A converted node's result is the twin; the old value becomes a transpose of it,
//! which disappears if everything that reads it converts as well. An operand without a twin gets
//! one by a transpose, a constant by permuting its elements. So transposes remain only where the
//! layouts meet, and the passes after this one cancel or merge those.

mod agnostic;

use std::collections::HashMap;

use landfall_graph::{Dim, Node, NodeId, Op, ValueId};

use super::transpose::transpose;
use crate::Effect;
use crate::constants;
use crate::editor::Editor;
use crate::pipeline::Pass;

/// Axis `i` of a channels-last value is axis `TO_LAST[i]` of the channels-first one.
const TO_LAST: [usize; 4] = [0, 2, 3, 1];
/// The way back.
const TO_FIRST: [usize; 4] = [0, 3, 1, 2];

pub(crate) const PASS: Pass = Pass { name: "channels-last", effect: Effect::Reassociating, run };

fn run(editor: &mut Editor<'_>) -> usize {
    let mut layout = Layout { editor, twins: HashMap::new(), returns: Vec::new() };
    let mut changes = 0;
    for id in layout.editor.schedule() {
        let Some(node) = layout.editor.node(id).cloned() else { continue };
        if layout.convert(&node).is_some() {
            changes += 1;
        }
    }
    let returns = std::mem::take(&mut layout.returns);
    for id in returns {
        editor.sweep(id);
    }
    changes
}

struct Layout<'e, 'a> {
    editor: &'e mut Editor<'a>,
    twins: HashMap<ValueId, ValueId>,
    /// Transposes back to channels first, most of which nothing will read.
    returns: Vec<NodeId>,
}

/// A node rewritten for channels last.
struct Converted {
    op: Op,
    inputs: Vec<Option<ValueId>>,
    /// Whether the results are channels last too, rather than unchanged.
    twins: bool,
}

impl Layout<'_, '_> {
    fn convert(&mut self, node: &Node) -> Option<()> {
        let converted = match &node.op {
            Op::FusedConv(op) if !op.channels_last => {
                let mut op = op.clone();
                op.channels_last = true;
                self.convolution(node, 1, Op::FusedConv(op))?
            }
            Op::QuantizedConv(op) if !op.channels_last => {
                let mut op = op.clone();
                op.channels_last = true;
                self.convolution(node, 3, Op::QuantizedConv(op))?
            }
            _ => {
                if let Some(twin) = agnostic::shuffled(self, node) {
                    self.publish(node.outputs[0], twin);
                    return Some(());
                }
                let moved = node.operands().any(|operand| self.twins.contains_key(&operand));
                if !moved {
                    return None;
                }
                agnostic::convert(self, node)?
            }
        };
        self.place(node, converted);
        Some(())
    }

    /// A convolution over two spatial axes.
    fn convolution(&mut self, node: &Node, weight: usize, op: Op) -> Option<Converted> {
        if self.editor.rank(node.input(weight)?)? != 4 {
            return None;
        }
        let mut inputs = node.inputs.clone();
        inputs[0] = Some(self.twin(node.input(0)?)?);
        if let (Op::FusedConv(_), Some(residual)) = (&op, node.input(3)) {
            inputs[3] = Some(self.twin(residual)?);
        }
        Some(Converted { op, inputs, twins: true })
    }

    /// The channels-last form of a value of rank 4.
    fn twin(&mut self, value: ValueId) -> Option<ValueId> {
        if let Some(&twin) = self.twins.get(&value) {
            return Some(twin);
        }
        let dims: Vec<Dim> = self.editor.dims(value).filter(|dims| dims.len() == 4)?.to_vec();
        let twin = match self.editor.constant(value) {
            Some(tensor) => {
                let permuted = constants::permuted(tensor, &TO_LAST)?;
                self.editor.add_constant(permuted)
            }
            None => {
                let twin = self.editor.append("", transpose(&TO_LAST), [Some(value)]);
                let dims = TO_LAST.iter().map(|&axis| dims[axis].clone()).collect();
                self.editor.declare(twin, self.editor.dtype(value), Some(dims));
                twin
            }
        };
        self.twins.insert(value, twin);
        Some(twin)
    }

    fn place(&mut self, node: &Node, converted: Converted) {
        let results: Vec<ValueId> =
            node.outputs.iter().map(|_| self.editor.graph.add_detached("")).collect();
        self.editor.add_node(&node.name, converted.op, converted.inputs, results.clone());
        for (&output, result) in node.outputs.iter().zip(results) {
            if converted.twins {
                self.publish(output, result);
            } else {
                self.editor.replace(output, result);
            }
        }
    }

    /// Makes `twin` the channels-last form of what was `output`.
    fn publish(&mut self, output: ValueId, twin: ValueId) {
        let dims = self
            .editor
            .dims(output)
            .map(|dims| TO_LAST.iter().filter_map(|&axis| dims.get(axis).cloned()).collect());
        self.editor.declare(twin, self.editor.dtype(output), dims);
        let back = self.editor.append("", transpose(&TO_FIRST), [Some(twin)]);
        self.returns.extend(self.editor.producer(back).map(|(id, _)| id));
        self.twins.insert(back, twin);
        self.editor.replace(output, back);
    }
}

/// Where a channels-first axis is in a channels-last value.
fn moved_axis(axis: i64) -> Option<i64> {
    let axis = landfall_graph::infer::resolve_axis(axis, 4).ok()?;
    Some([0, 3, 1, 2][axis])
}

#[cfg(test)]
mod tests;
