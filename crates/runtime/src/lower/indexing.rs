//! Gather, scatter and top-k: operators whose operands are positions.

use landfall_graph::infer::resolve_axis;
use landfall_graph::{Op, ScatterReduction};
use landfall_kernels::indexing::{
    CacheWrite, Combine, ElementMap, ReverseRows, TopK, TupleMap, gather_elements, gather_tuples,
    reverse_rows, scatter_elements, scatter_tuples, top_k, write_cache,
};
use landfall_tensor::{DType, TensorMut, TensorView};

use super::movement::boxed;
use super::reduction::len_and_step;
use super::types::{moved, number_type, position_type};
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::GatherElements(op) => {
            element_map(site, op.axis).and_then(|map| boxed(GatherElements(map)))
        }
        Op::GatherNd(op) => lower_gather_nd(site, op.batch_dims),
        Op::ScatterElements(op) => lower_scatter_elements(site, op.axis, op.reduction),
        Op::ScatterNd(op) => lower_scatter_nd(site, op.reduction),
        Op::TopK(op) => lower_top_k(site, op.axis, op.largest),
        Op::ReverseSequence(op) => lower_reverse(site, op.batch_axis, op.time_axis),
        Op::TensorScatter(op) => lower_cache(site, op.axis, &op.mode),
        _ => return None,
    })
}

fn invalid(error: impl ToString) -> KernelError {
    KernelError::Invalid(error.to_string())
}

fn element_map(site: &Site<'_>, axis: i64) -> Result<ElementMap, KernelError> {
    let (data, index) = (site.shape(0)?, site.shape(1)?);
    let axis = resolve_axis(axis, data.rank())?;
    ElementMap::new(&data, &index, axis).ok_or_else(|| {
        let data = data.to_string();
        invalid(format!("indices of shape {index} do not fit data {data} along axis {axis}"))
    })
}

struct GatherElements(ElementMap);

