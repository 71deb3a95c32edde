"""Writes the trained trees as an ONNX model that takes the raw columns."""

import re

import lightgbm
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxmltools.convert import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

import features

UNKNOWN_CATEGORY = -1.0
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]


def build(booster: lightgbm.Booster, ranks: dict, threshold: float) -> onnx.ModelProto:
    """Returns the model: one [N, 1] input per feature column, two [N, 1] outputs.

    `late_probability` is FP32; `late_predicted` is INT64, 1 where the probability reaches
    `threshold`.
    """
    nodes = [rank_node(column, ranks[column]) for column in features.CATEGORIES]
    nodes.append(helper.make_node("Concat", features.INTEGERS, ["integers"], axis=1))
    nodes.append(helper.make_node("Cast", ["integers"], ["counts"], to=TensorProto.FLOAT))
    columns = [f"{column}_rank" for column in features.CATEGORIES] + ["counts", *features.FLOATS]
    nodes.append(helper.make_node("Concat", columns, ["features"], axis=1))
    nodes.append(tree_node(booster))
    nodes += [
        helper.make_node("Gather", ["probabilities", "late_class"], ["late_probability"], axis=1),
        helper.make_node("GreaterOrEqual", ["late_probability", "threshold"], ["reached"]),
        helper.make_node("Cast", ["reached"], ["late_predicted"], to=TensorProto.INT64),
    ]
    constants = [
        numpy_helper.from_array(np.array([1], np.int64), "late_class"),
        numpy_helper.from_array(np.array(threshold, np.float32), "threshold"),
    ]
    outputs = [
        column_info("late_probability", TensorProto.FLOAT),
        column_info("late_predicted", TensorProto.INT64),
    ]
    graph = helper.make_graph(nodes, "flights", inputs(), outputs, constants)
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=8, producer_name="flights")
    onnx.checker.check_model(model, full_check=True)
    return model


def column_info(name: str, datatype: int) -> onnx.ValueInfoProto:
    """Declares a column of N rows."""
    return helper.make_tensor_value_info(name, datatype, ["N", 1])


def inputs() -> list[onnx.ValueInfoProto]:
    """Declares one column per feature."""
    kinds = [
        (features.CATEGORIES, TensorProto.STRING),
        (features.INTEGERS, TensorProto.INT64),
        (features.FLOATS, TensorProto.FLOAT),
    ]
    return [column_info(name, datatype) for names, datatype in kinds for name in names]


def rank_node(column: str, ranks: dict[str, float]) -> onnx.NodeProto:
    """Maps a string column to its ranks; values that training never saw become -1."""
    return helper.make_node(
        "LabelEncoder",
        [column],
        [f"{column}_rank"],
        domain="ai.onnx.ml",
        keys_strings=list(ranks),
        values_floats=list(ranks.values()),
        default_float=UNKNOWN_CATEGORY,
    )


def with_float32_thresholds(booster: lightgbm.Booster) -> lightgbm.Booster:
    """Returns the same trees with every threshold rounded down to an FP32 number.

    LightGBM compares with FP64 thresholds, ONNX with FP32 ones. For an FP32 feature, `x <= t` is
    the same as `x <= t'` where t' is the largest FP32 number that is not above t; rounding to the
    nearest instead, as the converter does, sends rows with x = t' > t down the wrong branch.
    """

    def rounded_down(number: str) -> str:
        nearest = np.float32(number)
        above = float(nearest) > float(number)
        return repr(float(np.nextafter(nearest, np.float32(-np.inf)) if above else nearest))

    def line(match: re.Match) -> str:
        return "threshold=" + " ".join(map(rounded_down, match[1].split()))

    text = re.sub(r"(?m)^threshold=(.*)$", line, booster.model_to_string())
    # The byte length of each tree has changed; without this line the reader finds the ends itself.
    text = re.sub(r"(?m)^tree_sizes=.*\n", "", text)
    return lightgbm.Booster(model_str=text)


def tree_node(booster: lightgbm.Booster) -> onnx.NodeProto:
    """Converts the trees, and keeps the one TreeEnsembleClassifier of the conversion."""
    shape = FloatTensorType([None, len(features.FEATURES)])
    converted = convert_lightgbm(
        with_float32_thresholds(booster),
        initial_types=[("features", shape)],
        zipmap=False,
        target_opset=15,
    )
    (node,) = [n for n in converted.graph.node if n.op_type == "TreeEnsembleClassifier"]
    del node.input[:], node.output[:]
    node.input.append("features")
    node.output.extend(["class", "probabilities"])
    node.name = "trees"
    return node
