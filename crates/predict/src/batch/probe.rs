//! Whether a model really keeps rows apart, found by trying.
//!
//! A free leading axis need not be one of independent rows: it may be time, or the nodes of one
//! graph. Joining requests along such an axis gives wrong answers that nothing reports. So before
//! rows are joined automatically, two different made-up rows are run together and alone, and must
//! give the same results. Models that cannot run the made-up rows are not joined automatically
//! either; `Batching::Required` states what cannot be found out.

use landfall_graph::{DimSpec, TensorSpec};
use landfall_tensor::{DType, Shape, Tensor, TensorError, bf16, f16};

use super::rows::take_rows;
use crate::Executable;
use crate::lock::contain;

/// Extent given to free axes: as many pixels as usual image models reduce to one.
const EXTENT: usize = 32;
/// The most elements of one made-up input.
const MAX_ELEMENTS: usize = 1 << 24;
/// Largest difference that other summation orders explain, relative to the largest result; what
/// rows do to one another is far larger.
const TOLERANCE: f64 = 1e-3;

/// Why rows must not be joined, if they must not.
pub(crate) fn obstacle(executable: &dyn Executable) -> Option<String> {
    match rows_differ(executable) {
        Ok(None) => None,
        Ok(Some(output)) => {
            Some(format!("rows run together give another '{output}' than rows run alone"))
        }
        Err(reason) => Some(format!("a trial with two made-up rows failed: {reason}")),
    }
}

/// The first output in which two rows run together differ from the same rows run alone.
fn rows_differ(executable: &dyn Executable) -> Result<Option<String>, String> {
    let signature = executable.signature();
    let text = |error: TensorError| error.to_string();
    let both: Vec<Tensor> = signature
        .inputs
        .iter()
        .enumerate()
        .map(|(index, spec)| make_up(spec, index))
        .collect::<Result<_, _>>()?;
    let run = |inputs: &[Tensor]| {
        contain(|| executable.run(inputs)).unwrap_or_else(|text| Err(format!("the model {text}")))
    };
    let joined = run(&both)?;
    for row in 0..2 {
        let alone: Result<Vec<Tensor>, _> =
            both.iter().map(|tensor| take_rows(tensor, row..row + 1)).collect();
        let alone = run(&alone.map_err(text)?)?;
        for ((spec, together), alone) in signature.outputs.iter().zip(&joined).zip(&alone) {
            if together.shape().first() != Some(&2) {
                return Ok(Some(spec.name.clone()));
            }
            let own = take_rows(together, row..row + 1).map_err(text)?;
            if !is_close(&own, alone) {
                return Ok(Some(spec.name.clone()));
            }
        }
    }
    Ok(None)
}

/// Two rows that differ: small reals, and zeros and ones for everything that may be an index.
fn make_up(spec: &TensorSpec, input: usize) -> Result<Tensor, String> {
    let extent = |dim: &DimSpec| match dim {
        DimSpec::Known(extent) => *extent,
        DimSpec::Symbol(_) => EXTENT,
    };
    let mut shape: Shape = spec.dims.iter().flatten().map(extent).collect();
    if let Some(rows) = shape.first_mut() {
        *rows = 2;
    }
    let elements = shape.checked_elements().map_err(|error| error.to_string())?;
    if elements > MAX_ELEMENTS {
        return Err(format!("input '{}' of shape {shape} is too large", spec.name));
    }
    let half = (elements / 2).max(1);
    let real = |i: usize| ((i * 37 + i / half * 11 + input * 5) % 101) as f32 / 101.0;
    let index = |i: usize| ((i + i / half) % 2) as u8;
    let all = 0..elements;
    let made = match spec.dtype {
        DType::F32 => Tensor::from_slice(shape, &all.map(real).collect::<Vec<_>>()),
        DType::F64 => {
            let reals: Vec<f64> = all.map(|i| f64::from(real(i))).collect();
            Tensor::from_slice(shape, &reals)
        }
        DType::F16 => {
            let reals: Vec<f16> = all.map(|i| f16::from_f32(real(i))).collect();
            Tensor::from_slice(shape, &reals)
        }
        DType::BF16 => {
            let reals: Vec<bf16> = all.map(|i| bf16::from_f32(real(i))).collect();
            Tensor::from_slice(shape, &reals)
        }
        DType::String => {
            let words = all.map(|i| ["a", "b"][usize::from(index(i))].to_owned()).collect();
            Tensor::from_strings(shape, words)
        }
        dtype if dtype.size() > 0 => {
            let size = dtype.size();
            let byte = |at: usize| if at.is_multiple_of(size) { index(at / size) } else { 0 };
            let bytes: Vec<u8> = (0..elements * size).map(byte).collect();
            Tensor::from_bytes(dtype, shape, &bytes)
        }
        dtype => return Err(format!("nothing can be made up for {}", dtype.name())),
    };
    made.map_err(|error| error.to_string())
}

fn is_close(a: &Tensor, b: &Tensor) -> bool {
    if a == b {
        return true;
    }
    let (Some(x), Some(y)) = (reals(a), reals(b)) else { return false };
    let largest =
        x.iter().chain(&y).filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()));
    let near = |(x, y): (&f64, &f64)| {
        x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= TOLERANCE * (1e-6 + largest)
    };
    a.dtype() == b.dtype() && a.shape() == b.shape() && x.iter().zip(&y).all(near)
}

/// Elements as reals; `None` where they must be equal exactly.
fn reals(tensor: &Tensor) -> Option<Vec<f64>> {
    let view = tensor.view();
    match tensor.dtype() {
        DType::F32 => Some(view.as_slice::<f32>().ok()?.iter().map(|&v| f64::from(v)).collect()),
        DType::F64 => Some(view.as_slice::<f64>().ok()?.to_vec()),
        DType::F16 => Some(view.as_slice::<f16>().ok()?.iter().map(|v| v.to_f64()).collect()),
        DType::BF16 => Some(view.as_slice::<bf16>().ok()?.iter().map(|v| v.to_f64()).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use landfall_graph::text::parse;
    use landfall_runtime::{Model, Options};

    use super::*;

    fn tried(body: &str) -> Option<String> {
        let graph = parse(&format!("graph \"g\" {{ {body} }}"), &[]).unwrap();
        obstacle(&Model::compile(graph, &Options::default()).unwrap())
    }

    #[test]
    fn rows_that_are_kept_apart_may_be_joined() {
        assert_eq!(tried("input %x: f32[N,3] %y = Relu(%x) output %y"), None);
        assert_eq!(tried("input %x: i64[N] %y = Add(%x, %x) output %y"), None);
    }

    #[test]
    fn rows_that_reach_one_another_may_not() {
        let mixed = "rows run together give another 'y' than rows run alone";
        let transposed = "input %x: f32[N,3] %y = Transpose(%x) {perm=[1,0]} output %y";
        assert_eq!(tried(transposed).unwrap(), mixed);
        let table = "input %x: f32[N,1]
                     const %three: f32[3,1] = [1.0, 2.0, 3.0]
                     %y = Add(%x, %three)
                     output %y";
        assert!(tried(table).unwrap().starts_with("a trial with two made-up rows failed"));
    }
}
