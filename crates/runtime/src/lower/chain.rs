//! Convolutions that run as one: expanding 1×1 (or none), depthwise, projecting 1×1.

use landfall_kernels::{ConvChain, ConvStage, Cpu, Isa, RowsMut, RowsRef, conv_chain};

use crate::kernel::{Convolution, Io};
use crate::{Kernel, KernelError, KernelInfo};

/// Operands: the input, the bias of every convolution, and the residual of the last.
pub(crate) struct Chain {
    isa: &'static str,
    stages: Vec<Convolution>,
}

impl Chain {
    /// Two or three convolutions of which each reads what the one before leaves; `None` if they
    /// cannot run as one or had better not.
    pub(crate) fn new(cpu: Cpu, stages: Vec<Convolution>) -> Option<Chain> {
        let chain = Chain { isa: cpu.isa().name(), stages };
        let found = chain.chain(&[None; 3]).ok()?;
        // The scalar twin would keep whole batches of what lies between, which no plan counts.
        let in_bands = cpu.isa() != Isa::Reference;
        (in_bands && found.is_possible() && found.is_worthwhile(cpu.caches())).then_some(chain)
    }

    /// The chain with the biases of its convolutions.
    fn chain<'a>(&'a self, biases: &[Option<&'a [f32]>]) -> Result<ConvChain<'a>, KernelError> {
        let stage = |index: usize| -> Result<ConvStage<'a>, KernelError> {
            let Convolution { conv, weights, activation } = &self.stages[index];
            let (weights, bias) = (weights.as_slice()?, biases[index]);
            Ok(ConvStage { conv: *conv, weights, bias, activation: *activation })
        };
        let last = self.stages.len() - 1;
        Ok(ConvChain {
            expand: if last == 2 { Some(stage(0)?) } else { None },
            depthwise: stage(last - 1)?,
            project: stage(last)?,
        })
    }
}

impl Kernel for Chain {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?.as_slice::<f32>()?;
        let floats = |index: usize| io.optional(index).map(|v| v.as_slice::<f32>()).transpose();
        let mut biases = [None; 3];
        for (index, bias) in biases.iter_mut().enumerate().take(self.stages.len()) {
            *bias = floats(1 + index)?;
        }
        let chain = self.chain(&biases)?;
        let stride = chain.project.conv.out_channels;
        let residual = floats(1 + self.stages.len())?.map(|data| RowsRef { data, stride });
        let (exec, data) = (io.exec, io.outputs[0].as_mut_slice::<f32>()?);
        conv_chain(exec, &chain, input, residual, RowsMut { data, stride });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        let kernel = match self.stages.len() {
            3 => "inverted_residual_f32",
            _ => "depthwise_separable_f32",
        };
        KernelInfo { kernel, isa: self.isa, precision: "f32", reason: String::new() }
    }
}

/// A step that the next one does with its own.
pub(crate) struct Merged;

impl Kernel for Merged {
    fn run(&self, _: &mut Io<'_>) -> Result<(), KernelError> {
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("merged", "f32").because("the next convolution does it band by band")
    }
}
