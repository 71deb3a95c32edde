"""Compares Landfall with ONNX Runtime and OpenVINO; writes docs/benchmarks/models.md.

Every round measures every engine once, each in a process of its own and in a new random order, so
that a slow moment of the machine does not fall on one engine. A figure is the median over the
rounds of each round's median. A ratio is Landfall's time over the other's: below 1 Landfall is
faster. Build the models first: python3 build_models.py FOLDER.
"""

import argparse
import datetime
import importlib.metadata
import json
import random
import statistics
import subprocess
import sys
from pathlib import Path

from machine import machine

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ENGINES = ["landfall", "onnxruntime", "openvino"]
TIME_LIMIT_S = 600


def command(engine: str, line: dict, arguments: argparse.Namespace, threads: int) -> list[str]:
    """Returns the command that measures one line of the suite in one engine."""
    model = str(arguments.models / line["model"])
    if engine == "landfall":
        found = [str(arguments.landfall), "bench", model, "--batch", str(line["batch"])]
        if "sequence" in line:
            found += ["--seq-len", str(line["sequence"])]
        found += ["--threads", str(threads), "--seconds", str(arguments.seconds)]
        return [*found, "--precision", arguments.precision, "--json"]
    inputs = str(arguments.models / line["inputs"])
    peer = [sys.executable, str(HERE / "peer.py"), engine, model, inputs]
    # ONNX Runtime has no bf16 on a CPU: its f32 is what users of it would have.
    if engine == "openvino":
        peer += ["--precision", arguments.precision]
    return [*peer, "--threads", str(threads), "--seconds", str(arguments.seconds)]


def measure(engine: str, line: dict, arguments: argparse.Namespace, threads: int) -> dict:
    """Returns the engine's report, or {"error": its last line} where it cannot run the model."""
    done = subprocess.run(
        command(engine, line, arguments, threads),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"error": words[-1][:200]}
    return json.loads(done.stdout)


def compare(line: dict, arguments: argparse.Namespace, threads: int) -> dict[str, dict]:
    """Returns, per engine, the medians over all rounds, or its error."""
    rounds = {engine: [] for engine in arguments.engines}
    for _ in range(arguments.rounds):
        for engine in random.sample(arguments.engines, len(arguments.engines)):
            last = rounds[engine][-1:]
            if last and "error" in last[0]:
                continue
            rounds[engine].append(measure(engine, line, arguments, threads))
    return {engine: medians(reports) for engine, reports in rounds.items()}


def medians(reports: list[dict]) -> dict:
    """Returns the median of each figure, or the first error."""
    for report in reports:
        if "error" in report:
            return report
    return {
        "p50_ms": statistics.median(r["latency_ms"]["p50"] for r in reports),
        "load_ms": statistics.median(r["load_ms"] for r in reports),
        "rss_mb": statistics.median(r["peak_rss_bytes"] for r in reports) / 1e6,
    }


def title(line: dict) -> str:
    """Names a line of the suite: model, batch, sequence length."""
    length = f", {line['sequence']} tokens" if "sequence" in line else ""
    return f"{line['model'].removesuffix('.onnx')}, batch {line['batch']}{length}"


def number(report: dict, key: str) -> str:
    """Formats a figure with three significant digits; a dash where the engine cannot run."""
    if "error" in report:
        return "–"
    value = report[key]
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ratio(results: dict[str, dict], other: str) -> str:
    """Formats Landfall's median time over another engine's."""
    reports = [results.get("landfall", {"error": ""}), results[other]]
    if any("error" in report for report in reports):
        return "–"
    return f"{reports[0]['p50_ms'] / reports[1]['p50_ms']:.2f}"


