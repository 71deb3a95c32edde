//! Convolutions and products of dequantised operands become integer operators.
//!
//! By dataflow: what counts is that both operands are dequantised integers, wherever these come
//! from. A bias becomes an `i32` in units of the product of the scales; an activation and a
//! `QuantizeLinear` that follow become the operator's output scale and clamp. Without the latter
//! the result is `f32`.

use landfall_graph::infer::Window;
use landfall_graph::{Activation, AutoPad, Node, Op, ValueId, ops};
use landfall_tensor::{DType, Shape, Tensor};

use super::epilogue::activation;
use super::transpose::inverse;
use crate::Effect;
use crate::constants::{self, per_channel, permuted};
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass { name: "integer-lowering", effect: Effect::Reassociating, run };

fn run(editor: &mut Editor<'_>) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id).cloned() else { continue };
        let Some(product) = Product::of(editor, &node) else { continue };
        let result = Ending::of(editor, product.result);
        let replaced = result.value;
        let Some(new) = product.build(editor, &result) else { continue };
        editor.replace(replaced, new);
        changes += 1;
    }
    changes
}

/// A dequantised operand.
pub(super) struct Quantized {
    pub(super) value: ValueId,
    pub(super) scale: Vec<f32>,
    zero: Option<ValueId>,
    axis: i64,
}

impl Quantized {
    pub(super) fn of(editor: &Editor<'_>, value: ValueId) -> Option<Quantized> {
        let (_, node) = editor.producer(value)?;
        let Op::DequantizeLinear(op) = &node.op else { return None };
        let source = node.input(0)?;
        let scale = editor.floats(node.input(1)?)?;
        let zero = node.input(2);
        let known = zero.is_none_or(|zero| editor.constant(zero).is_some());
        let small = matches!(editor.dtype(source), Some(DType::U8 | DType::I8));
        let plain = op.block_size == 0 && scale.iter().all(|&s| s.is_finite() && s > 0.0);
        (known && small && plain).then_some(Quantized { value: source, scale, zero, axis: op.axis })
    }

    /// Scale and zero point as constants: scalars, or vectors if there are many.
    pub(super) fn parameters(&self, editor: &mut Editor<'_>) -> Option<(ValueId, ValueId)> {
        let shape: &[usize] = if self.scale.len() == 1 { &[] } else { &[self.scale.len()] };
        let zero = match self.zero {
            Some(zero) => editor.constant(zero)?.reshaped(Shape::from(shape)).ok()?,
            None => Tensor::zeros(editor.dtype(self.value)?, Shape::from(shape)).ok()?,
        };
        let scale = editor.add_constant(constants::tensor(shape, &self.scale)?);
        Some((scale, editor.add_constant(zero)))
    }
}

enum Kind {
    Conv(ops::Conv),
    MatMul,
}

/// A product of quantised operands, with its bias.
struct Product {
    name: String,
    kind: Kind,
    left: Quantized,
    right: Quantized,
    /// Whether the right operand is `[N, K]`.
    transposed: bool,
    bias: Option<Vec<f32>>,
    /// The value that all this computes.
    result: ValueId,
}

impl Product {
    fn of(editor: &Editor<'_>, node: &Node) -> Option<Product> {
        let (kind, transposed) = match &node.op {
            Op::Conv(op) => (Kind::Conv(op.clone()), false),
            Op::MatMul => (Kind::MatMul, false),
            Op::Gemm(op) if !op.trans_a && op.alpha == 1.0 && op.beta == 1.0 => {
                (Kind::MatMul, op.trans_b)
            }
            _ => return None,
        };
        let left = Quantized::of(editor, node.input(0)?)?;
        let right = Quantized::of(editor, node.input(1)?)?;
        let dims = editor.constant(right.value)?.shape().to_vec();
        let conv = matches!(kind, Kind::Conv(_));
        let rows_are_channels = conv || transposed;
        if left.scale.len() != 1 || (!conv && dims.len() != 2) || editor.rank(node.input(0)?)? < 2 {
            return None;
        }
        let axis = if rows_are_channels { 0 } else { 1 };
        let channels = dims[axis];
        let along = landfall_graph::infer::resolve_axis(right.axis, dims.len()).ok();
        if right.scale.len() != 1 && (along != Some(axis) || right.scale.len() != channels) {
            return None;
        }
        let mut product = Product {
            name: node.name.clone(),
            kind,
            left,
            right,
            transposed,
            bias: None,
            result: node.outputs[0],
        };
        if let Some(bias) = node.input(2) {
            product.bias = Some(constant_row(editor, bias, channels)?);
        } else if let (Kind::MatMul, Some((sum, bias))) =
            (&product.kind, bias_after(editor, product.result, channels))
        {
            (product.result, product.bias) = (sum, Some(bias));
        }
        Some(product)
    }

    fn right_scale(&self, channel: usize) -> f32 {
        self.right.scale[if self.right.scale.len() == 1 { 0 } else { channel }]
    }

