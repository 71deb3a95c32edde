//! Every older operator, and every operator of another vendor, brought to the newest operator set.
//!
//! One line per rule: which operators, below which version of their operator set, and the function
//! that rewrites a node. A node goes through the list once, from the top; each rule that matches
//! what the node is by then changes it. So the rules of one operator stand in ascending order, and
//! a rule that turns one operator into another stands before the rules of the other.
//!
//! Source: the change logs of the ONNX operators, and the contrib operator documentation of ONNX
//! Runtime.

mod attention;
mod broadcasting;
mod classical;
mod draft;
mod embedding;
mod fused;
mod legacy;
mod moved_to_inputs;
mod normalization;
mod quantized;
mod resize;
mod softmax;

pub(crate) use draft::{Draft, Refusal, insert};

/// The newest operator-set version known of each domain.
pub(crate) const NEWEST: [(&str, i64); 3] = [(ONNX, 28), (ML, 5), (MICROSOFT, 1)];

const ONNX: &str = "ai.onnx";
const ML: &str = "ai.onnx.ml";
const MICROSOFT: &str = "com.microsoft";

/// For rules that hold for nodes of every version.
const ANY: i64 = i64::MAX;

struct Rule {
    domain: &'static str,
    ops: &'static [&'static str],
    below: i64,
    rewrite: fn(&mut Draft<'_>) -> Result<(), Refusal>,
}

macro_rules! rules {
    ($($domain:ident [$($op:literal),+ $(,)?] < $below:expr => $rewrite:path;)*) => {
        &[$(Rule { domain: $domain, ops: &[$($op),+], below: $below, rewrite: $rewrite },)*]
    };
}

