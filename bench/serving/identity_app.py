"""The identity model behind FastAPI and ONNX Runtime. `MODEL` is the file."""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from fastapi.responses import Response
from orjson import OPT_SERIALIZE_NUMPY, dumps
from pydantic import BaseModel

app = FastAPI()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)


class Rows(BaseModel):
    """Rows of four numbers."""

    x: list[list[float]]


@app.post("/predict")
async def predict(rows: Rows) -> Response:
    """Gives the rows back."""
    (y,) = session.run(["y"], {"x": np.array(rows.x, dtype=np.float32)})
    return Response(dumps({"y": y}, option=OPT_SERIALIZE_NUMPY), media_type="application/json")
