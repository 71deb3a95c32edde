"""Makes the golden files of ai.onnx.ml: models, inputs, and the trainers' own answers.

Writes cases/NAME.onnx and cases/NAME.npz for every case, and index.json. The archive holds the
model's inputs as `input.<name>` and the trainer's answers as `expected.<output>`; strings are
fixed-width unicode; a ZipMap is a matrix [N, classes]. Every case is also run with ONNX Runtime and
the largest difference recorded. A case that ONNX Runtime, too, gets wrong is not written:
there the converted model is not the trained one, which says nothing about who runs it.
"""

import argparse
import importlib
import importlib.metadata
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from case import Case

FOLDER = Path(__file__).resolve().parent
SOURCES = ["classifiers", "regressors", "boosters", "transformers"]

# |found - expected| <= TOLERANCE * max(1, |expected|); labels and whole numbers are equal.
TOLERANCE = 1e-5

PACKAGES = [
    "scikit-learn",
    "lightgbm",
    "xgboost",
    "catboost",
    "skl2onnx",
    "onnxmltools",
    "onnx",
    "onnxruntime",
    "numpy",
]


def run(case: Case) -> list:
    """Runs the model with ONNX Runtime; a ZipMap becomes a matrix."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        case.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = session.run(None, case.inputs)
    if case.classes is not None:
        found[-1] = np.array([[row[c] for c in case.classes] for row in found[-1]], np.float32)
    return [np.asarray(value) for value in found]


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference, scaled as TOLERANCE is; infinite where none makes sense."""
    if found.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind == "f":
        both_missing = np.isnan(found) & np.isnan(expected)
        scaled = np.abs(found - expected) / np.maximum(1, np.abs(expected))
        return float(np.where(both_missing, 0, scaled).max())
    return 0.0 if (found.astype(str) == expected.astype(str)).all() else float("inf")


def plain(array: np.ndarray) -> np.ndarray:
    """Returns strings as fixed-width unicode and everything else as it is."""
    return array.astype(np.str_) if array.dtype.kind == "O" else array


def entry(case: Case, differences: list[float]) -> dict:
    """Describes a written case for index.json."""
    outputs = []
    values = case.model.graph.output
    for value, expected, gap in zip(values, case.expected, differences, strict=True):
        kind = "float" if expected.dtype.kind == "f" else "exact"
        rounded = float(f"{gap:.1e}")
        outputs.append({"name": value.name, "compare": kind, "onnxruntime_difference": rounded})
    if case.classes is not None:
        outputs[-1]["zipmap_classes"] = case.classes
    operators = sorted({f"{n.domain or 'ai.onnx'}.{n.op_type}" for n in case.model.graph.node})
    return {
        "name": case.name,
        "trainer": case.trainer,
        "inputs": list(case.inputs),
        "outputs": outputs,
        "operators": operators,
    }


def write(case: Case, folder: Path) -> None:
    """Writes the model and its archive."""
    # Converters name graphs at random.
    case.model.graph.name = case.name
    onnx.save(case.model, folder / f"{case.name}.onnx")
    arrays = {f"input.{name}": plain(array) for name, array in case.inputs.items()}
    for value, expected in zip(case.model.graph.output, case.expected, strict=True):
        arrays[f"expected.{value.name}"] = plain(expected)
    np.savez(folder / f"{case.name}.npz", **arrays)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write into")
    arguments = parser.parse_args()
    cases = arguments.out / "cases"
    cases.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    entries = []
    for source in SOURCES:
        for case in importlib.import_module(source).cases():
            gaps = [difference(f, e) for f, e in zip(run(case), case.expected, strict=True)]
            if max(gaps) > TOLERANCE:
                print(f"left out: {case.name} differs by {max(gaps):.1e} under ONNX Runtime")
                continue
            write(case, cases)
            entries.append(entry(case, gaps))
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    index = {"versions": versions, "tolerance": TOLERANCE, "cases": entries}
    (arguments.out / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    print(f"{len(entries)} cases")


if __name__ == "__main__":
    main()
