//! Measuring which way of running each step is fastest.
//!
//! Every way is measured where it will run: in whole runs of the model, with the caches as the
//! steps before leave them. One variant of the model takes the second algorithm wherever there is
//! one, another the third, and so on; then variants give every step fewer threads. Variants take
//! turns, so that a slow moment of the machine does not fall on one of them, and each runs twice a
//! turn, of which the second counts: the first brings its memory into the caches.
//!
//! A way must be clearly faster than what the cost model takes to replace it, and in the end the
//! tuned model must be faster than the untuned one as a whole, or nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use landfall_tensor::{Shape, Tensor, TensorView};

use crate::{Choice, CompileError, Model, RunError, StepReport, Tuning};

/// A way must take less than this share of the time of what the cost model takes.
const CLEARLY: f64 = 0.97;
/// Turns of every variant, at least and at most.
const ROUNDS: std::ops::RangeInclusive<usize> = 3..=40;
/// Shares of the budget: algorithms, threads, and the comparison of whole runs.
const PHASES: u32 = 3;

/// Why tuning failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TuneError {
    /// A variant of the model cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A variant of the model cannot be run.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A way of running a step, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The algorithm; `None` for steps that have but one.
    pub algorithm: Option<&'static str>,
    /// Threads at most.
    pub threads: usize,
    /// The median, summed over the steps of this signature.
    pub time: Duration,
}

/// What was found for the steps of one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunedStep {
    /// See [`StepReport::signature`].
    pub signature: String,
    /// Steps that have it.
    pub steps: usize,
    /// What was measured; the first is what the cost model takes.
    pub candidates: Vec<Candidate>,
    /// The fastest, of `candidates`.
    pub chosen: usize,
}

/// What was found for inputs of one set of shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuned {
    /// What differs from the cost model; empty if that was not slower.
    pub tuning: Tuning,
    /// Every distinct step, the slowest first.
    pub steps: Vec<TunedStep>,
    /// Median of whole runs as the cost model has them.
    pub untuned: Duration,
    /// Median of whole runs with the choices; the same run again if nothing was chosen.
    pub tuned: Duration,
}

/// Finds the fastest way to run every step of `model` on `inputs`, in about `budget`. `now` is a
/// monotonic clock.
pub fn tune(
    model: &Model,
    inputs: &[Tensor],
    budget: Duration,
    now: &(dyn Fn() -> Duration + Sync),
) -> Result<Tuned, TuneError> {
    let tensors: Vec<Tensor> = inputs.iter().map(Tensor::aligned).collect();
    let shapes = tensors.iter().map(|tensor| tensor.shape().clone()).collect();
    let bench = Bench { model, inputs: tensors, shapes, budget: budget / PHASES, now };
    let mut tuning = Tuning::default();
    let mut steps = bench.algorithms(&mut tuning)?;
    bench.threads(&mut tuning, &mut steps)?;
    let (untuned, tuned) = bench.whole_runs(&tuning)?;
    if !tuning.choices.is_empty() && tuned >= untuned {
        tuning.choices.clear();
        steps.values_mut().for_each(|step| step.chosen = 0);
    }
    let mut steps: Vec<TunedStep> = steps.into_values().collect();
    steps.sort_by_key(|step| std::cmp::Reverse(step.candidates[0].time));
    Ok(Tuned { tuning, steps, untuned, tuned })
}

/// The model, what it runs on, and what time there is.
struct Bench<'a> {
    model: &'a Model,
    inputs: Vec<Tensor>,
    shapes: Vec<Shape>,
    /// Of one phase.
    budget: Duration,
    now: &'a (dyn Fn() -> Duration + Sync),
}

/// A variant of the model, its steps, and the times of every one of them in each turn.
struct Variant {
    model: Model,
    steps: Vec<StepReport>,
    times: Vec<Vec<Duration>>,
}