    /// The bias in units of the accumulator.
    fn integer_bias(&self) -> Option<Option<Tensor>> {
        let Some(bias) = &self.bias else { return Some(None) };
        let unit = |channel| f64::from(self.left.scale[0]) * f64::from(self.right_scale(channel));
        let steps: Vec<i32> = bias
            .iter()
            .enumerate()
            .map(|(channel, &bias)| {
                let steps = (f64::from(bias) / unit(channel)).round_ties_even();
                // Room is left for the products that are added.
                (steps.abs() <= f64::from(1 << 30)).then_some(steps as i32)
            })
            .collect::<Option<_>>()?;
        Tensor::from_slice([steps.len()].into(), &steps).ok().map(Some)
    }

    fn build(&self, editor: &mut Editor<'_>, ending: &Ending) -> Option<ValueId> {
        let op = self.operator(editor, ending)?;
        let bias = self.integer_bias()?.map(|tensor| editor.add_constant(tensor));
        let (x_scale, x_zero) = self.left.parameters(editor)?;
        let (w_scale, w_zero) = self.right.parameters(editor)?;
        let mut weight = self.right.value;
        if self.transposed {
            let turned = permuted(editor.constant(weight)?, &inverse(&[1, 0]))?;
            weight = editor.add_constant(turned);
        }
        let (y_scale, y_zero) = match &ending.output {
            Some(output) => {
                let scale = editor.add_constant(Tensor::scalar(output.scale));
                let zero = editor.add_constant(output.zero.clone());
                (Some(scale), Some(zero))
            }
            None => (None, None),
        };
        let inputs = vec![
            Some(self.left.value),
            Some(x_scale),
            Some(x_zero),
            Some(weight),
            Some(w_scale),
            Some(w_zero),
            y_scale,
            y_zero,
            bias,
        ];
        Some(editor.append(&self.name, op, inputs))
    }

    fn operator(&self, editor: &Editor<'_>, ending: &Ending) -> Option<Op> {
        let (low, high) = (ending.low, ending.high);
        let Kind::Conv(op) = &self.kind else {
            return Some(Op::QuantizedMatMul(ops::QuantizedMatMul { high, low }));
        };
        let kernel = editor.constant(self.right.value)?.shape().get(2..)?.to_vec();
        let spatial = kernel.len();
        let ones = |list: &[i64]| if list.is_empty() { vec![1; spatial] } else { list.to_vec() };
        let (strides, dilations) = (ones(&op.strides), ones(&op.dilations));
        let pads = match op.auto_pad {
            AutoPad::NotSet if !op.pads.is_empty() => op.pads.clone(),
            AutoPad::NotSet | AutoPad::Valid => vec![0; 2 * spatial],
            AutoPad::SameUpper | AutoPad::SameLower => {
                let window = Window {
                    auto_pad: op.auto_pad,
                    kernel: &kernel,
                    strides: &strides,
                    dilations: &dilations,
                    pads: &[],
                    ceil_mode: false,
                };
                super::conv::same(editor, self.left.value, &window)?
            }
        };
        let group = op.group;
        let channels_last = false;
        Some(Op::QuantizedConv(ops::QuantizedConv {
            channels_last,
            dilations,
            group,
            high,
            low,
            pads,
            strides,
        }))
    }
}

/// The elements of a constant or dequantised constant row of `channels` elements.
fn constant_row(editor: &Editor<'_>, value: ValueId, channels: usize) -> Option<Vec<f32>> {
    if let Some(tensor) = editor.constant(value) {
        return per_channel(tensor, channels, 0);
    }
    let (_, node) = editor.producer(value)?;
    let (Op::DequantizeLinear(op), None) = (
        &node.op,
        node.input(2).filter(|&zero| {
            !editor.constant(zero).is_some_and(|zero| constants::all_equal(zero, 0.0))
        }),
    ) else {
        return None;
    };
    let steps = editor.constant(node.input(0)?)?.aligned();
    let steps = steps.as_slice::<i32>().ok()?;
    let scale = per_channel(editor.constant(node.input(1)?)?, channels, 0)?;
    let whole = steps.len() == channels && op.block_size == 0;
    let value = |(&step, scale): (&i32, &f32)| (f64::from(step) * f64::from(*scale)) as f32;
    whole.then(|| steps.iter().zip(&scale).map(value).collect())
}

/// The sum of a value, used for nothing else, and a constant row.
fn bias_after(editor: &Editor<'_>, value: ValueId, channels: usize) -> Option<(ValueId, Vec<f32>)> {
    if !editor.used_once(value) {
        return None;
    }
    let node = editor.node(*editor.uses(value).first()?)?;
    let Op::Add = node.op else { return None };
    let other = node.operands().find(|&operand| operand != value)?;
    (editor.rank(other)? <= editor.rank(value)?).then_some(())?;
    Some((node.outputs[0], constant_row(editor, other, channels)?))
}

pub(super) struct Output {
    pub(super) scale: f32,
    pub(super) zero: Tensor,
}

/// What follows a product: an activation and a quantisation, or nothing.
pub(super) struct Ending {
    pub(super) value: ValueId,
    pub(super) output: Option<Output>,
    pub(super) low: Option<i64>,
    pub(super) high: Option<i64>,
}

