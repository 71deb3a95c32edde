"""Compares Landfall as a server with Triton and with FastAPI on ONNX Runtime.

Starts every server on the loopback, loads it, and prints latency, throughput, cold start and memory
as Markdown. A round measures every case once, in a new random order; a figure is the median over
the rounds. Client and server share the machine.
"""

import argparse
import datetime
import importlib.metadata
import os
import signal
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
INSTALL = "python3 -m pip install -r bench/requirements-serving.txt"
PARTS = ["identity", "flights", "start"]

try:
    from serving import parts, perf_analyzer, report, requested
    from serving.parts import Settings
    from serving.servers import Programs

    SERVED = [importlib.metadata.version(name) for name in ("fastapi", "uvicorn", "onnxruntime")]
except ImportError as missing:
    raise SystemExit(f"{missing}: {INSTALL}") from missing


def command_line() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    binary = ROOT / "target" / "release" / "landfall"
    parser.add_argument("--landfall", type=Path, default=binary, help="the binary")
    parser.add_argument(
        "--triton-python",
        type=Path,
        default=os.environ.get("TRITON_PYTHON"),
        help="python of the environment with Triton and perf_analyzer [env: TRITON_PYTHON]; "
        "without it, only FastAPI is compared",
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per case and round")
    parser.add_argument("--starts", type=int, default=9, help="cold starts of each server")
    parser.add_argument("--quick", action="store_true", help="one short round, as a check")
    parser.add_argument("--output", type=Path, help="the Markdown file [default: print]")
    return parser.parse_args()


def settings_of(arguments: argparse.Namespace, work: Path) -> Settings:
    """Returns what the parts need to know."""
    example = ROOT / "examples" / "flights"
    triton = arguments.triton_python
    return Settings(
        programs=Programs(arguments.landfall, Path(triton) if triton else None),
        work=work,
        rounds=1 if arguments.quick else arguments.rounds,
        seconds=0.4 if arguments.quick else arguments.seconds,
        starts=2 if arguments.quick else arguments.starts,
        identity_connections=[1, 16],
        flights_connections=[1, 4, 16],
        flights_model=example / "models" / "flights" / "1" / "model.onnx",
        flights_table=example / "flights.parquet",
    )


def versions(programs: Programs) -> str:
    """Names the servers with their versions."""
    command = [str(programs.landfall), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    found = [done.stdout.strip()]
    if programs.triton_python:
        found.append("Triton 2.51.0")
    names = ["FastAPI", "uvicorn", "onnxruntime"]
    found += [f"{name} {version}" for name, version in zip(names, SERVED, strict=True)]
    return ", ".join(found)


def measure(settings: Settings, only: list[str]) -> str:
    """Runs the chosen parts and returns the section."""
    settings.programs.check()
    if settings.programs.triton_python:
        perf_analyzer.check(settings.programs)
    asked = requested.Flights(settings.flights_model, settings.flights_table)
    found = {}
    if "identity" in only:
        found["identity"] = parts.identity(settings)
    if "flights" in only:
        found["flights"] = parts.flights(settings, asked)
    starts = parts.cold_starts(settings, asked) if "start" in only else {}
    how = (
        f"Date: {datetime.date.today()}. {settings.rounds} rounds of {settings.seconds:g} s "
        f"a case, {settings.starts} starts."
    )
    return report.document(found, starts, versions(settings.programs), how)


def end(number: int, _frame: object) -> None:
    """Turns a signal into an exception, so that a terminated benchmark ends its servers too."""
    raise SystemExit(f"ended by signal {number}")


def main() -> None:
    """Runs the command line."""
    arguments = command_line()
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    with tempfile.TemporaryDirectory(prefix="landfall-serve-") as work:
        section = measure(settings_of(arguments, Path(work)), arguments.only)
    if arguments.output is None:
        print(f"\n{section}", end="")
        return
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(section)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
