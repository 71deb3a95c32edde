"""Cases, and the rounds that measure them in random order."""

import json
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.http_wire import exchange
from serving.load import generate
from serving.servers import Server

STATISTICS_LIMIT_S = 10


@dataclass
class Case:
    """One way to load one server. `run` takes nothing and returns a generator's report."""

    path: str
    server: Server
    connections: int
    model: str
    run: Callable[[], dict]
    reports: list[dict] = field(default_factory=list)

    def median(self, key: str) -> float | None:
        """Returns the median of a figure over the rounds, or nothing where it is not known."""
        found = [report[key] for report in self.reports if key in report]
        return statistics.median(found) if found else None


def socket_case(
    path: str,
    wire: str,
    server: Server,
    model: str,
    requests: list[bytes],
    connections: int,
    seconds: float,
) -> Case:
    """Returns a case for the generator on raw sockets."""
    address = server.grpc if wire == "grpc" else server.http

    def run() -> dict:
        return generate(wire, address, requests, connections, seconds)

    return Case(path, server, connections, model, run)


def measure_rounds(cases: list[Case], rounds: int) -> None:
    """Measures every case once a round, in a new order each time."""
    for number in range(rounds):
        for case in random.sample(cases, len(cases)):
            report = measured(case)
            case.reports.append(report)
            title = f"round {number + 1} of {rounds}, {case.path} x {case.connections}"
            print(f"{title}, {case.server.name}: {words(report)}", flush=True)


def words(report: dict) -> str:
    """Words a generator's report."""
    latency = f"p50 {report['p50_us']:.0f} us, p99 {report['p99_us']:.0f} us"
    return f"{latency}, {report['per_s']:.0f}/s"


def measured(case: Case) -> dict:
    """Runs a case once; adds processor time per request, and rows per run of the model."""
    group = case.server.group
    group.check()
    counts, cpu_s = counters(case), group.cpu_s()
    report = case.run()
    cpu_s = group.cpu_s() - cpu_s
    after = counters(case)
    requests = report.get("requests", 0)
    if counts and after:
        requests, runs = after[0] - counts[0], after[1] - counts[1]
        report["rows_per_run"] = requests / max(runs, 1)
    if "client_cpu_s" in report:
        report["client_cpu_us"] = report["client_cpu_s"] / max(requests, 1) * 1e6
    report["server_cpu_us"] = cpu_s / max(requests, 1) * 1e6
    return report


def counters(case: Case) -> tuple[int, int] | None:
    """Returns how many rows and runs the server counts; nothing where it has no statistics."""
    if case.server.grpc is None:
        return None
    request = f"GET /v2/models/{case.model}/stats HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    reply = json.loads(exchange(case.server.http, request, STATISTICS_LIMIT_S))
    (counted,) = reply["model_stats"]
    return int(counted["inference_count"]), int(counted["execution_count"])
