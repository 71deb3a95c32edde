//! Recurrent layers: one product for the inputs of all steps, then a walk through time.
//!
//! In f32 over packed weights, packed once if they are constants and else in every run; other types
//! compute in f64.

use landfall_graph::{Direction, Op};
use landfall_kernels::elementwise::{CastElement, Float, Wide};
use landfall_kernels::recurrent::{
    Arithmetic, CellKind, Direct, Fast, GateFn, Recurrent, State, run_cells,
};
use landfall_kernels::{
    Epilogue, MatrixLayout, PackedB, RowsMut, RowsRef, gemm, pack_b, packed_b_len,
};
use landfall_tensor::{DType, Shape, Tensor, TensorView};

use super::types::float_type;
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    macro_rules! layer {
        ($op:expr, $kind:expr) => {
            lower_layer(
                site,
                &Config {
                    kind: $kind,
                    direction: $op.direction,
                    batch_first: $op.layout,
                    clip: $op.clip,
                    functions: &$op.activations,
                    alphas: &$op.activation_alpha,
                    betas: &$op.activation_beta,
                },
            )
        };
    }
    Some(match site.op {
        Op::Rnn(op) => layer!(op, CellKind::Plain),
        Op::Gru(op) => {
            layer!(op, CellKind::Gru { linear_before_reset: op.linear_before_reset })
        }
        Op::Lstm(op) => layer!(op, CellKind::Lstm { input_forget: op.input_forget }),
        _ => return None,
    })
}

/// The attributes that the three operators share.
struct Config<'a> {
    kind: CellKind,
    direction: Direction,
    batch_first: bool,
    clip: Option<f32>,
    functions: &'a [String],
    alphas: &'a [f32],
    betas: &'a [f32],
}

impl Config<'_> {
    fn reversals(&self) -> &'static [bool] {
        match self.direction {
            Direction::Forward => &[false],
            Direction::Reverse => &[true],
            Direction::Bidirectional => &[false, true],
        }
    }

    /// The functions of every direction. Each function that takes parameters takes the next of the
    /// lists, or its default.
    fn gate_functions(&self) -> Result<Vec<GateFn>, KernelError> {
        let needed = self.kind.functions();
        let total = needed * self.reversals().len();
        let defaults: Vec<String> = match self.kind {
            CellKind::Plain => vec!["Tanh".into()],
            _ => vec!["Sigmoid".into(), "Tanh".into(), "Tanh".into()],
        };
        let names: Vec<&String> = match self.functions.is_empty() {
            true => (0..total).map(|i| &defaults[i % needed]).collect(),
            false => self.functions.iter().collect(),
        };
        if names.len() != total {
            let found = names.len();
            return KernelError::invalid(format!("{found} activations, expected {total}"));
        }
        let (mut alphas, mut betas) = (self.alphas.iter().copied(), self.betas.iter().copied());
        let mut alpha = |default: f32| alphas.next().unwrap_or(default);
        let mut beta = |default: f32| betas.next().unwrap_or(default);
        let functions = names.into_iter().map(|name| {
            Ok(match name.to_ascii_lowercase().as_str() {
                "relu" => GateFn::Relu,
                "tanh" => GateFn::Tanh,
                "sigmoid" => GateFn::Sigmoid,
                "softsign" => GateFn::Softsign,
                "softplus" => GateFn::Softplus,
                "affine" => GateFn::Affine(alpha(1.0), beta(0.0)),
                "leakyrelu" => GateFn::LeakyRelu(alpha(0.01)),
                "thresholdedrelu" => GateFn::ThresholdedRelu(alpha(1.0)),
                "scaledtanh" => GateFn::ScaledTanh(alpha(1.0), beta(1.0)),
                "hardsigmoid" => GateFn::HardSigmoid(alpha(0.2), beta(0.5)),
                "elu" => GateFn::Elu(alpha(1.0)),
                _ => return KernelError::invalid(format!("'{name}' is not an activation")),
            })
        });
        functions.collect()
    }
}

/// Packed weights of every direction: of the inputs, and of the state.
struct Panels {
    inputs: Tensor,
    states: Tensor,
}

