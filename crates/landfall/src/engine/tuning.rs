//! What packages keep of tuning, and what the runtime makes of it.

use std::sync::Arc;

use landfall_package::{Package, PrecisionName, StepChoice, TuningRecord};
use landfall_runtime::{Choice, Options, Tuning};

/// What was measured for this package on this processor, with these threads and precision.
pub(super) fn of_package(package: &Package, options: &Options) -> Option<Arc<Tuning>> {
    let cpu = options.cpu.signature();
    let record = package.manifest().tuning((&cpu, options.threads, options.precision))?;
    let choice = |choice: &StepChoice| Choice {
        algorithm: choice.algorithm.clone(),
        threads: choice.threads,
    };
    let choices = record.steps.iter().map(|(step, found)| (step.clone(), choice(found)));
    Some(Arc::new(Tuning { choices: choices.collect() }))
}

/// What a package keeps of choices measured with these options.
pub fn record_of(tuning: &Tuning, options: &Options) -> TuningRecord {
    let step = |choice: &Choice| StepChoice {
        algorithm: choice.algorithm.clone(),
        threads: choice.threads,
    };
    TuningRecord {
        cpu: options.cpu.signature(),
        threads: options.threads,
        precision: PrecisionName(options.precision),
        steps: tuning.choices.iter().map(|(name, found)| (name.clone(), step(found))).collect(),
    }
}
