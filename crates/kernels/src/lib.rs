//! Compute kernels per instruction set, and the thread pool they run on.
//!
//! Every kernel takes an [`Exec`]: which instructions exist ([`Cpu`], a proof made once by
//! detection) and which threads to run on ([`Pool`]). Fast paths are written once over a SIMD trait
//! and entered through one `#[target_feature]` function per instruction set; [`Isa::Reference`]
//! selects a slow scalar twin of each. Preconditions on lengths and shapes are asserted: breaking
//! one is a bug of the caller, never a property of a model's input.
//!
//! Results never depend on the number of threads, nor on which other rows a call carries.
//!
//! No processor with AMX was at hand: tests run its kernels with emulated instructions, and their
//! speed is not measured.
//!
//! Architecture invariant: this crate knows nothing of graphs, operator names, files or clocks.
#![allow(unsafe_code, reason = "the home of SIMD, threads over borrowed data and unchecked tiles")]

#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod cache;
pub mod classical;
pub mod contraction;
mod conv;
pub mod elementwise;
pub mod encode;
mod gemm;
pub mod generate;
pub mod generic;
pub mod indexing;
mod isa;
pub mod loss;
mod math;
pub mod movement;
pub mod norm;
mod parallel;
mod permute;
mod pool;
mod quant;
pub mod recurrent;
pub mod reduce;
mod rows;
mod rowwise;
pub mod sample;
mod scratch;
pub mod sequence;
mod shared;
pub mod signal;
mod simd;
pub mod trees;

pub use attention::{
    Attention, AttentionMask, HeadLayout, KeyRange, MaskValues, Scores, Window, attention,
    attention_direct, attention_scratch_len,
};
pub use cache::CacheSizes;
pub use conv::{
    Conv2d, ConvAlgorithm, ConvChain, ConvStage, TransposedConv, Window2d, average_pool,
    conv_chain, conv_planes, conv2d, conv2d_bf16, conv2d_by, global_average_pool, max_pool,
    transposed_conv,
};
pub use gemm::{
    Epilogue, MatMul, MatrixLayout, PANEL, PackedB, PackedBf16, RowsMut, RowsRef, gemm, gemm_bf16,
    matmul, pack_b, pack_bf16, packed_b_len, packed_bf16_len, unpack_b,
};
pub use isa::{Cpu, Isa, IsaError};
pub(crate) use math::erf_f64;
pub use math::{Activation, activate};
pub use permute::permute;
pub use pool::Pool;
pub use quant::{
    ByteRange, Bytes, ColumnScales, ConvWeightsInt8, Division, DynamicEpilogue, Int8Epilogue,
    Int8Output, NBits, PackedInt8, PackedNBits, Parameters, Quantum, Real, Spread, Steps, add_int8,
    column_sums_len, conv_column_sums_len, conv2d_int8, conv2d_int8_planar, dequantize,
    dynamic_parameters, gemm_int8, matmul_dynamic_int8, matmul_int8, matmul_nbits, pack_conv_int8,
    pack_int8, packed_conv_int8_len, packed_int8_len, quantize,
};
pub use rowwise::{Mask, NormKind, Normalize, Softmax, normalize, softmax};

/// What a kernel runs on: the instructions that exist and the threads to use.
#[derive(Debug, Clone, Copy)]
pub struct Exec<'a> {
    /// Proof of the instruction set.
    pub cpu: Cpu,
    /// Threads; the calling thread is one of them.
    pub pool: &'a Pool,
}

/// Repeatable values in [-1, 1) with 16 significant bits.
#[cfg(test)]
pub(crate) fn test_data(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 48) as f32 / 32768.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}