struct Layer {
    isa: &'static str,
    inputs: usize,
    directions: Vec<Recurrent>,
    panels: Option<Panels>,
    fast: bool,
}

/// Elements of the packed weights of one direction.
fn packed_lens(kind: CellKind, inputs: usize, hidden: usize) -> [usize; 2] {
    let states = kind.parts().map(|gates| packed_b_len(hidden, gates * hidden));
    [packed_b_len(inputs, kind.gates() * hidden), states[0] + states[1]]
}

/// Packs `[gates hidden, inputs]` of one direction.
fn pack_inputs(weights: &[f32], inputs: usize, rows: usize, out: &mut [f32]) {
    pack_b(weights, MatrixLayout::n_by_k(inputs, rows), out);
}

/// Packs `[gates hidden, hidden]` of one direction, part after part.
fn pack_states(kind: CellKind, weights: &[f32], hidden: usize, out: &mut [f32]) {
    let [first, second] = kind.parts().map(|gates| gates * hidden);
    let (head, tail) = out.split_at_mut(packed_b_len(hidden, first));
    pack_b(weights, MatrixLayout::n_by_k(hidden, first), head);
    pack_b(&weights[first * hidden..], MatrixLayout::n_by_k(hidden, second), tail);
}

fn expect(site: &Site<'_>, index: usize, shape: &[usize]) -> Result<(), KernelError> {
    if site.has(index) && *site.shape(index)? != *shape {
        let (found, wanted) = (site.shape(index)?, Shape::from(shape));
        return KernelError::invalid(format!("operand {index} is {found}, expected {wanted}"));
    }
    Ok(())
}

fn lower_layer(site: &Site<'_>, config: &Config<'_>) -> Result<Lowered, KernelError> {
    let (x, r) = (site.shape(0)?, site.shape(2)?);
    if x.rank() != 3 || r.rank() != 3 {
        return KernelError::invalid(format!("inputs {x} and weights {r} must have rank 3"));
    }
    let (steps, batch) = if config.batch_first { (x[1], x[0]) } else { (x[0], x[1]) };
    let (inputs, hidden, kind) = (x[2], r[2], config.kind);
    let (count, rows) = (config.reversals().len(), kind.gates() * hidden);
    let state = if config.batch_first { [batch, count, hidden] } else { [count, batch, hidden] };
    expect(site, 1, &[count, rows, inputs])?;
    expect(site, 2, &[count, rows, hidden])?;
    expect(site, 3, &[count, 2 * rows])?;
    expect(site, 4, &[batch])?;
    expect(site, 5, &state)?;
    if matches!(kind, CellKind::Lstm { .. }) {
        expect(site, 6, &state)?;
        expect(site, 7, &[count, 3 * hidden])?;
    }
    let functions = config.gate_functions()?;
    let direction = |(i, &reverse): (usize, &bool)| {
        let own = &functions[i * kind.functions()..];
        let pick = |k: usize| own.get(k).copied().unwrap_or(GateFn::Tanh);
        let functions = [pick(0), pick(1), pick(2)];
        let (batch_first, clip) = (config.batch_first, config.clip.filter(|&clip| clip > 0.0));
        Recurrent { kind, steps, batch, hidden, batch_first, reverse, clip, functions }
    };
    let directions = config.reversals().iter().enumerate().map(direction).collect();
    let fast = site.dtype(0)? == DType::F32;
    let constant = site.is_constant(1) && site.is_constant(2);
    let panels = if fast && constant { Some(panels(site, kind, inputs, hidden)?) } else { None };
    let isa = site.target.cpu.isa().name();
    Ok(Lowered::Kernel(Box::new(Layer { isa, inputs, directions, panels, fast })))
}

