//! ONNX's numbers for element types (`TensorProto.DataType`).

use landfall_tensor::DType;

const CODES: [(i64, DType); 14] = [
    (1, DType::F32),
    (2, DType::U8),
    (3, DType::I8),
    (4, DType::U16),
    (5, DType::I16),
    (6, DType::I32),
    (7, DType::I64),
    (8, DType::String),
    (9, DType::Bool),
    (10, DType::F16),
    (11, DType::F64),
    (12, DType::U32),
    (13, DType::U64),
    (16, DType::BF16),
];

const UNSUPPORTED: [(i64, &str); 12] = [
    (14, "complex64"),
    (15, "complex128"),
    (17, "float8e4m3fn"),
    (18, "float8e4m3fnuz"),
    (19, "float8e5m2"),
    (20, "float8e5m2fnuz"),
    (21, "uint4"),
    (22, "int4"),
    (23, "float4e2m1"),
    (24, "float8e8m0"),
    (25, "uint2"),
    (26, "int2"),
];

/// The element type of a code; the error is a reason.
pub(crate) fn from_code(code: i64) -> Result<DType, String> {
    if let Some((_, dtype)) = CODES.iter().find(|(c, _)| *c == code) {
        return Ok(*dtype);
    }
    Err(match UNSUPPORTED.iter().find(|(c, _)| *c == code) {
        Some((_, name)) => format!("datatype {name} is not supported"),
        None => format!("{code} is not the code of a datatype"),
    })
}

/// The code of an element type.
pub(crate) fn to_code(dtype: DType) -> i64 {
    CODES.iter().find(|(_, d)| *d == dtype).map_or(0, |(code, _)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_code() {
        for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::Bytes) {
            assert_eq!(from_code(to_code(dtype)), Ok(dtype));
        }
        assert_eq!(from_code(22), Err("datatype int4 is not supported".to_owned()));
        assert!(from_code(0).is_err());
    }
}
