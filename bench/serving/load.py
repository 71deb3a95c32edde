"""A load generator on raw sockets: a closed loop over a number of connections.

Run as a process of its own: a job as JSON on standard input, its report on standard output. One
thread waits on all sockets. Requests are prepared bytes and replies are hardly parsed, so that the
processor time it takes from the server on a small machine stays small; the report says how much.
"""

import base64
import gc
import json
import select
import subprocess
import sys
import time
from array import array
from pathlib import Path

from serving.grpc_wire import GrpcConnection
from serving.http_wire import HttpConnection

BENCH = Path(__file__).resolve().parent.parent
WIRES = {"http": HttpConnection, "grpc": GrpcConnection}
SILENCE_LIMIT_S = 10


def run(connections: list, warm_up_s: float, seconds: float) -> dict:
    """Keeps every connection busy, and returns what happened after the warm-up."""
    poll = select.epoll()
    by_number = {}
    begun = {}
    for index, connection in enumerate(connections):
        number = connection.socket.fileno()
        by_number[number] = connection
        poll.register(number, select.EPOLLIN)
        begun[number] = time.perf_counter_ns()
        connection.send(index)
    sent = len(connections)
    total = 0
    latencies = array("q")
    first_ns = time.perf_counter_ns() + int(warm_up_s * 1e9)
    last_ns = first_ns + int(seconds * 1e9)
    now_ns = 0
    while now_ns < last_ns:
        events = poll.poll(SILENCE_LIMIT_S)
        if not events:
            raise ConnectionError(f"no reply within {SILENCE_LIMIT_S} s")
        for number, _ in events:
            connection = by_number[number]
            if not connection.receive():
                continue
            now_ns = time.perf_counter_ns()
            total += 1
            if first_ns <= now_ns < last_ns:
                latencies.append(now_ns - begun[number])
            begun[number] = now_ns
            connection.send(sent)
            sent += 1
    return report(latencies, seconds) | {"requests": total}


def report(latencies: array, seconds: float) -> dict:
    """Returns percentiles in microseconds and requests per second."""
    ordered = sorted(latencies)
    if not ordered:
        raise ConnectionError("no reply within the measured time")
    at = {name: ordered[int(len(ordered) * share)] for name, share in [("p50", 0.5), ("p99", 0.99)]}
    return {
        "p50_us": at["p50"] / 1e3,
        "p99_us": at["p99"] / 1e3,
        "per_s": len(ordered) / seconds,
    }


def generate(
    wire: str,
    address: tuple[str, int],
    requests: list[bytes],
    connections: int,
    seconds: float,
) -> dict:
    """Runs the generator in a process of its own and returns its report."""
    job = {
        "wire": wire,
        "address": address,
        "requests": [base64.b64encode(request).decode() for request in requests],
        "connections": connections,
        "warm_up_s": min(0.5, seconds / 4),
        "seconds": seconds,
    }
    done = subprocess.run(
        [sys.executable, "-m", "serving.load"],
        cwd=BENCH,
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or ["no reason given"]
        raise SystemExit(f"load on {address} failed: {words[-1][:500]}")
    return json.loads(done.stdout)


def main() -> None:
    """Runs the job on standard input."""
    job = json.load(sys.stdin)
    requests = [base64.b64decode(request) for request in job["requests"]]
    address = tuple(job["address"])
    wire = WIRES[job["wire"]]
    connections = [wire(address, requests) for _ in range(job["connections"])]
    gc.disable()
    cpu_before_s = time.process_time()
    done = run(connections, job["warm_up_s"], job["seconds"])
    cpu_s = time.process_time() - cpu_before_s
    print(json.dumps(done | {"client_cpu_us": cpu_s / done["requests"] * 1e6}))


if __name__ == "__main__":
    main()
