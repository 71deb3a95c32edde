"""A running server over a small model repository, for tests with other projects' clients.

The program is `LANDFALL_BIN`, by default the release binary of this checkout.
"""

import os
import pathlib
import re
import signal
import subprocess
import time
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("LANDFALL_BIN", str(ROOT / "target/release/landfall"))


@dataclass(frozen=True)
class Server:
    """Addresses as host:port."""

    http: str
    grpc: str
    admin: str


def save_model(repository, name, nodes, inputs, outputs):
    graph = helper.make_graph(nodes, name, inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")


def value(name, element=TensorProto.FLOAT, columns=4):
    shape = ["batch"] if columns is None else ["batch", columns]
    return helper.make_tensor_value_info(name, element, shape)


def make_repository(repository):
    identity = [helper.make_node("Identity", ["x"], ["y"])]
    save_model(repository, "identity", identity, [value("x")], [value("y")])
    add = [helper.make_node("Add", ["a", "b"], ["sum"])]
    save_model(repository, "add", add, [value("a"), value("b")], [value("sum")])
    text = TensorProto.STRING
    save_model(repository, "text", identity, [value("x", text, None)], [value("y", text, None)])


def start(repository):
    any_port = "127.0.0.1:0"
    process = subprocess.Popen(
        [BINARY, "serve", str(repository), "--http", any_port, "--grpc", any_port]
        + ["--admin", any_port, "--log-level", "warn", "--poll-seconds", "0.2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    addresses = {}
    for line in process.stdout:
        found = re.match(r"\s+(HTTP|gRPC|admin)\s+(?:http://)?(\S+)", line)
        if found:
            addresses[found[1].lower()] = found[2]
        if line.startswith("  ready"):
            return process, Server(**addresses)
    raise RuntimeError(f"{BINARY} ended before it was ready, with {process.wait()}")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = os.environ.get("LANDFALL_TEST_SERVER")
    if running:
        yield Server(*running.split(","))
        return
    repository = tmp_path_factory.mktemp("models")
    make_repository(repository)
    # New files must stand still before they are loaded.
    time.sleep(1)
    process, addresses = start(repository)
    yield addresses
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0, "SIGTERM ends a server with 0"


@pytest.fixture
def row():
    """Axes (batch, columns)."""
    return np.array([[0.5, -1.25, 3e7, 0.1]], dtype=np.float32)


@pytest.fixture
def rows():
    """Axes (batch, columns); long enough that replies are worth compressing."""
    return np.arange(800, dtype=np.float32).reshape(200, 4)
