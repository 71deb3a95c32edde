"""Makes the golden files of quantised models: small networks quantised with ONNX Runtime.

Writes cases/NAME.onnx, cases/NAME.npz and index.json. The archive holds the model's inputs as
`input.<name>` and the onnx package's answers as `expected.<output>`; how far ONNX Runtime is from
them is printed. Every case states the size of one quantisation step of its output: the fixed-point
arithmetic of Landfall and floating-point arithmetic may round a few elements apart.

With `--survey DIR`, writes there larger cases as well, made from the digits example.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

FOLDER = Path(__file__).resolve().parent
DIGITS = FOLDER.parents[2] / "examples" / "digits"
TYPES = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}
FORMATS = {"qdq": QuantFormat.QDQ, "operator": QuantFormat.QOperator}


class Network:
    """A float network under construction."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants = [], []

    def constant(self, *shape, scale=None):
        name = f"c{len(self.constants)}"
        fan_in = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
        scale = scale or fan_in**-0.5
        values = (self.random.standard_normal(shape) * scale).astype(np.float32)
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def add(self, operator, *inputs, **attributes):
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def conv(self, x, channels, outputs, kernel, group=1, stride=1, activation=None):
        weight = self.constant(outputs, channels // group, kernel, kernel)
        bias = self.constant(outputs, scale=0.1)
        x = self.add(
            "Conv", x, weight, bias, group=group, strides=[stride] * 2, pads=[kernel // 2] * 4
        )
        if activation == "Clip":
            low = numpy_helper.from_array(np.float32(0), f"low{len(self.nodes)}")
            high = numpy_helper.from_array(np.float32(1.5), f"high{len(self.nodes)}")
            self.constants += [low, high]
            return self.add("Clip", x, low.name, high.name)
        return self.add(activation, x) if activation else x

    def model(self, output, shape):
        self.nodes[-1].output[0] = "y"
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "network", [x], [y], self.constants)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
        )


def convolutions():
    net = Network(1)
    x = net.conv("x", 3, 8, 3, stride=2, activation="Relu")
    x = net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.conv(x, 8, 12, 3, activation="Relu")
    x = net.add("Flatten", x)
    x = net.add("Gemm", x, net.constant(12 * 16, 10), net.constant(10, scale=0.1))
    return net.model(x, ["N", 3, 16, 16])


def mobile_block():
    net = Network(2)
    stem = net.conv("x", 3, 8, 3, stride=2, activation="Clip")
    x = net.conv(stem, 8, 24, 1, activation="Clip")
    x = net.conv(x, 24, 24, 3, group=24, activation="Clip")
    x = net.conv(x, 24, 8, 1)
    x = net.add("Add", x, stem)
    x = net.add("GlobalAveragePool", x)
    x = net.add("Flatten", x)
    x = net.add("Gemm", x, net.constant(8, 10), net.constant(10, scale=0.1))
    return net.model(x, ["N", 3, 16, 16])


def perceptron():
    net = Network(3)
    x = net.add("MatMul", "x", net.constant(24, 32))
    x = net.add("Add", x, net.constant(32, scale=0.1))
    x = net.add("Relu", x)
    x = net.add("MatMul", x, net.constant(32, 10))
    return net.model(x, ["N", 5, 24])


def grouped():
    net = Network(4)
    x = net.conv("x", 4, 12, 3, group=2, activation="Relu")
    x = net.conv(x, 12, 6, 1, group=3)
    return net.model(x, ["N", 4, 9, 7])


class Samples(CalibrationDataReader):
    def __init__(self, name, batches):
        self.batches = iter([{name: batch} for batch in batches])

    def get_next(self):
        return next(self.batches, None)


def samples(model, count, seed):
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = [d.dim_value or 2 for d in dims]
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(np.float32) for _ in range(count)]


def quantized(model, batches, form, activation, weight, per_channel):
    name = model.graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "quantized.onnx"
        onnx.save(model, source)
        if form == "dynamic":
            quantize_dynamic(source, target, weight_type=TYPES[weight], per_channel=per_channel)
        else:
            quantize_static(
                source,
                target,
                Samples(name, batches),
                quant_format=FORMATS[form],
                activation_type=TYPES[activation],
                weight_type=TYPES[weight],
                per_channel=per_channel,
            )
        return onnx.load(target)


def integer_edges(model, shape):
    """The same QDQ model with the input already quantised and the output left so."""
    graph = model.graph
    first = next(n for n in graph.node if "x" in n.input and n.op_type == "QuantizeLinear")
    last = next(n for n in graph.node if "y" in n.output and n.op_type == "DequantizeLinear")
    zero = next(c for c in graph.initializer if c.name == first.input[2])
    edges = {}
    for name, kind in ((first.output[0], "input"), (last.input[0], "output")):
        edges[kind] = helper.make_tensor_value_info(
            name, zero.data_type, shape if kind == "input" else None
        )
    graph.node.remove(first)
    graph.node.remove(last)
    del graph.input[:], graph.output[:]
    graph.input.append(edges["input"])
    graph.output.append(edges["output"])
    return model


def real(steps, scale, zero):
    return (steps.astype(np.float64) - zero) * scale.astype(np.float64)


def steps(values, scale, zero):
    limits = np.iinfo(zero.dtype)
    rounded = np.rint(values / scale.astype(np.float64)) + zero
    return np.clip(rounded, limits.min, limits.max).astype(zero.dtype)