fn panels(
    site: &Site<'_>,
    kind: CellKind,
    inputs: usize,
    hidden: usize,
) -> Result<Panels, KernelError> {
    let [input_len, state_len] = packed_lens(kind, inputs, hidden);
    let rows = kind.gates() * hidden;
    let all = |tensor: &Tensor, own: usize, len: usize, pack: &dyn Fn(&[f32], &mut [f32])| {
        let tensor = tensor.aligned();
        let source = tensor.as_slice::<f32>()?;
        let count = tensor.shape()[0];
        let mut out = vec![0f32; count * len];
        for d in 0..count {
            pack(&source[d * own..][..own], &mut out[d * len..][..len]);
        }
        Ok(Tensor::from_slice(Shape::from([out.len()]), &out)?)
    };
    let inputs = site.packed(1, "gates_of_inputs", |tensor| {
        let pack = |from: &[f32], to: &mut [f32]| pack_inputs(from, inputs, rows, to);
        all(tensor, rows * inputs, input_len, &pack)
    })?;
    let states = site.packed(2, "gates_of_states", |tensor| {
        let pack = |from: &[f32], to: &mut [f32]| pack_states(kind, from, hidden, to);
        all(tensor, rows * hidden, state_len, &pack)
    })?;
    Ok(Panels { inputs, states })
}

/// Working memory of one direction.
struct Room<'a, N> {
    projected: &'a mut [N],
    gates: &'a mut [N],
    hidden: &'a mut [N],
    cell: &'a mut [N],
    bias: &'a mut [N],
    /// Packed weights that are not constants.
    panels: &'a mut [N],
}

impl Layer {
    fn shape(&self) -> Recurrent {
        self.directions[0]
    }

    /// Elements of every part of the working memory.
    fn room(&self) -> [usize; 6] {
        let Recurrent { kind, steps, batch, hidden, .. } = self.shape();
        let rows = kind.gates() * hidden;
        let panels: usize = packed_lens(kind, self.inputs, hidden).iter().sum();
        let panels = if self.fast && self.panels.is_none() { panels } else { 0 };
        let (sequence, state) = (batch.saturating_mul(rows), batch.saturating_mul(hidden));
        [steps.saturating_mul(sequence), sequence, state, state, rows + hidden, panels]
    }

