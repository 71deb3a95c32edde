"""perf_analyzer, the load generator of Triton's makers, for the paths that both servers have.

It works in windows until they agree. A machine that client and server share never agrees with
itself closely, so any difference is allowed and every run gives the figures of three windows.
"""

import csv
import resource
import subprocess
from pathlib import Path

from serving.process import HOST
from serving.servers import Programs

WINDOWS = 3
LIMIT_S = 120


def program(programs: Programs) -> Path:
    """Returns the binary."""
    return programs.triton_python.absolute().parent / "perf_analyzer"


def environment(programs: Programs) -> dict[str, str]:
    """Returns the variables it needs to find its libraries."""
    return {"LD_LIBRARY_PATH": str(programs.packages() / "nvidia" / "cuda_runtime" / "lib")}


def check(programs: Programs) -> None:
    """Raises, with the command that installs what is missing."""
    binary = program(programs)
    install = f"{programs.triton_python} -m pip install -r bench/requirements-triton.txt"
    if not binary.exists():
        raise SystemExit(f"no perf_analyzer beside {programs.triton_python}: {install}")
    command = [str(binary), "--version"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment(programs),
        timeout=LIMIT_S,
        check=False,
    )
    if "libb64" in done.stderr:
        raise SystemExit("perf_analyzer needs libb64: apt-get install libb64-0d")
    if "shared libraries" in done.stderr:
        raise SystemExit(f"{done.stderr.strip()}: {install}")


def generate(
    programs: Programs, wire: str, port: int, connections: int, window_s: float, work: Path
) -> dict:
    """Loads the identity model and returns percentiles in microseconds and requests per second."""
    table = work / "perf_analyzer.csv"
    table.unlink(missing_ok=True)
    command = [str(program(programs)), "-m", "identity", "-i", wire, "-u", f"{HOST}:{port}"]
    command += ["--concurrency-range", str(connections), "--measurement-mode", "time_windows"]
    command += ["--measurement-interval", str(int(window_s * 1000))]
    command += ["--stability-percentage", "999", "--max-trials", str(WINDOWS), "-f", str(table)]
    before_s = children_cpu_s()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment(programs),
        timeout=LIMIT_S,
        check=False,
    )
    cpu_s = children_cpu_s() - before_s
    if not table.exists():
        words = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        raise SystemExit(f"perf_analyzer failed over {wire}: {words[0][:500]}")
    row = next(csv.DictReader(table.open()))
    return {
        "p50_us": float(row["p50 latency"]),
        "p99_us": float(row["p99 latency"]),
        "per_s": float(row["Inferences/Second"]),
        "client_cpu_s": cpu_s,
    }


def children_cpu_s() -> float:
    """Returns the processor time of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
