"""Print the names of the conformance cases that pip's onnxruntime passes, for comparison.

Usage: pip install onnxruntime==1.31.1, then
       python tests/conformance/onnxruntime_cases.py CASES > tests/conformance/onnxruntime.txt

Outputs are judged by the `onnx` package's own comparison. Cases with random values are left out,
as they are from Landfall's count.
"""

import json
import pathlib
import sys

import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.backend.test.runner import Runner


def load(folder, entry):
    tensors = []
    for file in entry["files"]:
        proto = onnx.TensorProto()
        proto.ParseFromString((folder / file).read_bytes())
        tensors.append(numpy_helper.to_array(proto))
    if entry["kind"] == "tensor":
        return tensors[0]
    return tensors if entry["kind"] == "sequence" else None


def passes(folder, case, options):
    try:
        session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        feeds = {entry["name"]: load(folder, entry) for entry in case["inputs"]}
        outputs = session.run(None, feeds)
        expected = [load(folder, entry) for entry in case["outputs"]]
        Runner.assert_similar_outputs(expected, outputs, case["rtol"], case["atol"])
    except Exception:
        return False
    return case["random"] is None


def main():
    root = pathlib.Path(sys.argv[1])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    index = json.loads((root / "index.json").read_text())
    names = []
    for name in index["cases"]:
        folder = root / name
        if passes(folder, json.loads((folder / "case.json").read_text()), options):
            names.append(name)
    print(f"# onnx {index['onnx']}")
    print(f"# onnxruntime {onnxruntime.__version__}, CPU")
    for name in sorted(names):
        print(name)


if __name__ == "__main__":
    main()
