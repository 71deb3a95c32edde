"""A LightGBM classifier of 500 trees, trained here on synthetic data."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

from suite.entry import Entry

FEATURES = 28
PARAMETERS = {
    "objective": "binary",
    "num_leaves": 64,
    "max_depth": 7,
    "learning_rate": 0.05,
    "min_data_in_leaf": 10,
    "num_threads": 2,
    "seed": 0,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


def entries() -> Iterator[Entry]:
    """Yields the classifier at 1, 100 and 10,000 rows, with LightGBM's own text of it."""
    import lightgbm
    from sklearn.datasets import make_classification

    x, y = make_classification(20000, FEATURES, n_informative=15, random_state=0)
    x = x.astype(np.float32)
    booster = lightgbm.train(PARAMETERS, lightgbm.Dataset(x, y), 500)
    inputs = {f"b{rows}": {"x": x[:rows]} for rows in (1, 100, 10000)}
    yield Entry("gbdt", convert(booster), inputs, {"txt": booster.model_to_string()})


def convert(booster) -> onnx.ModelProto:
    """Converts the trees; probabilities [N, 2] become the only output."""
    from onnxmltools.convert import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    shape = FloatTensorType([None, FEATURES])
    model = convert_lightgbm(booster, initial_types=[("x", shape)], zipmap=False, target_opset=15)
    outputs = [
        value
        for value in model.graph.output
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    ]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return model
