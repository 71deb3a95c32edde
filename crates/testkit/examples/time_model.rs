//! Prints the latency of a model with fixed input shapes, as the median and the least of many runs.
//!
//! `cargo run --release -p landfall-testkit --example time_model MODEL INPUT.bin... [--threads N]
//! [--seconds S]`, where each file holds the little-endian elements of one input, in order.

use std::error::Error;
use std::time::{Duration, Instant};

use landfall_graph::{DimSpec, Op};
use landfall_optimize::{Evaluate, optimize};
use landfall_runtime::{Cpu, Evaluator, Model, Options};
use landfall_tensor::{Shape, Tensor};

struct Folding(Evaluator);

impl Evaluate for Folding {
    fn evaluate(&self, op: &Op, inputs: &[Option<Tensor>], outputs: usize) -> Option<Vec<Tensor>> {
        self.0.evaluate(op, inputs, outputs).ok()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    let (mut threads, mut seconds) = (1, 1.0);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--threads" => threads = arguments.next().ok_or("--threads needs a number")?.parse()?,
            "--seconds" => seconds = arguments.next().ok_or("--seconds needs a number")?.parse()?,
            _ => files.push(argument),
        }
    }
    let [model, files @ ..] = files.as_slice() else { return Err("give a model".into()) };
    let folding = Folding(Evaluator::new(Cpu::detect()));
    let graph = landfall_onnx::import_file(model)?.graph;
    let graph = optimize(graph, &landfall_optimize::Options::default(), &folding)?.graph;
    let start = Instant::now();
    let model = Model::compile(graph, &Options { threads, ..Options::default() })?;
    let compile = start.elapsed();
    let mut inputs = Vec::new();
    for (spec, file) in model.signature().inputs.iter().zip(files) {
        let extent = |dim: &DimSpec| match dim {
            DimSpec::Known(extent) => Ok(*extent),
            DimSpec::Symbol(_) => Err("the shape of an input is not fixed"),
        };
        let dims = spec.dims.as_ref().ok_or("the rank of an input is not fixed")?;
        let shape: Shape = dims.iter().map(extent).collect::<Result<_, _>>()?;
        inputs.push(Tensor::from_bytes(spec.dtype, shape, &std::fs::read(file)?)?);
    }
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    let mut times: Vec<Duration> = Vec::new();
    let begin = Instant::now();
    while times.len() < 3 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        model.run_views(&views, None, &mut |_, _| Ok(()))?;
        times.push(start.elapsed());
    }
    times.sort();
    let (median, least) = (times[times.len() / 2], times[0]);
    println!(
        "compile {compile:.1?}, {} runs on {threads} threads: median {median:.1?}, \
         least {least:.1?}",
        times.len()
    );
    Ok(())
}
