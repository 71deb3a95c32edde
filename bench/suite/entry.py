"""What a model of the suite is, and how its files are named."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx


@dataclass
class Entry:
    """A model with a symbolic batch, and inputs for it by a label such as `b8` or `b1_s128`.

    `sources` holds what the model was converted from, by the ending of the file to write.
    """

    name: str
    model: onnx.ModelProto
    inputs: dict[str, dict[str, np.ndarray]]
    sources: dict[str, str] = field(default_factory=dict)


def write(entry: Entry, folder: Path) -> list[dict]:
    """Writes NAME.onnx, its sources and NAME.LABEL.npz; returns suite.json's lines by label."""
    onnx.save(entry.model, folder / f"{entry.name}.onnx")
    for ending, text in entry.sources.items():
        (folder / f"{entry.name}.{ending}").write_text(text)
    lines = []
    for label, arrays in entry.inputs.items():
        inputs = f"{entry.name}.{label}.npz"
        np.savez(folder / inputs, **arrays)
        lines.append({"model": f"{entry.name}.onnx", "inputs": inputs, **shape_of(label)})
    return lines


def shape_of(label: str) -> dict[str, int]:
    """Reads a label: `b8_s128` is batch 8, sequence length 128."""
    names = {"b": "batch", "s": "sequence"}
    return {names[part[0]]: int(part[1:]) for part in label.split("_")}


def write_index(lines: list[dict], folder: Path) -> None:
    """Adds lines to suite.json, in place of those about the same inputs."""
    path = folder / "suite.json"
    known = json.loads(path.read_text()) if path.exists() else []
    new = {line["inputs"] for line in lines}
    kept = [line for line in known if line["inputs"] not in new]
    path.write_text(json.dumps(kept + lines, indent=1) + "\n")


def pictures(name: str, side: int, batches: tuple[int, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Returns random pictures [batch, 3, side, side] for every batch."""
    rng = np.random.default_rng(0)
    return {
        f"b{batch}": {name: rng.standard_normal((batch, 3, side, side)).astype(np.float32)}
        for batch in batches
    }
