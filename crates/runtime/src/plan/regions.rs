//! Which consecutive steps run together for some rows of the batch after others.
//!
//! Layer by layer, a batch of images leaves the caches between layers; image by image, weights are
//! read once for every image. Which costs less differs from layer to layer: early layers have large
//! images and few weights, late ones the reverse. So the choice is made by counting bytes moved
//! beyond the caches: for every step and every number of rows that divides the batch, the weights
//! of all slices, and operands and results if those of one slice do not stay in cache; and where
//! neighbouring steps cut the batch differently, what crosses between them. Dynamic programming
//! finds the cheapest cuts. Kernels are then lowered for one slice; results do not change, since
//! those of no kernel depend on a batch's other rows.

use std::ops::Range;

use landfall_graph::infer::{Fact, infer_node};
use landfall_tensor::DType;

use super::layout::with_rows;
use super::{Place, Planner, Region, Work, bytes_of_fact, site};
use crate::lower::alike::rows_are_alike;
use crate::lower::{Lowered, lower};
use crate::{Kernel, StepIdentity};

/// Bytes that the start of a step is worth: about a microsecond.
const CALL_BYTES: usize = 16 << 10;
/// What stays in cache from one step to the next, in sizes of the level 2 cache: the share of the
/// last level that a core can count on.
const KEPT_L2: usize = 4;

/// What a step moves.
#[derive(Debug, Clone, Copy)]
struct Traffic {
    batch: usize,
    /// Bytes of operands and results with rows.
    rows: usize,
    /// Bytes of constants.
    constants: usize,
}

/// A step for some rows of the batch.
struct Sliced {
    kernel: Box<dyn Kernel>,
    identity: Option<StepIdentity>,
}

