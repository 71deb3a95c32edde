//! tract, in the mode that its documentation recommends: input shapes are fixed, then the model is
//! optimised for them. One state runs all calls, so that a call pays for nothing but the run.

use std::path::Path;

use anyhow::Result;
use tract_onnx::prelude::multithread::Executor;
use tract_onnx::prelude::{
    Framework, InferenceFact, InferenceModelExt, IntoTValue, IntoTensor, RunOptions, TValue, TVec,
    TypedSimpleState,
};

use crate::Loaded;
use crate::arrays::{Answers, Array, Inputs};

struct TractModel {
    state: TypedSimpleState,
    inputs: TVec<TValue>,
}

/// Loads a model for the shapes of its inputs. Without threads beside the caller's for one thread,
/// with a pool of that many for more.
pub(crate) fn load(model: &Path, mut inputs: Inputs, threads: usize) -> Result<Box<dyn Loaded>> {
    // Shapes noted in the file have symbols where the inputs' shapes are known here.
    let importer = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let mut network = importer.model_for_path(model)?;
    let mut values = TVec::new();
    for place in 0..network.inputs.len() {
        let name = network.node(network.inputs[place].node).name.clone();
        let tensor = match inputs.take(&name)? {
            Array::F32(array) => array.into_tensor(),
            Array::I64(array) => array.into_tensor(),
        };
        let fact = InferenceFact::dt_shape(tensor.datum_type(), tensor.shape());
        network.set_input_fact(place, fact)?;
        values.push(tensor.into_tvalue());
    }
    let executor =
        if threads == 1 { Executor::SingleThread } else { Executor::multithread(threads) };
    let options = RunOptions { executor: Some(executor), ..RunOptions::default() };
    let plan = network.into_optimized()?.into_runnable_with_options(&options)?;
    Ok(Box::new(TractModel { state: plan.spawn()?, inputs: values }))
}

impl Loaded for TractModel {
    fn run(&mut self) -> Result<()> {
        self.state.run(self.inputs.clone())?;
        Ok(())
    }

    fn answers(&mut self) -> Result<Answers> {
        let outputs = self.state.run(self.inputs.clone())?;
        let floats = outputs.iter().filter_map(|output| output.to_plain_array_view::<f32>().ok());
        Ok(floats.map(|array| array.to_owned()).collect())
    }
}
