"""Foreign networks as ONNX: read, made of layers, and put into the bundle's interface."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from robot.config import ConfigError
from robot.machine import OPSETS, opsets_of
from transfer import sb3_file

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]
Reference = Callable[[Array], Floats]
"""Observations (n, D) to what the foreign network says to them (n, A), before bound and clip."""

OPSET = 18


def of_layers(actor: sb3_file.Actor) -> onnx.ModelProto:
    """A multi-layer perceptron as ONNX, from `x` to `y`."""
    nodes, weights, at = [], [], "x"
    for i, (w, b) in enumerate(actor.layers):
        weights += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [at, f"w{i}", f"b{i}"], [f"h{i}"], transB=1))
        at = f"h{i}"
        last = i == len(actor.layers) - 1
        if not last or actor.squashed:
            nodes.append(helper.make_node("Tanh" if last else sb3_file.ACTIVATIONS[actor.activation], [at], [f"a{i}"]))
            at = f"a{i}"
    ends = [("x", actor.layers[0][0].shape[1]), (at, actor.layers[-1][0].shape[0])]
    given, action = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", size]) for n, size in ends)
    graph = helper.make_graph(nodes, "actor", [given], [action], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def of_numpy(actor: sb3_file.Actor) -> Reference:
    """The same in numpy, as the original is written down in Stable-Baselines3."""
    shapes: dict[str, Callable[[Floats], Floats]] = {
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, 0.0),
        "elu": lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0))),
    }

    def said(observation: Array) -> Floats:
        x: Floats = observation.astype(np.float64)
        for i, (w, b) in enumerate(actor.layers):
            x = x @ w.T.astype(np.float64) + b
            if i < len(actor.layers) - 1:
                x = shapes[actor.activation](x)
        return np.tanh(x) if actor.squashed else x

    return said


def load(path: Path) -> onnx.ModelProto:
    """An ONNX file; ConfigError when it is none, or wants what a robot's onnxruntime may not have."""
    data = path.read_bytes()
    try:
        opsets = opsets_of(data)
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's own
        raise ConfigError(f"foreign={path}: no ONNX file ({str(error).splitlines()[0]}).") from error
    version = opsets.get("", opsets.get("ai.onnx", 0))
    strange = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    if strange or model.functions or not OPSETS[0] <= version <= OPSETS[1]:
        what = f"operators of '{strange[0]}'" if strange else "functions" if model.functions else f"opset {version}"
        raise ConfigError(
            f"foreign={path}: it wants {what}; opsets {OPSETS[0]} to {OPSETS[1]} of standard ONNX run on every "
            "supported onnxruntime: export it again."
        )
    if any(w.data_location == TensorProto.EXTERNAL for w in model.graph.initializer):
        raise ConfigError(f"foreign={path}: its weights lie in another file; save it as one.")
    return model


def session(path: Path, model: onnx.ModelProto, given: str, action: str) -> Reference:
    """The file as it is, run by onnxruntime row by row; ConfigError when it cannot be."""
    try:
        made = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class of their own
        raise ConfigError(f"foreign={path}: onnxruntime cannot load it ({str(error).splitlines()[0]}).") from error
    return lambda observation: np.concatenate([made.run([action], {given: row[None]})[0] for row in observation])


def ports(path: Path, model: onnx.ModelProto, given: str, action: str) -> tuple[onnx.ValueInfoProto, ...]:
    """The input that is the observation and the output that is the action, by their names in the card."""
    weights = {w.name for w in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in weights]
    if len(inputs) > 1:
        names = ", ".join(v.name for v in inputs)
        raise ConfigError(f"foreign={path}: it wants {names}; one input, the observation, is understood.")
    return _port(path, "input", given, inputs), _port(path, "output", action, model.graph.output)


def _port(path: Path, what: str, name: str, known: Any) -> onnx.ValueInfoProto:
    names = [p.name for p in known]
    if (name and name not in names) or (not name and len(names) != 1):
        wanted = f"no {what} '{name}'" if name else f"{len(names)} {what}s"
        raise ConfigError(
            f"foreign={path}: it has {wanted} ({', '.join(names)}); say which with `{what}:` in the card."
        )
    port: onnx.ValueInfoProto = next(p for p in known if not name or p.name == name)
    if port.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise ConfigError(f"foreign={path}: {what} '{port.name}' is not float32; export it again in float32.")
    return port


def width(port: onnx.ValueInfoProto) -> int:
    """Values in a row; 0 where the file does not fix it, or where there are not two axes."""
    shape = port.type.tensor_type.shape.dim
    return int(shape[1].dim_value) if len(shape) == 2 else 0


def framed(
    model: onnx.ModelProto,
    given: str,
    action: str,
    *,
    mean: npt.ArrayLike,
    deviation: npt.ArrayLike,
    bound: npt.ArrayLike,
) -> bytes:
    """The network between the bundle's `observation` and `action`: scaled before, bound and clip behind.

    mean, deviation (D,): of the observation; bound (A,): what it says to ask for all.
    """
    inner = onnx.compose.add_prefix(model, "foreign/").graph
    constants = {
        "mean": np.asarray(mean, np.float32),
        "deviation": np.asarray(deviation, np.float32),
        "bound": np.asarray(bound, np.float32),
        "least": np.array(-1.0, np.float32),
        "most": np.array(1.0, np.float32),
    }
    before = [
        helper.make_node("Sub", ["observation", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], [f"foreign/{given}"]),
    ]
    behind = [
        helper.make_node("Div", [f"foreign/{action}", "bound"], ["share"]),
        helper.make_node("Clip", ["share", "least", "most"], ["action"]),
    ]
    weights = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    graph = helper.make_graph(
        [*before, *inner.node, *behind],
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", len(constants["mean"])])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", len(constants["bound"])])],
        [*inner.initializer, *weights],
    )
    made = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=min(model.ir_version, 9))
    for node in made.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    data: bytes = made.SerializeToString(deterministic=True)
    return data
