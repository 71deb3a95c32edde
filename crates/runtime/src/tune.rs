//! Measuring which way of running each step is fastest.
//!
//! Every way is measured where it will run: in whole runs of the model, with the caches as the
//! steps before leave them (`bench`). A case is a set of inputs and a number of threads. For each,
//! one variant of the model takes the second algorithm wherever there is one, another the third,
//! and so on; one algorithm is chosen for all cases, by the mean of its gains in them. Then
//! variants give every step fewer threads, which each case chooses for itself.
//!
//! A way must be clearly faster than what the cost model takes to replace it. In the end whole runs
//! decide whether the choices, or at least the algorithms, make the model faster on the mean of all
//! cases, or nothing is changed.

mod bench;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use landfall_tensor::Tensor;

use self::bench::Bench;
use crate::{CompileError, Model, RunError, Tuning};

/// A way must take less than this share of the time of what the cost model takes.
const CLEARLY: f64 = 0.97;

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

/// What to measure.
#[derive(Debug, Clone)]
pub struct TuneCase {
    /// In the signature's order.
    pub inputs: Vec<Tensor>,
    /// Threads of a run; at most as many as the model has.
    pub threads: usize,
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
    /// See [`crate::StepIdentity`].
    pub signature: String,
    /// See [`crate::StepIdentity`].
    pub kind: String,
    /// Steps that have this signature.
    pub steps: usize,
    /// What was measured; the first is what the cost model takes.
    pub candidates: Vec<Candidate>,
    /// The one taken, of `candidates`.
    pub chosen: usize,
}

impl TunedStep {
    /// The index of the candidate that `tuning` takes in runs on `threads` threads.
    fn taken(&self, tuning: &Tuning, threads: usize) -> usize {
        let algorithm = match tuning.algorithms.get(&self.kind) {
            Some(name) => Some(name.as_str()),
            None => self.candidates[0].algorithm,
        };
        let limits = tuning.threads.get(&threads);
        let limit = limits.and_then(|limits| limits.get(&self.signature)).copied();
        let limit = limit.unwrap_or(self.candidates[0].threads);
        let is_taken = |way: &Candidate| way.algorithm == algorithm && way.threads == limit;
        self.candidates.iter().position(is_taken).unwrap_or(0)
    }
}

/// What was found for one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunedCase {
    /// Every distinct step, the slowest first.
    pub steps: Vec<TunedStep>,
    /// Median of whole runs as the cost model has them.
    pub untuned: Duration,
    /// Median of whole runs with the choices; `untuned` if nothing was chosen.
    pub tuned: Duration,
}

/// What was found for all cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuned {
    /// What differs from the cost model; empty if that was not slower.
    pub tuning: Tuning,
    /// In the order of the cases.
    pub cases: Vec<TunedCase>,
}

/// Finds the fastest way to run every step of `model` in these cases, in about `budget` for each.
/// `now` is a monotonic clock.
pub fn tune(
    model: &Model,
    cases: &[TuneCase],
    budget: Duration,
    now: &(dyn Fn() -> Duration + Sync),
) -> Result<Tuned, TuneError> {
    let benches: Vec<Bench<'_>> =
        cases.iter().map(|case| Bench::new(model, case, budget, now)).collect();
    let mut steps: Vec<Vec<TunedStep>> =
        benches.iter().map(Bench::algorithms).collect::<Result<_, _>>()?;
    let algorithms = best_algorithms(steps.iter().flatten());
    let only_algorithms = Tuning { algorithms, threads: BTreeMap::new() };
    let mut tuning = only_algorithms.clone();
    for (bench, steps) in benches.iter().zip(&mut steps) {
        let limits = bench.threads(&only_algorithms, steps)?;
        let known = tuning.threads.entry(bench.threads).or_default();
        // What an earlier case said of a step stays.
        limits.into_iter().for_each(|(step, limit)| {
            known.entry(step).or_insert(limit);
        });
    }
    tuning.threads.retain(|_, limits| !limits.is_empty());
    let mut ways = vec![Tuning::default(), only_algorithms, tuning];
    ways.dedup();
    let times: Vec<Vec<Duration>> =
        benches.iter().map(|bench| bench.whole_runs(&ways)).collect::<Result<_, _>>()?;
    let best = fastest_way(&times);
    let tuning = ways.swap_remove(best);
    let found = benches.iter().zip(steps).zip(times).map(|((bench, mut steps), times)| {
        steps.iter_mut().for_each(|step| step.chosen = step.taken(&tuning, bench.threads));
        steps.sort_by_key(|step| std::cmp::Reverse(step.candidates[0].time));
        TunedCase { steps, untuned: times[0], tuned: times[best] }
    });
    let cases = found.collect();
    Ok(Tuned { tuning, cases })
}

