//! Element-wise steps before the graph.

use landfall_package::steps::{Cast, ImageLayout, Normalize, Scale};
use landfall_tensor::{Buffer, DType, Shape, Tensor, TensorError};

/// `(x * scale - mean) / std` along the innermost axis.
#[derive(Debug)]
pub(super) struct Affine {
    scale: f64,
    /// Mean and standard deviation of each channel, or of all.
    channels: Vec<(f64, f64)>,
    /// For each channel the result of every byte.
    bytes: Vec<[f32; 256]>,
}

impl Affine {
    pub(super) fn normalize(step: &Normalize) -> Affine {
        let count = step.mean.len().max(step.std.len());
        let at = |values: &[f64], i: usize| values.get(i).or(values.first()).copied();
        let channels = (0..count)
            .map(|i| (at(&step.mean, i).unwrap_or(0.0), at(&step.std, i).unwrap_or(1.0)))
            .collect();
        Affine::new(step.scale, channels)
    }

    pub(super) fn scale(step: &Scale) -> Affine {
        Affine::new(step.factor, vec![(-step.offset, 1.0)])
    }

    fn new(scale: f64, channels: Vec<(f64, f64)>) -> Affine {
        let mut affine = Affine { scale, channels, bytes: Vec::new() };
        let table =
            |channel: &(f64, f64)| std::array::from_fn(|byte| affine.apply(byte as f64, *channel));
        affine.bytes = affine.channels.iter().map(table).collect();
        affine
    }

    fn apply(&self, x: f64, (mean, std): (f64, f64)) -> f32 {
        ((x * self.scale - mean) / std) as f32
    }

    /// `u8` or `f32` to `f32` of the same shape.
    pub(super) fn run(&self, value: &Tensor) -> Result<Tensor, TensorError> {
        let mut out = vec![0f32; value.elements()];
        let rows = out.chunks_exact_mut(self.channels.len());
        if value.dtype() == DType::U8 {
            let source = value.as_slice::<u8>()?.chunks_exact(self.channels.len());
            for (out, source) in rows.zip(source) {
                for ((out, &byte), table) in out.iter_mut().zip(source).zip(&self.bytes) {
                    *out = table[usize::from(byte)];
                }
            }
        } else {
            let source = value.as_slice::<f32>()?.chunks_exact(self.channels.len());
            for (out, source) in rows.zip(source) {
                for ((out, &x), &channel) in out.iter_mut().zip(source).zip(&self.channels) {
                    *out = self.apply(f64::from(x), channel);
                }
            }
        }
        Tensor::from_slice(value.shape().clone(), &out)
    }
}

/// Images `[batch, …]` from the other layout to `layout`.
pub(super) fn to_layout(layout: ImageLayout, value: &Tensor) -> Result<Tensor, TensorError> {
    let &[batch, a, b, c] = &**value.shape() else { return Ok(value.clone()) };
    let (shape, rows, columns) = match layout {
        ImageLayout::Nchw => ([batch, c, a, b], a * b, c),
        ImageLayout::Nhwc => ([batch, b, c, a], a, b * c),
    };
    let bytes = value.bytes().unwrap_or_default();
    let out = match value.dtype() {
        DType::U8 => transpose::<1>(bytes, rows, columns),
        _ => transpose::<4>(bytes, rows, columns),
    };
    Tensor::from_buffer(value.dtype(), Shape::from(shape), out)
}

/// Matrices `[rows, columns]` of elements of `N` bytes, one after the other, each to its transpose.
fn transpose<const N: usize>(bytes: &[u8], rows: usize, columns: usize) -> Buffer {
    let size = rows * columns * N;
    Buffer::build(bytes.len(), |out| {
        if size == 0 {
            return;
        }
        for (source, target) in bytes.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
            for (column, target) in target.chunks_exact_mut(rows * N).enumerate() {
                for (row, target) in target.chunks_exact_mut(N).enumerate() {
                    let at = (row * columns + column) * N;
                    target.copy_from_slice(&source[at..at + N]);
                }
            }
        }
    })
}

/// Numbers to another type: to integers towards zero, saturating, NaN to 0; to booleans, not 0.
pub(super) fn cast(step: &Cast, value: &Tensor) -> Result<Tensor, TensorError> {
    let to = step.to.0;
    let shape = value.shape().clone();
    if value.dtype() == to {
        return Ok(value.clone());
    }
    match value.dtype() {
        DType::U8 => from_integers(to, shape, value.as_slice::<u8>()?.iter().map(|&x| x.into())),
        DType::Bool => {
            from_integers(to, shape, value.as_slice::<u8>()?.iter().map(|&x| i64::from(x != 0)))
        }
        DType::I32 => from_integers(to, shape, value.as_slice::<i32>()?.iter().map(|&x| x.into())),
        DType::I64 => from_integers(to, shape, value.as_slice::<i64>()?.iter().copied()),
        DType::F32 => from_floats(to, shape, value.as_slice::<f32>()?.iter().map(|&x| x.into())),
        _ => from_floats(to, shape, value.as_slice::<f64>()?.iter().copied()),
    }
}

