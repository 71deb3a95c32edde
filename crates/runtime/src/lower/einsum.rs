//! Einstein summation and determinants.
//!
//! Two f32 operands whose axes fall into batch, rows, columns and depth go to the matrix product
//! with strides; everything else is summed index by index.

use landfall_graph::Op;
use landfall_graph::infer::{Equation, Label};
use landfall_kernels::contraction::{Contraction, contract, determinant};
use landfall_kernels::{Activation, MatMul, MatrixLayout, matmul};
use landfall_tensor::{DType, Shape, row_major_strides};

use super::reals::{read_reals, write_reals};
use super::types::number_type;
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::Einsum(op) => lower_einsum(site, &op.equation),
        Op::Det => lower_det(site),
        _ => return None,
    })
}

fn boxed(kernel: impl Kernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(kernel)))
}

fn lower_einsum(site: &Site<'_>, text: &str) -> Result<Lowered, KernelError> {
    let shapes: Vec<Shape> =
        (0..site.inputs.len()).map(|i| site.shape(i)).collect::<Result<_, _>>()?;
    if shapes.is_empty() {
        return KernelError::invalid("there are no operands");
    }
    let ranks: Vec<usize> = shapes.iter().map(|shape| shape.rank()).collect();
    let equation = Equation::new(text, &ranks)?;
    let axes = Axes::new(&equation, &shapes)?;
    if site.dtype(0)? == DType::F32
        && let Some(products) = Products::new(&axes)
    {
        return boxed(EinsumProduct { isa: site.target.cpu.isa().name(), products });
    }
    boxed(Einsum { contraction: axes.contraction() })
}

/// Every label of an equation with its extent and its strides in the operands.
struct Axes {
    labels: Vec<Label>,
    extents: Vec<usize>,
    kept: usize,
    strides: Vec<Vec<usize>>,
}

