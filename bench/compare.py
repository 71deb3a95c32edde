"""Compares Landfall with other engines, its peers; writes docs/benchmarks/models.md.

Every round measures every engine once, each in a process of its own and in a new random order, so
that a slow moment of the machine does not fall on one engine. A figure is the median over the
rounds of each round's median. A ratio is Landfall's time over the other's: below 1 Landfall is
faster. Build the models first: python3 build_models.py FOLDER. The peers tract and rten are built
by `cargo build --release` in rust-peers/; lleaves and tl2cgen need compile_trees.py.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import random
import statistics
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from machine import machine
from records import Records

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RUST_PEERS = {"tract": "tract-onnx", "rten": "rten"}
PYTHON_PEERS = ["onnxruntime", "openvino", "lightgbm", "lleaves", "tl2cgen"]
TIME_LIMIT_S = 600

# The variable that keeps an engine to an older instruction set, and its value.
ISA_SETTINGS = {
    "avx2": {
        "landfall": ("LANDFALL_ISA", "avx2"),
        "openvino": ("ONEDNN_MAX_CPU_ISA", "AVX2"),
        "tract": ("TRACT_CPU_ISA", "-avx512f,-avx512vnni,-avx512bf16,-avx512fp16,-avx512vbmi"),
    }
}
# What such a setting does not reach.
ISA_LIMITS = {
    "openvino": " Only oneDNN's kernels follow it: `gemm_mlas_f32`, which runs fully connected"
    " layers in f32 (most of a transformer), and some element-wise kernels **keep AVX-512**."
}
PEER_NOTES = {
    "tract": "tract: input shapes fixed, `into_optimized`; one thread is the caller's, two are a"
    " pool of its own (the feature `multithread-mm`).",
    "rten": "RTen: weights packed when loading, a pool of as many threads.",
    "lightgbm": "LightGBM: the C interface of the native library, for one row the call that is made"
    " for single rows.",
    "lleaves": "lleaves: in f32, its default blocks of trees; one row on one thread.",
    "tl2cgen": "TL2cgen: thresholds quantised, the matrix of rows made beforehand.",
}
TREE_NOTE = (
    "Trees: Landfall's rows are made up, from -1 to 1, which its walks do not notice; the peers'"
    " are of the data that the trees were trained on. One row is the same row in every run, so that"
    " branch predictors learn the way of engines that branch."
)
# tract 0.23.9: the scores differ from onnxruntime's by twice the greatest; RTen's are one step off.
WRONG_ANSWERS = {"tract": ("resnet50-u8s8", "resnet50-s8s8")}
EIGHT_BITS = ("-u8s8", "-s8s8", "-dynamic")
TREES = ("gbdt", "flights")


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
    if engine in RUST_PEERS:
        peer = [str(arguments.rust_peers), engine, model, inputs]
        return [*peer, "--threads", str(threads), "--seconds", str(arguments.seconds)]
    peer = [sys.executable, str(HERE / "peer.py"), engine, model, inputs]
    # ONNX Runtime has no bf16 on a CPU: its f32 is what users of it would have.
    if engine == "openvino":
        peer += ["--precision", arguments.precision]
    return [*peer, "--threads", str(threads), "--seconds", str(arguments.seconds)]


def measure(engine: str, line: dict, arguments: argparse.Namespace, threads: int) -> dict:
    """Returns the engine's report, or {"error": its last line} where it cannot run the model."""
    told = ISA_SETTINGS.get(arguments.isa, {}).get(engine)
    done = subprocess.run(
        command(engine, line, arguments, threads),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        env=os.environ | dict([told] if told else []),
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
    reports = [results["landfall"], results[other]]
    if any("error" in report for report in reports):
        return "–"
    return f"{reports[0]['p50_ms'] / reports[1]['p50_ms']:.2f}"


def table(rows: list[tuple[dict, dict]], engines: list[str]) -> list[str]:
    """Returns a Markdown table of times, ratios, load times and memory."""
    others = [engine for engine in engines if engine != "landfall"]
    heads = [f"{engine} ms" for engine in engines]
    heads += [f"landfall / {engine}" for engine in others]
    heads += [f"{engine} load ms" for engine in engines] + [f"{engine} MB" for engine in engines]
    lines = [f"| model | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for line, results in rows:
        cells = [number(results[engine], "p50_ms") for engine in engines]
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
        elif engine in RUST_PEERS:
            lock = tomllib.loads((HERE / "rust-peers" / "Cargo.lock").read_text())
            known = {package["name"]: package["version"] for package in lock["package"]}
            found.append(f"{engine} {known[RUST_PEERS[engine]]}")
        else:
            found.append(f"{engine} {importlib.metadata.version(engine)}")
    return ", ".join(found)


def kind(line: dict) -> str:
    """Names the class of models that a line belongs to."""
    name = line["model"].removesuffix(".onnx")
    if name in TREES:
        return "trees"
    return "8-bit networks" if name.endswith(EIGHT_BITS) else "f32 networks"


def means(measured: dict[int, list], engines: list[str]) -> list[str]:
    """Returns a Markdown table of geometric means of the ratios, by class, threads and peer."""
    lines = [
        "| | threads | over | lines | geometric mean | least | greatest |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for name in ("f32 networks", "8-bit networks", "trees"):
        for threads, rows in measured.items():
            for engine in (e for e in engines if e != "landfall"):
                ratios = [
                    results["landfall"]["p50_ms"] / results[engine]["p50_ms"]
                    for line, results in rows
                    if kind(line) == name
                    and not any("error" in results[e] for e in ("landfall", engine))
                ]
                if ratios:
                    cells = [name, threads, engine, len(ratios)]
                    figures = (statistics.geometric_mean(ratios), min(ratios), max(ratios))
                    cells += [f"{figure:.2f}" for figure in figures]
                    lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def isa_notes(arguments: argparse.Namespace) -> list[str]:
    """Says which engines were kept to an older instruction set, and how."""
    told = ISA_SETTINGS[arguments.isa]
    return [
        f"{engine}: at most {arguments.isa}, by `{told[engine][0]}={told[engine][1]}`."
        + ISA_LIMITS.get(engine, "")
        if engine in told
        else f"{engine}: has no such setting and **keeps AVX-512** where the machine has it."
        for engine in arguments.engines
    ]


def notes(arguments: argparse.Namespace) -> list[str]:
    """Says how the engines were set."""
    found = [PEER_NOTES[engine] for engine in arguments.engines if engine in PEER_NOTES]
    if arguments.isa:
        found += isa_notes(arguments)
    if any(kind(line) == "trees" for line in selected(arguments)):
        found.append(TREE_NOTE)
    compiled = sorted(arguments.models.glob("*.compiled.json"))
    if compiled and {"lleaves", "tl2cgen"} & set(arguments.engines):
        seconds = json.loads(compiled[0].read_text())
        times = ", ".join(f"{engine} {spent:.0f} s" for engine, spent in seconds.items())
        found.append(f"Not counted: the time to compile the trees, {times}.")
    return found


def precision(arguments: argparse.Namespace) -> str:
    """Says what the engines compute in."""
    if arguments.precision == "bf16":
        return "BF16 (onnxruntime: FP32)"
    return "FP32"


def document(measured: dict[int, list], arguments: argparse.Namespace) -> str:
    """Returns the whole page."""
    lines = [
        f"# {arguments.out.stem.replace('-', ' ').capitalize()}",
        "",
        "Written by `bench/compare.py`. Per model the median latency in milliseconds, the time to",
        "load it and the peak resident memory of the process. A ratio below 1: Landfall is faster.",
        f"Medians over {arguments.rounds} interleaved rounds in random order, every measurement",
        f"in a process of its own; {precision(arguments)}, unless the name says otherwise",
        "(u8s8 and s8s8: static 8-bit QDQ; dynamic: 8-bit weights).",
        "",
        *(f"- {note}" for note in notes(arguments)),
        "",
        f"Machine: {machine()}. Date: {datetime.date.today()}. {versions(arguments)}.",
    ]
    for threads, rows in measured.items():
        lines += ["", f"## {threads} thread{'s' if threads > 1 else ''}", ""]
        lines += table(rows, arguments.engines)
        reasons = failures(rows)
        if reasons:
            lines += ["", "Could not run:", "", *reasons]
    heading = "## Landfall's time over the peer's"
    lines += ["", heading, "", *means(measured, arguments.engines)]
    return "\n".join(lines) + "\n"


def selected(arguments: argparse.Namespace) -> list[dict]:
    """Returns the suite's lines about the chosen models."""
    lines = json.loads((arguments.models / "suite.json").read_text())
    names = {line["model"].removesuffix(".onnx") for line in lines}
    unknown = set(arguments.only or []) - names
    if unknown:
        raise SystemExit(f"not in suite.json: {sorted(unknown)}; it has {sorted(names)}")
    wanted = set(arguments.only or names) - set(arguments.skip)
    return [
        line
        for line in lines
        if line["model"].removesuffix(".onnx") in wanted
        and line["batch"] in (arguments.batches or [line["batch"]])
        and line.get("sequence") in (arguments.sequences or [line.get("sequence")])
    ]


def without_wrong(line: dict, results: dict[str, dict]) -> dict[str, dict]:
    """Takes out the figures of engines that are known to answer wrongly."""
    name = line["model"].removesuffix(".onnx")
    wrong = {"error": "runs, but its answers are wrong"}
    return {
        engine: wrong if name in WRONG_ANSWERS.get(engine, ()) else report
        for engine, report in results.items()
    }


def settings(arguments: argparse.Namespace) -> dict:
    """Returns what must be the same in all parts of one comparison."""
    names = ("rounds", "seconds", "precision", "isa")
    return {name: getattr(arguments, name) for name in names} | {"engines": versions(arguments)}


def run(arguments: argparse.Namespace) -> dict[int, list]:
    """Measures every line not yet known; returns the rows of the page by number of threads."""
    measured = {threads: [] for threads in arguments.threads}
    records = Records(arguments.records, settings(arguments))
    began, limit_s = time.monotonic(), 60 * arguments.minutes
    for line in selected(arguments):
        for threads in arguments.threads:
            results = records.get(line, threads)
            if results is None and time.monotonic() - began < limit_s:
                results = compare(line, arguments, threads)
                records.add(line, threads, results)
                times = [f"{engine} {number(r, 'p50_ms')}" for engine, r in results.items()]
                print(f"{threads} threads, {title(line)}: {', '.join(times)} ms", flush=True)
            unknown = {engine: {"error": "not measured yet"} for engine in arguments.engines}
            measured[threads].append((line, without_wrong(line, results or unknown)))
    return measured


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, help="the folder that build_models.py wrote")
    binary = ROOT / "target" / "release" / "landfall"
    parser.add_argument("--landfall", type=Path, default=binary, help="the binary")
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=[*PYTHON_PEERS, *RUST_PEERS],
        default=["onnxruntime", "openvino"],
        help="the engines beside Landfall",
    )
    peers = HERE / "rust-peers" / "target" / "release" / "rust-peers"
    parser.add_argument("--rust-peers", type=Path, default=peers, help="the binary of tract, rten")
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="these models only")
    parser.add_argument("--skip", nargs="+", metavar="MODEL", default=[], help="not these models")
    parser.add_argument("--batches", nargs="+", type=int, help="these batch sizes only")
    parser.add_argument("--sequences", nargs="+", type=int, help="these sequence lengths only")
    parser.add_argument("--isa", choices=ISA_SETTINGS, help="at most this instruction set")
    parser.add_argument("--records", type=Path, help="keep medians here; run again to go on")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin no line after that time"
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="per engine and round")
    parser.add_argument("--out", type=Path, help="default: models.md or models-bf16.md in docs")
    arguments = parser.parse_args()
    arguments.engines = ["landfall", *arguments.peers]
    if not arguments.landfall.exists():
        parser.error(f"{arguments.landfall} does not exist: cargo build --release, or --landfall")
    if arguments.out is None:
        name = "models.md" if arguments.precision == "f32" else f"models-{arguments.precision}.md"
        arguments.out = ROOT / "docs" / "benchmarks" / name
    measured = run(arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(document(measured, arguments))
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
