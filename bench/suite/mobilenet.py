"""MobileNetV2 (Sandler et al., arXiv 1801.04381), with random weights."""

import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from suite.entry import Entry, pictures

# Table 2 of the paper: expansion, output channels, blocks, stride of the first block.
STAGES = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def entries() -> Iterator[Entry]:
    """Yields the network at batch 1 and 8."""
    yield Entry("mobilenetv2", build(), pictures("input", 224, (1, 8)))


class Builder:
    """Collects nodes and random weights; each method returns its output's name."""

    def __init__(self):
        """Starts with the bounds of ReLU6."""
        self.rng = np.random.default_rng(2)
        self.nodes = []
        self.constants = {"zero": np.float32(0), "six": np.float32(6)}

    def add(self, operator: str, *inputs: str, **attributes) -> str:
        """Appends a node with one output."""
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, values: np.ndarray) -> str:
        """Adds a weight."""
        name = f"weight_{len(self.constants)}"
        self.constants[name] = values.astype(np.float32)
        return name

    def convolution(self, x, channels, out, kernel, stride=1, groups=1, activate=True) -> str:
        """Appends convolution, batch normalisation and, unless told not to, ReLU6."""
        shape = (out, channels // groups, kernel, kernel)
        weight = self.rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
        x = self.add(
            "Conv",
            x,
            self.constant(weight),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=groups,
        )
        scale, variance = self.rng.uniform(0.8, 1.2, (2, out))
        bias, mean = self.rng.standard_normal((2, out)) * 0.05
        x = self.add("BatchNormalization", x, *map(self.constant, (scale, bias, mean, variance)))
        return self.add("Clip", x, "zero", "six") if activate else x

    def block(self, x, channels, out, expansion, stride) -> str:
        """Appends an inverted residual."""
        inner = channels * expansion
        y = self.convolution(x, channels, inner, 1) if expansion > 1 else x
        y = self.convolution(y, inner, inner, 3, stride, groups=inner)
        y = self.convolution(y, inner, out, 1, activate=False)
        return self.add("Add", x, y) if stride == 1 and channels == out else y


def build() -> onnx.ModelProto:
    """Returns the network for pictures of 224 x 224."""
    b = Builder()
    x, channels = b.convolution("input", 3, 32, 3, 2), 32
    for expansion, out, blocks, first_stride in STAGES:
        for index in range(blocks):
            x = b.block(x, channels, out, expansion, first_stride if index == 0 else 1)
            channels = out
    x = b.convolution(x, channels, 1280, 1)
    x = b.add("Flatten", b.add("GlobalAveragePool", x), axis=1)
    weight = b.constant(b.rng.standard_normal((1000, 1280)) * 0.03)
    x = b.add("Gemm", x, weight, b.constant(np.zeros(1000)), transB=1)
    b.nodes.append(helper.make_node("Identity", [x], ["output"]))
    graph = helper.make_graph(
        b.nodes,
        "mobilenetv2",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 1000])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in b.constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
