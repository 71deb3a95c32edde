//! Times of steps and of whole runs, of variants of a model that take turns.
//!
//! A slow moment of the machine so falls on all variants alike. Each runs twice a turn, of which
//! the second counts: the first brings its memory into the caches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use landfall_tensor::{Shape, Tensor, TensorView};

use super::{CLEARLY, Candidate, TuneCase, TuneError, TunedStep};
use crate::{Model, StepReport, Tuning};

/// Turns of every variant, at least and at most.
const ROUNDS: std::ops::RangeInclusive<usize> = 3..=40;
/// Shares of the budget: algorithms, threads, and the comparison of whole runs.
const PHASES: u32 = 3;

/// The model, what it runs on, and what time there is.
pub(super) struct Bench<'a> {
    model: &'a Model,
    inputs: Vec<Tensor>,
    shapes: Vec<Shape>,
    pub(super) threads: usize,
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
            if let Some(identity) = &step.identity {
                *sums.entry(identity.signature.as_str()).or_default() += median(times);
            }
        }
        sums
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

impl<'a> Bench<'a> {
    /// A bench for one case, with `budget` for all that is measured of it.
    pub(super) fn new(
        model: &'a Model,
        case: &TuneCase,
        budget: Duration,
        now: &'a (dyn Fn() -> Duration + Sync),
    ) -> Bench<'a> {
        let inputs: Vec<Tensor> = case.inputs.iter().map(Tensor::aligned).collect();
        let shapes = inputs.iter().map(|tensor| tensor.shape().clone()).collect();
        let threads = case.threads.clamp(1, model.threads());
        Bench { model, inputs, shapes, threads, budget: budget / PHASES, now }
    }

    /// Every distinct step with all its algorithms, that of the cost model first.
    pub(super) fn algorithms(&self) -> Result<Vec<TunedStep>, TuneError> {
        let mut variants = vec![self.variant(&Tuning::default())?];
        let others: BTreeMap<String, Vec<&'static str>> = variants[0]
            .steps
            .iter()
            .filter_map(|step| {
                let algorithms = step.algorithms.as_ref()?;
                let names = algorithms.names.iter().copied().enumerate();
                let others = names.filter(|&(index, _)| index != algorithms.chosen);
                Some((step.identity.clone()?.kind, others.map(|(_, name)| name).collect()))
            })
            .collect();
        for index in 0..others.values().map(Vec::len).max().unwrap_or(0) {
            let algorithms = others
                .iter()
                .filter_map(|(kind, names)| Some((kind.clone(), (*names.get(index)?).to_owned())));
            let tuning = Tuning { algorithms: algorithms.collect(), ..Tuning::default() };
            variants.push(self.variant(&tuning)?);
        }
        self.measure(&mut variants)?;
        let sums: Vec<_> = variants.iter().map(Variant::by_signature).collect();
        let mut found: BTreeMap<&str, TunedStep> = BTreeMap::new();
        for step in &variants[0].steps {
            let Some(identity) = &step.identity else { continue };
            let signature = identity.signature.as_str();
            let names = others.get(&identity.kind).map_or(&[][..], Vec::as_slice);
            let own = step.algorithms.as_ref().map(|a| a.names[a.chosen]);
            let ways = std::iter::once(own).chain(names.iter().copied().map(Some));
            let candidates = ways.zip(&sums).filter_map(|(algorithm, sums)| {
                let time = *sums.get(signature)?;
                Some(Candidate { algorithm, threads: self.threads, time })
            });
            let entry = found.entry(signature).or_insert_with(|| TunedStep {
                signature: signature.to_owned(),
                kind: identity.kind.clone(),
                steps: 0,
                candidates: candidates.collect(),
                chosen: 0,
            });
            entry.steps += 1;
        }
        Ok(found.into_values().collect())
    }

    /// Measures steps with fewer threads, with the algorithms of `tuning`, adds what it finds to
    /// `steps`, and returns which numbers of threads are fastest, by signature.
    pub(super) fn threads(
        &self,
        tuning: &Tuning,
        steps: &mut [TunedStep],
    ) -> Result<BTreeMap<String, usize>, TuneError> {
        let all = self.threads;
        let counts: Vec<usize> =
            std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|&n| n < all).collect();
        let mut limits = BTreeMap::new();
        if counts.is_empty() {
            return Ok(limits);
        }
        let mut variants = vec![self.variant(tuning)?];
        // Threads take slices of their own, whatever a step would use by itself.
        let sliced: BTreeSet<String> = variants[0]
            .steps
            .iter()
            .filter(|step| step.slices > 1)
            .filter_map(|step| Some(step.identity.clone()?.signature))
            .collect();
        for &threads in &counts {
            let whole = steps.iter().filter(|step| !sliced.contains(&step.signature));
            let limits = whole.map(|step| (step.signature.clone(), threads)).collect();
            let algorithms = tuning.algorithms.clone();
            let threads = BTreeMap::from([(all, limits)]);
            variants.push(self.variant(&Tuning { algorithms, threads })?);
        }
        self.measure(&mut variants)?;
        let sums: Vec<_> = variants.iter().map(Variant::by_signature).collect();
        for step in steps.iter_mut().filter(|step| !sliced.contains(&step.signature)) {
            let algorithm = step.candidates[step.taken(tuning, all)].algorithm;
            let ways = std::iter::once(all).chain(counts.iter().copied());
            let measured: Vec<Candidate> = ways
                .zip(&sums)
                .filter_map(|(threads, sums)| {
                    let time = *sums.get(step.signature.as_str())?;
                    Some(Candidate { algorithm, threads, time })
                })
                .collect();
            let best = fastest(&measured);
            if best > 0 {
                limits.insert(step.signature.clone(), measured[best].threads);
            }
            step.candidates.extend(measured.into_iter().skip(1));
        }
        Ok(limits)
    }

    /// Medians of whole runs in each of these ways.
    pub(super) fn whole_runs(&self, ways: &[Tuning]) -> Result<Vec<Duration>, TuneError> {
        let models = ways.iter().map(|way| self.tuned(way)).collect::<Result<Vec<Model>, _>>()?;
        let views: Vec<TensorView<'_>> = self.inputs.iter().map(Tensor::view).collect();
        let mut times = vec![Vec::new(); ways.len()];
        self.take_turns(|| {
            for (model, times) in models.iter().zip(&mut times) {
                model.run_views(&views, None, &mut |_, _| Ok(()))?;
                let start = (self.now)();
                model.run_views(&views, None, &mut |_, _| Ok(()))?;
                times.push((self.now)() - start);
            }
            Ok(())
        })?;
        Ok(times.iter().map(|times| median(times)).collect())
    }

    fn tuned(&self, tuning: &Tuning) -> Result<Model, TuneError> {
        Ok(self.model.tuned(Arc::new(tuning.clone()), self.threads)?)
    }

    fn variant(&self, tuning: &Tuning) -> Result<Variant, TuneError> {
        let model = self.tuned(tuning)?;
        let steps = model.report(&self.shapes)?.steps;
        let times = vec![Vec::new(); steps.len()];
        Ok(Variant { model, steps, times })
    }

    /// Measures every step of variants that take turns.
    fn measure(&self, variants: &mut [Variant]) -> Result<(), TuneError> {
        let views: Vec<TensorView<'_>> = self.inputs.iter().map(Tensor::view).collect();
        self.take_turns(|| {
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
            Ok(())
        })
    }

    /// Calls `turn` until the budget is spent.
    fn take_turns(&self, mut turn: impl FnMut() -> Result<(), TuneError>) -> Result<(), TuneError> {
        let begun = (self.now)();
        for round in 0..*ROUNDS.end() {
            if round >= *ROUNDS.start() && (self.now)() - begun >= self.budget {
                break;
            }
            turn()?;
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