impl Kernel for GatherElements {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (data, index, exec) = (io.input(0)?, io.input(1)?, io.exec);
        let out = &mut io.outputs[0];
        position_type!(index.dtype(), I => {
            let index = index.as_slice::<I>()?;
            self.0.check(index).map_err(invalid)?;
            moved!(from = data, to = out => gather_elements(exec, &self.0, from, index, to));
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("gather_elements", "any")
    }
}

struct GatherTuples(TupleMap);

fn lower_gather_nd(site: &Site<'_>, batch_axes: i64) -> Result<Lowered, KernelError> {
    let (data, index) = (site.shape(0)?, site.shape(1)?);
    let Some((&length, tuples)) = index.split_last() else {
        return KernelError::invalid("indices are a scalar, expected at least one axis");
    };
    let axes = usize::try_from(batch_axes).ok().filter(|&axes| axes <= tuples.len());
    let map = axes.and_then(|axes| TupleMap::new(&data, axes, length));
    let (Some(axes), Some(map)) = (axes, map) else {
        return KernelError::invalid(format!(
            "tuples of {length} positions after {batch_axes} batch axes, for data of shape {data}"
        ));
    };
    if data[..axes] != index[..axes] {
        return KernelError::invalid(format!(
            "the {axes} batch axes of data {data} and indices {index} differ"
        ));
    }
    boxed(GatherTuples(map))
}

impl Kernel for GatherTuples {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (data, index, exec) = (io.input(0)?, io.input(1)?, io.exec);
        let out = &mut io.outputs[0];
        position_type!(index.dtype(), I => {
            let index = index.as_slice::<I>()?;
            self.0.check(index).map_err(invalid)?;
            moved!(from = data, to = out => gather_tuples(exec, &self.0, from, index, to));
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("gather_tuples", "any")
    }
}

/// Operand 0 copied into the result, unless the result has taken over its memory.
fn copy_first(operand: Option<TensorView<'_>>, out: &mut TensorMut<'_>) -> Result<(), KernelError> {
    if let Some(view) = operand {
        moved!(from = view, to = out => to.clone_from_slice(from));
    }
    Ok(())
}

fn combination(reduction: ScatterReduction, dtype: DType) -> Result<Option<Combine>, KernelError> {
    Ok(Some(match (reduction, dtype) {
        (ScatterReduction::None, _) => return Ok(None),
        (reduction, DType::String) => {
            return KernelError::unsupported(format!("text cannot be combined by {reduction:?}"));
        }
        // Of booleans the sum is `or` and the product is `and`.
        (ScatterReduction::Add, DType::Bool) | (ScatterReduction::Max, _) => Combine::Max,
        (ScatterReduction::Mul, DType::Bool) | (ScatterReduction::Min, _) => Combine::Min,
        (ScatterReduction::Add, _) => Combine::Add,
        (ScatterReduction::Mul, _) => Combine::Multiply,
    }))
}

struct ScatterElements {
    map: ElementMap,
    combine: Option<Combine>,
}

fn lower_scatter_elements(
    site: &Site<'_>,
    axis: i64,
    reduction: ScatterReduction,
) -> Result<Lowered, KernelError> {
    let (index, updates) = (site.shape(1)?, site.shape(2)?);
    if index != updates {
        return KernelError::invalid(format!("indices {index} and updates {updates} differ"));
    }
    let map = element_map(site, axis)?;
    boxed(ScatterElements { map, combine: combination(reduction, site.dtype(0)?)? })
}

impl Kernel for ScatterElements {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (index, updates) = (io.input(1)?, io.input(2)?);
        let data = io.optional(0);
        let out = &mut io.outputs[0];
        let map = &self.map;
        position_type!(index.dtype(), I => {
            let index = index.as_slice::<I>()?;
            map.check(index).map_err(invalid)?;
            copy_first(data, out)?;
            match self.combine {
                None => moved!(from = updates, to = out => {
                    scatter_elements(map, index, from, to, |a, b| a.clone_from(b));
                }),
                Some(combine) => number_type!(updates.dtype(), T => {
                    let (from, to) = (updates.as_slice::<T>()?, out.as_mut_slice::<T>()?);
                    scatter_elements(map, index, from, to, combine.function());
                }),
            }
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("scatter_elements", "any")
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }
}

struct ScatterTuples {
    map: TupleMap,
    combine: Option<Combine>,
}

fn lower_scatter_nd(site: &Site<'_>, reduction: ScatterReduction) -> Result<Lowered, KernelError> {
    let (data, index, updates) = (site.shape(0)?, site.shape(1)?, site.shape(2)?);
    let Some((&length, tuples)) = index.split_last() else {
        return KernelError::invalid("indices are a scalar, expected at least one axis");
    };
    let Some(map) = TupleMap::new(&data, 0, length) else {
        return KernelError::invalid(format!("tuples of {length} positions for data {data}"));
    };
    let expected: Vec<usize> = tuples.iter().chain(&data[length..]).copied().collect();
    if expected != updates[..] {
        return KernelError::invalid(format!("updates are {updates}, expected {expected:?}"));
    }
    boxed(ScatterTuples { map, combine: combination(reduction, site.dtype(0)?)? })
}

impl Kernel for ScatterTuples {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (index, updates) = (io.input(1)?, io.input(2)?);
        let data = io.optional(0);
        let out = &mut io.outputs[0];
        let map = &self.map;
        position_type!(index.dtype(), I => {
            let index = index.as_slice::<I>()?;
            map.check(index).map_err(invalid)?;
            copy_first(data, out)?;
            match self.combine {
                None => moved!(from = updates, to = out => {
                    scatter_tuples(map, index, from, to, |a, b| a.clone_from(b));
                }),
                Some(combine) => number_type!(updates.dtype(), T => {
                    let (from, to) = (updates.as_slice::<T>()?, out.as_mut_slice::<T>()?);
                    scatter_tuples(map, index, from, to, combine.function());
                }),
            }
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("scatter_tuples", "any")
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }
}

struct Top(TopK);

fn lower_top_k(site: &Site<'_>, axis: i64, largest: bool) -> Result<Lowered, KernelError> {
    let (shape, out) = (site.shape(0)?, site.output_shape(0)?);
    let (len, step) = len_and_step(&shape, axis)?;
    let k = out[resolve_axis(axis, shape.rank())?];
    if k > len {
        return KernelError::invalid(format!("k is {k}, axis {axis} has extent {len}"));
    }
    boxed(Top(TopK { len, step, k, largest }))
}

impl Kernel for Top {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?, io.exec);
        let mut spare = Vec::new();
        let (values, rest) = io.outputs.split_at_mut(1);
        let indices = match rest.first_mut() {
            Some(indices) => indices.as_mut_slice::<i64>()?,
            None => {
                spare.resize(values[0].elements(), 0);
                &mut spare
            }
        };
        number_type!(input.dtype(), T => {
            top_k::<T>(exec, self.0, input.as_slice()?, values[0].as_mut_slice()?, indices);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("top_k", "any")
    }
}

struct Reverse(ReverseRows);

fn lower_reverse(site: &Site<'_>, batch: i64, time: i64) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    if shape.rank() < 2 || !matches!((batch, time), (0, 1) | (1, 0)) {
        return KernelError::invalid(format!(
            "batch axis {batch} and time axis {time} for shape {shape}, expected axes 0 and 1"
        ));
    }
    let lengths = site.shape(1)?;
    if lengths[..] != shape[batch as usize..][..1] {
        return KernelError::invalid(format!("lengths are {lengths}, one for each of the batch"));
    }
    let len = shape[2..].iter().product();
    let kind = ReverseRows { outer: shape[0], inner: shape[1], len, time_is_outer: time == 0 };
    boxed(Reverse(kind))
}

impl Kernel for Reverse {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, lengths) = (io.input(0)?, io.input(1)?);
        let kind = self.0;
        let time = if kind.time_is_outer { kind.outer } else { kind.inner };
        let fits = |&n: &i64| usize::try_from(n).ok().filter(|&n| n <= time);
        let given = lengths.as_slice::<i64>()?;
        let Some(lengths) = given.iter().map(fits).collect::<Option<Vec<usize>>>() else {
            return KernelError::invalid(format!("lengths {given:?}, expected 0 to {time}"));
        };
        let out = &mut io.outputs[0];
        moved!(from = input, to = out => reverse_rows(kind, &lengths, from, to));
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("reverse_rows", "any")
    }
}

struct Cache {
    write: CacheWrite,
    circular: bool,
    batch: usize,
}

fn lower_cache(site: &Site<'_>, axis: i64, mode: &str) -> Result<Lowered, KernelError> {
    let (cache, update) = (site.shape(0)?, site.shape(1)?);
    let axis = resolve_axis(axis, cache.rank())?;
    let circular = match mode {
        "linear" => false,
        "circular" => true,
        other => {
            return KernelError::invalid(format!("mode '{other}', expected linear or circular"));
        }
    };
    let mut expected = cache.clone();
    if axis == 0 {
        return KernelError::invalid("the sequence axis is 0, which is the batch");
    }
    expected[axis] = update.get(axis).copied().unwrap_or(0).min(cache[axis]);
    if expected != update {
        return KernelError::invalid(format!("update {update} does not fit the cache {cache}"));
    }
    let write = CacheWrite {
        rows: cache[1..axis].iter().product(),
        capacity: cache[axis],
        new: update[axis],
        len: cache[axis + 1..].iter().product(),
    };
    boxed(Cache { write, circular, batch: cache[0] })
}

impl Kernel for Cache {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (past, update) = (io.optional(0), io.input(1)?);
        let CacheWrite { capacity, new, .. } = self.write;
        let mut starts = vec![0usize; self.batch];
        if let Some(given) = io.optional(2) {
            let given = given.as_slice::<i64>()?;
            if given.len() != self.batch {
                let found = given.len();
                return KernelError::invalid(format!("{found} write indices for {}", self.batch));
            }
            for (start, &at) in starts.iter_mut().zip(given) {
                let wrapped = match (self.circular, i64::try_from(capacity)) {
                    (true, Ok(capacity)) if capacity > 0 => at.rem_euclid(capacity),
                    _ => at,
                };
                let fits = |&at: &usize| self.circular || at <= capacity - new;
                *start = usize::try_from(wrapped).ok().filter(fits).ok_or_else(|| {
                    invalid(format!("write index {at}: {new} positions do not fit {capacity}"))
                })?;
            }
        }
        let out = &mut io.outputs[0];
        copy_first(past, out)?;
        moved!(from = update, to = out => write_cache(self.write, &starts, from, to));
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("write_cache", "any")
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }
}
