//! Quantised operators of ONNX Runtime as dequantise, operate, quantise; the optimiser finds the
//! integer kernel for the pattern, whichever way the model was written.

use landfall_graph::{Attribute, Op, ValueId, ops};
use landfall_tensor::DType;

use super::draft::{Draft, Refusal};
use super::softmax;

/// The standard operators under another domain.
pub(super) fn standard(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let op = draft.op.clone();
    draft.become_standard(&op);
    Ok(())
}

/// The value of inputs `first`, `first + 1` (scale) and `first + 2` (zero point) as floats.
fn dequantized(draft: &mut Draft<'_>, first: usize, axis: i64) -> Result<ValueId, Refusal> {
    let inputs = vec![
        Some(draft.required(first)?),
        Some(draft.required(first + 1)?),
        draft.input(first + 2),
    ];
    let op = ops::DequantizeLinear { axis, block_size: 0, output_dtype: None };
    Ok(draft.before_with(Op::DequantizeLinear(op), inputs))
}

/// Quantises output 0 by inputs `first` (scale) and `first + 1` (zero point).
fn quantize_result(draft: &mut Draft<'_>, first: usize) -> Result<(), Refusal> {
    let scale = draft.required(first)?;
    let op = Op::QuantizeLinear(ops::QuantizeLinear {
        axis: 1,
        block_size: 0,
        // Without a zero point the result is unsigned, as the schema says.
        output_dtype: None,
        precision: 0,
        saturate: true,
    });
    match draft.input(first + 1) {
        Some(zero_point) => draft.behind(0, op, [scale, zero_point]),
        None => draft.behind(0, op, [scale]),
    }
    Ok(())
}

/// `QLinearAdd(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)` and its like.
pub(super) fn binary(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let (a, b) = (dequantized(draft, 0, 1)?, dequantized(draft, 3, 1)?);
    quantize_result(draft, 6)?;
    draft.inputs = vec![Some(a), Some(b)];
    float_operator(draft)
}

/// `QLinearSigmoid(x, x_scale, x_zero, y_scale, y_zero)` and its like.
pub(super) fn unary(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.require_int("channels_last", 0)?;
    let x = dequantized(draft, 0, 1)?;
    quantize_result(draft, 3)?;
    draft.inputs = vec![Some(x)];
    float_operator(draft)
}

/// The operator of the same name without `QLinear`.
fn float_operator(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let op = draft.op.trim_start_matches("QLinear").to_owned();
    draft.become_standard(&op);
    Ok(())
}

pub(super) fn reduce_mean(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let axes = draft.take_ints("axes")?;
    unary(draft)?;
    if let Some(axes) = axes {
        let axes = draft.ints(&axes)?;
        draft.set_input(1, Some(axes));
    }
    Ok(())
}

/// `opset` says which meaning of `axis` holds.
pub(super) fn softmax(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let opset = draft.take_int("opset")?.ok_or("attribute 'opset' is required")?;
    unary(draft)?;
    if opset < 13 {
        draft.set_default("axis", Attribute::Int(-1));
        return softmax::over_all_inner_axes(draft);
    }
    Ok(())
}

/// `QLinearConcat(y_scale, y_zero, (x, x_scale, x_zero)...)`.
pub(super) fn concat(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let parts: Result<Vec<_>, _> =
        (2..draft.inputs.len()).step_by(3).map(|first| dequantized(draft, first, 1)).collect();
    let parts = parts?.into_iter().map(Some).collect();
    quantize_result(draft, 0)?;
    draft.inputs = parts;
    float_operator(draft)
}

/// `QGemm(a, a_scale, a_zero, b, b_scale, b_zero, c?, y_scale?, y_zero?)`; `c` is in units of
/// `alpha a_scale b_scale`; without `y_scale` the result stays float.
pub(super) fn gemm(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let transposed = draft.attributes.get("transB") == Some(&Attribute::Int(1));
    let a = dequantized(draft, 0, 1)?;
    let b = dequantized(draft, 3, if transposed { 0 } else { 1 })?;
    let alpha = match draft.attributes.get("alpha") {
        Some(Attribute::Float(alpha)) => *alpha,
        _ => 1.0,
    };
    let mut inputs = vec![Some(a), Some(b)];
    if let Some(c) = draft.input(6) {
        let unit = product_scale(draft, 1, 4)?;
        let alpha = draft.scalar_like(alpha, unit);
        let unit = draft.before(Op::Mul, [unit, alpha]);
        let c = to_float(draft, c);
        inputs.push(Some(draft.before(Op::Mul, [c, unit])));
    }
    if draft.input(7).is_some() {
        quantize_result(draft, 7)?;
    }
    draft.inputs = inputs;
    draft.become_standard("Gemm");
    Ok(())
}

fn product_scale(draft: &mut Draft<'_>, a: usize, b: usize) -> Result<ValueId, Refusal> {
    let (a, b) = (draft.required(a)?, draft.required(b)?);
    Ok(draft.before(Op::Mul, [a, b]))
}

fn to_float(draft: &mut Draft<'_>, id: ValueId) -> ValueId {
    let cast = ops::Cast { round_mode: "up".to_owned(), saturate: true, to: DType::F32 };
    draft.before(Op::Cast(cast), [id])
}

/// `MatMulIntegerToFloat(a, b, a_scale, b_scale, a_zero?, b_zero?, bias?)`.
pub(super) fn matmul_to_float(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let scale = product_scale(draft, 2, 3)?;
    let bias = draft.input(6);
    draft.inputs = vec![draft.input(0), draft.input(1), draft.input(4), draft.input(5)];
    scaled_product(draft, scale, bias)
}

/// `DynamicQuantizeMatMul(a, b, b_scale, b_zero?, bias?)`: `a` is quantised by its own range.
pub(super) fn dynamic_matmul(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let (a, b_scale) = (draft.required(0)?, draft.required(2)?);
    let [quantized, a_scale, a_zero] =
        draft.before_several(Op::DynamicQuantizeLinear, vec![Some(a)]);
    let scale = draft.before(Op::Mul, [a_scale, b_scale]);
    let bias = draft.input(4);
    draft.inputs = vec![Some(quantized), draft.input(1), Some(a_zero), draft.input(3)];
    scaled_product(draft, scale, bias)
}

/// Makes the node an integer product, behind it `float(product) scale + bias`.
pub(super) fn scaled_product(
    draft: &mut Draft<'_>,
    scale: ValueId,
    bias: Option<ValueId>,
) -> Result<(), Refusal> {
    if let Some(bias) = bias {
        draft.behind(0, Op::Add, [bias]);
    }
    draft.behind(0, Op::Mul, [scale]);
    let cast = ops::Cast { round_mode: "up".to_owned(), saturate: true, to: DType::F32 };
    draft.behind(0, Op::Cast(cast), []);
    draft.become_standard("MatMulInteger");
    Ok(())
}
