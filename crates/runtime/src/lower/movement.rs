//! Operators that move elements without computing.

use landfall_graph::infer::{resolve_axis, slice_range};
use landfall_graph::{Op, PadMode};
use landfall_kernels::movement::{Axis, StridedCopy, copy_blocks, take_rows};
use landfall_tensor::{DType, Shape, TensorView};

use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze => Ok(Lowered::Alias),
        Op::Dropout(_) => lower_dropout(site),
        Op::Transpose(op) => lower_transpose(site, &op.perm),
        Op::Slice => lower_slice(site),
        Op::Expand => lower_expand(site),
        Op::Tile => lower_tile(site),
        Op::Concat(op) => lower_concat(site, op.axis),
        Op::Split(op) => lower_split(site, op.axis),
        Op::Gather(op) => lower_gather(site, op.axis),
        Op::Shape(_) | Op::Size => lower_shape(site),
        Op::ConstantOfShape(op) => {
            let value = op.value.as_ref().and_then(|t| t.bytes().map(<[u8]>::to_vec));
            boxed(Fill(value.unwrap_or_else(|| vec![0; 4])))
        }
        Op::Pad(op) => lower_pad(site, op.mode),
        Op::CenterCropPad(op) => lower_center(site, &op.axes),
        _ => return None,
    })
}

pub(super) fn boxed(kernel: impl Kernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(kernel)))
}

/// One strided read of operand 0.
struct Copy {
    name: &'static str,
    copy: StridedCopy,
}

pub(super) fn strided(
    site: &Site<'_>,
    name: &'static str,
    axes: &[Axis],
    offset: usize,
) -> Result<Lowered, KernelError> {
    let copy = StridedCopy::new(axes, offset);
    let elements = site.shape(0)?.elements();
    if copy.is_contiguous() && copy.elements() == elements && offset == 0 {
        return Ok(Lowered::Alias);
    }
    if !copy.fits(elements) {
        return KernelError::invalid("the operator reads outside its operand");
    }
    boxed(Copy { name, copy })
}

impl Kernel for Copy {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?, io.exec);
        let out = &mut io.outputs[0];
        if let Some(bytes) = input.bytes() {
            let size = input.dtype().size();
            let out = out.bytes_mut().ok_or_else(mixed)?;
            self.copy.run(exec, bytes, out, size);
            return Ok(());
        }
        // Text is moved by way of its indices.
        let input = input.strings()?;
        let index: Vec<u64> = (0..input.len() as u64).collect();
        let mut order = vec![0u64; out.elements()];
        let bytes = bytemuck::cast_slice_mut(&mut order);
        self.copy.run(exec, bytemuck::cast_slice(&index), bytes, 8);
        for (o, i) in out.strings_mut()?.iter_mut().zip(order) {
            o.clone_from(&input[i as usize]);
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable(self.name, "any")
    }
}

pub(super) fn mixed() -> KernelError {
    KernelError::Invalid("operand and result are of different kinds".into())
}

pub(super) fn steps(shape: &Shape) -> Vec<Axis> {
    let strides = shape.strides();
    let pairs = shape.iter().zip(&strides);
    pairs.map(|(&extent, &stride)| Axis { extent, step: stride as isize }).collect()
}

fn lower_transpose(site: &Site<'_>, perm: &[i64]) -> Result<Lowered, KernelError> {
    let axes = steps(&site.shape(0)?);
    let permuted: Vec<Axis> = if perm.is_empty() {
        axes.into_iter().rev().collect()
    } else {
        let pick = |&axis: &i64| Ok(axes[resolve_axis(axis, axes.len())?]);
        perm.iter().map(pick).collect::<Result<_, KernelError>>()?
    };
    strided(site, "transpose", &permuted, 0)
}

/// The integers of operand `index`, which must be known while planning.
pub(super) fn known_ints(site: &Site<'_>, index: usize) -> Result<Option<Vec<i64>>, KernelError> {
    if !site.has(index) {
        return Ok(None);
    }
    let tensor = site
        .tensor(index)
        .ok_or_else(|| KernelError::Invalid(format!("operand {index} is not known yet")))?;
    let ints = match tensor.dtype() {
        DType::I32 => tensor.as_slice::<i32>()?.iter().map(|&n| n.into()).collect(),
        _ => tensor.as_slice::<i64>()?.to_vec(),
    };
    Ok(Some(ints))
}

