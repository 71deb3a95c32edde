"""Write every backend test case that the pinned `onnx` package generates to a folder.

Usage: python tests/conformance/dump_cases.py OUT

One folder per case: `model.onnx`, one TensorProto file for each tensor of each input and output
(`input_0.pb`; a sequence has `input_0_0.pb`, `input_0_1.pb`, ...), and `case.json`, whose fields are
listed in `describe`. The set is: all node cases, and the simple, pytorch-converted, pytorch-operator and
light (real architectures, constant weights) models that the package carries. Nothing is left out.
"""

import argparse
import json
import pathlib
import shutil
import sys
import warnings

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

MODEL_KINDS = ("simple", "pytorch-converted", "pytorch-operator", "real")
# Plain tensors of the element types that exported models use in practice; the rest is counted apart.
CORE_TYPES = {
    f"tensor({name})" for name in ("float", "int64", "int32", "bool", "uint8", "int8")
}
RANDOM_OPERATORS = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}


def type_text(proto):
    """`tensor(float)`-style text of a TypeProto, as ONNX's schemas write it."""
    field = proto.WhichOneof("value")
    if field == "tensor_type":
        return f"tensor({TensorProto.DataType.Name(proto.tensor_type.elem_type).lower()})"
    if field == "sequence_type":
        return f"seq({type_text(proto.sequence_type.elem_type)})"
    if field == "optional_type":
        return f"optional({type_text(proto.optional_type.elem_type)})"
    if field == "map_type":
        key = TensorProto.DataType.Name(proto.map_type.key_type).lower()
        return f"map({key},{type_text(proto.map_type.value_type)})"
    return field or "unknown"


def tensor_elem_type(proto):
    """The element type of the innermost tensor of a TypeProto."""
    while proto.WhichOneof("value") in ("sequence_type", "optional_type"):
        proto = getattr(proto, proto.WhichOneof("value")).elem_type
    return proto.tensor_type.elem_type


def tensor_proto(value, name, elem_type):
    if isinstance(value, TensorProto):
        proto = TensorProto()
        proto.CopyFrom(value)
        proto.name = name
        return proto
    array = np.asarray(value)
    if elem_type == TensorProto.STRING:
        return onnx.helper.make_tensor(
            name, elem_type, array.shape, [str(v).encode() for v in array.flatten()]
        )
    return numpy_helper.from_array(array, name)


def value_tensors(value, info):
    """(kind, TensorProtos) of one input or output; an optional may be absent."""
    elem_type = tensor_elem_type(info.type)
    if value is None:
        return "absent", []
    if isinstance(value, (list, tuple)):
        return "sequence", [tensor_proto(item, info.name, elem_type) for item in value]
    return "tensor", [tensor_proto(value, info.name, elem_type)]


def all_nodes(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)
            for sub in attribute.graphs:
                yield from all_nodes(sub)


def random_reason(model, inputs):
    """Why the expected values depend on a random generator, or None."""
    for node in all_nodes(model.graph):
        if node.op_type in RANDOM_OPERATORS:
            return f"{node.op_type} draws random numbers; only shape and type are specified"
    for node in model.graph.node:
        if node.op_type != "Dropout" or len(node.input) < 3:
            continue
        present = [name for name in node.input if name]
        value = dict(zip(present, inputs))
        ratio = value.get(node.input[1], 0.5)
        if np.asarray(value.get(node.input[2], False)).any() and np.asarray(ratio).any():
            return "Dropout in training mode draws random numbers; only shape and type are specified"
    return None


def graph_inputs(model):
    stored = {tensor.name for tensor in model.graph.initializer}
    return [info for info in model.graph.input if info.name not in stored]


def subject(case, model):
    """(domain, operator) that the case is about; a whole model is its own subject."""
    nodes = model.graph.node
    if case.kind == "node" and "_expanded" not in case.name and len(nodes) == 1:
        return nodes[0].domain or "ai.onnx", nodes[0].op_type
    return None


def describe(case, kind, model, owner, random, inputs, outputs):
    """The fields of case.json."""
    declared = {type_text(info.type) for info in [*model.graph.input, *model.graph.output]}
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    domain, operator = owner
    return {
        "name": case.name,
        "kind": kind,
        "domain": domain,
        "operator": operator,
        "opset": opsets.get(domain, max(opsets.values(), default=0)),
        "opsets": opsets,
        "ir_version": model.ir_version,
        "node_operators": sorted({node.op_type for node in all_nodes(model.graph)}),
        "expanded": "_expanded" in case.name,
        "core": declared <= CORE_TYPES,
        "types": sorted(declared),
        "random": random,
        "rtol": case.rtol,
        "atol": case.atol,
        "inputs": inputs,
        "outputs": outputs,
    }