impl Ending {
    pub(super) fn of(editor: &Editor<'_>, result: ValueId) -> Ending {
        Ending::quantized(editor, result).unwrap_or(Ending {
            value: result,
            output: None,
            low: None,
            high: None,
        })
    }

    fn quantized(editor: &Editor<'_>, result: ValueId) -> Option<Ending> {
        let mut value = result;
        let mut range = (f32::NEG_INFINITY, f32::INFINITY);
        let mut next = only_user(editor, value)?;
        if let Some(activation) = activation(editor, next) {
            range = match activation {
                Activation::Relu => (0.0, f32::INFINITY),
                Activation::Clip(low, high) => (low, high),
                _ => return None,
            };
            value = next.outputs[0];
            next = only_user(editor, value)?;
        }
        let (Op::QuantizeLinear(op), true) = (&next.op, next.input(0) == Some(value)) else {
            return None;
        };
        let scale = editor.scalar(next.input(1)?).filter(|&s| s.is_finite() && s > 0.0)?;
        let zero = match next.input(2) {
            Some(zero) => editor.constant(zero)?.reshaped(Shape::scalar()).ok()?,
            None => Tensor::zeros(op.output_dtype.unwrap_or(DType::U8), Shape::scalar()).ok()?,
        };
        let (zero_point, least, most) = match zero.dtype() {
            DType::U8 => (i64::from(zero.item::<u8>().ok()?), 0, 255),
            DType::I8 => (i64::from(zero.item::<i8>().ok()?), -128, 127),
            _ => return None,
        };
        let step = |bound: f32| {
            let steps = (f64::from(bound) / f64::from(scale)).round_ties_even();
            // Saturates at the ends of `i64`, which the clamp below brings back into range.
            (steps as i64).saturating_add(zero_point).clamp(least, most)
        };
        let (low, high) = (step(range.0), step(range.1));
        Some(Ending {
            value: next.outputs[0],
            output: Some(Output { scale, zero }),
            low: (low > least).then_some(low),
            high: (high < most).then_some(high),
        })
    }
}

fn only_user<'e>(editor: &'e Editor<'_>, value: ValueId) -> Option<&'e Node> {
    if !editor.used_once(value) {
        return None;
    }
    editor.node(*editor.uses(value).first()?)
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check;

    #[test]
    fn a_convolution_takes_bias_activation_and_output_scale() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: u8[N,1,2,2]
              const %xs: f32[] = [0.5]
              const %xz: u8[] = [3]
              const %w: i8[2,1,1,1] = [1, -2]
              const %ws: f32[2] = [0.25, 0.5]
              const %b: i32[2] = [8, 16]
              const %bs: f32[2] = [0.125, 0.25]
              const %ys: f32[] = [0.5]
              const %yz: u8[] = [10]
              const %lo: f32[] = [0.0]
              const %hi: f32[] = [6.0]
              %xf = DequantizeLinear(%x, %xs, %xz)
              %wf = DequantizeLinear(%w, %ws) {axis=0}
              %bf = DequantizeLinear(%b, %bs) {axis=0}
              %c = Conv(%xf, %wf, %bf)
              %r = Clip(%c, %lo, %hi)
              %y = QuantizeLinear(%r, %ys, %yz)
              output %y
            }"#,
            r#"graph "g" {
              input %x: u8[N,1,2,2]
              const %w: i8[2,1,1,1] = [1, -2]
              const %b: i32[2] = [8, 16]
              const %xs: f32[] = [0.5]
              const %xz: u8[] = [3]
              const %ws: f32[2] = [0.25, 0.5]
              const %wz: i8[2] = [0, 0]
              const %ys: f32[] = [0.5]
              const %yz: u8[] = [10]
              %y = landfall.QuantizedConv(%x, %xs, %xz, %w, %ws, %wz, %ys, %yz, %b)
                {low=10, high=22, pads=[0,0,0,0], strides=[1,1], dilations=[1,1]}
              output %y
            }"#,
        );
    }

    #[test]
    fn a_product_without_output_scale_gives_floats() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: i8[N,2]
              const %xs: f32[1] = [0.5]
              const %w: i8[1,2] = [1, -2]
              const %ws: f32[] = [0.25]
              const %b: f32[1] = [1.0]
              %xf = DequantizeLinear(%x, %xs)
              %wf = DequantizeLinear(%w, %ws)
              %y = Gemm(%xf, %wf, %b) {transB=1}
              output %y
            }"#,
            r#"graph "g" {
              input %x: i8[N,2]
              const %b: i32[1] = [8]
              const %xs: f32[] = [0.5]
              const %xz: i8[] = [0]
              const %ws: f32[] = [0.25]
              const %wz: i8[] = [0]
              const %w: i8[2,1] = [1, -2]
              %y = landfall.QuantizedMatMul(%x, %xs, %xz, %w, %ws, %wz, _, _, %b)
              output %y
            }"#,
        );
    }
}