fn lower_slice(site: &Site<'_>) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    let starts = known_ints(site, 1)?.unwrap_or_default();
    let ends = known_ints(site, 2)?.unwrap_or_default();
    let axes = known_ints(site, 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let by = known_ints(site, 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || by.len() != starts.len() {
        return KernelError::invalid("starts, ends, axes and steps differ in length");
    }
    let mut walk = steps(&shape);
    let mut offset = 0;
    for (i, &axis) in axes.iter().enumerate() {
        let axis = resolve_axis(axis, shape.rank())?;
        if by[i] == 0 {
            return KernelError::invalid("a slice's step is 0");
        }
        let (first, count) = slice_range(starts[i], ends[i], by[i], shape[axis]);
        if count > 0 {
            offset += first as usize * walk[axis].step as usize;
        }
        let step = walk[axis].step.saturating_mul(by[i] as isize);
        walk[axis] = Axis { extent: count, step: if count > 1 { step } else { 0 } };
    }
    strided(site, "slice", &walk, offset)
}

fn lower_expand(site: &Site<'_>) -> Result<Lowered, KernelError> {
    let (shape, out) = (site.shape(0)?, site.output_shape(0)?);
    let lead = out.rank().saturating_sub(shape.rank());
    let own = steps(&shape);
    let axis = |i: usize| match i.checked_sub(lead).map(|k| own[k]) {
        Some(axis) if axis.extent == out[i] => axis,
        _ => Axis { extent: out[i], step: 0 },
    };
    let axes: Vec<Axis> = (0..out.rank()).map(axis).collect();
    strided(site, "expand", &axes, 0)
}

fn lower_tile(site: &Site<'_>) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    let repeats = known_ints(site, 1)?.unwrap_or_default();
    let axes: Vec<Axis> = steps(&shape)
        .into_iter()
        .zip(repeats)
        .flat_map(|(axis, n)| [Axis { extent: n.max(0) as usize, step: 0 }, axis])
        .collect();
    strided(site, "tile", &axes, 0)
}

/// Operands side by side along an axis: blocks of each, for every outer index.
struct Concat {
    rows: usize,
    /// Elements of one block of every operand.
    blocks: Vec<usize>,
}

fn lower_concat(site: &Site<'_>, axis: i64) -> Result<Lowered, KernelError> {
    let out = site.output_shape(0)?;
    let axis = resolve_axis(axis, out.rank())?;
    let block = |i| Ok(site.shape(i)?[axis..].iter().product());
    let blocks = (0..site.inputs.len()).map(block).collect::<Result<_, KernelError>>()?;
    if site.inputs.len() == 1 {
        return Ok(Lowered::Alias);
    }
    boxed(Concat { rows: out[..axis].iter().product(), blocks })
}

impl Kernel for Concat {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let total: usize = self.blocks.iter().sum();
        let mut at = 0;
        for (index, &block) in self.blocks.iter().enumerate() {
            let input = io.input(index)?;
            let out = &mut io.outputs[0];
            if let Some(bytes) = input.bytes() {
                let size = input.dtype().size();
                let out = &mut out.bytes_mut().ok_or_else(mixed)?[at * size..];
                copy_blocks(bytes, block * size, out, total * size, block * size, self.rows);
            } else {
                let (input, out) = (input.strings()?, out.strings_mut()?);
                for row in 0..self.rows {
                    let from = &input[row * block..][..block];
                    out[row * total + at..][..block].clone_from_slice(from);
                }
            }
            at += block;
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("concat", "any")
    }
}

/// Parts of an operand along an axis.
struct Split {
    rows: usize,
    /// Elements of one block of every result.
    blocks: Vec<usize>,
}

fn lower_split(site: &Site<'_>, axis: i64) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    let axis = resolve_axis(axis, shape.rank())?;
    let block = |i| Ok(site.output_shape(i)?[axis..].iter().product());
    let blocks = (0..site.outputs.len()).map(block).collect::<Result<_, KernelError>>()?;
    boxed(Split { rows: shape[..axis].iter().product(), blocks })
}

impl Kernel for Split {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let total = input.elements() / self.rows.max(1);
        let mut at = 0;
        for (&block, out) in self.blocks.iter().zip(&mut io.outputs) {
            if let Some(bytes) = input.bytes() {
                let size = input.dtype().size();
                let out = out.bytes_mut().ok_or_else(mixed)?;
                let from = &bytes[(at * size).min(bytes.len())..];
                copy_blocks(from, total * size, out, block * size, block * size, self.rows);
            } else {
                let (input, out) = (input.strings()?, out.strings_mut()?);
                for row in 0..self.rows {
                    let from = &input[row * total + at..][..block];
                    out[row * block..][..block].clone_from_slice(from);
                }
            }
            at += block;
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("split", "any")
    }
}

/// Rows along an axis, chosen by an index tensor.
struct Gather {
    extent: usize,
    /// Elements of one row.
    row: usize,
}

fn lower_gather(site: &Site<'_>, axis: i64) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    let axis = resolve_axis(axis, shape.rank())?;
    boxed(Gather { extent: shape[axis], row: shape[axis + 1..].iter().product() })
}

/// Index `i` of an `i32` or `i64` tensor, wrapped if negative.
fn wrapped(index: &TensorView<'_>, extent: usize) -> Result<Vec<usize>, KernelError> {
    let wrap = |i: i64| {
        let at = if i < 0 { i.saturating_add(extent as i64) } else { i };
        usize::try_from(at).ok().filter(|&at| at < extent).ok_or_else(|| {
            KernelError::Invalid(format!("index {i} is out of range for extent {extent}"))
        })
    };
    match index.dtype() {
        DType::I32 => index.as_slice::<i32>()?.iter().map(|&i| wrap(i.into())).collect(),
        _ => index.as_slice::<i64>()?.iter().map(|&i| wrap(i)).collect(),
    }
}

impl Gather {
    fn check(&self, index: &TensorView<'_>) -> Result<(), KernelError> {
        let extent = self.extent as i64;
        let bad = match index.dtype() {
            DType::I32 => index
                .as_slice::<i32>()?
                .iter()
                .map(|&i| i.into())
                .find(|i| !(-extent..extent).contains(i)),
            _ => index.as_slice::<i64>()?.iter().copied().find(|i| !(-extent..extent).contains(i)),
        };
        match bad {
            Some(i) => {
                KernelError::invalid(format!("index {i} is out of range for extent {extent}"))
            }
            None => Ok(()),
        }
    }
}

impl Kernel for Gather {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (data, index, exec) = (io.input(0)?, io.input(1)?, io.exec);
        let count = index.elements();
        let out = &mut io.outputs[0];
        let Some(bytes) = data.bytes() else {
            let (index, data) = (wrapped(&index, self.extent)?, data.strings()?);
            for (k, o) in out.strings_mut()?.iter_mut().enumerate() {
                let (row, column) = (k / self.row, k % self.row);
                let (outer, i) = (row / count, row % count);
                o.clone_from(&data[(outer * self.extent + index[i]) * self.row + column]);
            }
            return Ok(());
        };
        self.check(&index)?;
        let row = self.row * data.dtype().size();
        let out = out.bytes_mut().ok_or_else(mixed)?;
        let wrap = |i: i64| (if i < 0 { i + self.extent as i64 } else { i }) as usize;
        if let Ok(index) = index.as_slice::<i64>() {
            take_rows(exec, bytes, self.extent, row, &|i| wrap(index[i]), count, out);
        } else {
            let index = index.as_slice::<i32>()?;
            take_rows(exec, bytes, self.extent, row, &|i| wrap(index[i].into()), count, out);
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("gather", "any")
    }
}

/// `Shape` and `Size` of operands whose shapes are only known now.
struct Integers(Vec<i64>);

fn lower_shape(site: &Site<'_>) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    let extents: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    boxed(Integers(match site.op {
        Op::Shape(op) => {
            let rank = extents.len() as i64;
            let clamp = |i: i64| (if i < 0 { i + rank } else { i }).clamp(0, rank) as usize;
            let (start, end) = (clamp(op.start), op.end.map_or(extents.len(), clamp));
            extents[start..end.max(start)].to_vec()
        }
        _ => vec![shape.elements() as i64],
    }))
}