def write_values(folder, stem, infos, values):
    if len(infos) < len(values):
        raise ValueError(f"{folder.name}: {len(values)} values for {len(infos)} graph {stem}s")
    entries = []
    for index, (info, value) in enumerate(zip(infos, values)):
        kind, tensors = value_tensors(value, info)
        files = [f"{stem}_{index}.pb"]
        if kind != "tensor":
            files = [f"{stem}_{index}_{item}.pb" for item in range(len(tensors))]
        for file, tensor in zip(files, tensors):
            (folder / file).write_bytes(tensor.SerializeToString())
        entries.append(
            {"name": info.name, "type": type_text(info.type), "kind": kind, "files": files}
        )
    return entries


def write_case(out, case, kind, model, model_bytes, owner, inputs, outputs):
    folder = out / case.name
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model_bytes)
    entry = describe(
        case,
        kind,
        model,
        owner,
        random_reason(model, inputs),
        write_values(folder, "input", graph_inputs(model), inputs),
        write_values(folder, "output", model.graph.output, outputs),
    )
    (folder / "case.json").write_text(json.dumps(entry, indent=1) + "\n")
    return entry


def dump_node_cases(out):
    entries, subjects = [], {}
    cases = load_model_tests(kind="node")
    for case in cases:
        found = subject(case, case.model)
        if found:
            subjects[case.name] = found
    for case in cases:
        owner = subjects.get(case.name) or subjects[case.name.split("_expanded")[0]]
        inputs, outputs = case.data_sets[0]
        data = case.model.SerializeToString()
        entries.append(write_case(out, case, "node", case.model, data, owner, inputs, outputs))
    return entries


def stored_values(folder, stem, infos):
    values = []
    for index, info in enumerate(infos):
        path = folder / f"{stem}_{index}.pb"
        if not path.exists():
            break
        loaded = []
        Runner._load_proto(None, path, loaded, info.type)
        values.extend(loaded)
    return values


def light_values(case, model):
    path = pathlib.Path(onnx.__file__).parent.parent / case.url
    inputs = [Runner.generate_dummy_data(info, name=case.name) for info in graph_inputs(model)]
    prefix = path.with_suffix("")
    outputs = []
    for index, info in enumerate(model.graph.output):
        Runner._load_proto(None, f"{prefix}_output_{index}.pb", outputs, info.type)
    return inputs, outputs


def dump_models(out, kind):
    entries = []
    for case in sorted(load_model_tests(kind=kind), key=lambda case: case.name):
        if case.model_dir is None:
            path = pathlib.Path(onnx.__file__).parent.parent / case.url
            model = onnx.load(path)
            inputs, outputs = light_values(case, model)
        else:
            path = pathlib.Path(case.model_dir) / "model.onnx"
            model = onnx.load(path)
            data = pathlib.Path(case.model_dir) / "test_data_set_0"
            if (data.parent / "test_data_set_1").exists():
                raise ValueError(f"{case.name}: more than one data set")
            inputs = stored_values(data, "input", graph_inputs(model))
            outputs = stored_values(data, "output", model.graph.output)
        label = "light" if kind == "real" else kind
        owner = ("model", label)
        entries.append(
            write_case(out, case, label, model, path.read_bytes(), owner, inputs, outputs)
        )
    return entries


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=pathlib.Path, help="folder to (re)create")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        entries = dump_node_cases(out)
    for kind in MODEL_KINDS:
        entries += dump_models(out, kind)
    index = {"onnx": onnx.__version__, "cases": [entry["name"] for entry in entries]}
    (out / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    node = [entry for entry in entries if entry["kind"] == "node"]
    plain = [entry for entry in node if not entry["expanded"]]
    core = [entry for entry in plain if entry["core"]]
    print(
        f"{len(entries)} cases in {out}: {len(node)} node cases ({len(plain)} not expanded, "
        f"{len(core)} of them core types) and {len(entries) - len(node)} models"
    )


if __name__ == "__main__":
    sys.exit(main())
