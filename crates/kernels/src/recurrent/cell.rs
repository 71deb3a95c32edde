//! The walk through time.

use super::{Arithmetic, CellKind, Recurrent};
use crate::elementwise::Wide;

/// What cells carry from step to step, and room to work.
#[derive(Debug)]
pub struct State<'a, T> {
    /// `[batch, hidden]`: the initial state, then the last.
    pub hidden: &'a mut [T],
    /// `[batch, hidden]`: the same for the cell of an LSTM; room for other kinds.
    pub cell: &'a mut [T],
    /// `[batch, gates hidden]`.
    pub gates: &'a mut [T],
}

/// Takes a step, a sequence and its new state; `None` if it has ended.
pub type Emit<'a, N> = dyn FnMut(usize, usize, Option<&[N]>) + 'a;

/// Products and parameters of one direction.
struct Walk<'a, A: Arithmetic> {
    layer: &'a Recurrent,
    math: &'a A,
    /// `[rows, gates hidden]`.
    projected: &'a [A::Number],
    /// `[hidden]`: what a GRU adds to the hidden gate's product with the state.
    state_bias: Option<&'a [A::Number]>,
    /// `[3, hidden]`: input, output and forget.
    peepholes: Option<&'a [A::Number]>,
}

/// Runs one direction. `projected` holds the inputs' products and all biases, but for `state_bias`.
/// A sequence ends after `lengths[batch]` steps; then its state rests. `emit` gets
/// every new state.
///
/// # Panics
/// If an operand is shorter than the layer says.
#[allow(clippy::too_many_arguments, reason = "operands of one operator")]
pub fn run_cells<A: Arithmetic>(
    layer: &Recurrent,
    math: &A,
    projected: &[A::Number],
    state_bias: Option<&[A::Number]>,
    peepholes: Option<&[A::Number]>,
    lengths: Option<&[i32]>,
    state: &mut State<'_, A::Number>,
    emit: &mut Emit<'_, A::Number>,
) {
    let Recurrent { steps, batch, hidden, .. } = *layer;
    let width = layer.kind.gates() * hidden;
    assert_eq!(projected.len(), steps * batch * width, "projected inputs");
    assert_eq!([state.hidden.len(), state.cell.len()], [batch * hidden; 2], "states");
    assert_eq!(state.gates.len(), batch * width, "gates");
    if hidden == 0 || batch == 0 {
        return;
    }
    let walk = Walk { layer, math, projected, state_bias, peepholes };
    for index in 0..steps {
        let step = if layer.reverse { steps - 1 - index } else { index };
        let live = |row: usize| {
            lengths.is_none_or(|l| usize::try_from(l[row]).is_ok_and(|len| step < len))
        };
        match layer.kind {
            CellKind::Plain => walk.plain(step, &live, state),
            CellKind::Gru { linear_before_reset } => {
                walk.gru(step, linear_before_reset, &live, state);
            }
            CellKind::Lstm { input_forget } => walk.lstm(step, input_forget, &live, state),
        }
        for (row, hidden) in state.hidden.chunks_exact(hidden).enumerate() {
            emit(step, row, live(row).then_some(hidden));
        }
    }
}

