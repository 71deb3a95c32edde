"""Quantised models against others' answers, through `landfall run` and `landfall inspect`.

`quant/build.py` quantises small networks with ONNX Runtime and records the answers; a folder that
it made with `--survey` is tested instead if `LANDFALL_QUANT_SURVEY` names it.
"""

import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

FOLDER = pathlib.Path(
    os.environ.get("LANDFALL_QUANT_SURVEY", pathlib.Path(__file__).parent / "quant")
)
INDEX = json.loads((FOLDER / "index.json").read_text())
# The share of elements that may be one step off, where the two kinds of arithmetic round apart.
OFF_BY_ONE = 0.02
PRODUCTS = {"Conv", "FusedConv", "MatMul", "FusedMatMul", "Gemm"}


def landfall(*arguments):
    done = subprocess.run(
        [os.environ["LANDFALL_BIN"], *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("case", INDEX["cases"], ids=lambda case: case["name"])
def test_answers_are_within_a_quantisation_step(case, tmp_path):
    with np.load(FOLDER / "cases" / f"{case['name']}.npz") as archive:
        arrays = dict(archive)
    inputs = {k.removeprefix("input."): v for k, v in arrays.items() if k.startswith("input.")}
    np.savez(tmp_path / "in.npz", **inputs)
    model = FOLDER / "cases" / f"{case['name']}.onnx"
    landfall("run", model, "--input", tmp_path / "in.npz", "--output", tmp_path / "out.npz")
    expected = arrays[f"expected.{case['output']}"]
    with np.load(tmp_path / "out.npz") as outputs:
        found = outputs[case["output"]]
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    steps = np.abs(found.astype(np.float64) - expected) / case["step"]
    assert steps.max() <= 1.01, f"differs by {steps.max():.2f} steps"
    share = np.mean(steps > 0.5)
    assert share <= OFF_BY_ONE, f"{share:.1%} of the elements differ by a step"


@pytest.mark.parametrize("case", INDEX["cases"], ids=lambda case: case["name"])
def test_every_product_is_computed_in_integers(case):
    model = FOLDER / "cases" / f"{case['name']}.onnx"
    nodes = json.loads(landfall("inspect", model, "--json"))["nodes"]
    floats = [node["name"] for node in nodes if node["operator"].split(".")[-1] in PRODUCTS]
    assert not floats, f"products in floats: {floats}"