    fn split<'a, N>(&self, memory: &'a mut [N]) -> Result<Room<'a, N>, KernelError> {
        let lens = self.room();
        if memory.len() < lens.iter().fold(0usize, |sum, &len| sum.saturating_add(len)) {
            return KernelError::invalid("scratch is too short");
        }
        let mut rest = memory;
        let mut next = |len: usize| {
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(len);
            rest = tail;
            part
        };
        Ok(Room {
            projected: next(lens[0]),
            gates: next(lens[1]),
            hidden: next(lens[2]),
            cell: next(lens[3]),
            bias: next(lens[4]),
            panels: next(lens[5]),
        })
    }

    /// Biases added to the inputs' products, then the one that a GRU adds to the state's.
    fn biases<T: Float, N: Wide>(&self, given: Option<&[T]>, d: usize, out: &mut [N]) {
        let Recurrent { kind, hidden, .. } = self.shape();
        let rows = kind.gates() * hidden;
        let Some(given) = given else { return out.fill(N::of(0.0)) };
        let own = &given[d * 2 * rows..][..2 * rows];
        let at = |i: usize| own[i].widen().to_f64();
        let apart = kind == CellKind::Gru { linear_before_reset: true };
        for (i, out) in out[..rows].iter_mut().enumerate() {
            let state = if apart && i >= 2 * hidden { 0.0 } else { at(rows + i) };
            *out = N::of(at(i) + state);
        }
        for (i, out) in out[rows..].iter_mut().enumerate() {
            *out = N::of(if apart { at(rows + 2 * hidden + i) } else { 0.0 });
        }
    }

    /// Where a sequence's state lies in `[directions, batch, hidden]`, or with the batch first.
    fn state_at(&self, d: usize, row: usize) -> usize {
        let Recurrent { batch, hidden, batch_first, .. } = self.shape();
        let count = self.directions.len();
        (if batch_first { row * count + d } else { d * batch + row }) * hidden
    }

    fn initial<T: Float, N: Wide>(&self, given: Option<&[T]>, d: usize, out: &mut [N]) {
        let Some(given) = given else { return out.fill(N::of(0.0)) };
        let hidden = self.shape().hidden;
        for (row, out) in out.chunks_exact_mut(hidden.max(1)).enumerate() {
            let from = &given[self.state_at(d, row)..][..hidden];
            out.iter_mut().zip(from).for_each(|(o, x)| *o = N::of(x.widen().to_f64()));
        }
    }

    /// Runs one direction whose inputs are projected.
    fn walk<T: Float + CastElement, A: Arithmetic>(
        &self,
        io: &mut Io<'_>,
        d: usize,
        math: &A,
        projected: &[A::Number],
        state_bias: &[A::Number],
        mut state: State<'_, A::Number>,
    ) -> Result<(), KernelError> {
        let layer = &self.directions[d];
        let Recurrent { steps, batch, hidden, batch_first, .. } = *layer;
        let lengths = io.optional(4).map(|view| view.as_slice::<i32>()).transpose()?;
        self.initial(slice::<T>(io.optional(5))?, d, state.hidden);
        let mut peepholes: Option<Vec<A::Number>> = None;
        if matches!(layer.kind, CellKind::Lstm { .. }) {
            self.initial(slice::<T>(io.optional(6))?, d, state.cell);
            let wide = |x: &T| A::Number::of(x.widen().to_f64());
            peepholes = slice::<T>(io.optional(7))?
                .map(|all| all[d * 3 * hidden..][..3 * hidden].iter().map(wide).collect());
        }
        let count = self.directions.len();
        let mut outputs = io.outputs.iter_mut();
        let mut all = outputs.next().map(|view| view.as_mut_slice::<T>()).transpose()?;
        let mut emit = |step: usize, row: usize, state: Option<&[A::Number]>| {
            let Some(all) = &mut all else { return };
            let at = match batch_first {
                true => (row * steps + step) * count + d,
                false => (step * count + d) * batch + row,
            };
            let out = &mut all[at * hidden..][..hidden];
            match state {
                Some(state) => write(state, out),
                None => out.fill(T::from_real(0.0)),
            }
        };
        let (bias, holes) = (Some(state_bias), peepholes.as_deref());
        run_cells(layer, math, projected, bias, holes, lengths, &mut state, &mut emit);
        for (view, last) in outputs.zip([&*state.hidden, &*state.cell]) {
            let out = view.as_mut_slice::<T>()?;
            for (row, last) in last.chunks_exact(hidden.max(1)).enumerate() {
                write(last, &mut out[self.state_at(d, row)..][..hidden]);
            }
        }
        Ok(())
    }

    fn run_fast(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let Recurrent { kind, steps, batch, hidden, .. } = self.shape();
        let (rows, exec) = (kind.gates() * hidden, io.exec);
        let x = io.input(0)?.as_slice::<f32>()?;
        let (w, r) = (io.input(1)?.as_slice::<f32>()?, io.input(2)?.as_slice::<f32>()?);
        let bias = io.optional(3).map(|view| view.as_slice::<f32>()).transpose()?;
        let scratch = bytemuck::try_cast_slice_mut(std::mem::take(&mut io.scratch))
            .map_err(|_| KernelError::Invalid("scratch is not aligned".into()))?;
        let room = self.split(scratch)?;
        let [input_len, state_len] = packed_lens(kind, self.inputs, hidden);
        for d in 0..self.directions.len() {
            let (inputs, states) = match &self.panels {
                Some(Panels { inputs, states }) => (
                    &inputs.as_slice::<f32>()?[d * input_len..][..input_len],
                    &states.as_slice::<f32>()?[d * state_len..][..state_len],
                ),
                None => {
                    let (inputs, states) = room.panels.split_at_mut(input_len);
                    let own = |all: &'_ [f32], columns: usize| d * rows * columns..all.len();
                    pack_inputs(&w[own(w, self.inputs)], self.inputs, rows, inputs);
                    pack_states(kind, &r[own(r, hidden)], hidden, states);
                    (&*inputs, &*states)
                }
            };
            let view = |data, k, n| {
                let wrong = || KernelError::Invalid("packed weights of the wrong size".into());
                PackedB::new(data, k, n).ok_or_else(wrong)
            };
            let [first, second] = kind.parts().map(|gates| gates * hidden);
            let (head, tail) = states.split_at(packed_b_len(hidden, first));
            let weights = [view(head, hidden, first)?, view(tail, hidden, second)?];
            self.biases(bias, d, room.bias);
            let (added, state_bias) = room.bias.split_at(rows);
            let epilogue = Epilogue { bias: Some(added), ..Epilogue::default() };
            let out = RowsMut { data: &mut *room.projected, stride: rows };
            let from = RowsRef { data: x, stride: self.inputs };
            gemm(exec, steps * batch, from, view(inputs, self.inputs, rows)?, &epilogue, out);
            let math = Fast { exec, batch, weights };
            let state =
                State { hidden: &mut *room.hidden, cell: &mut *room.cell, gates: &mut *room.gates };
            self.walk::<f32, _>(io, d, &math, room.projected, state_bias, state)?;
        }
        Ok(())
    }

    fn run_direct<T: Float + CastElement>(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let Recurrent { kind, hidden, .. } = self.shape();
        let rows = kind.gates() * hidden;
        let wide = |view: TensorView<'_>| -> Result<Vec<f64>, KernelError> {
            Ok(view.as_slice::<T>()?.iter().map(|x| x.widen().to_f64()).collect())
        };
        let (x, w, r) = (wide(io.input(0)?)?, wide(io.input(1)?)?, wide(io.input(2)?)?);
        let bias = io.optional(3).map(|view| view.as_slice::<T>()).transpose()?;
        let mut memory = vec![0f64; self.room().iter().sum()];
        let room = self.split(&mut memory)?;
        for d in 0..self.directions.len() {
            self.biases(bias, d, room.bias);
            let (added, state_bias) = room.bias.split_at(rows);
            let w = &w[d * rows * self.inputs..][..rows * self.inputs];
            for (i, out) in room.projected.iter_mut().enumerate() {
                let (row, gate) = (i / rows, i % rows);
                let x = &x[row * self.inputs..][..self.inputs];
                let w = &w[gate * self.inputs..][..self.inputs];
                *out = x.iter().zip(w).fold(added[gate], |sum, (x, w)| sum + x * w);
            }
            let r = &r[d * rows * hidden..][..rows * hidden];
            let (head, tail) = r.split_at(kind.parts()[0] * hidden * hidden);
            let math = Direct { hidden, weights: [head, tail] };
            let state =
                State { hidden: &mut *room.hidden, cell: &mut *room.cell, gates: &mut *room.gates };
            self.walk::<T, _>(io, d, &math, room.projected, state_bias, state)?;
        }
        Ok(())
    }
}

