//! The enumerations that operators' attributes choose from.

use crate::attribute::choices;

choices! {
    /// How a convolution or pooling pads.
    AutoPad {
        /// Explicit pads.
        #[default] NotSet = "NOTSET",
        /// Output extent is the input's divided by the stride, odd padding at the end.
        SameUpper = "SAME_UPPER",
        /// Output extent is the input's divided by the stride, odd padding at the beginning.
        SameLower = "SAME_LOWER",
        /// No padding.
        Valid = "VALID",
    }
    /// Direction of a recurrent layer.
    Direction {
        #[default] Forward = "forward",
        Reverse = "reverse",
        Bidirectional = "bidirectional",
    }
    /// Direction of a bit shift.
    ShiftDirection { #[default] Left = "LEFT", Right = "RIGHT" }
    /// How scattered elements that meet are combined.
    ScatterReduction {
        #[default] None = "none",
        Add = "add",
        Mul = "mul",
        Max = "max",
        Min = "min",
    }
    /// How a loss is reduced.
    LossReduction { None = "none", Sum = "sum", #[default] Mean = "mean" }
    /// What a classical model does to its scores.
    PostTransform {
        #[default] None = "NONE",
        Softmax = "SOFTMAX",
        Logistic = "LOGISTIC",
        SoftmaxZero = "SOFTMAX_ZERO",
        Probit = "PROBIT",
    }
    /// What a node of a tree is: a comparison of the input with the node's number, or a leaf.
    TreeMode {
        #[default] BranchLeq = "BRANCH_LEQ",
        BranchLt = "BRANCH_LT",
        BranchGte = "BRANCH_GTE",
        BranchGt = "BRANCH_GT",
        BranchEq = "BRANCH_EQ",
        BranchNeq = "BRANCH_NEQ",
        Leaf = "LEAF",
    }
    /// What padding is filled with.
    PadMode { #[default] Constant = "constant", Reflect = "reflect", Edge = "edge", Wrap = "wrap" }
    /// Interpolation of a resize.
    ResizeMode { #[default] Nearest = "nearest", Linear = "linear", Cubic = "cubic" }
    /// How output coordinates map to input coordinates in a resize.
    CoordinateTransform {
        #[default] HalfPixel = "half_pixel",
        HalfPixelSymmetric = "half_pixel_symmetric",
        PytorchHalfPixel = "pytorch_half_pixel",
        AlignCorners = "align_corners",
        Asymmetric = "asymmetric",
        TfCropAndResize = "tf_crop_and_resize",
        TfHalfPixelForNn = "tf_half_pixel_for_nn",
    }
    /// Rounding of nearest-neighbour coordinates.
    NearestMode {
        #[default] RoundPreferFloor = "round_prefer_floor",
        RoundPreferCeil = "round_prefer_ceil",
        Floor = "floor",
        Ceil = "ceil",
        Simple = "simple",
    }
    /// What a resize to given sizes does to the aspect ratio.
    AspectRatioPolicy {
        #[default] Stretch = "stretch",
        NotLarger = "not_larger",
        NotSmaller = "not_smaller",
    }
    /// Order of depth and space blocks.
    DepthOrder { #[default] DepthColumnRow = "DCR", ColumnRowDepth = "CRD" }
    /// What a pooling window reduces to.
    PoolKind { #[default] Max = "max", Average = "average" }
    /// Which GELU is meant.
    GeluApproximation { #[default] None = "none", Tanh = "tanh" }
}

/// An activation fused into the operator before it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, lo), hi)`.
    Clip(f32, f32),
    /// `x < 0 ? alpha x : x`.
    LeakyRelu(f32),
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x sigmoid(x)`.
    Silu,
    /// `x clip(x / 6 + 1/2, 0, 1)`.
    HardSwish,
    /// `clip(alpha x + beta, 0, 1)`.
    HardSigmoid(f32, f32),
    /// `x Φ(x)` by the error function.
    Gelu,
    /// GELU by its tanh approximation.
    GeluTanh,
}

impl crate::attribute::AttributeValue for Activation {
    fn from_attribute(attribute: crate::Attribute) -> Result<Self, String> {
        let expected = || "an activation such as relu or clip(0,6)".to_owned();
        let crate::Attribute::Text(text) = attribute else { return Err(expected()) };
        let (name, rest) = text.split_once('(').unwrap_or((&text, ")"));
        let numbers = rest
            .strip_suffix(')')
            .ok_or_else(expected)?
            .split(',')
            .filter(|part| !part.is_empty())
            .map(|part| part.parse::<f32>().map_err(|_| expected()))
            .collect::<Result<Vec<f32>, String>>()?;
        Ok(match (name, numbers.as_slice()) {
            ("none", []) => Activation::None,
            ("relu", []) => Activation::Relu,
            ("clip", &[lo, hi]) => Activation::Clip(lo, hi),
            ("leaky_relu", &[alpha]) => Activation::LeakyRelu(alpha),
            ("sigmoid", []) => Activation::Sigmoid,
            ("tanh", []) => Activation::Tanh,
            ("silu", []) => Activation::Silu,
            ("hard_swish", []) => Activation::HardSwish,
            ("hard_sigmoid", &[alpha, beta]) => Activation::HardSigmoid(alpha, beta),
            ("gelu", []) => Activation::Gelu,
            ("gelu_tanh", []) => Activation::GeluTanh,
            _ => return Err(expected()),
        })
    }

    fn to_attribute(&self) -> Option<crate::Attribute> {
        Some(crate::Attribute::Text(match *self {
            Activation::None => return None,
            Activation::Relu => "relu".to_owned(),
            Activation::Clip(lo, hi) => format!("clip({lo:?},{hi:?})"),
            Activation::LeakyRelu(alpha) => format!("leaky_relu({alpha:?})"),
            Activation::Sigmoid => "sigmoid".to_owned(),
            Activation::Tanh => "tanh".to_owned(),
            Activation::Silu => "silu".to_owned(),
            Activation::HardSwish => "hard_swish".to_owned(),
            Activation::HardSigmoid(alpha, beta) => format!("hard_sigmoid({alpha:?},{beta:?})"),
            Activation::Gelu => "gelu".to_owned(),
            Activation::GeluTanh => "gelu_tanh".to_owned(),
        }))
    }
}
