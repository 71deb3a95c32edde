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

/// `i32` or `i64`, for operands that are positions.
macro_rules! position_type {
    ($dtype:expr, $T:ident => $body:expr) => {
        $crate::lower::types::dispatch!($dtype, $T => $body, I64 i64, I32 i32)
    };
}

/// Runs its body with `$from` and `$to` as slices of the elements of a view and of a result of one
/// type that are only moved: bytes of the element's size, or text.
macro_rules! moved {
    ($from:ident = $view:expr, $to:ident = $out:expr => $body:expr) => {
        match $view.dtype().size() {
            1 => $crate::lower::types::moved!(@bytes 1, $from, $view, $to, $out, $body),
            2 => $crate::lower::types::moved!(@bytes 2, $from, $view, $to, $out, $body),
            4 => $crate::lower::types::moved!(@bytes 4, $from, $view, $to, $out, $body),
            8 => $crate::lower::types::moved!(@bytes 8, $from, $view, $to, $out, $body),
            _ => {
                let ($from, $to) = ($view.strings()?, $out.strings_mut()?);
                $body
            }
        }
    };
    (@bytes $size:literal, $from:ident, $view:expr, $to:ident, $out:expr, $body:expr) => {{
        let mixed = $crate::lower::movement::mixed;
        let ($from, _) = $view.bytes().ok_or_else(mixed)?.as_chunks::<$size>();
        let ($to, _) = $out.bytes_mut().ok_or_else(mixed)?.as_chunks_mut::<$size>();
        $body
    }};
}

pub(crate) use number_type as any_type;
pub(crate) use {dispatch, float_type, integer_type, moved, number_type, position_type};
