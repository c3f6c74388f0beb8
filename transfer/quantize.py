"""Static int8 quantization of a bundle's network: large matrices in 8 bits, everything about them in float32.

A matrix is quantized when it has at least LARGE weights and its input was computed by another matrix. So the input
scaling, and the first layer that reads scaled readings, stay float: an observation of ten deviations in 256 steps loses
the small angles and slow speeds by which a robot is balanced. A last layer of few outputs is too small to be worth it.
Weights are symmetric, have a scale for each output, and 7 of the 8 bits: processors without VNNI add pairs of products
in 16 bits, which overflow with 8 (of a random 256 x 256 policy the actions were then off by 0.046, with 7 by 0.002).
Activations have the range that was seen on recorded inputs; what a matrix gives is not quantized again. The file keeps
to standard ONNX operators (QuantizeLinear, DequantizeLinear), which onnxruntime fuses when it loads it.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

Inputs = Mapping[str, npt.NDArray[Any]]

LARGE = 4096
"""Weights of a matrix from which 8 bits can pay: 64 x 64."""
MATRICES = ("MatMul", "Gemm", "Conv")
ROWS = 512
"""Recorded rows that the ranges are taken from."""


class NothingToQuantize(Exception):
    """No matrix of the network is large enough."""


def to_int8(graph: bytes, recorded: Inputs) -> bytes:
    """The ONNX file with its large matrices in int8; the same arguments give the same bytes.

    `recorded` are inputs by name, of shape (n, ...). Raises NothingToQuantize.
    """
    model = onnx.load_from_string(graph)
    chosen = large_matrices(model.graph)
    if not chosen:
        raise NothingToQuantize(f"no matrix behind the first layer has {LARGE} weights or more")
    _name_nodes(model.graph)
    told = logging.getLogger().manager.disable
    logging.disable(logging.WARNING)  # it advises pre-processing, which the exporter has done
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "int8.onnx"
            quantize_static(
                model,
                path,
                _Rows(recorded),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(MATRICES),
                nodes_to_quantize=[model.graph.node[i].name for i in chosen],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,
                extra_options={"WeightSymmetric": True, "OpTypesToExcludeOutputQuantization": list(MATRICES)},
            )
            made = onnx.load(path)
    finally:
        logging.disable(told)
    return _plain(made)


def large_matrices(graph: onnx.GraphProto) -> list[int]:
    """Indices of the nodes that are quantized: enough weights, and an input that another matrix computed."""
    weights = {w.name: math.prod(w.dims) for w in graph.initializer}
    scaling = {w.name for w in graph.initializer if _picks(w)}
    computed: set[str] = set()  # tensors on whose way from the inputs a matrix stands
    found = []
    for i, node in enumerate(graph.node):  # nodes of an ONNX graph stand in topological order
        size = max((weights[name] for name in node.input if name in weights), default=0)
        matrix = node.op_type in MATRICES and size > 0 and not scaling.intersection(node.input)
        behind = any(name in computed for name in node.input)
        if matrix and behind and size >= LARGE:
            found.append(i)
        if matrix or behind:
            computed.update(node.output)
    return found


def _picks(weights: onnx.TensorProto) -> bool:
    """Whether a matrix picks numbers and shifts them, as those before a policy's memory do: two weights a column."""
    if len(weights.dims) != 2:
        return False
    return bool((np.count_nonzero(onnx.numpy_helper.to_array(weights), axis=0) <= 2).all())


def _name_nodes(graph: onnx.GraphProto) -> None:
    for i, node in enumerate(graph.node):
        node.name = f"node_{i}"


def _plain(model: onnx.ModelProto) -> bytes:
    """The file without what the quantizer adds for itself: notes, and operator sets that nothing uses."""
    used = {node.domain for node in model.graph.node}
    for opset in [o for o in model.opset_import if o.domain not in used]:
        model.opset_import.remove(opset)
    model.producer_name = model.producer_version = model.doc_string = ""
    del model.metadata_props[:]
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Rows(CalibrationDataReader):
    """Recorded inputs, one row at a time, evenly from all along."""

    def __init__(self, recorded: Inputs) -> None:
        n = len(next(iter(recorded.values())))
        at = np.unique(np.linspace(0, n - 1, min(n, ROWS)).astype(int))
        self._rows: Iterator[dict[str, npt.NDArray[Any]]] = (
            {name: value[i : i + 1] for name, value in recorded.items()} for i in at
        )

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return next(self._rows, None)
