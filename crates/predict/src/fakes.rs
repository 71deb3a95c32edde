//! Fakes for tests: signatures in short, a clock to set, models that misbehave on demand.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_tensor::{DType, Shape, Tensor};

use crate::{Clock, Executable, LoadedModel, Request, Servable, ServingConfig};

pub(crate) fn symbol(name: &str) -> DimSpec {
    DimSpec::Symbol(name.to_owned())
}

pub(crate) fn known(extent: usize) -> DimSpec {
    DimSpec::Known(extent)
}

pub(crate) fn spec(name: &str, dtype: DType, dims: &[DimSpec]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), dtype, dims: Some(dims.to_vec()) }
}

/// A clock that moves when told.
#[derive(Default)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms * 1_000_000, SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ns(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

/// A gate that a model waits at while it is shut.
#[derive(Default)]
pub(crate) struct Gate {
    shut: Mutex<bool>,
    change: Condvar,
}

impl Gate {
    pub(crate) fn set_shut(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.change.notify_all();
    }

    fn pass(&self) {
        drop(self.change.wait_while(self.shut.lock().unwrap(), |shut| *shut).unwrap());
    }
}

/// `y = 2x + 1` for every element of `x`, of shape `(batch, width)`.
///
/// A negative element is poison: the run fails; [`PANIC`] panics. Rows of every run are recorded.
pub(crate) struct Doubler {
    signature: Signature,
    pub(crate) gate: Gate,
    pub(crate) runs: Mutex<Vec<Vec<f32>>>,
    pub(crate) running: AtomicUsize,
    pub(crate) most_running: AtomicUsize,
}

/// The element that makes [`Doubler`] panic.
pub(crate) const PANIC: f32 = -99.0;

impl Doubler {
    pub(crate) fn new() -> Arc<Doubler> {
        Doubler::with_signature(&[symbol("batch"), symbol("width")])
    }

    pub(crate) fn with_signature(dims: &[DimSpec]) -> Arc<Doubler> {
        Arc::new(Doubler {
            signature: Signature {
                inputs: vec![spec("x", DType::F32, dims)],
                outputs: vec![spec("y", DType::F32, dims)],
            },
            gate: Gate::default(),
            runs: Mutex::default(),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
        })
    }

    /// First element of every row of every run.
    pub(crate) fn runs(&self) -> Vec<Vec<f32>> {
        self.runs.lock().unwrap().clone()
    }
}

impl Executable for Doubler {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        let x = inputs[0].as_slice::<f32>().unwrap();
        let width = inputs[0].shape()[1..].iter().product::<usize>().max(1);
        self.runs.lock().unwrap().push(x.chunks(width).map(|row| row[0]).collect());
        let running = self.running.fetch_add(1, SeqCst) + 1;
        self.most_running.fetch_max(running, SeqCst);
        self.gate.pass();
        self.running.fetch_sub(1, SeqCst);
        assert!(!x.contains(&PANIC), "told to panic");
        if let Some(poison) = x.iter().find(|v| **v < 0.0) {
            return Err(format!("node 'sqrt': {poison} is negative"));
        }
        let y: Vec<f32> = x.iter().map(|v| 2.0 * v + 1.0).collect();
        Ok(vec![Tensor::from_slice(inputs[0].shape().clone(), &y).unwrap()])
    }
}

/// A request for rows of `width` equal elements each.
pub(crate) fn rows(values: &[f32], width: usize) -> Request {
    let elements: Vec<f32> = values.iter().flat_map(|&v| vec![v; width]).collect();
    let x = Tensor::from_slice(Shape::from([values.len(), width]), &elements).unwrap();
    Request { inputs: vec![("x".to_owned(), x)], ..Request::default() }
}

pub(crate) fn loaded(executable: Arc<dyn Executable>, config: ServingConfig) -> LoadedModel {
    LoadedModel { executable, steps: None, config, platform: "fake".to_owned() }
}

pub(crate) fn start(
    executable: Arc<dyn Executable>,
    config: ServingConfig,
    clock: Arc<dyn Clock>,
) -> Arc<Servable> {
    Servable::start("m", 1, loaded(executable, config), clock, None).unwrap()
}
