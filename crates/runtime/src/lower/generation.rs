//! Tensors made from a few numbers, and elements moved between space and depth.

use landfall_graph::infer::resolve_axis;
use landfall_graph::{DepthOrder, Op};
use landfall_kernels::elementwise::{CastElement, Integer, Number};
use landfall_kernels::generate::{
    columns_to_image, keep_triangle, one_hot, range_float, range_integer, write_diagonal,
};
use landfall_kernels::generic::Window3d;
use landfall_kernels::movement::Axis;
use landfall_tensor::{DType, TensorView};

use super::movement::{boxed, known_ints, mixed, strided};
use super::reduction::one_integer;
use super::types::{float_type, integer_type, moved, number_type};
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::Range(_) => boxed(Range),
        Op::EyeLike(op) => lower_eye(site, op.k),
        Op::Trilu(op) => lower_trilu(site, op.upper),
        Op::OneHot(op) => lower_one_hot(site, op.axis),
        Op::DepthToSpace(op) => lower_depth_to_space(site, op.blocksize, op.mode),
        Op::SpaceToDepth(op) => lower_space_to_depth(site, op.blocksize, op.mode),
        Op::Col2Im(op) => lower_columns(site, &op.dilations, &op.pads, &op.strides),
        Op::BitCast(op) => lower_bit_cast(site, op.to),
        _ => return None,
    })
}

struct Range;

