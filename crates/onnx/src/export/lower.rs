//! The operators of the domain `landfall` as standard ones.

use landfall_graph::{Activation, Attribute, Attributes, Graph, Node, Op, ValueId, ops};
use landfall_tensor::{DType, Tensor, bf16, f16};

use super::{ExportError, unsupported};

/// The same graph in standard operators.
pub(super) fn standard(graph: &Graph) -> Result<Graph, ExportError> {
    let broken = |error: landfall_graph::CycleError| ExportError::Graph(error.to_string());
    let mut graph = graph.clone().compacted().map_err(broken)?;
    let ids: Vec<_> = graph.nodes().map(|(id, _)| id).collect();
    for id in ids {
        let Some(node) = graph.node(id) else { continue };
        match &node.op {
            Op::FusedConv(_) | Op::FusedMatMul(_) => {
                if let Some(node) = graph.remove_node(id) {
                    Lowering { graph: &mut graph, node }.lower()?;
                }
            }
            op => {
                if let Some(op) = with_standard_bodies(op)?
                    && let Some(node) = graph.node_mut(id)
                {
                    node.op = op;
                }
            }
        }
    }
    Ok(graph)
}

fn with_standard_bodies(op: &Op) -> Result<Option<Op>, ExportError> {
    if !matches!(op, Op::If(_) | Op::Loop(_) | Op::Scan(_)) {
        return Ok(None);
    }
    let mut attributes = Attributes::new();
    for (name, attribute) in op.attributes() {
        let attribute = match attribute {
            Attribute::Graph(body) => Attribute::Graph(Box::new(standard(&body)?)),
            other => other,
        };
        attributes.insert(name, attribute);
    }
    let op = Op::new(op.domain(), op.name(), attributes);
    op.map(Some).map_err(|error| ExportError::Graph(error.to_string()))
}

/// One fused node on its way out of the graph.
struct Lowering<'g> {
    graph: &'g mut Graph,
    node: Node,
}

impl Lowering<'_> {
    fn lower(mut self) -> Result<(), ExportError> {
        match self.node.op.clone() {
            Op::FusedConv(op) => self.conv(op),
            Op::FusedMatMul(op) => {
                let (a, mut b) = (self.operand(0)?, self.operand(1)?);
                if op.trans_b {
                    b = self.transpose(b, vec![1, 0]);
                }
                let mut y = self.add(Op::MatMul, vec![a, b]);
                for extra in [2, 3] {
                    if let Some(extra) = self.node.input(extra) {
                        y = self.add(Op::Add, vec![y, extra]);
                    }
                }
                self.finish(y, op.activation)
            }
            _ => Ok(()),
        }
    }

    fn conv(&mut self, op: ops::FusedConv) -> Result<(), ExportError> {
        let (mut x, w) = (self.operand(0)?, self.operand(1)?);
        let mut residual = self.node.input(3);
        let rank = self.graph.value(w).dims.as_ref().map_or(4, Vec::len) as i64;
        if op.channels_last {
            x = self.transpose(x, channels_first(rank));
            residual = residual.map(|id| self.transpose(id, channels_first(rank)));
        }
        let conv = ops::Conv {
            auto_pad: Default::default(),
            dilations: op.dilations,
            group: op.group,
            kernel_shape: Vec::new(),
            pads: op.pads,
            strides: op.strides,
        };
        let mut operands = vec![x, w];
        operands.extend(self.node.input(2));
        let mut y = self.add(Op::Conv(conv), operands);
        if let Some(residual) = residual {
            y = self.add(Op::Add, vec![y, residual]);
        }
        if op.channels_last {
            let perm = std::iter::once(0).chain(2..rank).chain([1]).collect();
            y = self.transpose(y, perm);
        }
        self.finish(y, op.activation)
    }

    fn operand(&self, index: usize) -> Result<ValueId, ExportError> {
        let missing = || unsupported(&self.node.name, format!("input {index} is missing"));
        self.node.input(index).ok_or_else(missing)
    }

    fn add(&mut self, op: Op, inputs: Vec<ValueId>) -> ValueId {
        let name = format!("{}/{}", self.node.name, op.name());
        self.graph.append(name, op, inputs.into_iter().map(Some).collect())
    }

    fn transpose(&mut self, id: ValueId, perm: Vec<i64>) -> ValueId {
        self.add(Op::Transpose(ops::Transpose { perm }), vec![id])
    }

    /// Defines the node's result as the activation of `y`.
    fn finish(&mut self, y: ValueId, activation: Activation) -> Result<(), ExportError> {
        let mut operands = vec![Some(y)];
        let op = match activation {
            Activation::None => Op::Identity,
            Activation::Relu => Op::Relu,
            Activation::Clip(lo, hi) => {
                operands.extend([Some(self.scalar(lo)?), Some(self.scalar(hi)?)]);
                Op::Clip
            }
            Activation::LeakyRelu(alpha) => Op::LeakyRelu(ops::LeakyRelu { alpha }),
            Activation::Sigmoid => Op::Sigmoid,
            Activation::Tanh => Op::Tanh,
            Activation::Silu => {
                operands.push(Some(self.add(Op::Sigmoid, vec![y])));
                Op::Mul
            }
            Activation::HardSwish => Op::HardSwish,
            Activation::HardSigmoid(alpha, beta) => {
                Op::HardSigmoid(ops::HardSigmoid { alpha, beta })
            }
            Activation::Gelu => Op::Gelu(ops::Gelu { approximate: Default::default() }),
            Activation::GeluTanh => {
                let approximate = landfall_graph::GeluApproximation::Tanh;
                Op::Gelu(ops::Gelu { approximate })
            }
        };
        let (name, outputs) = (self.node.name.clone(), self.node.outputs.clone());
        self.graph.add_node(name, op, operands, outputs);
        Ok(())
    }

    fn scalar(&mut self, value: f32) -> Result<ValueId, ExportError> {
        let result = self.node.outputs.first().copied();
        let tensor = match result.and_then(|id| self.graph.value(id).dtype) {
            Some(DType::F32) | None => Tensor::scalar(value),
            Some(DType::F64) => Tensor::scalar(f64::from(value)),
            Some(DType::F16) => Tensor::scalar(f16::from_f32(value)),
            Some(DType::BF16) => Tensor::scalar(bf16::from_f32(value)),
            Some(other) => return Err(unsupported(&self.node.name, format!("{other} bounds"))),
        };
        Ok(self.graph.add_constant(format!("{}/bound", self.node.name), tensor))
    }
}

fn channels_first(rank: i64) -> Vec<i64> {
    [0, rank - 1].into_iter().chain(1..rank - 1).collect()
}