impl Kernel for Integers {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        io.outputs[0].as_mut_slice::<i64>()?.copy_from_slice(&self.0);
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("shape", "i64")
    }
}

/// The same element everywhere.
struct Fill(Vec<u8>);

impl Kernel for Fill {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let out = io.outputs[0].bytes_mut().ok_or_else(mixed)?;
        out.chunks_exact_mut(self.0.len()).for_each(|element| element.copy_from_slice(&self.0));
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("fill", "any")
    }
}

/// Inference keeps everything; the mask is all true.
struct Keep;

fn lower_dropout(site: &Site<'_>) -> Result<Lowered, KernelError> {
    let training = site.tensor(2).is_some_and(|t| t.bytes().is_some_and(|b| b.contains(&1)));
    let ratio = site.tensor(1).is_none_or(|t| t.bytes().is_some_and(|b| b.iter().any(|&b| b != 0)));
    if training && ratio {
        return KernelError::unsupported("Dropout in training mode is random");
    }
    if site.outputs.len() == 1 { Ok(Lowered::Alias) } else { boxed(Keep) }
}

impl Kernel for Keep {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?.bytes().ok_or_else(mixed)?;
        io.outputs[0].bytes_mut().ok_or_else(mixed)?.copy_from_slice(input);
        io.outputs[1].bytes_mut().ok_or_else(mixed)?.fill(1);
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("dropout", "any")
    }
}

/// Padding by a table of source positions along every axis; `None` is the constant.
struct Pad {
    tables: Vec<Vec<Option<usize>>>,
    strides: Vec<usize>,
}

