"""perf_analyzer, the load generator of Triton's makers, for the paths that both servers have.

It works in windows until they agree. A machine that client and server share never agrees with
itself closely, so any difference is allowed and every run gives the figures of three windows.

After each window it sorts out the requests of the window, in time that grows with the square of
their number, while the load goes on and fills the next window. At 25,000 requests a second this
takes a core from the server at half a second a window, and often never ends. So windows are short,
and it is run as often as the wanted time needs.
"""

import csv
import resource
import statistics
import subprocess
from pathlib import Path

from serving.process import HOST
from serving.servers import Programs

WINDOWS = 3
WINDOW_S = 0.125
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
    programs: Programs, wire: str, port: int, connections: int, seconds: float, work: Path
) -> dict:
    """Loads the identity model and returns percentiles in microseconds and requests per second.

    Each figure is the median over the runs; the processor time is that of all of them, with their
    starts.
    """
    before_s = children_cpu_s()
    runs = max(1, round(seconds / (WINDOWS * WINDOW_S)))
    rows = [run(programs, wire, port, connections, work) for _ in range(runs)]
    return {
        "p50_us": statistics.median(float(row["p50 latency"]) for row in rows),
        "p99_us": statistics.median(float(row["p99 latency"]) for row in rows),
        "per_s": statistics.median(float(row["Inferences/Second"]) for row in rows),
        "client_cpu_s": children_cpu_s() - before_s,
    }


def run(programs: Programs, wire: str, port: int, connections: int, work: Path) -> dict[str, str]:
    """Runs it once and returns the row of its table."""
    table = work / "perf_analyzer.csv"
    table.unlink(missing_ok=True)
    command = [str(program(programs)), "-m", "identity", "-i", wire, "-u", f"{HOST}:{port}"]
    command += ["--concurrency-range", str(connections), "--measurement-mode", "time_windows"]
    command += ["--measurement-interval", str(int(WINDOW_S * 1000))]
    command += ["--stability-percentage", "999", "--max-trials", str(WINDOWS), "-f", str(table)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment(programs),
        timeout=LIMIT_S,
        check=False,
    )
    if not table.exists():
        words = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        raise SystemExit(f"perf_analyzer failed over {wire}: {words[0][:500]}")
    return next(csv.DictReader(table.open()))


def children_cpu_s() -> float:
    """Returns the processor time of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
