"""Convolutional networks from the onnx package's light models, with random weights.

The package ships the architectures with every weight replaced by a ConstantOfShape. Here each of
those becomes an initialiser, scaled by its use so that activations stay in range, and the batch
becomes symbolic. The last layer is scaled to scores of a standard deviation of 2: otherwise a
softmax over random scores is all 0 and 1, and hides wrong answers.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, version_converter

from suite.entry import Entry, pictures

NAMES = ["squeezenet", "resnet50", "densenet121", "inception_v2", "shufflenet", "vgg19"]
OPSET = 13
SCORE_DEVIATION = 2.0


def entries() -> Iterator[Entry]:
    """Yields every light model, at batch 1 and 8."""
    for name in NAMES:
        model = load(name)
        batches = (1,) if name == "vgg19" else (1, 8)
        yield Entry(name, model, pictures(model.graph.input[0].name, 224, batches))


def load(name: str) -> onnx.ModelProto:
    """Returns a light model with random weights and a symbolic batch."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    model = onnx.load(folder / f"light_{name}.onnx")
    fill_weights(model.graph, np.random.default_rng(1))
    free_batch(model.graph)
    model.ir_version = 8
    model = version_converter.convert_version(model, OPSET)
    scale_scores(model)
    onnx.checker.check_model(model)
    return model


def fill_weights(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    """Replaces every ConstantOfShape by an initialiser."""
    shapes = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    users = first_users(graph)
    filled = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    weights = [
        numpy_helper.from_array(
            random_weight(role(users, node.output[0]), shapes[node.input[0]], rng), node.output[0]
        )
        for node in filled
    ]
    kept_nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    used = {name for node in kept_nodes for name in node.input}
    kept = [i for i in graph.initializer if i.name in used]
    inputs = [i for i in graph.input if i.name in used and i.name not in shapes]
    for field, values in (
        (graph.node, kept_nodes),
        (graph.initializer, kept + weights),
        (graph.input, inputs),
    ):
        del field[:]
        field.extend(values)


def scale_scores(model: onnx.ModelProto) -> None:
    """Scales the last layer by what its scores are for a random picture."""
    graph = model.graph
    softmax = [node for node in graph.node if node.op_type == "Softmax"]
    scores = softmax[-1].input[0] if softmax else graph.output[0].name
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.append(onnx.helper.make_empty_tensor_value_info(scores))
    session = onnxruntime.InferenceSession(probe.SerializeToString())
    (found,) = session.run(None, pictures(graph.input[0].name, 224, (1,))["b1"])
    last = [node for node in graph.node if node.op_type in {"Conv", "Gemm"}][-1]
    for constant in graph.initializer:
        if constant.name in last.input[1:]:
            values = numpy_helper.to_array(constant) * np.float32(SCORE_DEVIATION / found.std())
            constant.CopyFrom(numpy_helper.from_array(values, constant.name))


def first_users(graph: onnx.GraphProto) -> dict[str, tuple[onnx.NodeProto, int]]:
    """Returns, per value, the first node that takes it and at which place."""
    users = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            users.setdefault(name, (node, place))
    return users


def role(users: dict, name: str) -> tuple[str, int]:
    """Returns the operator and place that a weight serves, seen through one Unsqueeze."""
    node, place = users.get(name, (None, 0))
    if node is not None and node.op_type == "Unsqueeze":
        node, place = users.get(node.output[0], (None, 0))
    return (node.op_type, place) if node is not None else ("", 0)


def random_weight(use: tuple[str, int], shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a weight for its use; He-normal for convolutions, near one for scales."""
    shape = tuple(int(size) for size in shape)
    if use == ("Conv", 1):
        values = rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
    elif use == ("Gemm", 1):
        values = rng.standard_normal(shape) * math.sqrt(1 / max(shape))
    elif use in {("BatchNormalization", 1), ("BatchNormalization", 4)} or use[0] == "Mul":
        values = rng.uniform(0.7, 1.2, shape)
    else:
        values = rng.standard_normal(shape) * 0.05
    return values.astype(np.float32)


def free_batch(graph: onnx.GraphProto) -> None:
    """Makes the first axis symbolic; a Reshape to [1, ...] copies the batch instead."""
    targets = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for constant in graph.initializer:
        if constant.name in targets:
            shape = numpy_helper.to_array(constant).copy()
            if shape[0] == 1:
                shape[0] = 0
                constant.CopyFrom(numpy_helper.from_array(shape, constant.name))
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    del graph.value_info[:]