def table(rows: list[tuple[dict, dict]], engines: list[str]) -> list[str]:
    """Returns a Markdown table of times, ratios, load times and memory."""
    others = [engine for engine in engines if engine != "landfall"]
    heads = [f"{engine} ms" for engine in engines]
    if "landfall" in engines:
        heads += [f"landfall / {engine}" for engine in others]
    heads += [f"{engine} load ms" for engine in engines] + [f"{engine} MB" for engine in engines]
    lines = [f"| model | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for line, results in rows:
        cells = [number(results[engine], "p50_ms") for engine in engines]
        if "landfall" in engines:
            cells += [ratio(results, engine) for engine in others]
        cells += [number(results[engine], "load_ms") for engine in engines]
        cells += [number(results[engine], "rss_mb") for engine in engines]
        lines.append(f"| {title(line)} | {' | '.join(cells)} |")
    return lines


def failures(rows: list[tuple[dict, dict]]) -> list[str]:
    """Lists what could not run, and why."""
    return [
        f"- {engine}, {title(line)}: {report['error']}"
        for line, results in rows
        for engine, report in results.items()
        if "error" in report
    ]


def versions(arguments: argparse.Namespace) -> str:
    """Names the engines with their versions."""
    found = []
    for engine in arguments.engines:
        if engine == "landfall":
            version = [str(arguments.landfall), "--version"]
            done = subprocess.run(version, capture_output=True, text=True, check=True)
            found.append(done.stdout.strip())
        else:
            found.append(f"{engine} {importlib.metadata.version(engine)}")
    return ", ".join(found)


def precision(arguments: argparse.Namespace) -> str:
    """Says what the engines compute in."""
    if arguments.precision == "bf16":
        return "BF16 (onnxruntime: FP32)"
    return "FP32"


def document(measured: dict[int, list], arguments: argparse.Namespace) -> str:
    """Returns the whole page."""
    lines = [
        "# Models",
        "",
        "Written by `bench/compare.py`. Per model the median latency in milliseconds, the time to",
        "load it and the peak resident memory of the process. A ratio below 1: Landfall is faster.",
        f"Medians over {arguments.rounds} interleaved rounds in random order, every measurement",
        f"in a process of its own; {precision(arguments)}, unless the name says otherwise",
        "(u8s8 and s8s8: static 8-bit QDQ; dynamic: 8-bit weights).",
        "",
        f"Machine: {machine()}. Date: {datetime.date.today()}. {versions(arguments)}.",
    ]
    for threads, rows in measured.items():
        lines += ["", f"## {threads} thread{'s' if threads > 1 else ''}", ""]
        lines += table(rows, arguments.engines)
        reasons = failures(rows)
        if reasons:
            lines += ["", "Could not run:", "", *reasons]
    return "\n".join(lines) + "\n"


def selected(arguments: argparse.Namespace) -> list[dict]:
    """Returns the suite's lines about the chosen models."""
    lines = json.loads((arguments.models / "suite.json").read_text())
    names = {line["model"].removesuffix(".onnx") for line in lines}
    unknown = set(arguments.only or []) - names
    if unknown:
        raise SystemExit(f"not in suite.json: {sorted(unknown)}; it has {sorted(names)}")
    wanted = arguments.only or names
    return [line for line in lines if line["model"].removesuffix(".onnx") in wanted]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, help="the folder that build_models.py wrote")
    binary = ROOT / "target" / "release" / "landfall"
    parser.add_argument("--landfall", type=Path, default=binary, help="the binary")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="these models only")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="per engine and round")
    parser.add_argument("--out", type=Path, help="default: models.md or models-bf16.md in docs")
    arguments = parser.parse_args()
    if "landfall" in arguments.engines and not arguments.landfall.exists():
        parser.error(f"{arguments.landfall} does not exist: cargo build --release, or --landfall")
    if arguments.out is None:
        name = "models.md" if arguments.precision == "f32" else f"models-{arguments.precision}.md"
        arguments.out = ROOT / "docs" / "benchmarks" / name
    lines = selected(arguments)
    measured = {threads: [] for threads in arguments.threads}
    for threads in arguments.threads:
        for line in lines:
            results = compare(line, arguments, threads)
            measured[threads].append((line, results))
            times = [f"{engine} {number(r, 'p50_ms')}" for engine, r in results.items()]
            print(f"{threads} threads, {title(line)}: {', '.join(times)} ms", flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(document(measured, arguments))
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
