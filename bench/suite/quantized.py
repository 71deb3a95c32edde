"""8-bit models as users get them from onnxruntime.quantization: QDQ networks, dynamic encoders."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from suite import examples, light, mobilenet
from suite.entry import Entry, pictures

CALIBRATION_PICTURES = 4
QDQ_SHAPES = (1, 8)
DYNAMIC_SHAPES = [(1, 16), (1, 128), (8, 128)]


def entries() -> Iterator[Entry]:
    """Yields MobileNetV2 and ResNet-50 in QDQ of both signednesses, and a dynamic MiniLM."""
    for name, model in (("mobilenetv2", mobilenet.build()), ("resnet50", light.load("resnet50"))):
        place = model.graph.input[0].name
        for activations in (QuantType.QUInt8, QuantType.QInt8):
            label = "u8s8" if activations == QuantType.QUInt8 else "s8s8"
            quantised = static(model, place, activations)
            yield Entry(f"{name}-{label}", quantised, pictures(place, 224, QDQ_SHAPES))
    tokens = examples.tokens(DYNAMIC_SHAPES, segments=True)
    yield Entry("minilm-dynamic", dynamic(examples.minilm()), tokens)


class Pictures(CalibrationDataReader):
    """Random pictures, one at a time."""

    def __init__(self, name: str):
        """Draws pictures for the input `name`."""
        rng = np.random.default_rng(7)
        shape = (1, 3, 224, 224)
        draws = (rng.standard_normal(shape) for _ in range(CALIBRATION_PICTURES))
        self.feeds = iter([{name: draw.astype(np.float32)} for draw in draws])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Returns the next feed, or None at the end."""
        return next(self.feeds, None)


def static(model: onnx.ModelProto, name: str, activations: QuantType) -> onnx.ModelProto:
    """Quantises weights (per channel) and activations as QDQ, after onnxruntime's preparation."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / part for part in ("f32.onnx", "prepared.onnx", "int8.onnx")]
        onnx.save(model, paths[0])
        quant_pre_process(str(paths[0]), str(paths[1]), skip_symbolic_shape=True)
        quantize_static(
            str(paths[1]),
            str(paths[2]),
            Pictures(name),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=activations,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(paths[2])


def dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """Quantises the weights of matrix products; activations when they are known."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / part for part in ("f32.onnx", "int8.onnx")]
        onnx.save(model, paths[0])
        quantize_dynamic(str(paths[0]), str(paths[1]), weight_type=QuantType.QInt8)
        return onnx.load(paths[1])
