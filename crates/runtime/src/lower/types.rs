//! From a datatype known while running to a Rust type known while compiling.
//!
//! Each macro runs its body with `$T` naming the element type, and returns an error from the
//! enclosing function for a datatype outside its set.

macro_rules! float_type {
    ($dtype:expr, $T:ident => $body:expr) => {
        $crate::lower::types::dispatch!($dtype, $T => $body, F32 f32, F64 f64,
            F16 landfall_tensor::f16, BF16 landfall_tensor::bf16)
    };
}

macro_rules! integer_type {
    ($dtype:expr, $T:ident => $body:expr) => {
        $crate::lower::types::dispatch!($dtype, $T => $body, I64 i64, I32 i32, I8 i8, U8 u8,
            I16 i16, U16 u16, U32 u32, U64 u64)
    };
}

/// Every numeric type; booleans as `u8`.
macro_rules! number_type {
    ($dtype:expr, $T:ident => $body:expr) => {
        $crate::lower::types::dispatch!($dtype, $T => $body, F32 f32, F64 f64,
            F16 landfall_tensor::f16, BF16 landfall_tensor::bf16, I64 i64, I32 i32, I8 i8, U8 u8,
            Bool u8, I16 i16, U16 u16, U32 u32, U64 u64)
    };
}

macro_rules! dispatch {
    ($dtype:expr, $T:ident => $body:expr, $($variant:ident $ty:ty),*) => {
        match $dtype {
            $(landfall_tensor::DType::$variant => {
                #[allow(dead_code, reason = "a body may not need the type's name")]
                type $T = $ty;
                $body
            })*
            other => {
                return $crate::KernelError::unsupported(format!(
                    "there is no kernel for datatype {other}"
                ));
            }
        }
    };
}

pub(crate) use number_type as any_type;
pub(crate) use {dispatch, float_type, integer_type, number_type};