class QGemm(OpRun):
    op_domain = "com.microsoft"

    def _run(self, a, a_scale, a_zero, b, b_scale, b_zero, c, y_scale, y_zero):
        unit = a_scale.astype(np.float64) * b_scale
        product = real(a, a_scale, a_zero) @ real(b, b_scale, b_zero)
        return (steps(product + c * unit, y_scale, y_zero),)


class QLinearAdd(OpRun):
    op_domain = "com.microsoft"

    def _run(self, a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):
        return (steps(real(a, a_scale, a_zero) + real(b, b_scale, b_zero), y_scale, y_zero),)


class QLinearGlobalAveragePool(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x, x_scale, x_zero, y_scale, y_zero, channels_last=None):
        mean = real(x, x_scale, x_zero).mean(axis=(2, 3), keepdims=True)
        return (steps(mean, y_scale, y_zero),)


def exact(model, inputs):
    """The answers of the onnx package, to which ONNX Runtime's own operators are added."""
    # Its sums are exact, while ONNX Runtime's of u8 and s8 saturate on processors without VNNI.
    evaluator = ReferenceEvaluator(model, new_ops=[QGemm, QLinearAdd, QLinearGlobalAveragePool])
    return dict(zip(evaluator.output_names, evaluator.run(None, inputs)))


def by_onnxruntime(model, inputs):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs)))


def output_step(model, expected):
    """One step of the quantised output; for a float output, 1/255 of its range."""
    name = model.graph.output[0].name
    producer = next(n for n in model.graph.node if name in n.output)
    if expected.dtype.kind != "f":
        return 1.0
    if producer.op_type == "DequantizeLinear":
        scale = next(c for c in model.graph.initializer if c.name == producer.input[1])
        return float(numpy_helper.to_array(scale).max())
    return float(np.ptp(expected)) / 255


def write(folder, name, model, inputs):
    onnx.save(model, folder / f"{name}.onnx")
    found = exact(model, inputs)
    (output, value), = found.items()
    step = output_step(model, value)
    apart = np.abs(by_onnxruntime(model, inputs)[output].astype(np.float64) - value) / step
    print(f"{name}: ONNX Runtime is up to {apart.max():.2f} steps off, {np.mean(apart > 0.5):.1%}")
    arrays = {f"input.{key}": value for key, value in inputs.items()}
    arrays |= {f"expected.{key}": value for key, value in found.items()}
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    return {"name": name, "output": output, "step": step}


def small_case(folder, name, network, form, activation, weight, per_channel=False, edges=False):
    model = network()
    batches = samples(model, 8, 7)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = [d.dim_value or "N" for d in dims]
    model = quantized(model, batches, form, activation, weight, per_channel)
    inputs = {"x": samples(network(), 1, 8)[0]}
    if edges:
        model = integer_edges(model, shape)
        entry = model.graph.input[0]
        signed = entry.type.tensor_type.elem_type == TensorProto.INT8
        steps = np.clip(np.rint(inputs["x"] * 32), -128, 127)
        value = steps.astype(np.int8) if signed else (steps + 128).astype(np.uint8)
        inputs = {entry.name: value}
    return write(folder, name, model, inputs)


GOLDEN = [
    ("conv_qdq_u8s8_per_channel", convolutions, "qdq", "u8", "s8", True),
    ("mobile_qdq_s8s8_integer_edges", mobile_block, "qdq", "s8", "s8", True, True),
    ("mobile_operator_u8u8", mobile_block, "operator", "u8", "u8"),
    ("perceptron_dynamic_s8", perceptron, "dynamic", "u8", "s8"),
]


def survey():
    for network in (convolutions, mobile_block, perceptron, grouped):
        for form in ("qdq", "operator"):
            for activation, weight in (("u8", "s8"), ("s8", "s8"), ("u8", "u8")):
                for per_channel in (False, True):
                    channel = "_per_channel" if per_channel else ""
                    name = f"{network.__name__}_{form}_{activation}{weight}{channel}"
                    yield name, network, form, activation, weight, per_channel
        for weight in ("u8", "s8"):
            yield f"{network.__name__}_dynamic_{weight}", network, "dynamic", "u8", weight


def digits(folder):
    model = onnx.load(DIGITS / "models" / "digits" / "1" / "model.onnx")
    model = onnx.version_converter.convert_version(model, 21)
    pictures = np.load(DIGITS / "digits.npz")["image"]
    batches = [pictures[i : i + 20] for i in range(0, 100, 20)]
    for form, activation, weight, per_channel in [
        ("qdq", "u8", "s8", True),
        ("qdq", "s8", "s8", False),
        ("operator", "u8", "u8", False),
        ("dynamic", "u8", "s8", False),
    ]:
        name = f"digits_{form}_{activation}{weight}"
        made = quantized(model, batches, form, activation, weight, per_channel)
        yield write(folder, name, made, {"image": pictures})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--survey", type=Path, help="write a wider set of cases to this folder")
    arguments = parser.parse_args()
    if arguments.survey:
        folder = arguments.survey / "cases"
        folder.mkdir(parents=True, exist_ok=True)
        cases = []
        for case in survey():
            try:
                cases.append(small_case(folder, *case))
            except Exception as error:  # ONNX Runtime refuses some combinations.
                print(f"{case[0]}: not made: {error}")
        cases += digits(folder)
        index = arguments.survey / "index.json"
    else:
        folder = FOLDER / "cases"
        folder.mkdir(exist_ok=True)
        cases = [small_case(folder, *case) for case in GOLDEN]
        index = FOLDER / "index.json"
    versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    index.write_text(json.dumps({"versions": versions, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
