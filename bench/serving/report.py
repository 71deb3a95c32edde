"""The figures as Markdown."""

import os

from machine import machine
from serving.measure import Case
from serving.parts import Part, median_ms

# Of the other's latency, of the other's throughput, of the other's time to the first answer.
LATENCY_SHARE, THROUGHPUT_FACTOR, START_FACTOR = 0.5, 3.0, 10.0
ANALYZED = ["HTTP binary", "gRPC"]
HEAD = [
    "| path | connections | server | p50 µs | p99 µs | requests/s | range of requests/s "
    "| server CPU µs | client CPU µs | rows per run |",
    "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
]


def number(value: float | None) -> str:
    """Formats a figure; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ordered(cases: list[Case]) -> list[Case]:
    """Returns the cases by path, connections and server, Landfall first."""
    names = ["landfall", "triton", "fastapi"]
    key = [(case.path, case.connections, names.index(case.server.name)) for case in cases]
    return [case for _, case in sorted(zip(key, cases, strict=True), key=lambda pair: pair[0])]


def load_table(cases: list[Case]) -> list[str]:
    """Returns one line a case: medians over the rounds."""
    keys = ["p50_us", "p99_us", "per_s"]
    lines = list(HEAD)
    for case in ordered(cases):
        figures = [number(case.median(key)) for key in keys]
        rates = [report["per_s"] for report in case.reports]
        figures.append(f"{number(min(rates))}–{number(max(rates))}")
        rest = ["server_cpu_us", "client_cpu_us", "rows_per_run"]
        figures += [number(case.median(key)) for key in rest]
        cells = [case.path, str(case.connections), case.server.name, *figures]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def pairs(cases: list[Case]) -> list[tuple[Case, Case]]:
    """Returns Landfall's case and another server's of the same path and concurrency."""
    found = []
    for ours in ordered(cases):
        if ours.server.name == "landfall":
            found += [
                (ours, other)
                for other in ordered(cases)
                if other.server.name != "landfall"
                and (other.path, other.connections) == (ours.path, ours.connections)
            ]
    return found


def ratio(ours: Case, other: Case, key: str) -> float:
    """Returns Landfall's median over the other's."""
    return ours.median(key) / other.median(key)


def ratio_table(cases: list[Case]) -> list[str]:
    """Returns Landfall's figures over the others'."""
    lines = [
        "| path | connections | landfall over | p50 | p99 | requests/s | server CPU |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for ours, other in pairs(cases):
        keys = ["p50_us", "p99_us", "per_s", "server_cpu_us"]
        figures = [f"{ratio(ours, other, key):.2f}" for key in keys]
        cells = [ours.path, str(ours.connections), other.server.name, *figures]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def verdict(is_met: bool) -> str:
    """Words a target's outcome."""
    return "met" if is_met else "**missed**"


def ceiling(ours: Case, other: Case) -> float:
    """Returns the throughput factor that a server without any cost of its own would reach.

    The client bounds it: perf_analyzer by all cores, the generator on raw sockets by one.
    """
    cores = os.cpu_count() if ours.path in ANALYZED else 1
    return cores * 1e6 / ours.median("client_cpu_us") / other.median("per_s")


def identity_targets(cases: list[Case]) -> list[str]:
    """Returns the targets against Triton, with what was found."""
    lines = []
    for ours, other in pairs(cases):
        if other.server.name != "triton" or not ours.path.startswith(tuple(ANALYZED)):
            continue
        where = f"{ours.path}, {ours.connections} connection{'s' * (ours.connections > 1)}"
        if ours.connections == 1:
            found = ratio(ours, other, "p50_us")
            text = f"p50 {found:.2f} of Triton's, at most {LATENCY_SHARE} wanted"
            lines.append(f"- {where}: {text}: {verdict(found <= LATENCY_SHARE)}")
        elif ours.connections == 16:
            found = ratio(ours, other, "per_s")
            text = f"{found:.2f} times Triton's throughput, at least {THROUGHPUT_FACTOR:g} wanted"
            outcome = verdict(found >= THROUGHPUT_FACTOR)
            bound = f"the client alone bounds it by {ceiling(ours, other):.1f}"
            lines.append(f"- {where}: {text} ({bound}): {outcome}")
    return lines


def start_section(starts: dict[str, list[float]]) -> list[str]:
    """Returns the cold starts, with their target."""
    other = median_ms(starts["fastapi"])
    lines = [
        "| server | median ms | least | most | FastAPI's median over it |",
        "|---|---:|---:|---:|---:|",
    ]
    targets = []
    for name, seconds in starts.items():
        found = median_ms(seconds)
        figures = [found, min(seconds) * 1e3, max(seconds) * 1e3]
        cells = " | ".join(number(figure) for figure in figures)
        lines.append(f"| {name} | {cells} | {other / found:.1f} |")
        if name != "fastapi":
            outcome = verdict(other / found >= START_FACTOR)
            text = f"{other / found:.1f} times sooner than FastAPI, at least {START_FACTOR:g}"
            targets.append(f"- {name}: {text} wanted: {outcome}")
    return [*lines, "", *targets]


def memory_table(parts: dict[str, Part]) -> list[str]:
    """Returns peak resident memory after the load."""
    lines = ["| model | server | peak MB |", "|---|---|---:|"]
    for model, part in parts.items():
        for server, peak in part.peak_rss_bytes.items():
            lines.append(f"| {model} | {server} | {peak / 1e6:.0f} |")
    return lines


def document(
    parts: dict[str, Part], starts: dict[str, list[float]], versions: str, how: str
) -> str:
    """Returns the whole section."""
    lines = [
        "## Serving",
        "",
        "Written by `bench/serve.py`. Client and server share the machine's cores, so a client's",
        "processor time is taken from the server: both are given per request. Medians over",
        "interleaved rounds in random order; all servers of a table are up, one is under load.",
        "",
        f"Machine: {machine()}. {how} {versions}.",
    ]
    if "identity" in parts:
        lines += ["", "### Identity model, FP32 [-1,4]", ""]
        lines += [
            "`HTTP binary` and `gRPC` are driven by perf_analyzer, the rest by `serving/load.py`.",
            "Triton has the model on its Python backend, its wheel's only one; FastAPI has it in",
            "ONNX Runtime, with one thread and in an `async` handler, the fastest form tried.",
            "",
        ]
        lines += load_table(parts["identity"].cases)
        lines += ["", *ratio_table(parts["identity"].cases)]
        lines += ["", *identity_targets(parts["identity"].cases)]
    if "flights" in parts:
        lines += ["", "### Flights, one a request", ""]
        lines += [
            "Landfall takes the protocol's 30 named tensors, FastAPI one flat object, as a user",
            "would write it. Answers agree with ONNX Runtime's.",
            "",
        ]
        lines += load_table(parts["flights"].cases)
        lines += ["", *ratio_table(parts["flights"].cases)]
    if starts:
        lines += ["", "### From starting the process to the first right answer, flights", ""]
        lines += start_section(starts)
    lines += ["", "### Peak resident memory after the load", "", *memory_table(parts)]
    return "\n".join(lines) + "\n"