/// The natural logarithm of `time` over `base`.
fn log_ratio(time: Duration, base: Duration) -> f64 {
    // A clock may be too coarse for a step.
    let least = Duration::from_nanos(1);
    (time.max(least).as_secs_f64() / base.max(least).as_secs_f64()).ln()
}

/// For every kind of step, the algorithm that is clearly faster than the cost model's on the
/// geometric mean of all steps of that kind in all cases, if there is one.
fn best_algorithms<'a>(steps: impl Iterator<Item = &'a TunedStep>) -> BTreeMap<String, String> {
    let mut kinds: BTreeMap<&str, Vec<&TunedStep>> = BTreeMap::new();
    steps.for_each(|step| kinds.entry(&step.kind).or_default().push(step));
    let mut best = BTreeMap::new();
    for (kind, steps) in kinds {
        let names: BTreeSet<&'static str> =
            steps.iter().flat_map(|step| &step.candidates[1..]).flat_map(|c| c.algorithm).collect();
        let gain = |name: &str| -> Option<f64> {
            let ratios = steps.iter().map(|step| {
                let mut ways = step.candidates.iter();
                let way = ways.find(|way| way.algorithm == Some(name))?;
                Some(log_ratio(way.time, step.candidates[0].time))
            });
            let sum = ratios.sum::<Option<f64>>()?;
            Some(sum / steps.len() as f64)
        };
        let gains = names.into_iter().filter_map(|name| Some((gain(name)?, name)));
        if let Some((gain, name)) = gains.min_by(|a, b| a.0.total_cmp(&b.0))
            && gain < CLEARLY.ln()
        {
            best.insert(kind.to_owned(), name.to_owned());
        }
    }
    best
}

/// The index of the way with the least geometric mean of times, given by case and then by way. The
/// first, unless another is faster.
fn fastest_way(times: &[Vec<Duration>]) -> usize {
    let ways = times.first().map_or(0, Vec::len);
    let gain = |way: usize| times.iter().map(|times| log_ratio(times[way], times[0])).sum::<f64>();
    let gains = (1..ways).map(|way| (gain(way), way)).filter(|&(gain, _)| gain < 0.0);
    gains.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, way)| way)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    fn step(times: &[(&'static str, u64)]) -> TunedStep {
        let candidate = |&(name, time): &(&'static str, u64)| Candidate {
            algorithm: Some(name),
            threads: 1,
            time: us(time),
        };
        let candidates = times.iter().map(candidate).collect();
        let name = || "Conv(_)".to_owned();
        TunedStep { signature: name(), kind: name(), steps: 1, candidates, chosen: 0 }
    }

    fn best(steps: &[TunedStep]) -> Option<String> {
        best_algorithms(steps.iter()).remove("Conv(_)")
    }

    #[test]
    fn one_algorithm_is_chosen_for_all_cases() {
        let gemm = Some("gemm".to_owned());
        assert_eq!(best(&[step(&[("winograd2", 100), ("gemm", 60)])]), gemm);
        assert_eq!(best(&[step(&[("winograd2", 100), ("gemm", 98)])]), None);
        // Twice as fast in one case, and a third slower in the other.
        let first = step(&[("winograd2", 100), ("gemm", 50)]);
        let second = step(&[("winograd2", 900), ("gemm", 1200)]);
        assert_eq!(best(&[first.clone(), second]), gemm);
        let worse = step(&[("winograd2", 900), ("gemm", 1900)]);
        assert_eq!(best(&[first.clone(), worse]), None);
        // Where a case does not have it, it is not taken.
        assert_eq!(best(&[first, step(&[("winograd2", 100)])]), None);
    }

    #[test]
    fn whole_runs_decide_by_their_mean() {
        let ways = |times: &[[u64; 3]]| {
            let times: Vec<Vec<Duration>> =
                times.iter().map(|times| times.iter().copied().map(us).collect()).collect();
            fastest_way(&times)
        };
        assert_eq!(ways(&[[100, 90, 95]]), 1);
        assert_eq!(ways(&[[100, 90, 95], [10, 10, 8]]), 2);
        assert_eq!(ways(&[[100, 101, 100], [10, 10, 10]]), 0);
        assert_eq!(ways(&[]), 0);
    }
}
