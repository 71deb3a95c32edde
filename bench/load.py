"""Times loading: from a model file to its first answer, in Landfall, ONNX Runtime and OpenVINO.

Landfall's figure is a whole process, `landfall run`, from its start to the answer on disk. The
others' begins after Python and the engine are imported and ends with the first answer, which
favours them. Rounds are interleaved in random order; the file cache is warm. A package's weights
must not be read twice nor packed again, so resident memory is shown beside the files' sizes.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODELS = {"flights": "b1", "gbdt": "b1", "mobilenetv2": "b1", "minilm": "b1_s128", "resnet50": "b1"}
WAYS = ["package", "onnx", "onnxruntime", "openvino"]


def landfall(arguments: argparse.Namespace, model: Path, inputs: Path, folder: Path) -> dict:
    """Runs the model once in a process of its own."""
    command = [arguments.landfall, "run", model, "--input", inputs, "--output", folder / "out.npz"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{model}: exit status {process.returncode}")
    return {"ms": elapsed * 1e3, "mb": usage.ru_maxrss / 1024}


def peer(engine: str, model: Path, inputs: Path, threads: int) -> dict | None:
    """Runs the model once in another engine, in a process of its own; None if it cannot."""
    command = [sys.executable, __file__, "--peer", engine, str(model), str(inputs), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def answer_once(engine: str, model: str, inputs: str, threads: int) -> None:
    """Prints what loading and one run took in this process."""
    import numpy as np

    from peer import RUNNERS

    __import__(engine)
    with np.load(inputs) as archive:
        arrays = dict(archive)
    start = time.perf_counter()
    RUNNERS[engine](model, arrays, threads, "f32")()
    elapsed = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"ms": elapsed * 1e3, "mb": peak}))


def measure(name: str, label: str, arguments: argparse.Namespace, folder: Path) -> dict:
    """Returns, per way of loading, the medians over all rounds, and the files' sizes."""
    model, inputs = arguments.models / f"{name}.onnx", arguments.models / f"{name}.{label}.npz"
    package = folder / f"{name}.landfall"
    make = [arguments.landfall, "package", model, "-o", package]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    found = {way: [] for way in arguments.ways}
    for _ in range(arguments.rounds):
        for way in random.sample(arguments.ways, len(arguments.ways)):
            if way in ("package", "onnx"):
                file = package if way == "package" else model
                found[way].append(landfall(arguments, file, inputs, folder))
            else:
                found[way].append(peer(way, model, inputs, arguments.threads))
    medians = {
        way: {key: statistics.median(run[key] for run in runs) for key in ("ms", "mb")}
        for way, runs in found.items()
        if None not in runs
    }
    sizes = {"onnx": model.stat().st_size / 1e6, "package": package.stat().st_size / 1e6}
    return {"ways": medians, "sizes": sizes}


def table(rows: dict[str, dict], ways: list[str]) -> list[str]:
    """Returns a Markdown table of times, ratios and memory."""
    peers = [way for way in ways if way not in ("package", "onnx")]
    heads = [f"{way} ms" for way in ways] + [f"{peer} / package" for peer in peers]
    heads += [f"{way} MB" for way in ways] + ["onnx file MB", "package file MB"]
    lines = [f"| model | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for name, row in rows.items():
        found, sizes = row["ways"], row["sizes"]
        cells = [f"{found[way]['ms']:.3g}" if way in found else "–" for way in ways]
        package = found["package"]["ms"]
        cells += [f"{found[way]['ms'] / package:.1f}" if way in found else "–" for way in peers]
        cells += [f"{found[way]['mb']:.0f}" if way in found else "–" for way in ways]
        cells += [f"{sizes['onnx']:.1f}", f"{sizes['package']:.1f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Runs the command line."""
    if sys.argv[1:2] == ["--peer"]:
        engine, model, inputs, threads = sys.argv[2:6]
        answer_once(engine, model, inputs, int(threads))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, help="the folder that build_models.py wrote")
    binary = ROOT / "target" / "release" / "landfall"
    parser.add_argument("--landfall", type=Path, default=binary, help="the binary")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2, help="of the other engines")
    out = ROOT / "docs" / "benchmarks" / "loading.md"
    parser.add_argument("--out", type=Path, default=out)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            name: measure(name, label, arguments, Path(folder)) for name, label in MODELS.items()
        }
    lines = ["# Loading", "", "Written by `bench/load.py`, which says what is measured.", ""]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text("\n".join(lines + table(rows, arguments.ways)) + "\n")
    print(arguments.out.read_text())


if __name__ == "__main__":
    main()