fn slice<'a, T: Float>(view: Option<TensorView<'a>>) -> Result<Option<&'a [T]>, KernelError> {
    Ok(view.map(|view| view.as_slice::<T>()).transpose()?)
}

fn write<T: CastElement, N: Wide>(from: &[N], to: &mut [T]) {
    to.iter_mut().zip(from).for_each(|(to, x)| *to = T::from_real(x.to_f64()));
}

impl Kernel for Layer {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        if self.fast {
            return self.run_fast(io);
        }
        float_type!(io.input(0)?.dtype(), T => self.run_direct::<T>(io))
    }

    fn info(&self) -> KernelInfo {
        let kernel = match self.shape().kind {
            CellKind::Plain => "rnn",
            CellKind::Gru { .. } => "gru",
            CellKind::Lstm { .. } => "lstm",
        };
        if !self.fast {
            return KernelInfo::portable(kernel, "f64").because("the type is not f32");
        }
        let reason = match self.panels {
            Some(_) => String::new(),
            None => "weights are not constants and are packed in every run".into(),
        };
        KernelInfo { kernel, isa: self.isa, precision: "f32", reason }
    }

    fn scratch_bytes(&self) -> usize {
        let elements = self.room().iter().fold(0usize, |sum, &len| sum.saturating_add(len));
        if self.fast { elements.saturating_mul(size_of::<f32>()) } else { 0 }
    }
}