#[rustfmt::skip]
const RULES: &[Rule] = rules! {
    ONNX ["Abs", "Add", "BatchNormalization", "Ceil", "Clip", "Div", "Dropout", "Elu", "Exp",
          "Floor", "HardSigmoid", "InstanceNormalization", "LeakyRelu", "Log", "Max", "Mean",
          "Min", "Mul", "Neg", "PRelu", "Reciprocal", "Relu", "Reshape", "Selu", "Sigmoid",
          "Sqrt", "Sub", "Sum", "Tanh"] < 6                => legacy::drop_consumed_inputs;
    ONNX ["GlobalLpPool", "LpPool"] < 2                    => legacy::make_p_whole;
    ONNX ["Concat"] < 4                                    => legacy::concat_along_channels;
    ONNX ["Reshape"] < 5                                   => moved_to_inputs::reshape;
    ONNX ["Cast"] < 6                                      => legacy::number_cast_type;
    ONNX ["Selu"] < 6                                      => legacy::round_selu_constants;
    ONNX ["Tile"] < 6                                      => legacy::refuse;
    ONNX ["Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub",
          "Xor"] < 7                                       => broadcasting::align_to_axis;
    ONNX ["PRelu"] < 7                                     => broadcasting::align_slope;
    ONNX ["Gemm"] < 7                                      => broadcasting::gemm;
    ONNX ["BatchNormalization", "Dropout"] < 7             => legacy::require_test_mode;
    ONNX ["GRU", "LSTM", "RNN"] < 7                        => legacy::drop_output_sequence;
    ONNX ["Scan"] < 9                                      => legacy::refuse;
    ONNX ["BatchNormalization"] < 14                       => normalization::batch;
    ONNX ["GroupNormalization"] < 21                       => normalization::group;
    ONNX ["Upsample"] < ANY                                => resize::upsample;
    ONNX ["Resize"] < 11                                   => resize::resize_10;
    ONNX ["Resize"] < ANY                                  => resize::drop_empty_inputs;
    ONNX ["Scatter"] < ANY                                 => legacy::scatter;
    ONNX ["Slice"] < 10                                    => moved_to_inputs::slice;
    ONNX ["TopK"] < 10                                     => moved_to_inputs::top_k;
    ONNX ["Dropout"] < 10                                  => legacy::cast_mask;
    ONNX ["Dropout"] < 12                                  => moved_to_inputs::dropout;
    ONNX ["Pad"] < 11                                      => moved_to_inputs::pad;
    ONNX ["Clip"] < 11                                     => moved_to_inputs::clip;
    ONNX ["Squeeze", "Unsqueeze"] < 13                     => moved_to_inputs::axes;
    ONNX ["ReduceSum"] < 13                                => moved_to_inputs::axes;
    ONNX ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
          "ReduceMin", "ReduceProd", "ReduceSumSquare"] < 18 => moved_to_inputs::axes;
    ONNX ["Split"] < 13                                    => moved_to_inputs::split;
    ONNX ["Split"] < 18                                    => moved_to_inputs::count_parts;
    ONNX ["Hardmax", "LogSoftmax", "Softmax"] < 13         => softmax::over_all_inner_axes;
    ONNX ["RoiAlign"] < 16                                 => resize::roi_align;
    ONNX ["GridSample"] < 20                               => resize::grid_sample;
    ONNX ["DFT"] < 20                                      => moved_to_inputs::dft;

    ML   ["LabelEncoder"] < 2                              => classical::label_encoder;
    ML   ["LinearClassifier"] < ANY                        => classical::multi_class;

    ONNX ["SimplifiedLayerNormalization"] < ANY            => normalization::simplified;
    MICROSOFT ["SimplifiedLayerNormalization"] < ANY       => normalization::simplified;
    MICROSOFT ["SkipLayerNormalization"] < ANY             => normalization::skip_layer;
    MICROSOFT ["SkipSimplifiedLayerNormalization"] < ANY   => normalization::skip_simplified;
    MICROSOFT ["EmbedLayerNormalization"] < ANY            => embedding::embed_layer_normalization;
    MICROSOFT ["RotaryEmbedding"] < ANY                    => embedding::rotary;
    MICROSOFT ["Attention"] < ANY                          => attention::packed;
    MICROSOFT ["QAttention"] < ANY                         => attention::packed_quantized;
    MICROSOFT ["MultiHeadAttention"] < ANY                 => attention::multi_head;
    MICROSOFT ["BiasGelu", "Gelu"] < ANY                   => fused::gelu;
    MICROSOFT ["FastGelu"] < ANY                           => fused::fast_gelu;
    MICROSOFT ["QuickGelu"] < ANY                          => fused::quick_gelu;
    MICROSOFT ["FusedConv"] < ANY                          => fused::conv;
    MICROSOFT ["FusedGemm"] < ANY                          => fused::gemm;
    MICROSOFT ["FusedMatMul", "TransposeMatMul"] < ANY     => fused::matmul;
    MICROSOFT ["DequantizeLinear", "QuantizeLinear"] < ANY => quantized::standard;
    MICROSOFT ["QLinearAdd", "QLinearMul"] < ANY           => quantized::binary;
    MICROSOFT ["QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearLeakyRelu",
               "QLinearSigmoid"] < ANY                     => quantized::unary;
    MICROSOFT ["QLinearReduceMean"] < ANY                  => quantized::reduce_mean;
    MICROSOFT ["QLinearSoftmax"] < ANY                     => quantized::softmax;
    MICROSOFT ["QLinearConcat"] < ANY                      => quantized::concat;
    MICROSOFT ["QGemm"] < ANY                              => quantized::gemm;
    MICROSOFT ["MatMulIntegerToFloat"] < ANY               => quantized::matmul_to_float;
    MICROSOFT ["DynamicQuantizeMatMul"] < ANY              => quantized::dynamic_matmul;
};

/// Brings a node to the newest operator set.
pub(crate) fn apply(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    for rule in RULES {
        let matches = rule.domain == draft.domain && draft.version < rule.below;
        if matches && rule.ops.contains(&draft.op.as_str()) {
            (rule.rewrite)(draft)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