impl Axes {
    fn new(equation: &Equation, shapes: &[Shape]) -> Result<Axes, KernelError> {
        let mut labels = equation.output.clone();
        let kept = labels.len();
        for &label in equation.operands.iter().flatten() {
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        let mut extents = vec![1usize; labels.len()];
        let mut strides = vec![vec![0usize; labels.len()]; shapes.len()];
        for (i, (own, shape)) in equation.operands.iter().zip(shapes).enumerate() {
            let steps = row_major_strides(shape);
            for ((label, &extent), &step) in own.iter().zip(shape.iter()).zip(&steps) {
                let Some(at) = labels.iter().position(|other| other == label) else { continue };
                if extent == 1 {
                    continue;
                }
                if extents[at] != 1 && extents[at] != extent {
                    let other = extents[at];
                    return KernelError::invalid(format!(
                        "an axis has the extents {other} and {extent}"
                    ));
                }
                extents[at] = extent;
                strides[i][at] += step;
            }
        }
        Ok(Axes { labels, extents, kept, strides })
    }

    fn contraction(self) -> Contraction {
        Contraction { extents: self.extents, kept: self.kept, strides: self.strides }
    }
}

struct Einsum {
    contraction: Contraction,
}

impl Kernel for Einsum {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let exec = io.exec;
        number_type!(io.input(0)?.dtype(), T => {
            let operands: Vec<&[T]> = (0..io.inputs.len())
                .map(|i| Ok(io.input(i)?.as_slice::<T>()?))
                .collect::<Result<_, KernelError>>()?;
            contract(exec, &self.contraction, &operands, io.outputs[0].as_mut_slice::<T>()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("einsum_direct", "f64").because("not a product of f32 matrices")
    }
}

/// Axes merged into one.
#[derive(Clone, Copy)]
struct Merged {
    extent: usize,
    /// In the operands `a` and `b` and in the result.
    strides: [usize; 3],
}

/// A contraction of two operands as matrix products.
struct Products {
    shape: MatMul,
    /// Batch axes beyond the one of `shape`.
    outer: Vec<Merged>,
    /// The operands change roles.
    swapped: bool,
}

impl Products {
    fn new(axes: &Axes) -> Option<Products> {
        let [a, b] = axes.strides.as_slice() else { return None };
        Products::of(axes, a, b, false).or_else(|| Products::of(axes, b, a, true))
    }

    fn of(axes: &Axes, a: &[usize], b: &[usize], swapped: bool) -> Option<Products> {
        let out_strides = row_major_strides(&axes.extents[..axes.kept]);
        let mut groups: [Vec<Merged>; 4] = Default::default();
        for i in 0..axes.labels.len() {
            let (extent, out) = (axes.extents[i], out_strides.get(i).copied().unwrap_or(0));
            if extent == 1 {
                continue;
            }
            let group = match (a[i] > 0, b[i] > 0, i < axes.kept) {
                (true, true, true) => 0,
                (true, false, true) => 1,
                (false, true, true) => 2,
                (true, true, false) => 3,
                _ => return None,
            };
            push(&mut groups[group], Merged { extent, strides: [a[i], b[i], out] });
        }
        let [mut batch, rows, columns, depth] = groups;
        let single = |group: &[Merged]| match group {
            [] => Some(Merged { extent: 1, strides: [0; 3] }),
            [one] => Some(*one),
            _ => None,
        };
        let (rows, columns, depth) = (single(&rows)?, single(&columns)?, single(&depth)?);
        let is_dense = |merged: &Merged, at: usize| merged.extent == 1 || merged.strides[at] == 1;
        if !is_dense(&depth, 0) || !is_dense(&columns, 2) || axes.extents.contains(&0) {
            return None;
        }
        let inner = batch.pop().unwrap_or(Merged { extent: 1, strides: [0; 3] });
        let shape = MatMul {
            batch: inner.extent,
            m: rows.extent,
            a_stride: rows.strides[0],
            a_batch_stride: inner.strides[0],
            b: MatrixLayout {
                k: depth.extent,
                n: columns.extent,
                k_stride: depth.strides[1],
                n_stride: columns.strides[1],
            },
            b_batch_stride: inner.strides[1],
            out_stride: rows.strides[2],
            out_batch_stride: inner.strides[2],
        };
        let apart = rows.extent < 2 || rows.strides[2] >= columns.extent;
        let span = (rows.extent - 1) * rows.strides[2] + columns.extent;
        let batches_apart = inner.extent < 2
            || inner.strides[2] >= span
            || inner.strides[2] >= columns.extent
                && (inner.extent - 1) * inner.strides[2] + columns.extent <= rows.strides[2];
        (apart && batches_apart).then_some(Products { shape, outer: batch, swapped })
    }
}

/// Adds an axis inside the last of the group, merged with it if memory allows.
fn push(group: &mut Vec<Merged>, axis: Merged) {
    if let Some(last) = group.last_mut()
        && last.strides.iter().zip(axis.strides).all(|(&outer, inner)| outer == inner * axis.extent)
    {
        *last = Merged { extent: last.extent * axis.extent, strides: axis.strides };
        return;
    }
    group.push(axis);
}

struct EinsumProduct {
    isa: &'static str,
    products: Products,
}

impl Kernel for EinsumProduct {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let Products { shape, outer, swapped } = &self.products;
        let (left, right) = if *swapped { (1, 0) } else { (0, 1) };
        let a = io.input(left)?.as_slice::<f32>()?;
        let b = io.input(right)?.as_slice::<f32>()?;
        let exec = io.exec;
        let out = io.outputs[0].as_mut_slice::<f32>()?;
        let count: usize = outer.iter().map(|axis| axis.extent).product();
        for index in 0..count {
            let (mut rest, mut at) = (index, [0usize; 3]);
            for axis in outer.iter().rev() {
                let position = rest % axis.extent;
                rest /= axis.extent;
                at.iter_mut().zip(axis.strides).for_each(|(at, stride)| *at += position * stride);
            }
            let (a, b, out) = (&a[at[0]..], &b[at[1]..], &mut out[at[2]..]);
            matmul(exec, shape, a, b, None, Activation::None, out);
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        let (kernel, isa, precision) = ("einsum_matmul_f32", self.isa, "f32");
        KernelInfo { kernel, isa, precision, reason: String::new() }
    }
}

struct Det {
    size: usize,
}

fn lower_det(site: &Site<'_>) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    match shape[..] {
        [.., rows, columns] if rows == columns => boxed(Det { size: rows }),
        _ => KernelError::invalid(format!("{shape} is not a stack of square matrices")),
    }
}

impl Kernel for Det {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let mut matrices = read_reals(io.input(0)?)?;
        let n = self.size;
        let count = io.outputs[0].elements();
        let each = (0..count).map(|i| determinant(&mut matrices[i * n * n..][..n * n], n));
        write_reals(each, &mut io.outputs[0])
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("determinant", "f64")
    }
}
