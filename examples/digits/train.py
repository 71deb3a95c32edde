"""Trains a small convolutional network on scikit-learn's digits and writes it as ONNX.

Writes models/digits/1/model.onnx, digits.npz (the test pictures, under the model's input name) and
labels.npz (what they show). The ONNX file must reproduce the trained network's own probabilities
within 1e-5, or nothing is written.

Input `image`: FP32 [N, 1, 8, 8], ink from 0 to 16. Output `probabilities`: FP32 [N, 10].
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

FOLDER = Path(__file__).resolve().parent

# The first 1,437 pictures train, the last 360 test. They are not shuffled: neighbours are by the
# same writer, and a random split would put every writer on both sides.
TRAIN_ROWS = 1437
INK = 16.0
TOLERANCE = 1e-5

EPOCHS = 60
BATCH = 32
RATE = 2e-3
DECAY = 1e-2
BETAS = (0.9, 0.999)

SHAPES = {
    "conv1.weight": (16, 1, 3, 3),
    "conv1.bias": (16,),
    "conv2.weight": (32, 16, 3, 3),
    "conv2.bias": (32,),
    "dense1.weight": (512, 64),
    "dense1.bias": (64,),
    "dense2.weight": (64, 10),
    "dense2.bias": (10,),
}


def initial(key) -> dict:
    """Returns He-normal weights and zero biases."""
    weights = {}
    for name, shape in SHAPES.items():
        key, own = jax.random.split(key)
        fan_in = np.prod(shape[1:]) if len(shape) == 4 else shape[0]
        scale = np.sqrt(2 / fan_in) if name.endswith("weight") else 0.0
        weights[name] = scale * jax.random.normal(own, shape)
    return weights


def convolve(x, weights: dict, name: str):
    """Applies a 3 x 3 convolution with zero padding, and ReLU; x is [N, channels, 8, 8]."""
    y = jax.lax.conv(x, weights[f"{name}.weight"], (1, 1), "SAME")
    return jax.nn.relu(y + weights[f"{name}.bias"][:, None, None])


def logits(weights: dict, image):
    """Returns [N, 10] scores for pictures [N, 1, 8, 8]."""
    x = convolve(convolve(image / INK, weights, "conv1"), weights, "conv2")
    x = x.reshape(len(x), 32, 4, 2, 4, 2).max(axis=(3, 5)).reshape(len(x), 512)
    x = jax.nn.relu(x @ weights["dense1.weight"] + weights["dense1.bias"])
    return x @ weights["dense2.weight"] + weights["dense2.bias"]


def loss(weights: dict, image, label):
    """Returns the mean cross-entropy."""
    scores = jax.nn.log_softmax(logits(weights, image))
    return -jnp.take_along_axis(scores, label[:, None], axis=1).mean()


@jax.jit
def step(weights, first, second, count, rate, image, label):
    """Takes one step of AdamW (Loshchilov and Hutter, arXiv 1711.05101)."""
    gradient = jax.grad(loss)(weights, image, label)
    one, two = BETAS
    first = jax.tree.map(lambda m, g: one * m + (1 - one) * g, first, gradient)
    second = jax.tree.map(lambda v, g: two * v + (1 - two) * g * g, second, gradient)

    def update(w, m, v):
        direction = (m / (1 - one**count)) / (jnp.sqrt(v / (1 - two**count)) + 1e-8)
        return w - rate * (direction + DECAY * w)

    return jax.tree.map(update, weights, first, second), first, second


def shifted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moves each picture by at most one pixel each way."""
    padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)))
    down, right = rng.integers(0, 3, (2, len(image)))
    moved = [p[:, d : d + 8, r : r + 8] for p, d, r in zip(padded, down, right, strict=True)]
    return np.stack(moved)


def train(image: np.ndarray, label: np.ndarray, seed: int) -> dict:
    """Trains for EPOCHS with a learning rate that falls along a cosine to zero."""
    rng = np.random.default_rng(seed)
    weights = initial(jax.random.key(seed))
    first = second = jax.tree.map(jnp.zeros_like, weights)
    steps_per_epoch = len(image) // BATCH
    total = EPOCHS * steps_per_epoch
    for epoch in range(EPOCHS):
        order = rng.permutation(len(image))[: steps_per_epoch * BATCH]
        for index, rows in enumerate(order.reshape(-1, BATCH)):
            count = epoch * steps_per_epoch + index + 1
            rate = RATE * 0.5 * (1 + np.cos(np.pi * count / total))
            batch = shifted(image[rows], rng)
            weights, first, second = step(
                weights, first, second, float(count), rate, batch, label[rows]
            )
    return {name: np.asarray(value, np.float32) for name, value in weights.items()}


def build(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Returns the network with a symbolic batch."""

    def node(operator, inputs, output, **attributes):
        return helper.make_node(operator, inputs, [output], name=output, **attributes)

    def convolution(x, name):
        parts = [x, f"{name}.weight", f"{name}.bias"]
        same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        return [node("Conv", parts, name, **same), node("Relu", [name], f"{name}.relu")]

    def dense(x, name):
        return node("Gemm", [x, f"{name}.weight", f"{name}.bias"], name)

    nodes = [
        node("Div", ["image", "ink"], "scaled"),
        *convolution("scaled", "conv1"),
        *convolution("conv1.relu", "conv2"),
        node("MaxPool", ["conv2.relu"], "pooled", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["pooled"], "flat", axis=1),
        dense("flat", "dense1"),
        node("Relu", ["dense1"], "dense1.relu"),
        dense("dense1.relu", "dense2"),
        node("Softmax", ["dense2"], "probabilities", axis=1),
    ]
    constants = {**weights, "ink": np.array(INK, np.float32)}
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def check_reproduces(model: onnx.ModelProto, weights: dict, image: np.ndarray) -> float:
    """Returns the largest difference between ONNX and the trained network; raises above 1e-5."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"image": image})
    difference = float(np.abs(found - jax.nn.softmax(logits(weights, image))).max())
    if difference > TOLERANCE:
        raise SystemExit(f"ONNX differs from the network by {difference:.2e} > {TOLERANCE:.0e}")
    return difference


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write into")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    digits = load_digits()
    image = digits.images.astype(np.float32)[:, None]
    label = digits.target.astype(np.int64)
    test_image, test_label = image[TRAIN_ROWS:], label[TRAIN_ROWS:]
    weights = train(image[:TRAIN_ROWS], label[:TRAIN_ROWS], arguments.seed)
    model = build(weights)
    difference = check_reproduces(model, weights, image)

    path = arguments.out / "models" / "digits" / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    np.savez_compressed(arguments.out / "digits.npz", image=test_image)
    np.savez_compressed(arguments.out / "labels.npz", label=test_label)
    right = np.argmax(logits(weights, test_image), axis=1) == test_label
    print(f"parameters: {sum(w.size for w in weights.values())}")
    print(f"ONNX against the trained network: {difference:.1e}")
    print(f"test accuracy: {right.mean():.4f} ({right.sum()} of {len(right)})")


if __name__ == "__main__":
    main()
