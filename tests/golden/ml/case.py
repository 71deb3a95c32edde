"""What a golden case is, and how a trained model becomes one."""

from dataclasses import dataclass

import numpy as np
import onnx
import pandas as pd
from onnxmltools.convert.common import data_types as onnxmltools_types
from skl2onnx import convert_sklearn
from skl2onnx.common import data_types

OPSETS = {"": 17, "ai.onnx.ml": 3}


@dataclass
class Case:
    """A model, its inputs, and what the trainer itself answers for them.

    `expected` is in the order of the model's outputs. `classes` is given where the last output is a
    ZipMap: a sequence of maps from class to probability, expected as a matrix [N, classes].
    """

    name: str
    trainer: str
    model: onnx.ModelProto
    inputs: dict[str, np.ndarray]
    expected: list[np.ndarray]
    classes: list | None = None


def declared_type(array: np.ndarray, types=data_types):
    """Returns the converter's type for a matrix of any number of rows."""
    shape = [None, *array.shape[1:]]
    if array.dtype.kind in "OUS":
        return types.StringTensorType(shape)
    kinds = {"f4": types.FloatTensorType, "f8": types.DoubleTensorType, "i8": types.Int64TensorType}
    return kinds[array.dtype.str[1:]](shape)


def columns(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns a data frame's columns as inputs [N, 1]."""
    return {
        name: frame[name].to_numpy(None if frame[name].dtype.kind in "fi" else object)[:, None]
        for name in frame.columns
    }


def to_onnx(estimator, inputs: dict[str, np.ndarray], options: dict | None = None):
    """Converts a fitted scikit-learn estimator or pipeline."""
    initial = [(name, declared_type(array)) for name, array in inputs.items()]
    scoped = {id(estimator): options} if options else None
    return convert_sklearn(estimator, initial_types=initial, target_opset=OPSETS, options=scoped)


def named_inputs(x) -> dict[str, np.ndarray]:
    """Returns a matrix as the input `x`, a data frame as one input per column."""
    return columns(x) if isinstance(x, pd.DataFrame) else {"x": x}


def classifier(name: str, estimator, x, zipmap: bool = False) -> Case:
    """Makes a case of a fitted scikit-learn classifier: label and probabilities."""
    inputs = named_inputs(x)
    model = to_onnx(estimator, inputs, {"zipmap": zipmap})
    expected = [estimator.predict(x), estimator.predict_proba(x).astype("f4")]
    classes = estimator.classes_.tolist() if zipmap else None
    return Case(name, "scikit-learn", model, inputs, expected, classes)


def scorer(name: str, estimator, x: np.ndarray, options: dict | None = None) -> Case:
    """Makes a case of a fitted classifier without probabilities: label and decision function."""
    model = to_onnx(estimator, {"x": x}, options)
    scores = estimator.decision_function(x).astype("f4").reshape(len(x), -1)
    return Case(name, "scikit-learn", model, {"x": x}, [estimator.predict(x), scores])


def regressor(name: str, estimator, x) -> Case:
    """Makes a case of a fitted scikit-learn regressor; ONNX answers with a column."""
    inputs = named_inputs(x)
    expected = estimator.predict(x).astype("f4").reshape(len(x), -1)
    return Case(name, "scikit-learn", to_onnx(estimator, inputs), inputs, [expected])


def transformer(name: str, estimator, x) -> Case:
    """Makes a case of a fitted scikit-learn transformer."""
    inputs = named_inputs(x)
    expected = estimator.transform(x)
    expected = expected.toarray() if hasattr(expected, "toarray") else np.asarray(expected)
    model = to_onnx(estimator, inputs)
    if model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
        expected = expected.astype("f4")
    return Case(name, "scikit-learn", model, inputs, [expected])


def boosted(name: str, trainer: str, convert, estimator, x, zipmap: bool = False) -> Case:
    """Makes a case of a fitted LightGBM or XGBoost estimator, through its converter."""
    is_classifier = hasattr(estimator, "predict_proba")
    options = {"zipmap": zipmap} if trainer == "LightGBM" and is_classifier else {}
    initial = [("x", declared_type(x, onnxmltools_types))]
    model = convert(estimator, initial_types=initial, target_opset=15, **options)
    predicted = estimator.predict(x)
    if not is_classifier:
        return Case(name, trainer, model, {"x": x}, [predicted.astype("f4").reshape(-1, 1)])
    expected = [predicted, estimator.predict_proba(x).astype("f4")]
    classes = estimator.classes_.tolist() if zipmap else None
    return Case(name, trainer, model, {"x": x}, expected, classes)
