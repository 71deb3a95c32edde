//! RTen, optimised as by default and with weights packed when loading, which its documentation
//! offers as the faster choice; on a thread pool of the size asked for.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use ndarray::{ArrayD, IxDyn};
use rten::{DataType, Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueType};
use rten_tensor::Tensor;
use rten_tensor::prelude::{AsView, Layout};

use crate::Loaded;
use crate::arrays::{Answers, Array, Inputs};

struct RtenModel {
    model: Model,
    inputs: Vec<(NodeId, Value)>,
    options: RunOptions,
}

/// Loads a model. RTen takes i64 inputs as i32.
pub(crate) fn load(path: &Path, mut inputs: Inputs, threads: usize) -> Result<Box<dyn Loaded>> {
    let pool = Arc::new(ThreadPool::with_num_threads(threads));
    let load = || ModelOptions::with_all_ops().prepack_weights(true).load_file(path);
    let model = pool.run(load)?;
    let mut values = Vec::new();
    for id in model.input_ids() {
        let name = model.node_info(*id).and_then(|node| node.name()).context("a nameless input")?;
        let value = match inputs.take(name)? {
            Array::F32(array) => tensor(&array, |value| value).into(),
            Array::I64(array) => tensor(&array, |value| value as i32).into(),
        };
        values.push((*id, value));
    }
    let options = RunOptions::default().with_thread_pool(Some(pool));
    Ok(Box::new(RtenModel { model, inputs: values, options }))
}

fn tensor<T: Copy, U>(array: &ArrayD<T>, convert: impl Fn(T) -> U) -> Tensor<U> {
    Tensor::from_data(array.shape(), array.iter().map(|value| convert(*value)).collect::<Vec<U>>())
}

impl RtenModel {
    fn outputs(&self) -> Result<Vec<Value>> {
        let inputs = self.inputs.iter().map(|(id, value)| (*id, value.into())).collect();
        Ok(self.model.run(inputs, self.model.output_ids(), Some(self.options.clone()))?)
    }
}

impl Loaded for RtenModel {
    fn run(&mut self) -> Result<()> {
        self.outputs()?;
        Ok(())
    }

    fn answers(&mut self) -> Result<Answers> {
        let is_f32 = |value: &Value| value.dtype() == ValueType::Tensor(DataType::Float);
        let floats = self.outputs()?.into_iter().filter(is_f32);
        floats
            .map(|value| {
                let tensor: Tensor<f32> = value.try_into()?;
                Ok(ArrayD::from_shape_vec(IxDyn(tensor.shape()), tensor.to_vec())?)
            })
            .collect()
    }
}
