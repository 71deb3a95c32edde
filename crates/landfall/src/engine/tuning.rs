//! What packages keep of tuning, and what the runtime makes of it.

use std::sync::Arc;

use landfall_package::{Package, PrecisionName, TuningRecord};
use landfall_runtime::{Options, Tuning};

/// What was measured for this package on this processor in this precision.
pub(super) fn of_package(package: &Package, options: &Options) -> Option<Arc<Tuning>> {
    let record = package.manifest().tuning((&options.cpu.signature(), options.precision))?;
    let TuningRecord { algorithms, threads, .. } = record.clone();
    Some(Arc::new(Tuning { algorithms, threads }))
}

/// What a package keeps of choices measured with these options.
pub fn record_of(tuning: Tuning, options: &Options) -> TuningRecord {
    let Tuning { algorithms, threads } = tuning;
    let precision = PrecisionName(options.precision);
    TuningRecord { cpu: options.cpu.signature(), precision, algorithms, threads }
}