impl Planner<'_> {
    /// Cuts steps whose rows do not depend on one another into regions.
    pub(super) fn form_regions(&mut self) {
        let traffic: Vec<Option<Traffic>> =
            (0..self.drafts.len()).map(|step| self.traffic(step)).collect();
        let batch = |step: usize| traffic[step].map_or(0, |traffic| traffic.batch);
        let mut start = 0;
        while start < traffic.len() {
            let same = |&step: &usize| batch(step) == batch(start);
            let end = start + (start..traffic.len()).take_while(same).count();
            if batch(start) > 1 {
                let steps: Vec<Traffic> = traffic[start..end].iter().copied().flatten().collect();
                let crossing: Vec<usize> =
                    (start..end).map(|step| self.crossing(start, step)).collect();
                let kept = KEPT_L2 * self.target.cpu.caches().l2_bytes;
                let rows = cheapest_rows(&steps, &crossing, self.target.threads, kept);
                self.form_runs(start, batch(start), &rows);
            }
            start = end;
        }
    }

    /// Makes a region of every two or more neighbouring steps with as many rows, if fewer than the
    /// batch.
    fn form_runs(&mut self, start: usize, batch: usize, rows: &[usize]) {
        let mut kernels: Vec<Option<Sliced>> = rows
            .iter()
            .enumerate()
            .map(|(i, &rows)| (rows < batch).then(|| self.lower_slice(start + i, rows)).flatten())
            .collect();
        let mut first = 0;
        while first < rows.len() {
            let together = |&i: &usize| rows[i] == rows[first] && kernels[i].is_some();
            let count = (first..rows.len()).take_while(together).count();
            if count > 1 {
                let kernels = kernels[first..first + count].iter_mut().filter_map(Option::take);
                let kernels = kernels.collect();
                self.form(start + first..start + first + count, batch, rows[first], kernels);
            }
            first += count.max(1);
        }
    }

    /// What a step moves if its rows are alike, `None` otherwise.
    fn traffic(&self, step: usize) -> Option<Traffic> {
        let draft = &self.drafts[step];
        let Work::Kernel(_) = draft.work else { return None };
        let node = self.graph.node(draft.id)?;
        let results = node.outputs.iter().map(|&id| self.facts[id.index()].clone());
        let results: Vec<Fact> = results.collect();
        let batch = *results.first()?.shape()?.first()?;
        let operands: Vec<Option<&Fact>> =
            node.inputs.iter().map(|input| input.map(|id| &self.facts[id.index()])).collect();
        let mut traffic = Traffic { batch, rows: 0, constants: 0 };
        for (fact, place) in node.operands().map(|id| (&self.facts[id.index()], self.place(id))) {
            match place? {
                Place::Constant(_) => traffic.constants += bytes_of_fact(fact),
                Place::Input(_) | Place::Arena(_) => traffic.rows += bytes_with_rows(fact, batch)?,
                Place::Heap(_) => return None,
            }
        }
        for fact in &results {
            traffic.rows += bytes_with_rows(fact, batch)?;
        }
        rows_are_alike(&node.op, &operands, &results).then_some(traffic)
    }

    /// Bytes that steps from `start` on have left before `step` for it and later ones.
    fn crossing(&self, start: usize, step: usize) -> usize {
        let crosses = |i: &usize| {
            let request = self.requests[*i];
            start <= request.first && request.first < step && step <= request.last
        };
        (0..self.requests.len()).filter(crosses).map(|i| self.requests[i].bytes).sum()
    }

    /// The step for `rows` rows.
    fn lower_slice(&self, step: usize, rows: usize) -> Option<Sliced> {
        let node = self.graph.node(self.drafts[step].id)?;
        let slice = |fact: &Fact| -> Option<Fact> {
            Some(Fact::concrete(fact.dtype?, &with_rows(&fact.shape()?, rows)))
        };
        let mut operands = Vec::with_capacity(node.inputs.len());
        for input in &node.inputs {
            let fact = input.map(|id| (&self.facts[id.index()], self.place(id)));
            operands.push(match fact {
                None => None,
                Some((fact, Some(Place::Constant(_)))) => Some(fact.clone()),
                Some((fact, _)) => Some(slice(fact)?),
            });
        }
        let operands: Vec<Option<&Fact>> = operands.iter().map(Option::as_ref).collect();
        let results = infer_node(&node.op, &operands, node.outputs.len()).ok()?;
        for (&id, result) in node.outputs.iter().zip(&results) {
            let expected = slice(&self.facts[id.index()])?;
            let same = result.dtype == expected.dtype && result.shape() == expected.shape();
            same.then_some(())?;
        }
        let site = site(node, &operands, &results, self.target);
        match lower(&site).ok()? {
            Lowered::Kernel(kernel) => {
                let identity = self.target.tuning.as_ref().map(|_| site.identity());
                Some(Sliced { kernel, identity })
            }
            Lowered::Alias | Lowered::Dynamic(_) => None,
        }
    }

    fn form(&mut self, steps: Range<usize>, batch: usize, rows: usize, kernels: Vec<Sliced>) {
        let (index, slices) = (self.regions.len(), batch / rows);
        for (step, Sliced { kernel, identity }) in steps.clone().zip(kernels) {
            if let Some(old) = self.drafts[step].scratch.take() {
                self.requests[old].bytes = 0;
            }
            let scratch = kernel.scratch_bytes();
            let scratch = (scratch > 0).then(|| self.request(scratch, step));
            let draft = &mut self.drafts[step];
            (draft.work, draft.scratch, draft.region) =
                (Work::Kernel(kernel), scratch, Some(index));
            (draft.identity, draft.threads) = (identity, None);
        }
        let scratch: Vec<usize> =
            self.drafts[steps.clone()].iter().filter_map(|draft| draft.scratch).collect();
        let last = steps.end - 1;
        for (i, request) in self.requests.iter_mut().enumerate() {
            if scratch.contains(&i) {
                self.inner[i] = Some(index);
            } else if steps.start <= request.first && request.last <= last {
                self.inner[i] = Some(index);
                request.bytes = request.bytes / batch * rows;
            } else {
                // Other slices still read it, or write it already.
                if steps.contains(&request.first) {
                    request.first = steps.start;
                }
                if steps.contains(&request.last) {
                    request.last = last;
                }
            }
        }
        let threads = self.target.threads;
        let workers = if slices < threads { 1 } else { threads };
        self.regions.push(Region { steps, slices, rows, workers });
    }
}

