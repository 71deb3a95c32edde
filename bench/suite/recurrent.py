"""Two LSTM layers and a classifier over sequences of 64 features, with random weights."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from suite.entry import Entry

FEATURES, HIDDEN, CLASSES = 64, 256, 10
SHAPES = [(1, 32), (1, 100), (8, 100)]


def entries() -> Iterator[Entry]:
    """Yields the network for several batches and lengths."""
    rng = np.random.default_rng(5)
    inputs = {}
    for batch, length in SHAPES:
        values = rng.standard_normal((batch, length, FEATURES)).astype(np.float32)
        inputs[f"b{batch}_s{length}"] = {"x": values}
    yield Entry("lstm", build(), inputs)


def build() -> onnx.ModelProto:
    """Returns the network; x is [batch, sequence, features], as trainers lay it out."""
    rng = np.random.default_rng(4)
    constants, nodes = {"directions": np.array([1], np.int64)}, []

    def add(operator, inputs, outputs, **attributes):
        nodes.append(helper.make_node(operator, inputs, outputs, **attributes))

    add("Transpose", ["x"], ["steps"], perm=[1, 0, 2])
    steps, width = "steps", FEATURES
    for layer in ("first", "second"):
        shapes = {"w": (1, 4 * HIDDEN, width), "r": (1, 4 * HIDDEN, HIDDEN), "b": (1, 8 * HIDDEN)}
        for part, shape in shapes.items():
            weight = rng.standard_normal(shape) / np.sqrt(HIDDEN)
            constants[f"{layer}.{part}"] = weight.astype(np.float32)
        parts = [f"{layer}.{part}" for part in shapes]
        outputs = [f"{layer}.all", f"{layer}.last"]
        add("LSTM", [steps, *parts], outputs, hidden_size=HIDDEN, name=layer)
        add("Squeeze", [outputs[0], "directions"], [f"{layer}.steps"])
        steps, width = f"{layer}.steps", HIDDEN
    constants["zero"] = np.array([0], np.int64)
    constants["out.w"] = (rng.standard_normal((HIDDEN, CLASSES)) / 16).astype(np.float32)
    constants["out.b"] = np.zeros(CLASSES, np.float32)
    add("Squeeze", ["second.last", "zero"], ["state"])
    add("Gemm", ["state", "out.w", "out.b"], ["scores"])
    axes = ["batch", "sequence", FEATURES]
    graph = helper.make_graph(
        nodes,
        "lstm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