impl Variant {
    /// Medians by signature, summed over its steps.
    fn by_signature(&self) -> BTreeMap<&str, Duration> {
        let mut sums = BTreeMap::new();
        for (step, times) in self.steps.iter().zip(&self.times) {
            *sums.entry(step.signature.as_str()).or_default() += median(times);
        }
        sums
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

impl Bench<'_> {
    /// Chooses algorithms. Every distinct step, with what the cost model takes as first candidate.
    fn algorithms(&self, tuning: &mut Tuning) -> Result<BTreeMap<String, TunedStep>, TuneError> {
        let threads = self.model.threads();
        let mut variants = vec![self.variant(Tuning::default())?];
        let distinct: BTreeMap<String, Vec<(usize, &'static str)>> = variants[0]
            .steps
            .iter()
            .filter(|step| !step.signature.is_empty())
            .map(|step| {
                let found = step.algorithms.iter().flat_map(|algorithms| {
                    let others = algorithms.names.iter().copied().enumerate();
                    others.filter(|&(index, _)| index != algorithms.chosen)
                });
                (step.signature.clone(), found.collect())
            })
            .collect();
        let most = distinct.values().map(Vec::len).max().unwrap_or(0);
        for index in 0..most {
            let choices = distinct.iter().filter_map(|(signature, others)| {
                let algorithm = Some(others.get(index)?.1.to_owned());
                Some((signature.clone(), Choice { algorithm, threads: None }))
            });
            variants.push(self.variant(Tuning { choices: choices.collect() })?);
        }
        self.measure(&mut variants)?;
        let mut found = BTreeMap::new();
        let sums: Vec<_> = variants.iter().map(Variant::by_signature).collect();
        for step in variants[0].steps.iter().filter(|step| !step.signature.is_empty()) {
            let others = &distinct[&step.signature];
            let time = |variant: usize| sums[variant].get(step.signature.as_str()).copied();
            let taken = step.algorithms.as_ref().map(|a| a.names[a.chosen]);
            let own = (taken, time(0));
            let tried = others.iter().enumerate().map(|(i, &(_, name))| (Some(name), time(i + 1)));
            let candidates = std::iter::once(own).chain(tried).filter_map(|(algorithm, time)| {
                Some(Candidate { algorithm, threads, time: time? })
            });
            let entry = found.entry(step.signature.clone()).or_insert_with(|| TunedStep {
                signature: step.signature.clone(),
                steps: 0,
                candidates: candidates.collect(),
                chosen: 0,
            });
            entry.steps += 1;
        }
        for step in found.values_mut() {
            let best = fastest(&step.candidates);
            if let (true, Some(name)) = (best > 0, step.candidates[best].algorithm) {
                step.chosen = best;
                let choice = Choice { algorithm: Some(name.to_owned()), threads: None };
                tuning.choices.insert(step.signature.clone(), choice);
            }
        }
        Ok(found)
    }

    /// Chooses numbers of threads for the algorithms chosen.
    fn threads(
        &self,
        tuning: &mut Tuning,
        found: &mut BTreeMap<String, TunedStep>,
    ) -> Result<(), TuneError> {
        let all = self.model.threads();
        let counts: Vec<usize> =
            std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|&n| n < all).collect();
        if counts.is_empty() {
            return Ok(());
        }
        let mut variants = vec![self.variant(tuning.clone())?];
        // Threads take slices of their own, whatever a step would use by itself.
        let sliced: BTreeSet<String> = variants[0]
            .steps
            .iter()
            .filter(|step| step.slices > 1)
            .map(|step| step.signature.clone())
            .collect();
        let is_whole = |signature: &&String| !sliced.contains(*signature);
        for &threads in &counts {
            let choices = found.keys().filter(is_whole).map(|signature| {
                let known = tuning.choices.get(signature).cloned().unwrap_or_default();
                (signature.clone(), Choice { threads: Some(threads), ..known })
            });
            variants.push(self.variant(Tuning { choices: choices.collect() })?);
        }
        self.measure(&mut variants)?;
        let sums: Vec<_> = variants.iter().map(Variant::by_signature).collect();
        for step in found.values_mut().filter(|step| is_whole(&&step.signature)) {
            let time = |variant: usize| sums[variant].get(step.signature.as_str()).copied();
            let algorithm = step.candidates[step.chosen].algorithm;
            let with = |threads, time| Candidate { algorithm, threads, time };
            let base = time(0).map(|time| with(all, time));
            let tried = counts.iter().enumerate();
            let tried = tried.filter_map(|(i, &threads)| Some(with(threads, time(i + 1)?)));
            let measured: Vec<Candidate> = base.into_iter().chain(tried).collect();
            let best = fastest(&measured);
            if best > 0 {
                step.chosen = step.candidates.len() + best - 1;
                let choice = tuning.choices.entry(step.signature.clone()).or_default();
                choice.threads = Some(measured[best].threads);
            }
            step.candidates.extend(measured.into_iter().skip(1));
        }
        Ok(())
    }

    /// Medians of whole runs without and with the choices.
    fn whole_runs(&self, tuning: &Tuning) -> Result<(Duration, Duration), TuneError> {
        let models =
            [Tuning::default(), tuning.clone()].map(|tuning| self.model.tuned(Arc::new(tuning)));
        let [untuned, tuned] = models;
        let models = [untuned?, tuned?];
        let views: Vec<TensorView<'_>> = self.inputs.iter().map(Tensor::view).collect();
        let mut times = [Vec::new(), Vec::new()];
        let begun = (self.now)();
        while times[0].len() < *ROUNDS.start()
            || (times[0].len() < *ROUNDS.end() && (self.now)() - begun < self.budget)
        {
            for (model, times) in models.iter().zip(&mut times) {
                model.run_views(&views, None, &mut |_, _| Ok(()))?;
                let start = (self.now)();
                model.run_views(&views, None, &mut |_, _| Ok(()))?;
                times.push((self.now)() - start);
            }
        }
        Ok((median(&times[0]), median(&times[1])))
    }

    fn variant(&self, tuning: Tuning) -> Result<Variant, TuneError> {
        let model = self.model.tuned(Arc::new(tuning))?;
        let steps = model.report(&self.shapes)?.steps;
        let times = vec![Vec::new(); steps.len()];
        Ok(Variant { model, steps, times })
    }

    /// Lets variants take turns until the budget is spent.
    fn measure(&self, variants: &mut [Variant]) -> Result<(), TuneError> {
        let views: Vec<TensorView<'_>> = self.inputs.iter().map(Tensor::view).collect();
        let begun = (self.now)();
        for round in 0..*ROUNDS.end() {
            if round >= *ROUNDS.start() && (self.now)() - begun >= self.budget {
                break;
            }
            for Variant { model, times, .. } in &mut *variants {
                model.run_views(&views, None, &mut |_, _| Ok(()))?;
                let mut last = (self.now)();
                let mut run = vec![Duration::ZERO; times.len()];
                let mut observer = |step: usize| {
                    let time = (self.now)();
                    run[step] += time - last;
                    last = time;
                };
                model.run_views(&views, Some(&mut observer), &mut |_, _| Ok(()))?;
                times.iter_mut().zip(run).for_each(|(times, time)| times.push(time));
            }
        }
        Ok(())
    }
}

/// The index of the candidate to take: the fastest, unless the first is about as fast.
fn fastest(candidates: &[Candidate]) -> usize {
    let best = candidates.iter().enumerate().min_by_key(|(_, candidate)| candidate.time);
    let (Some(first), Some((index, best))) = (candidates.first(), best) else { return 0 };
    let limit = first.time.as_secs_f64() * CLEARLY;
    if best.time.as_secs_f64() < limit { index } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_clearly_faster_replaces_the_first() {
        let candidate =
            |us| Candidate { algorithm: None, threads: 1, time: Duration::from_micros(us) };
        let chosen =
            |times: &[u64]| fastest(&times.iter().map(|&us| candidate(us)).collect::<Vec<_>>());
        assert_eq!(chosen(&[100, 98, 200]), 0);
        assert_eq!(chosen(&[100, 98, 60, 90]), 2);
        assert_eq!(chosen(&[100]), 0);
        assert_eq!(chosen(&[]), 0);
    }

    #[test]
    fn medians_ignore_a_slow_moment() {
        let times = [3, 1, 900, 2, 4].map(Duration::from_micros);
        assert_eq!(median(&times), Duration::from_micros(3));
        assert_eq!(median(&[]), Duration::ZERO);
    }
}
