//! The classification extension: the highest values of an output as text.

use landfall_tensor::{DType, Shape, Tensor, bf16, f16};

/// The `count` highest values of every row, highest first, each as `value:index`.
///
/// `tensor` has axes `(batch, ...)`, or no batch axis if its rank is 1; the result has
/// axes `(batch, count)` or `(count)`. Equal values keep their order; NaN comes last.
pub fn classify(tensor: &Tensor, count: usize) -> Result<Tensor, String> {
    let values = values(tensor)?;
    let batch = if tensor.shape().rank() > 1 { Some(tensor.shape()[0]) } else { None };
    let row = values.len().checked_div(batch.unwrap_or(1)).unwrap_or(0);
    let count = count.min(row);
    let mut texts = Vec::with_capacity(count * batch.unwrap_or(1));
    if count > 0 {
        for row in values.chunks_exact(row) {
            let mut order: Vec<usize> = (0..row.len()).collect();
            let rank = |&i: &usize| if row[i].is_nan() { f64::NEG_INFINITY } else { row[i] };
            order.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
            let text = |&i: &usize| format!("{:.6}:{i}", row[i]);
            texts.extend(order[..count].iter().map(text));
        }
    }
    let shape = match batch {
        Some(batch) => Shape::from([batch, count]),
        None => Shape::from([count]),
    };
    Tensor::from_strings(shape, texts).map_err(|e| e.to_string())
}

fn values(tensor: &Tensor) -> Result<Vec<f64>, String> {
    let tensor = tensor.aligned();
    macro_rules! widen {
        ($type:ty, $to:expr) => {
            tensor.as_slice::<$type>().map(|v| v.iter().map($to).collect())
        };
    }
    match tensor.dtype() {
        DType::F32 => widen!(f32, |&v| f64::from(v)),
        DType::F64 => widen!(f64, |&v| v),
        DType::F16 => widen!(f16, |v| v.to_f64()),
        DType::BF16 => widen!(bf16, |v| v.to_f64()),
        DType::I8 => widen!(i8, |&v| f64::from(v)),
        DType::U8 => widen!(u8, |&v| f64::from(v)),
        DType::I16 => widen!(i16, |&v| f64::from(v)),
        DType::U16 => widen!(u16, |&v| f64::from(v)),
        DType::I32 => widen!(i32, |&v| f64::from(v)),
        DType::U32 => widen!(u32, |&v| f64::from(v)),
        DType::I64 => widen!(i64, |&v| v as f64),
        DType::U64 => widen!(u64, |&v| v as f64),
        other => return Err(format!("an output of datatype {} has no highest values", other)),
    }
    .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ranked_apart() {
        let scores =
            Tensor::from_slice(Shape::from([2, 3]), &[0.1f32, 0.7, 0.2, 0.5, f32::NAN, 0.5])
                .unwrap();
        let top = classify(&scores, 2).unwrap();
        assert_eq!(top.shape(), &Shape::from([2, 2]));
        assert_eq!(
            top.strings().unwrap(),
            ["0.700000:1", "0.200000:2", "0.500000:0", "0.500000:2"]
        );
        assert_eq!(classify(&scores, 99).unwrap().shape(), &Shape::from([2, 3]));
        let empty = Tensor::from_slice::<f32>(Shape::from([2, 0]), &[]).unwrap();
        assert_eq!(classify(&empty, 1).unwrap().elements(), 0);
    }
}
