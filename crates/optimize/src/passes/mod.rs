//! The passes, one file each. The `pipeline` module orders them.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod batch_norm;
pub(crate) mod canonical;
pub(crate) mod channels_last;
pub(crate) mod conv;
pub(crate) mod dead;
pub(crate) mod dynamic_quantized;
pub(crate) mod epilogue;
pub(crate) mod fold;
mod host;
pub(crate) mod matmul;
pub(crate) mod noop;
pub(crate) mod normalization;
pub(crate) mod pad;
pub(crate) mod quantized;
pub(crate) mod quantized_movement;
pub(crate) mod quantized_operators;
pub(crate) mod quantized_sum;
pub(crate) mod reshape;
pub(crate) mod residual;
pub(crate) mod scale;
pub(crate) mod shape_values;
pub(crate) mod share;
pub(crate) mod sink;
pub(crate) mod softmax;
pub(crate) mod transpose;