impl Kernel for Range {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (start, delta) = (io.input(0)?, io.input(2)?);
        let out = &mut io.outputs[0];
        fn first<T: Copy>(elements: &[T]) -> Result<T, KernelError> {
            let none = || KernelError::Invalid("start or step of a range is empty".into());
            elements.first().copied().ok_or_else(none)
        }
        if start.dtype().is_float() {
            float_type!(start.dtype(), T => {
                let (start, delta) = (first(start.as_slice::<T>()?)?, first(delta.as_slice()?)?);
                range_float(start, delta, out.as_mut_slice()?);
            });
            return Ok(());
        }
        integer_type!(start.dtype(), T => {
            let (start, delta) = (first(start.as_slice::<T>()?)?, first(delta.as_slice::<T>()?)?);
            range_integer::<T>(start.wide(), delta.wide(), out.as_mut_slice()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("range", "any")
    }
}

struct Eye {
    columns: usize,
    k: i64,
}

fn lower_eye(site: &Site<'_>, k: i64) -> Result<Lowered, KernelError> {
    match *site.shape(0)? {
        [_, columns] => boxed(Eye { columns, k }),
        ref other => KernelError::invalid(format!("input of rank {}, expected 2", other.len())),
    }
}

impl Kernel for Eye {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let out = &mut io.outputs[0];
        number_type!(out.dtype(), T => {
            write_diagonal::<T>(self.columns, self.k, out.as_mut_slice()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("diagonal", "any")
    }
}

struct Triangle {
    matrix: (usize, usize),
    upper: bool,
}

fn lower_trilu(site: &Site<'_>, upper: bool) -> Result<Lowered, KernelError> {
    match *site.shape(0)? {
        [.., rows, columns] => boxed(Triangle { matrix: (rows, columns), upper }),
        ref other => {
            KernelError::invalid(format!("input of rank {}, expected 2 or more", other.len()))
        }
    }
}

impl Kernel for Triangle {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let k = io.optional(1).map(|view| one_integer(&view, "k")).transpose()?.unwrap_or(0);
        let input = io.optional(0);
        let out = &mut io.outputs[0];
        let size = out.dtype().size();
        let out = out.bytes_mut().ok_or_else(mixed)?;
        if let Some(input) = input {
            out.copy_from_slice(input.bytes().ok_or_else(mixed)?);
        }
        keep_triangle(self.matrix, k, self.upper, out, size);
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("triangle", "any")
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }
}

struct OneHot {
    depth: usize,
    inner: usize,
}

fn lower_one_hot(site: &Site<'_>, axis: i64) -> Result<Lowered, KernelError> {
    let out = site.output_shape(0)?;
    let axis = resolve_axis(axis, out.rank())?;
    boxed(OneHot { depth: out[axis], inner: out[axis + 1..].iter().product() })
}

impl OneHot {
    /// The class of every index; `None` outside `-depth..depth`.
    fn classes(&self, indices: &TensorView<'_>) -> Result<Vec<Option<usize>>, KernelError> {
        let depth = i128::try_from(self.depth).unwrap_or(i128::MAX);
        let class = |number: Number| {
            let index = match number {
                Number::Integer(n) => n,
                Number::Real(x) if x.is_finite() => x as i128,
                Number::Real(_) => return None,
            };
            let class = if index < 0 { index.saturating_add(depth) } else { index };
            usize::try_from(class).ok().filter(|&class| class < self.depth)
        };
        number_type!(indices.dtype(), T => {
            Ok(indices.as_slice::<T>()?.iter().map(|x| class(x.number())).collect())
        })
    }
}

impl Kernel for OneHot {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (indices, values) = (io.input(0)?, io.input(2)?);
        if values.elements() != 2 {
            let found = values.elements();
            return KernelError::invalid(format!("{found} values, expected off and on"));
        }
        let classes = self.classes(&indices)?;
        let out = &mut io.outputs[0];
        let size = (self.depth, self.inner);
        moved!(values_of = values, to = out => {
            one_hot(&classes, size, (&values_of[0], &values_of[1]), to);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("one_hot", "any")
    }
}

/// Extents and steps, in elements, of the axes of a result.
fn walk(axes: &[(usize, usize)]) -> Vec<Axis> {
    axes.iter().map(|&(extent, step)| Axis { extent, step: step as isize }).collect()
}

fn lower_depth_to_space(
    site: &Site<'_>,
    block: i64,
    order: DepthOrder,
) -> Result<Lowered, KernelError> {
    let (shape, out) = (site.shape(0)?, site.output_shape(0)?);
    let (&[n, c, h, w], &[_, channels, ..]) = (&*shape, &*out) else {
        return KernelError::invalid(format!("input {shape}, expected rank 4"));
    };
    let (size, plane) = (usize::try_from(block).unwrap_or(1), h * w);
    // Steps of the channel, and of the row and the column within a block.
    let (channel, row, column) = match order {
        DepthOrder::DepthColumnRow => (plane, size * channels * plane, channels * plane),
        DepthOrder::ColumnRowDepth => (size * size * plane, size * plane, plane),
    };
    let axes = [(n, c * plane), (channels, channel), (h, w), (size, row), (w, 1), (size, column)];
    strided(site, "depth_to_space", &walk(&axes), 0)
}

fn lower_space_to_depth(
    site: &Site<'_>,
    block: i64,
    order: DepthOrder,
) -> Result<Lowered, KernelError> {
    let (shape, out) = (site.shape(0)?, site.output_shape(0)?);
    let (&[n, c, h, w], &[_, _, rows, columns]) = (&*shape, &*out) else {
        return KernelError::invalid(format!("input {shape}, expected rank 4"));
    };
    let size = usize::try_from(block).unwrap_or(1);
    let (channel, row, column) = ((c, h * w), (size, w), (size, 1));
    let depth = match order {
        DepthOrder::DepthColumnRow => [row, column, channel],
        DepthOrder::ColumnRowDepth => [channel, row, column],
    };
    let space = [(rows, size * w), (columns, size)];
    let axes = [&[(n, c * h * w)][..], &depth, &space].concat();
    strided(site, "space_to_depth", &walk(&axes), 0)
}

struct Columns(Window3d);

fn lower_columns(
    site: &Site<'_>,
    dilations: &[i64],
    pads: &[i64],
    strides: &[i64],
) -> Result<Lowered, KernelError> {
    let image = known_ints(site, 1)?.unwrap_or_default();
    let block = known_ints(site, 2)?.unwrap_or_default();
    let rank = image.len();
    if rank > 3 {
        return KernelError::unsupported(format!("{rank} spatial axes, at most 3 are supported"));
    }
    let complete = |list: &[i64], len: usize| list.is_empty() || list.len() == len;
    if block.len() != rank
        || !complete(dilations, rank)
        || !complete(strides, rank)
        || !complete(pads, 2 * rank)
    {
        return KernelError::invalid("image, block, strides, dilations and pads differ in length");
    }
    let get = |list: &[i64], axis: usize, least: usize| match list.get(axis) {
        None => Ok(least),
        Some(&n) => {
            usize::try_from(n).ok().filter(|&n| n >= least && n < 1 << 31).ok_or_else(|| {
                KernelError::Invalid(format!(
                    "{n} at spatial axis {axis}, expected {least} or more"
                ))
            })
        }
    };
    let mut window = Window3d {
        input: [1; 3],
        output: [1; 3],
        kernel: [1; 3],
        stride: [1; 3],
        dilation: [1; 3],
        pad: [0; 3],
    };
    for axis in 0..rank {
        let at = 3 - rank + axis;
        window.input[at] = get(&image, axis, 0)?;
        window.kernel[at] = get(&block, axis, 1)?;
        window.stride[at] = get(strides, axis, 1)?;
        window.dilation[at] = get(dilations, axis, 1)?;
        window.pad[at] = get(pads, axis, 0)?;
        let padded = window.input[at] + window.pad[at] + get(pads, rank + axis, 0)?;
        let reach = window.dilation[at] * (window.kernel[at] - 1) + 1;
        let last = padded.checked_sub(reach).ok_or_else(|| {
            KernelError::Invalid(format!("spatial axis {axis} is shorter than a block"))
        })?;
        window.output[at] = last / window.stride[at] + 1;
    }
    let (shape, blocks) = (site.shape(0)?, window.output.iter().product::<usize>());
    if shape[2..] != [blocks] {
        return KernelError::invalid(format!("input {shape}, expected {blocks} blocks"));
    }
    boxed(Columns(window))
}

impl Kernel for Columns {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let out = &mut io.outputs[0];
        number_type!(input.dtype(), T => {
            columns_to_image::<T>(&self.0, input.as_slice()?, out.as_mut_slice()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("columns_to_image", "any")
    }
}

struct BitCast;

fn lower_bit_cast(site: &Site<'_>, to: DType) -> Result<Lowered, KernelError> {
    let from = site.dtype(0)?;
    if from.size() != to.size() || from.size() == 0 {
        return KernelError::invalid(format!("{from} and {to} differ in size"));
    }
    boxed(BitCast)
}

impl Kernel for BitCast {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?.bytes().ok_or_else(mixed)?;
        let out = &mut io.outputs[0];
        let boolean = out.dtype() == DType::Bool;
        let out = out.bytes_mut().ok_or_else(mixed)?;
        out.copy_from_slice(input);
        if boolean && out.iter().any(|&byte| byte > 1) {
            return KernelError::invalid("a byte that is neither 0 nor 1 is no boolean");
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("bit_cast", "any")
    }
}
