"""The flights model behind FastAPI and ONNX Runtime. `MODEL` is the file."""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from fastapi.responses import Response
from orjson import dumps
from pydantic import create_model

TYPES = {
    "tensor(string)": (str, object),
    "tensor(int64)": (int, np.int64),
    "tensor(float)": (float, np.float32),
}

app = FastAPI()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
columns = {column.name: TYPES[column.type] for column in session.get_inputs()}
Flight = create_model("Flight", **{name: (kind, ...) for name, (kind, _) in columns.items()})


@app.post("/predict")
async def predict(flight: Flight) -> Response:
    """Tells how probably the flight will be late."""
    values = flight.__dict__
    inputs = {name: np.array([[values[name]]], dtype=dtype) for name, (_, dtype) in columns.items()}
    probability, predicted = session.run(["late_probability", "late_predicted"], inputs)
    answer = {"late_probability": probability.item(), "late_predicted": predicted.item()}
    return Response(dumps(answer), media_type="application/json")