fn from_integers(
    to: DType,
    shape: Shape,
    values: impl Iterator<Item = i64>,
) -> Result<Tensor, TensorError> {
    match to {
        DType::U8 => collect(shape, values.map(|x| x.clamp(0, 255) as u8)),
        DType::I32 => {
            collect(shape, values.map(|x| x.clamp(i32::MIN.into(), i32::MAX.into()) as i32))
        }
        DType::I64 => collect(shape, values),
        DType::F32 => collect(shape, values.map(|x| x as f32)),
        DType::F64 => collect(shape, values.map(|x| x as f64)),
        _ => Tensor::from_bools(shape, &values.map(|x| x != 0).collect::<Vec<_>>()),
    }
}

fn from_floats(
    to: DType,
    shape: Shape,
    values: impl Iterator<Item = f64>,
) -> Result<Tensor, TensorError> {
    match to {
        DType::U8 => collect(shape, values.map(|x| x as u8)),
        DType::I32 => collect(shape, values.map(|x| x as i32)),
        DType::I64 => collect(shape, values.map(|x| x as i64)),
        DType::F32 => collect(shape, values.map(|x| x as f32)),
        DType::F64 => collect(shape, values),
        _ => Tensor::from_bools(shape, &values.map(|x| x != 0.0).collect::<Vec<_>>()),
    }
}

fn collect<T: landfall_tensor::Element>(
    shape: Shape,
    values: impl Iterator<Item = T>,
) -> Result<Tensor, TensorError> {
    Tensor::from_slice(shape, &values.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use landfall_package::DatatypeName;

    use super::*;

    #[test]
    fn bytes_and_floats_normalize_alike() {
        let step = Normalize {
            mean: vec![0.485, 0.5],
            std: vec![0.25],
            scale: 1.0 / 255.0,
            input: None,
            output: None,
        };
        let affine = Affine::normalize(&step);
        let bytes = Tensor::from_slice(Shape::from([2, 2]), &[0u8, 255, 128, 3]).unwrap();
        let floats = Tensor::from_slice(Shape::from([2, 2]), &[0f32, 255.0, 128.0, 3.0]).unwrap();
        let out = affine.run(&bytes).unwrap();
        assert_eq!(out, affine.run(&floats).unwrap());
        assert_eq!(out.as_slice::<f32>().unwrap()[..2], [-1.94, 2.0]);
    }

    #[test]
    fn layouts_are_each_others_inverse() {
        let values: Vec<f32> = (0..2 * 2 * 3 * 4).map(|x| x as f32).collect();
        let nhwc = Tensor::from_slice(Shape::from([2, 2, 3, 4]), &values).unwrap();
        let nchw = to_layout(ImageLayout::Nchw, &nhwc).unwrap();
        assert_eq!(nchw.shape(), &Shape::from([2, 4, 2, 3]));
        assert_eq!(nchw.as_slice::<f32>().unwrap()[..3], [0.0, 4.0, 8.0]);
        assert_eq!(to_layout(ImageLayout::Nhwc, &nchw).unwrap(), nhwc);
    }

    #[test]
    fn casts_saturate_and_truncate() {
        let cast_to = |to, value: &Tensor| {
            let to = DatatypeName(to);
            cast(&Cast { to, from: None, input: None, output: None }, value).unwrap()
        };
        let floats =
            Tensor::from_slice(Shape::from([4]), &[-1.5f32, 300.0, f32::NAN, 2.9]).unwrap();
        assert_eq!(cast_to(DType::U8, &floats).as_slice::<u8>().unwrap(), &[0, 255, 0, 2]);
        assert_eq!(cast_to(DType::I64, &floats).as_slice::<i64>().unwrap(), &[-1, 300, 0, 2]);
        assert_eq!(cast_to(DType::Bool, &floats).bytes().unwrap(), &[1, 1, 1, 1]);
        let integers = Tensor::from_slice(Shape::from([2]), &[i64::MAX, -1]).unwrap();
        assert_eq!(cast_to(DType::I32, &integers).as_slice::<i32>().unwrap(), &[i32::MAX, -1]);
    }
}
