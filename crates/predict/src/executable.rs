//! What the serving path needs of a compiled model: nothing more than this.

use landfall_graph::Signature;
use landfall_tensor::Tensor;

/// A model ready to run. Implemented by the runtime's compiled model, and by fakes in tests.
pub trait Executable: Send + Sync {
    /// Names, datatypes and shapes of inputs and outputs.
    fn signature(&self) -> &Signature;

    /// Runs the model once. `inputs` are in the signature's order and fit it; outputs come back in
    /// the signature's order. The error names the failing node.
    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String>;
}

impl Executable for landfall_runtime::Model {
    fn signature(&self) -> &Signature {
        self.signature()
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        self.run(inputs).map_err(|error| error.to_string())
    }
}
