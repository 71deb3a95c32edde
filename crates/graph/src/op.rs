//! The operators: one declaration gives the enum, the typed attributes and their text form.
//!
//! Operators mean what the newest ONNX operator set says; importers upgrade older ones, so that
//! nothing above the importer knows of versions. Sub-graphs are closed: what a body captures from
//! outside is an explicit trailing input of both the node and the body (of `If`: every input after
//! the condition, for both branches alike; of `Loop` and `Scan`: the last `captures` inputs).
//! Constants from outside are constants of the body.
//!
//! The domain `landfall` holds the operators that passes create:
//!
//! - `FusedConv(x, w, bias?, residual?)`: a convolution, plus residual, then activation. With
//!   `channels_last`, `x`, `residual` and the output are `[N, spatial..., C]`; `w` is always
//!   `[M, C / group, kernel...]`.
//! - `FusedMatMul(a, b, bias?, residual?)`: `a [..., M, K]` times `b [K, N]`, plus `bias [N]` and a
//!   residual of the output's shape, then activation.
//! - `FusedAttention(q, k, v, mask?)`: `softmax(scale q kᵀ + mask) v` for every head. `q` is
//!   `[B, Sq, heads Dk]`, `k` `[B, Skv, heads Dk]`, `v` `[B, Skv, heads Dv]`, the result
//!   `[B, Sq, heads Dv]`; head `h` owns the columns from `h D`. `mask` broadcasts to
//!   `[B, heads, Sq, Skv]`.
//! - `ChannelsLastPool(x)`: `MaxPool` or `AveragePool` of `x [N, spatial..., C]`, with the meaning
//!   of the ONNX attributes of those names; `pads`, `strides` and `dilations` are always given.
//! - `QuantizedConv(x, x_scale, x_zero, w, w_scale, w_zero, y_scale?, y_zero?, bias?)`: a
//!   convolution of `u8` or `i8` operands, laid out like `FusedConv`; scales and zero points are
//!   constants, those of `w` either scalars or `[M]`, those of `x` and `y` scalars. The accumulator
//!   `acc = Σ (x - x_zero)(w - w_zero) + bias` is exact in `i32`, as is `bias [M]`; padding adds
//!   nothing. With `y_scale` the result is `y_zero + acc x_scale w_scale / y_scale`, rounded half
//!   to even and clamped to `low..=high` (the whole range of `y_zero`'s type if absent), of that
//!   type. Without, it is `acc x_scale w_scale` in `f32`.
//! - `QuantizedMatMul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale?, y_zero?, bias?)`: the same
//!   for `a [..., M, K]` times the constant `b [K, N]`; `b_scale`, `b_zero` are scalars or `[N]`,
//!   `bias` is `[N]`.
//! - `QuantizedAdd(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)`: the sum of two `u8`
//!   or `i8` tensors of one shape; scales and zero points are constant scalars. The result is
//!   `y_zero + ((a - a_zero) a_scale + (b - b_zero) b_scale) / y_scale` in the fixed-point
//!   arithmetic of `landfall_tensor::SumScales`, clamped like that of `QuantizedConv`.
//! - `DynamicQuantMatMul(a, b, b_scale, b_zero?, bias?)`: `a [..., M, K]` in `f32` is quantised to
//!   `u8` over the range of the whole tensor as by `DynamicQuantizeLinear`, multiplied exactly by
//!   the constant `b [K, N]` of `u8` or `i8`, and scaled back to `f32`; then `bias [N]` in `f32`
//!   and the activation.
//!
//! Source of names, attributes and defaults: the ONNX operator schemas.

use landfall_tensor::{DType, Tensor};

use crate::Graph;
use crate::attribute::{AttributeError, AttributeValue, Attributes};
use crate::choice::*;

use crate::op_macro::{default_of, name_of, operators, take};

