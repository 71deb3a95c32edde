//! Operators along a sequence of tokens, for every floating-point type: rotary embedding, linear
//! attention and causal convolution with state.

mod causal_conv;
mod linear_attention;
mod rotary;
#[cfg(test)]
mod tests;

pub use causal_conv::{CausalConv, causal_conv};
pub use linear_attention::{LinearAttention, UpdateRule, linear_attention};
pub use rotary::{Rotary, rotary};
