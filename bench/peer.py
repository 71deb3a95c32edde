"""Times one model in another engine; prints the JSON object that `landfall bench --json` prints.

A process of its own for each measurement, as Landfall's is, so that no engine runs beside another's
idle threads.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tree_peers import TREE_RUNNERS

PRECISIONS = ["f32", "bf16"]


def onnxruntime_runner(model: str, inputs: dict, threads: int, precision: str) -> Callable:
    """Returns a function that runs the model once under ONNX Runtime, all optimisations on."""
    import onnxruntime

    if precision != "f32":
        raise SystemExit(f"onnxruntime has no {precision} option on a CPU")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {k: v.astype(object) if v.dtype.kind == "U" else v for k, v in inputs.items()}
    return lambda: session.run(None, feed)


def openvino_runner(model: str, inputs: dict, threads: int, precision: str) -> Callable:
    """Returns a function that runs the model once under OpenVINO, in FP32 or BF16."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    network = openvino.Core().read_model(model)
    network.reshape({name: list(array.shape) for name, array in inputs.items()})
    compiled = openvino.compile_model(network, "CPU", settings)
    ran = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if ran != precision:
        raise SystemExit(f"openvino runs in {ran} where {precision} was asked for")
    request = compiled.create_infer_request()
    return lambda: request.infer(inputs, share_inputs=True, share_outputs=True)


RUNNERS = {"onnxruntime": onnxruntime_runner, "openvino": openvino_runner, **TREE_RUNNERS}


def measure(run: Callable, seconds: float) -> list[float]:
    """Returns the milliseconds of each run within `seconds`, at least five, after a warm-up."""
    for _ in range(3):
        run()
    times, until = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < until:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def report(arguments: argparse.Namespace, inputs: dict) -> dict:
    """Loads and times the model."""
    engine, model, threads = arguments.engine, arguments.model, arguments.threads
    start = time.perf_counter()
    run = RUNNERS[engine](str(model), inputs, threads, arguments.precision)
    load_ms = (time.perf_counter() - start) * 1e3
    times = measure(run, arguments.seconds)
    batch = next(iter(inputs.values())).shape[0]
    p50 = statistics.median(times)
    return {
        "model": str(model),
        "batch": batch,
        "threads": threads,
        "precision": arguments.precision,
        "iterations": len(times),
        "load_ms": load_ms,
        "latency_ms": {
            "p50": p50,
            "p90": float(np.percentile(times, 90)),
            "p99": float(np.percentile(times, 99)),
            "min": min(times),
        },
        "throughput_per_s": batch / p50 * 1e3,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", choices=RUNNERS)
    parser.add_argument("model", type=Path)
    parser.add_argument("inputs", type=Path, help="NPZ archive named as the model's inputs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--precision", choices=PRECISIONS, default="f32")
    arguments = parser.parse_args()
    with np.load(arguments.inputs) as archive:
        inputs = dict(archive)
    print(json.dumps(report(arguments, inputs)))


if __name__ == "__main__":
    main()