operators! {
    "ai.onnx" {
        plain: {
            Abs, Acos, Acosh, Add, And, Asin, Asinh, Atan, Atanh, BitwiseAnd, BitwiseNot,
            BitwiseOr, BitwiseXor, Ceil, Clip, Cos, Cosh, Det, Div, DynamicQuantizeLinear, Equal,
            Erf, Exp, Expand, Floor, GlobalAveragePool, GlobalMaxPool, Greater, GreaterOrEqual,
            HardSwish, Identity, IsNan as "IsNaN", Less, LessOrEqual, Log, MatMul, MatMulInteger,
            Max, Mean, Min, Mish, Mul, Neg, NonZero, Not, Or, PRelu, Pow, QLinearMatMul,
            Reciprocal, Relu, Round, Sigmoid, Sign, Sin, Sinh, Size, Slice, Softplus, Softsign,
            Sqrt, Squeeze, StringConcat, Sub, Sum, Tan, Tanh, Tile, Unsqueeze, Where, Xor,
        }
        attributed: {
            AffineGrid { align_corners: bool = false, }
            ArgMax { axis: i64 = 0, keepdims: bool = true, select_last_index: bool = false, }
            ArgMin { axis: i64 = 0, keepdims: bool = true, select_last_index: bool = false, }
            Attention {
                is_causal: bool = false, kv_num_heads: Option<i64> = None,
                left_window_size: i64 = -1, q_num_heads: Option<i64> = None,
                qk_matmul_output_mode: i64 = 0, right_window_size: i64 = -1,
                scale: Option<f32> = None, softcap: f32 = 0.0, softmax_precision: Option<DType>,
            }
            AveragePool {
                auto_pad: AutoPad = AutoPad::default(), ceil_mode: bool = false,
                count_include_pad: bool = false, dilations: Vec<i64> = Vec::new(),
                kernel_shape: Vec<i64> = Vec::new(), pads: Vec<i64> = Vec::new(),
                strides: Vec<i64> = Vec::new(),
            }
            BatchNormalization {
                epsilon: f32 = 1e-05, momentum: f32 = 0.9, training_mode: bool = false,
            }
            Bernoulli { dtype: Option<DType>, seed: Option<f32> = None, }
            BitCast { to: DType, }
            BitShift { direction: ShiftDirection, }
            BlackmanWindow {
                output_datatype: Option<DType> = Some(DType::F32), periodic: bool = true,
            }
            Cast { round_mode: String = String::from("up"), saturate: bool = true, to: DType, }
            CastLike { round_mode: String = String::from("up"), saturate: bool = true, }
            CausalConvWithState { activation: String = String::from("none"), }
            Celu { alpha: f32 = 1.0, }
            CenterCropPad { axes: Vec<i64> = Vec::new(), }
            Col2Im {
                dilations: Vec<i64> = Vec::new(), pads: Vec<i64> = Vec::new(),
                strides: Vec<i64> = Vec::new(),
            }
            Compress { axis: Option<i64> = None, }
            Concat { axis: i64, }
            ConstantOfShape { value: Option<Tensor> = None, }
            Conv {
                auto_pad: AutoPad = AutoPad::default(), dilations: Vec<i64> = Vec::new(),
                group: i64 = 1, kernel_shape: Vec<i64> = Vec::new(), pads: Vec<i64> = Vec::new(),
                strides: Vec<i64> = Vec::new(),
            }
            ConvInteger {
                auto_pad: AutoPad = AutoPad::default(), dilations: Vec<i64> = Vec::new(),
                group: i64 = 1, kernel_shape: Vec<i64> = Vec::new(), pads: Vec<i64> = Vec::new(),
                strides: Vec<i64> = Vec::new(),
            }
            ConvTranspose {
                auto_pad: AutoPad = AutoPad::default(), dilations: Vec<i64> = Vec::new(),
                group: i64 = 1, kernel_shape: Vec<i64> = Vec::new(),
                output_padding: Vec<i64> = Vec::new(), output_shape: Vec<i64> = Vec::new(),
                pads: Vec<i64> = Vec::new(), strides: Vec<i64> = Vec::new(),
            }
            CumProd { exclusive: bool = false, reverse: bool = false, }
            CumSum { exclusive: bool = false, reverse: bool = false, }
            Dft as "DFT" { inverse: bool = false, onesided: bool = false, }
            DeformConv {
                dilations: Vec<i64> = Vec::new(), group: i64 = 1,
                kernel_shape: Vec<i64> = Vec::new(), offset_group: i64 = 1,
                pads: Vec<i64> = Vec::new(), strides: Vec<i64> = Vec::new(),
            }
            DepthToSpace { blocksize: i64, mode: DepthOrder = DepthOrder::default(), }
            DequantizeLinear {
                axis: i64 = 1, block_size: i64 = 0, output_dtype: Option<DType> = None,
            }
            Dropout { seed: Option<i64> = None, }
            Einsum { equation: String, }
            Elu { alpha: f32 = 1.0, }
            EyeLike { dtype: Option<DType>, k: i64 = 0, }
            Flatten { axis: i64 = 1, }
            Gru as "GRU" {
                activation_alpha: Vec<f32> = Vec::new(), activation_beta: Vec<f32> = Vec::new(),
                activations: Vec<String> = Vec::new(), clip: Option<f32> = None,
                direction: Direction = Direction::default(), hidden_size: Option<i64> = None,
                layout: bool = false, linear_before_reset: bool = false,
            }
            Gather { axis: i64 = 0, }
            GatherElements { axis: i64 = 0, }
            GatherNd as "GatherND" { batch_dims: i64 = 0, }
            Gelu { approximate: GeluApproximation = GeluApproximation::default(), }
            Gemm {
                alpha: f32 = 1.0, beta: f32 = 1.0, trans_a as "transA": bool = false,
                trans_b as "transB": bool = false,
            }
            GlobalLpPool { p: i64 = 2, }
            GridSample {
                align_corners: bool = false, mode: String = String::from("linear"),
                padding_mode: String = String::from("zeros"),
            }
            GroupNormalization {
                epsilon: f32 = 1e-05, num_groups: i64,
                stash_type: Option<DType> = Some(DType::F32),
            }
            HammingWindow {
                output_datatype: Option<DType> = Some(DType::F32), periodic: bool = true,
            }
            HannWindow {
                output_datatype: Option<DType> = Some(DType::F32), periodic: bool = true,
            }
            HardSigmoid { alpha: f32 = 0.2, beta: f32 = 0.5, }
            Hardmax { axis: i64 = -1, }
            If { else_branch: Box<Graph>, then_branch: Box<Graph>, }
            InstanceNormalization { epsilon: f32 = 1e-05, }
            IsInf { detect_negative: bool = true, detect_positive: bool = true, }
            Lrn as "LRN" { alpha: f32 = 0.0001, beta: f32 = 0.75, bias: f32 = 1.0, size: i64, }
            Lstm as "LSTM" {
                activation_alpha: Vec<f32> = Vec::new(), activation_beta: Vec<f32> = Vec::new(),
                activations: Vec<String> = Vec::new(), clip: Option<f32> = None,
                direction: Direction = Direction::default(), hidden_size: Option<i64> = None,
                input_forget: bool = false, layout: bool = false,
            }
            LayerNormalization {
                axis: i64 = -1, epsilon: f32 = 1e-05,
                stash_type: Option<DType> = Some(DType::F32),
            }
            LeakyRelu { alpha: f32 = 0.01, }
            LinearAttention {
                chunk_size: i64 = 64, kv_num_heads: i64, q_num_heads: i64, scale: f32 = 0.0,
                update_rule: String = String::from("gated_delta"),
            }
            LogSoftmax { axis: i64 = -1, }
            Loop { body: Box<Graph>, captures: i64 = 0, }
            LpNormalization { axis: i64 = -1, p: i64 = 2, }
            LpPool {
                auto_pad: AutoPad = AutoPad::default(), ceil_mode: bool = false,
                dilations: Vec<i64> = Vec::new(), kernel_shape: Vec<i64> = Vec::new(),
                p: i64 = 2, pads: Vec<i64> = Vec::new(), strides: Vec<i64> = Vec::new(),
            }
            MaxPool {
                auto_pad: AutoPad = AutoPad::default(), ceil_mode: bool = false,
                dilations: Vec<i64> = Vec::new(), kernel_shape: Vec<i64> = Vec::new(),
                pads: Vec<i64> = Vec::new(), storage_order: bool = false,
                strides: Vec<i64> = Vec::new(),
            }
            MaxRoiPool { pooled_shape: Vec<i64> = Vec::new(), spatial_scale: f32 = 1.0, }
            MaxUnpool {
                kernel_shape: Vec<i64> = Vec::new(), pads: Vec<i64> = Vec::new(),
                strides: Vec<i64> = Vec::new(),
            }
            MeanVarianceNormalization { axes: Vec<i64> = vec![0, 2, 3], }
            MelWeightMatrix { output_datatype: Option<DType> = Some(DType::F32), }
            Mod { fmod: bool = false, }
            Multinomial {
                dtype: Option<DType> = Some(DType::I32), sample_size: i64 = 1,
                seed: Option<f32> = None,
            }
            NegativeLogLikelihoodLoss {
                ignore_index: Option<i64> = None,
                reduction: LossReduction = LossReduction::default(),
            }
            NonMaxSuppression { center_point_box: bool = false, }
            OneHot { axis: i64 = -1, }
            Pad { mode: PadMode = PadMode::default(), }
            QLinearConv {
                auto_pad: AutoPad = AutoPad::default(), dilations: Vec<i64> = Vec::new(),
                group: i64 = 1, kernel_shape: Vec<i64> = Vec::new(), pads: Vec<i64> = Vec::new(),
                strides: Vec<i64> = Vec::new(),
            }
            QuantizeLinear {
                axis: i64 = 1, block_size: i64 = 0, output_dtype: Option<DType> = None,
                precision: i64 = 0, saturate: bool = true,
            }
            RmsNormalization as "RMSNormalization" {
                axis: i64 = -1, epsilon: f32 = 1e-05,
                stash_type: Option<DType> = Some(DType::F32),
            }
            Rnn as "RNN" {
                activation_alpha: Vec<f32> = Vec::new(), activation_beta: Vec<f32> = Vec::new(),
                activations: Vec<String> = Vec::new(), clip: Option<f32> = None,
                direction: Direction = Direction::default(), hidden_size: Option<i64> = None,
                layout: bool = false,
            }
            RandomNormal {
                dtype: Option<DType> = Some(DType::F32), mean: f32 = 0.0, scale: f32 = 1.0,
                seed: Option<f32> = None, shape: Vec<i64> = Vec::new(),
            }
            RandomNormalLike {
                dtype: Option<DType>, mean: f32 = 0.0, scale: f32 = 1.0,
                seed: Option<f32> = None,
            }
            RandomUniform {
                dtype: Option<DType> = Some(DType::F32), high: f32 = 1.0, low: f32 = 0.0,
                seed: Option<f32> = None, shape: Vec<i64> = Vec::new(),
            }
            RandomUniformLike {
                dtype: Option<DType>, high: f32 = 1.0, low: f32 = 0.0, seed: Option<f32> = None,
            }
            Range { stash_type: Option<DType> = Some(DType::F32), }
            ReduceL1 { keepdims: bool = true, noop_with_empty_axes: bool = false, }
            ReduceL2 { keepdims: bool = true, noop_with_empty_axes: bool = false, }
            ReduceLogSum { keepdims: bool = true, noop_with_empty_axes: bool = false, }
            ReduceLogSumExp { keepdims: bool = true, noop_with_empty_axes: bool = false, }
            ReduceMax { keepdims: bool = true, noop_with_empty_axes: bool = false, }
            ReduceMean { keepdims: bool = true, noop_with_empty_axes: bool = false, }
            ReduceMin { keepdims: bool = true, noop_with_empty_axes: bool = false, }
            ReduceProd { keepdims: bool = true, noop_with_empty_axes: bool = false, }
            ReduceSum { keepdims: bool = true, noop_with_empty_axes: bool = false, }
            ReduceSumSquare { keepdims: bool = true, noop_with_empty_axes: bool = false, }
            RegexFullMatch { pattern: Option<String> = None, }
            Reshape { allowzero: bool = false, }
            Resize {
                antialias: bool = false, axes: Vec<i64> = Vec::new(),
                coordinate_transformation_mode: CoordinateTransform =
                    CoordinateTransform::default(),
                cubic_coeff_a: f32 = -0.75, exclude_outside: bool = false,
                extrapolation_value: f32 = 0.0,
                keep_aspect_ratio_policy: AspectRatioPolicy = AspectRatioPolicy::default(),
                mode: ResizeMode = ResizeMode::default(),
                nearest_mode: NearestMode = NearestMode::default(),
            }
            ReverseSequence { batch_axis: i64 = 1, time_axis: i64 = 0, }
            RoiAlign {
                coordinate_transformation_mode: String = String::from("half_pixel"),
                mode: String = String::from("avg"), output_height: i64 = 1,
                output_width: i64 = 1, sampling_ratio: i64 = 0, spatial_scale: f32 = 1.0,
            }
            RotaryEmbedding {
                interleaved: bool = false, num_heads: Option<i64> = None,
                rotary_embedding_dim: i64 = 0,
            }
            Stft as "STFT" { onesided: bool = true, }
            Scan {
                body: Box<Graph>, captures: i64 = 0, num_scan_inputs: i64,
                scan_input_axes: Vec<i64> = Vec::new(),
                scan_input_directions: Vec<i64> = Vec::new(),
                scan_output_axes: Vec<i64> = Vec::new(),
                scan_output_directions: Vec<i64> = Vec::new(),
            }
            ScatterElements {
                axis: i64 = 0, reduction: ScatterReduction = ScatterReduction::default(),
            }
            ScatterNd as "ScatterND" {
                reduction: ScatterReduction = ScatterReduction::default(),
            }
            Selu { alpha: f32 = 1.6732632, gamma: f32 = 1.050701, }
            Shape { end: Option<i64> = None, start: i64 = 0, }
            Shrink { bias: f32 = 0.0, lambd: f32 = 0.5, }
            Softmax { axis: i64 = -1, }
            SoftmaxCrossEntropyLoss {
                ignore_index: Option<i64> = None,
                reduction: LossReduction = LossReduction::default(),
            }
            SpaceToDepth { blocksize: i64, mode: DepthOrder = DepthOrder::default(), }
            Split { axis: i64 = 0, num_outputs: Option<i64> = None, }
            StringNormalizer {
                case_change_action: String = String::from("NONE"),
                is_case_sensitive: bool = false, locale: Option<String> = None,
                stopwords: Vec<String> = Vec::new(),
            }
            StringSplit { delimiter: Option<String> = None, maxsplit: Option<i64> = None, }
            SwiGlu as "SwiGLU" { alpha: f32 = 1.0, }
            Swish { alpha: f32 = 1.0, }
            TensorScatter { axis: i64 = -2, mode: String = String::from("linear"), }
            TfIdfVectorizer {
                max_gram_length: i64, max_skip_count: i64, min_gram_length: i64, mode: String,
                ngram_counts: Vec<i64> = Vec::new(), ngram_indexes: Vec<i64> = Vec::new(),
                pool_int64s: Vec<i64> = Vec::new(), pool_strings: Vec<String> = Vec::new(),
                weights: Vec<f32> = Vec::new(),
            }
            ThresholdedRelu { alpha: f32 = 1.0, }
            TopK { axis: i64 = -1, largest: bool = true, sorted: bool = true, }
            Transpose { perm: Vec<i64> = Vec::new(), }
            Trilu { upper: bool = true, }
            Unique { axis: Option<i64> = None, sorted: bool = true, }
        }
    }
    "ai.onnx.ml" {
        plain: {
            ArrayFeatureExtractor,
        }
        attributed: {
            Binarizer { threshold: f32 = 0.0, }
            CategoryMapper {
                cats_int64s: Vec<i64> = Vec::new(), cats_strings: Vec<String> = Vec::new(),
                default_int64: i64 = -1, default_string: String = String::from("_Unused"),
            }
            FeatureVectorizer { inputdimensions: Vec<i64> = Vec::new(), }
            Imputer {
                imputed_value_floats: Vec<f32> = Vec::new(),
                imputed_value_int64s: Vec<i64> = Vec::new(), replaced_value_float: f32 = 0.0,
                replaced_value_int64: i64 = 0,
            }
            LabelEncoder {
                default_float: f32 = -0.0, default_int64: i64 = -1,
                default_string: String = String::from("_Unused"),
                default_tensor: Option<Tensor> = None, keys_floats: Vec<f32> = Vec::new(),
                keys_int64s: Vec<i64> = Vec::new(), keys_strings: Vec<String> = Vec::new(),
                keys_tensor: Option<Tensor> = None, values_floats: Vec<f32> = Vec::new(),
                values_int64s: Vec<i64> = Vec::new(), values_strings: Vec<String> = Vec::new(),
                values_tensor: Option<Tensor> = None,
            }
            LinearClassifier {
                classlabels_ints: Vec<i64> = Vec::new(),
                classlabels_strings: Vec<String> = Vec::new(),
                coefficients: Vec<f32> = Vec::new(), intercepts: Vec<f32> = Vec::new(),
                multi_class: bool = false,
                post_transform: PostTransform = PostTransform::default(),
            }
            LinearRegressor {
                coefficients: Vec<f32> = Vec::new(), intercepts: Vec<f32> = Vec::new(),
                post_transform: PostTransform = PostTransform::default(), targets: i64 = 1,
            }
            Normalizer { norm: String = String::from("MAX"), }
            OneHotEncoder {
                cats_int64s: Vec<i64> = Vec::new(), cats_strings: Vec<String> = Vec::new(),
                zeros: bool = true,
            }
            SvmClassifier as "SVMClassifier" {
                classlabels_ints: Vec<i64> = Vec::new(),
                classlabels_strings: Vec<String> = Vec::new(),
                coefficients: Vec<f32> = Vec::new(), kernel_params: Vec<f32> = Vec::new(),
                kernel_type: String = String::from("LINEAR"),
                post_transform: PostTransform = PostTransform::default(),
                prob_a: Vec<f32> = Vec::new(), prob_b: Vec<f32> = Vec::new(),
                rho: Vec<f32> = Vec::new(), support_vectors: Vec<f32> = Vec::new(),
                vectors_per_class: Vec<i64> = Vec::new(),
            }
            SvmRegressor as "SVMRegressor" {
                coefficients: Vec<f32> = Vec::new(), kernel_params: Vec<f32> = Vec::new(),
                kernel_type: String = String::from("LINEAR"), n_supports: i64 = 0,
                one_class: bool = false,
                post_transform: PostTransform = PostTransform::default(),
                rho: Vec<f32> = Vec::new(), support_vectors: Vec<f32> = Vec::new(),
            }
            Scaler { offset: Vec<f32> = Vec::new(), scale: Vec<f32> = Vec::new(), }
            TreeEnsemble {
                aggregate_function: i64 = 1, leaf_targetids: Vec<i64> = Vec::new(),
                leaf_weights: Tensor, membership_values: Option<Tensor> = None,
                n_targets: Option<i64> = None, nodes_falseleafs: Vec<i64> = Vec::new(),
                nodes_falsenodeids: Vec<i64> = Vec::new(),
                nodes_featureids: Vec<i64> = Vec::new(), nodes_hitrates: Option<Tensor> = None,
                nodes_missing_value_tracks_true: Vec<i64> = Vec::new(), nodes_modes: Tensor,
                nodes_splits: Tensor, nodes_trueleafs: Vec<i64> = Vec::new(),
                nodes_truenodeids: Vec<i64> = Vec::new(), post_transform: i64 = 0,
                tree_roots: Vec<i64> = Vec::new(),
            }
            TreeEnsembleClassifier {
                base_values: Vec<f32> = Vec::new(), base_values_as_tensor: Option<Tensor> = None,
                class_ids: Vec<i64> = Vec::new(), class_nodeids: Vec<i64> = Vec::new(),
                class_treeids: Vec<i64> = Vec::new(), class_weights: Vec<f32> = Vec::new(),
                class_weights_as_tensor: Option<Tensor> = None,
                classlabels_int64s: Vec<i64> = Vec::new(),
                classlabels_strings: Vec<String> = Vec::new(),
                nodes_falsenodeids: Vec<i64> = Vec::new(),
                nodes_featureids: Vec<i64> = Vec::new(), nodes_hitrates: Vec<f32> = Vec::new(),
                nodes_hitrates_as_tensor: Option<Tensor> = None,
                nodes_missing_value_tracks_true: Vec<i64> = Vec::new(),
                nodes_modes: Vec<TreeMode> = Vec::new(), nodes_nodeids: Vec<i64> = Vec::new(),
                nodes_treeids: Vec<i64> = Vec::new(), nodes_truenodeids: Vec<i64> = Vec::new(),
                nodes_values: Vec<f32> = Vec::new(),
                nodes_values_as_tensor: Option<Tensor> = None,
                post_transform: PostTransform = PostTransform::default(),
            }
            TreeEnsembleRegressor {
                aggregate_function: String = String::from("SUM"),
                base_values: Vec<f32> = Vec::new(), base_values_as_tensor: Option<Tensor> = None,
                n_targets: Option<i64> = None, nodes_falsenodeids: Vec<i64> = Vec::new(),
                nodes_featureids: Vec<i64> = Vec::new(), nodes_hitrates: Vec<f32> = Vec::new(),
                nodes_hitrates_as_tensor: Option<Tensor> = None,
                nodes_missing_value_tracks_true: Vec<i64> = Vec::new(),
                nodes_modes: Vec<TreeMode> = Vec::new(), nodes_nodeids: Vec<i64> = Vec::new(),
                nodes_treeids: Vec<i64> = Vec::new(), nodes_truenodeids: Vec<i64> = Vec::new(),
                nodes_values: Vec<f32> = Vec::new(),
                nodes_values_as_tensor: Option<Tensor> = None,
                post_transform: PostTransform = PostTransform::default(),
                target_ids: Vec<i64> = Vec::new(), target_nodeids: Vec<i64> = Vec::new(),
                target_treeids: Vec<i64> = Vec::new(), target_weights: Vec<f32> = Vec::new(),
                target_weights_as_tensor: Option<Tensor> = None,
            }
            ZipMap {
                classlabels_int64s: Vec<i64> = Vec::new(),
                classlabels_strings: Vec<String> = Vec::new(),
            }
        }
    }
    "com.microsoft" {
        plain: {
            DynamicQuantizeMatMul,
        }
        attributed: {
            MatMulNBits {
                accuracy_level: i64 = 0, bits: i64 = 4, block_size: i64, k as "K": i64,
                n as "N": i64,
            }
        }
    }
    "landfall" {
        plain: {
        }
        attributed: {
            ChannelsLastPool {
                ceil_mode: bool = false, count_include_pad: bool = false,
                dilations: Vec<i64> = Vec::new(), kernel_shape: Vec<i64> = Vec::new(),
                kind: PoolKind = PoolKind::default(), pads: Vec<i64> = Vec::new(),
                strides: Vec<i64> = Vec::new(),
            }
            DynamicQuantMatMul { activation: Activation = Activation::None, }
            FusedAttention { heads: i64, scale: f32 = 1.0, }
            FusedConv {
                activation: Activation = Activation::None, channels_last: bool = false,
                dilations: Vec<i64> = Vec::new(), group: i64 = 1, pads: Vec<i64> = Vec::new(),
                strides: Vec<i64> = Vec::new(),
            }
            FusedMatMul {
                activation: Activation = Activation::None, trans_b as "transB": bool = false,
            }
            QuantizedAdd { high: Option<i64> = None, low: Option<i64> = None, }
            QuantizedConv {
                channels_last: bool = false, dilations: Vec<i64> = Vec::new(), group: i64 = 1,
                high: Option<i64> = None, low: Option<i64> = None, pads: Vec<i64> = Vec::new(),
                strides: Vec<i64> = Vec::new(),
            }
            QuantizedMatMul { high: Option<i64> = None, low: Option<i64> = None, }
        }
    }
}

impl Op {
    /// The sub-graphs among the attributes, by name.
    pub fn bodies(&self) -> Vec<(&'static str, &Graph)> {
        match self {
            Op::If(op) => vec![("then_branch", &op.then_branch), ("else_branch", &op.else_branch)],
            Op::Loop(op) => vec![("body", &op.body)],
            Op::Scan(op) => vec![("body", &op.body)],
            _ => Vec::new(),
        }
    }
}