fn lower_pad(site: &Site<'_>, mode: PadMode) -> Result<Lowered, KernelError> {
    let (shape, out) = (site.shape(0)?, site.output_shape(0)?);
    let pads = known_ints(site, 1)?.unwrap_or_default();
    let axes = known_ints(site, 3)?.unwrap_or_else(|| (0..shape.rank() as i64).collect());
    let mut begins = vec![0i64; shape.rank()];
    for (i, &axis) in axes.iter().enumerate() {
        begins[resolve_axis(axis, shape.rank())?] = pads[i];
    }
    let mut tables = Vec::with_capacity(shape.rank());
    for axis in 0..shape.rank() {
        let extent = shape[axis] as i64;
        if extent == 0 && mode != PadMode::Constant && out[axis] != 0 {
            return KernelError::invalid(format!("axis {axis} is empty and cannot be extended"));
        }
        let table = (0..out[axis] as i64).map(|o| source_of(o - begins[axis], extent, mode));
        tables.push(table.collect());
    }
    boxed(Pad { tables, strides: shape.strides().to_vec() })
}

/// Crops or pads with zeros to both sides alike. Of an odd number of elements the one more is
/// cropped, or padded, at the end.
fn lower_center(site: &Site<'_>, axes: &[i64]) -> Result<Lowered, KernelError> {
    let (shape, out) = (site.shape(0)?, site.output_shape(0)?);
    let mut tables = Vec::with_capacity(shape.rank());
    for (axis, (&from, &to)) in shape.iter().zip(out.iter()).enumerate() {
        let listed =
            axes.is_empty() || axes.iter().any(|&a| resolve_axis(a, shape.rank()) == Ok(axis));
        if !listed && from != to {
            return KernelError::invalid(format!("axis {axis} changes and is not listed"));
        }
        let source = |o: usize| match from >= to {
            true => Some(o + (from - to) / 2),
            false => o.checked_sub((to - from) / 2).filter(|&at| at < from),
        };
        tables.push((0..to).map(source).collect());
    }
    boxed(Pad { tables, strides: shape.strides().to_vec() })
}

/// The source position that padded position `i` (from the first source element) reads.
fn source_of(i: i64, extent: i64, mode: PadMode) -> Option<usize> {
    let inside = (0..extent).contains(&i);
    let at = match mode {
        PadMode::Constant => inside.then_some(i)?,
        PadMode::Edge => i.clamp(0, extent - 1),
        PadMode::Wrap => i.rem_euclid(extent),
        PadMode::Reflect => {
            let period = (2 * (extent - 1)).max(1);
            let folded = i.rem_euclid(period);
            folded.min(period - folded).min(extent - 1)
        }
    };
    Some(at as usize)
}

impl Kernel for Pad {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        if input.dtype() == DType::String {
            return self.run_text(io);
        }
        let size = input.dtype().size();
        let source = input.bytes().ok_or_else(mixed)?;
        let value = io.optional(2).and_then(|view| view.bytes()).unwrap_or(&[0; 8]);
        let value = value.get(..size).ok_or_else(mixed)?;
        let out = io.outputs[0].bytes_mut().ok_or_else(mixed)?;
        self.fill(0, Some(0), (source, value, size), out);
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("pad", "any")
    }
}

impl Pad {
    /// Text is moved by way of its indices, of which 0 stands for the constant.
    fn run_text(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let source = io.input(0)?.strings()?;
        let value = io.optional(2).map(|view| view.strings()).transpose()?;
        let value = value.and_then(<[String]>::first).cloned().unwrap_or_default();
        let out = io.outputs[0].strings_mut()?;
        let index: Vec<u64> = (1..=source.len() as u64).collect();
        let mut order = vec![0u64; out.len()];
        let parts = (bytemuck::cast_slice(&index), &[0; 8][..], 8);
        self.fill(0, Some(0), parts, bytemuck::cast_slice_mut(&mut order));
        for (o, at) in out.iter_mut().zip(order) {
            o.clone_from(at.checked_sub(1).map_or(&value, |at| &source[at as usize]));
        }
        Ok(())
    }

    /// Fills the block of result indices below `axis`, whose source starts at element `base`.
    fn fill(
        &self,
        axis: usize,
        base: Option<usize>,
        (source, value, size): (&[u8], &[u8], usize),
        out: &mut [u8],
    ) {
        let Some(base) = base else {
            out.chunks_exact_mut(size).for_each(|element| element.copy_from_slice(value));
            return;
        };
        let Some(table) = self.tables.get(axis) else {
            out.copy_from_slice(&source[base * size..][..size]);
            return;
        };
        if out.is_empty() {
            return;
        }
        let block = out.len() / table.len();
        for (part, at) in out.chunks_exact_mut(block).zip(table) {
            let base = at.map(|at| base + at * self.strides[axis]);
            self.fill(axis + 1, base, (source, value, size), part);
        }
    }
}
