//! Operators that ONNX Runtime's optimiser fuses, taken apart again.

use landfall_graph::{Attribute, Op, ValueId, ops};

use super::draft::{Draft, Refusal, text};

/// `Gelu(x)` and `BiasGelu(x, bias)`.
pub(super) fn gelu(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    add_bias(draft)?;
    draft.become_standard("Gelu");
    Ok(())
}

/// `FastGelu(x, bias?)`.
pub(super) fn fast_gelu(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    add_bias(draft)?;
    draft.set("approximate", text("tanh"));
    draft.become_standard("Gelu");
    Ok(())
}

fn add_bias(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    if let Some(bias) = draft.input(1) {
        let x = draft.required(0)?;
        let sum = draft.before(Op::Add, [x, bias]);
        draft.inputs = vec![Some(sum)];
    }
    Ok(())
}

/// `QuickGelu(x)`: `x sigmoid(alpha x)`.
pub(super) fn quick_gelu(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.set_default("alpha", Attribute::Float(1.702));
    draft.become_standard("Swish");
    Ok(())
}

/// `FusedConv(x, w, bias?, residual?)`.
pub(super) fn conv(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let parameters = draft.take_floats("activation_params")?.unwrap_or_default();
    activate(draft, &parameters)?;
    if let Some(residual) = draft.input(3) {
        draft.behind(0, Op::Add, [residual]);
    }
    draft.inputs.truncate(3);
    draft.become_standard("Conv");
    Ok(())
}

/// `FusedGemm(a, b, c?)`.
pub(super) fn gemm(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let mut parameters = Vec::new();
    for name in ["activation_alpha", "activation_beta", "activation_gamma"] {
        parameters.extend(draft.take_float(name)?);
    }
    activate(draft, &parameters)?;
    draft.become_standard("Gemm");
    Ok(())
}

/// Puts the activation that the attribute names behind the node.
fn activate(draft: &mut Draft<'_>, parameters: &[f32]) -> Result<(), Refusal> {
    let Some(name) = draft.take_text("activation")? else { return Ok(()) };
    let op = match (name.as_str(), parameters) {
        ("Relu", _) => Op::Relu,
        ("Tanh", _) => Op::Tanh,
        ("Sigmoid", _) => Op::Sigmoid,
        ("LeakyRelu", []) => Op::LeakyRelu(ops::LeakyRelu { alpha: 0.01 }),
        ("LeakyRelu", &[alpha]) => Op::LeakyRelu(ops::LeakyRelu { alpha }),
        ("HardSigmoid", &[alpha, beta]) => Op::HardSigmoid(ops::HardSigmoid { alpha, beta }),
        ("Clip", &[lo, hi]) => {
            let x = draft.required(0)?;
            let bounds = [draft.scalar_like(lo, x), draft.scalar_like(hi, x)];
            draft.behind(0, Op::Clip, bounds);
            return Ok(());
        }
        _ => return Err(format!("activation {name} with {parameters:?} is not known")),
    };
    draft.behind(0, op, []);
    Ok(())
}

/// `FusedMatMul(a, b)`: `alpha` times the product of operands that may be transposed.
pub(super) fn matmul(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    for name in ["transBatchA", "transBatchB"] {
        draft.require_int(name, 0)?;
    }
    for (index, name) in [(0, "transA"), (1, "transB")] {
        if draft.take_int(name)?.unwrap_or(0) != 0 {
            let operand = draft.required(index)?;
            let transposed = swap_last_axes(draft, operand)?;
            draft.set_input(index, Some(transposed));
        }
    }
    if let Some(alpha) = draft.take_float("alpha")?.filter(|&alpha| alpha != 1.0) {
        let a = draft.required(0)?;
        let alpha = draft.scalar_like(alpha, a);
        draft.behind(0, Op::Mul, [alpha]);
    }
    draft.become_standard("MatMul");
    Ok(())
}

/// A vector stays as it is.
fn swap_last_axes(draft: &mut Draft<'_>, id: ValueId) -> Result<ValueId, Refusal> {
    let rank = draft.rank(id)?;
    if rank < 2 {
        return Ok(id);
    }
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 1, rank - 2);
    Ok(draft.before(Op::Transpose(ops::Transpose { perm }), [id]))
}
