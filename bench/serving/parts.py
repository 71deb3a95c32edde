"""The parts of the benchmark: identity model, flights model, cold start."""

import contextlib
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serving import perf_analyzer, requested, servers
from serving.measure import Case, measure_rounds, socket_case
from serving.process import wait_until
from serving.servers import Programs, Server

START_LIMIT_S = 60
POLL_S = 0.001


@dataclass
class Settings:
    """How long to measure, and with what."""

    programs: Programs
    work: Path
    rounds: int
    seconds: float
    starts: int
    identity_connections: list[int]
    flights_connections: list[int]
    flights_model: Path
    flights_table: Path


@dataclass
class Part:
    """What was measured with one set of servers."""

    cases: list[Case]
    peak_rss_bytes: dict[str, int]


def identity(settings: Settings) -> Part:
    """Measures what a server costs beside the model."""
    model = settings.work / "identity.onnx"
    requested.write_identity(model)
    v2 = requested.gives_identity(requested.identity_json())
    with contextlib.ExitStack() as stack:
        landfall = servers.landfall(settings.programs, model, settings.work)
        stack.callback(landfall.group.stop)
        landfall.wait(v2)
        fastapi = servers.fastapi("identity_app", model, settings.work)
        stack.callback(fastapi.group.stop)
        fastapi.wait(requested.gives_identity(requested.identity_fastapi()))
        running = [landfall, fastapi]
        if settings.programs.triton_python:
            triton = servers.triton(settings.programs, settings.work)
            stack.callback(triton.group.stop)
            triton.wait(v2)
            running.append(triton)
        cases = identity_cases(settings, running)
        measure_rounds(cases, settings.rounds)
        return Part(cases, peaks(running))


def identity_cases(settings: Settings, running: list[Server]) -> list[Case]:
    """Returns every path of every server at every concurrency."""
    cases = []
    for server in running:
        for connections in settings.identity_connections:
            if server.grpc and settings.programs.triton_python:
                cases += analyzer_cases(settings, server, connections)
            cases += identity_socket_cases(settings, server, connections)
    return cases


def analyzer_cases(settings: Settings, server: Server, connections: int) -> list[Case]:
    """Returns the cases that perf_analyzer drives."""

    def case(path: str, wire: str, port: int) -> Case:
        def run() -> dict:
            return perf_analyzer.generate(
                settings.programs, wire, port, connections, settings.seconds, settings.work
            )

        return Case(path, server, connections, "identity", run)

    return [
        case("HTTP binary", "http", server.http[1]),
        case("gRPC", "grpc", server.grpc[1]),
    ]


def identity_socket_cases(settings: Settings, server: Server, connections: int) -> list[Case]:
    """Returns the cases that the generator on raw sockets drives."""

    def case(path: str, wire: str, request: bytes) -> Case:
        return socket_case(path, wire, server, "identity", [request], connections, settings.seconds)

    if server.grpc is None:
        return [case("HTTP JSON", "http", requested.identity_fastapi())]
    return [
        case("HTTP JSON", "http", requested.identity_json()),
        case("HTTP binary, raw sockets", "http", requested.identity_binary()),
        case("gRPC, raw sockets", "grpc", requested.identity_grpc()),
    ]


def flights(settings: Settings, asked: requested.Flights) -> Part:
    """Measures a real model."""
    model = served_flights(settings)
    with contextlib.ExitStack() as stack:
        landfall = servers.landfall(settings.programs, model, settings.work)
        stack.callback(landfall.group.stop)
        fastapi = servers.fastapi("flights_app", model, settings.work)
        stack.callback(fastapi.group.stop)
        cases = []
        for server, requests in [(landfall, asked.v2()), (fastapi, asked.fastapi())]:
            for request, expected in zip(requests, asked.expected, strict=True):
                server.wait(requested.gives_probability(request, expected))
            cases += [
                socket_case(
                    "HTTP JSON", "http", server, "flights", requests, count, settings.seconds
                )
                for count in settings.flights_connections
            ]
        measure_rounds(cases, settings.rounds)
        return Part(cases, peaks([landfall, fastapi]))


def served_flights(settings: Settings) -> Path:
    """Returns a file whose name is the model's."""
    model = settings.work / "flights.onnx"
    shutil.copy(settings.flights_model, model)
    return model


def peaks(running: list[Server]) -> dict[str, int]:
    """Returns the peak resident memory of each server's processes so far."""
    return {server.name: server.group.peak_rss_bytes() for server in running}


def cold_starts(settings: Settings, asked: requested.Flights) -> dict[str, list[float]]:
    """Returns, per way to serve flights, seconds from starting a process to its first answer."""
    model = served_flights(settings)
    package = settings.work / "flights.landfall"
    command = [str(settings.programs.landfall), "package", str(model), "-o", str(package)]
    subprocess.run(command, check=True, capture_output=True, timeout=START_LIMIT_S)
    programs, work = settings.programs, settings.work
    v2, plain = asked.v2()[0], asked.fastapi()[0]
    ways: dict[str, tuple[Callable[[], Server], bytes]] = {
        "landfall, .onnx": (lambda: servers.landfall(programs, model, work), v2),
        "landfall, .landfall": (lambda: servers.landfall(programs, package, work), v2),
        "fastapi": (lambda: servers.fastapi("flights_app", model, work), plain),
    }
    found = {name: [] for name in ways}
    # The first start of each warms the file cache.
    for number in range(settings.starts + 1):
        for name in random.sample(list(ways), len(ways)):
            start, request = ways[name]
            seconds = cold_start(start, requested.gives_probability(request, asked.expected[0]))
            if number > 0:
                found[name].append(seconds)
                print(f"start {number}, {name}: {seconds * 1e3:.1f} ms", flush=True)
    return found


def cold_start(start: Callable[[], Server], answers: Callable) -> float:
    """Returns the seconds from starting a server to its first right answer, then kills it."""
    server = start()
    try:
        wait_until(server.group, lambda: answers(server.http), START_LIMIT_S, POLL_S)
        return time.perf_counter() - server.group.begun_s
    finally:
        server.group.kill()


def median_ms(seconds: list[float]) -> float:
    """Returns the median in milliseconds."""
    return statistics.median(seconds) * 1e3
