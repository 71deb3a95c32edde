"""Classical-ML models against their trainers' own answers, through the `landfall run` command.

`ml/build.py` trains the models with scikit-learn, LightGBM, XGBoost and CatBoost and records what
the trainers answer; `ml/index.json` lists the cases.
"""

import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parent / "ml"
INDEX = json.loads((FOLDER / "index.json").read_text())
TOLERANCE = INDEX["tolerance"]


def assert_same(name, found, expected):
    assert found.shape == expected.shape, name
    if expected.dtype.kind != "f":
        assert found.astype(str).tolist() == expected.astype(str).tolist(), name
        return
    scaled = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    both_missing = np.isnan(found) & np.isnan(expected)
    worst = np.where(both_missing, 0, scaled).max(initial=0)
    assert worst <= TOLERANCE, f"{name} differs by {worst:.1e}"


@pytest.mark.parametrize("case", INDEX["cases"], ids=lambda case: case["name"])
def test_answers_are_the_trainers(case, tmp_path):
    with np.load(FOLDER / "cases" / f"{case['name']}.npz") as archive:
        arrays = dict(archive)
    inputs = {name: arrays[f"input.{name}"] for name in case["inputs"]}
    np.savez(tmp_path / "in.npz", **inputs)
    done = subprocess.run(
        [os.environ["LANDFALL_BIN"], "run", FOLDER / "cases" / f"{case['name']}.onnx"]
        + ["--input", tmp_path / "in.npz", "--output", tmp_path / "out.npz"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as outputs:
        for output in case["outputs"]:
            name = output["name"]
            assert_same(name, outputs[name], arrays[f"expected.{name}"])


def test_there_are_enough_cases():
    assert len(INDEX["cases"]) >= 25