impl<A: Arithmetic> Walk<'_, A> {
    /// The projected inputs of a step from column `first` on, and the distance between rows.
    fn inputs(&self, step: usize, first: usize) -> (&[A::Number], usize) {
        let Recurrent { steps, batch, hidden, batch_first, .. } = *self.layer;
        let width = self.layer.kind.gates() * hidden;
        let (row, stride) = if batch_first { (step, steps) } else { (step * batch, 1) };
        (&self.projected[row * width + first..], stride * width)
    }

    /// Clips, then applies function `index`.
    fn gate(&self, index: usize, data: &mut [A::Number]) {
        if let Some(clip) = self.layer.clip {
            let (low, high) = (A::Number::of(-f64::from(clip)), A::Number::of(clip.into()));
            for x in data.iter_mut() {
                *x = if *x < low {
                    low
                } else if *x > high {
                    high
                } else {
                    *x
                };
            }
        }
        self.math.apply(self.layer.functions[index], data);
    }

    fn plain(&self, step: usize, live: &dyn Fn(usize) -> bool, state: &mut State<'_, A::Number>) {
        let n = self.layer.hidden;
        self.math.product(0, state.hidden, None, Some(self.inputs(step, 0)), (state.gates, n));
        let rows = state.gates.chunks_exact_mut(n).zip(state.hidden.chunks_exact_mut(n));
        for (_, (gates, hidden)) in rows.enumerate().filter(|(row, _)| live(*row)) {
            self.gate(0, gates);
            hidden.copy_from_slice(gates);
        }
    }

    fn gru(
        &self,
        step: usize,
        linear_first: bool,
        live: &dyn Fn(usize) -> bool,
        state: &mut State<'_, A::Number>,
    ) {
        let n = self.layer.hidden;
        let State { hidden, cell: reset, gates } = state;
        self.math.product(0, hidden, None, Some(self.inputs(step, 0)), (gates, 3 * n));
        if linear_first {
            self.math.product(1, hidden, self.state_bias, None, (&mut gates[2 * n..], 3 * n));
        }
        for gates in gates.chunks_exact_mut(3 * n) {
            self.gate(0, &mut gates[..2 * n]);
        }
        let (inputs, stride) = self.inputs(step, 2 * n);
        if linear_first {
            for (row, gates) in gates.chunks_exact_mut(3 * n).enumerate() {
                let (open, fresh) = gates[n..].split_at_mut(n);
                for ((x, &r), &input) in fresh.iter_mut().zip(&*open).zip(&inputs[row * stride..]) {
                    *x = input + r * *x;
                }
            }
        } else {
            let rows = gates.chunks_exact(3 * n).zip(hidden.chunks_exact(n));
            for (reset, (gates, hidden)) in reset.chunks_exact_mut(n).zip(rows) {
                for ((to, &r), &h) in reset.iter_mut().zip(&gates[n..]).zip(hidden) {
                    *to = r * h;
                }
            }
            let out = (&mut gates[2 * n..], 3 * n);
            self.math.product(1, reset, None, Some((inputs, stride)), out);
        }
        let rows = gates.chunks_exact_mut(3 * n).zip(hidden.chunks_exact_mut(n));
        for (_, (gates, hidden)) in rows.enumerate().filter(|(row, _)| live(*row)) {
            let (update, fresh) = gates.split_at_mut(2 * n);
            self.gate(1, fresh);
            for ((h, &z), &x) in hidden.iter_mut().zip(&*update).zip(&*fresh) {
                *h = (A::Number::of(1.0) - z) * x + z * *h;
            }
        }
    }

    fn lstm(
        &self,
        step: usize,
        input_forget: bool,
        live: &dyn Fn(usize) -> bool,
        state: &mut State<'_, A::Number>,
    ) {
        let n = self.layer.hidden;
        let State { hidden, cell, gates } = state;
        self.math.product(0, hidden, None, Some(self.inputs(step, 0)), (gates, 4 * n));
        let states = cell.chunks_exact_mut(n).zip(hidden.chunks_exact_mut(n));
        let rows = gates.chunks_exact_mut(4 * n).zip(states);
        for (_, (gates, (cell, hidden))) in rows.enumerate().filter(|(row, _)| live(*row)) {
            let (input, rest) = gates.split_at_mut(n);
            let (output, rest) = rest.split_at_mut(n);
            let (forget, fresh) = rest.split_at_mut(n);
            if let Some(p) = self.peepholes {
                add_products(input, &p[..n], cell);
                add_products(forget, &p[2 * n..], cell);
            }
            self.gate(0, input);
            self.gate(0, forget);
            self.gate(1, fresh);
            if input_forget {
                let coupled = forget.iter_mut().zip(&*input);
                coupled.for_each(|(f, &i)| *f = A::Number::of(1.0) - i);
            }
            for (i, c) in cell.iter_mut().enumerate() {
                *c = forget[i] * *c + input[i] * fresh[i];
            }
            if let Some(p) = self.peepholes {
                add_products(output, &p[n..2 * n], cell);
            }
            self.gate(0, output);
            hidden.copy_from_slice(cell);
            self.gate(2, hidden);
            hidden.iter_mut().zip(&*output).for_each(|(h, &o)| *h = *h * o);
        }
    }
}

fn add_products<T: Wide>(to: &mut [T], weights: &[T], values: &[T]) {
    for ((to, &w), &x) in to.iter_mut().zip(weights).zip(values) {
        *to = *to + w * x;
    }
}
