"""What is asked, and what must come back."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pyarrow.parquet
from onnx import TensorProto, helper

from serving.grpc_wire import infer_message
from serving.http_wire import exchange, post

ROW = [1.5, 2.25, -3.0, 4.0]
JSON = {"Content-Type": "application/json"}
FLIGHTS = 200
REPLY_LIMIT_S = 5
# Between two engines' sums of 248 trees in FP32.
TOLERANCE = 1e-5
DATATYPES = {"tensor(string)": "BYTES", "tensor(int64)": "INT64", "tensor(float)": "FP32"}
PYTHON = {"tensor(string)": object, "tensor(int64)": np.int64, "tensor(float)": np.float32}


def write_identity(path: Path) -> None:
    """Writes the identity model: FP32 rows of four numbers."""
    value = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4])
        for name in ("x", "y")
    }
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "identity", [value["x"]], [value["y"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)


def identity_binary() -> bytes:
    """Returns a v2 request with a binary tensor, which asks for a binary one."""
    raw = np.array(ROW, dtype=np.float32).tobytes()
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": len(raw)}
    wanted = {"name": "y", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [wanted]}, separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return post("/v2/models/identity/infer", head + raw, headers)


def identity_json() -> bytes:
    """Returns a v2 request in JSON."""
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW}
    body = json.dumps({"inputs": [tensor]}, separators=(",", ":"))
    return post("/v2/models/identity/infer", body.encode(), JSON)


def identity_fastapi() -> bytes:
    """Returns a request for the FastAPI app."""
    return post("/predict", json.dumps({"x": [ROW]}, separators=(",", ":")).encode(), JSON)


def identity_grpc() -> bytes:
    """Returns a `ModelInferRequest`."""
    raw = np.array(ROW, dtype=np.float32).tobytes()
    return infer_message("identity", "x", [1, 4], "FP32", raw)


class Flights:
    """Flights without missing columns, with ONNX Runtime's answers."""

    def __init__(self, model: Path, table: Path) -> None:
        """Reads them, and predicts them."""
        session = onnxruntime.InferenceSession(model)
        self.types = {column.name: column.type for column in session.get_inputs()}
        read = pyarrow.parquet.read_table(table, columns=list(self.types))
        complete = [row for row in read.slice(0, 20 * FLIGHTS).to_pylist() if is_complete(row)]
        self.rows = complete[:FLIGHTS]
        columns = {
            name: np.array([[row[name]] for row in self.rows], dtype=PYTHON[kind])
            for name, kind in self.types.items()
        }
        (found,) = session.run(["late_probability"], columns)
        self.expected = found[:, 0].tolist()

    def v2(self) -> list[bytes]:
        """Returns one v2 JSON request a flight."""
        return [post("/v2/models/flights/infer", self.v2_body(row), JSON) for row in self.rows]

    def v2_body(self, row: dict) -> bytes:
        """Returns the body of one request."""
        inputs = [
            {"name": name, "shape": [1, 1], "datatype": DATATYPES[kind], "data": [row[name]]}
            for name, kind in self.types.items()
        ]
        return json.dumps({"inputs": inputs}, separators=(",", ":")).encode()

    def fastapi(self) -> list[bytes]:
        """Returns one request a flight for the FastAPI app."""
        bodies = [json.dumps(row, separators=(",", ":")).encode() for row in self.rows]
        return [post("/predict", body, JSON) for body in bodies]


def is_complete(row: dict) -> bool:
    """Whether no column is missing: JSON has no NaN."""
    return all(value is not None and value == value for value in row.values())


def output(reply: bytes, name: str) -> list | float:
    """Returns an output from a v2 reply or from one of the FastAPI apps'."""
    found = json.loads(reply)
    if "outputs" in found:
        return next(part["data"] for part in found["outputs"] if part["name"] == name)
    return found[name]


def gives_identity(request: bytes) -> Callable[[tuple[str, int]], bool]:
    """Returns a check that a server gives the row back."""

    def check(address: tuple[str, int]) -> bool:
        reply = ask(address, request)
        return reply is not None and np.ravel(output(reply, "y")).tolist() == ROW

    return check


def gives_probability(request: bytes, expected: float) -> Callable[[tuple[str, int]], bool]:
    """Returns a check that a server predicts what ONNX Runtime does."""

    def check(address: tuple[str, int]) -> bool:
        reply = ask(address, request)
        if reply is None:
            return False
        found = float(np.ravel(output(reply, "late_probability"))[0])
        if not math.isclose(found, expected, abs_tol=TOLERANCE):
            raise SystemExit(f"{address}: predicted {found}, onnxruntime {expected}")
        return True

    return check


def ask(address: tuple[str, int], request: bytes) -> bytes | None:
    """Returns the reply's body, or nothing while the server does not answer with 200."""
    try:
        return exchange(address, request, REPLY_LIMIT_S)
    except OSError:
        return None
