//! Fused activations: from the graph's to the kernels'.

use landfall_graph::Activation as Graph;
use landfall_kernels::Activation as Kernel;

pub(super) fn activation(activation: Graph) -> Kernel {
    match activation {
        Graph::None => Kernel::None,
        Graph::Relu => Kernel::Relu,
        Graph::Clip(low, high) => Kernel::Clip(low, high),
        Graph::LeakyRelu(slope) => Kernel::LeakyRelu(slope),
        Graph::Sigmoid => Kernel::Sigmoid,
        Graph::Tanh => Kernel::Tanh,
        Graph::Silu => Kernel::Silu,
        Graph::HardSwish => Kernel::HardSwish,
        Graph::HardSigmoid(alpha, beta) => Kernel::HardSigmoid { alpha, beta },
        Graph::Gelu => Kernel::Gelu,
        Graph::GeluTanh => Kernel::GeluTanh,
    }
}