/// Bytes of a value of numbers with `batch` rows.
fn bytes_with_rows(fact: &Fact, batch: usize) -> Option<usize> {
    let numbers = !matches!(fact.dtype?, DType::String | DType::Bytes);
    let bytes = bytes_of_fact(fact);
    (numbers && bytes > 0 && fact.shape()?.first() == Some(&batch)).then_some(bytes)
}

/// Rows of a slice for every step, those that move the fewest bytes beyond what stays in cache.
/// `crossing` is what earlier steps have left at each step.
fn cheapest_rows(steps: &[Traffic], crossing: &[usize], threads: usize, kept: usize) -> Vec<usize> {
    let Some(first) = steps.first() else { return Vec::new() };
    let batch = first.batch;
    let choices: Vec<usize> = (1..=batch).filter(|rows| batch.is_multiple_of(*rows)).collect();
    // Twice as much again is found half as often.
    let beyond = |bytes: usize, of: usize| match of / kept.max(1) {
        0 => 0,
        times => (bytes / 2).saturating_mul((times.ilog2() as usize + 1).min(4)),
    };
    let cost = |step: &Traffic, rows: usize| {
        let slices = batch / rows;
        let at_once = if slices < threads { 1 } else { threads };
        let together = (step.rows / batch).saturating_mul(rows).saturating_mul(at_once);
        slices
            .saturating_mul(step.constants.saturating_add(CALL_BYTES))
            .saturating_add(beyond(step.rows, together))
    };
    let mut costs = vec![0usize; choices.len()];
    let mut origins: Vec<Vec<usize>> = Vec::with_capacity(steps.len());
    for (step, &crossing) in steps.iter().zip(crossing) {
        let change = beyond(crossing.saturating_mul(2), crossing);
        let come = |to: usize| {
            let from = |from: usize| {
                let change = if from == to { 0 } else { change };
                (costs[from].saturating_add(change), from != to, from)
            };
            (0..choices.len()).map(from).min().unwrap_or_default()
        };
        let best: Vec<(usize, bool, usize)> = (0..choices.len()).map(come).collect();
        origins.push(best.iter().map(|best| best.2).collect());
        costs = best
            .iter()
            .zip(&choices)
            .map(|(best, &rows)| best.0.saturating_add(cost(step, rows)))
            .collect();
    }
    let mut at = (0..choices.len()).min_by_key(|&i| (costs[i], choices.len() - i)).unwrap_or(0);
    let mut rows = vec![batch; steps.len()];
    for (step, origin) in origins.iter().enumerate().rev() {
        rows[step] = choices[at];
        at = origin[at];
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: usize = 4 << 20;

    fn step(batch: usize, rows: usize, constants: usize) -> Traffic {
        Traffic { batch, rows: rows << 20, constants: constants << 10 }
    }

    #[test]
    fn large_images_are_cut_and_many_weights_are_not() {
        let steps = [step(8, 32, 10), step(8, 32, 10), step(8, 2, 900), step(8, 2, 900)];
        let crossing = [0, 16 << 20, 1 << 20, 1 << 20];
        assert_eq!(cheapest_rows(&steps, &crossing, 1, KEPT), [1, 1, 8, 8]);
        assert_eq!(cheapest_rows(&[], &[], 1, KEPT), []);
    }

    #[test]
    fn neighbours_share_slices_rather_than_leave_large_values_between_them() {
        let steps = [step(8, 32, 1), step(8, 12, 100), step(8, 32, 1)];
        assert_eq!(cheapest_rows(&steps, &[0, 20 << 20, 20 << 20], 1, KEPT), [1, 1, 1]);
    }

    #[test]
    fn what_fits_stays_whole() {
        let steps = [step(8, 1, 1), step(8, 2, 1)];
        assert_eq!(cheapest_rows(&steps, &[0, 1 << 20], 2, KEPT), [8, 8]);
    }
}
