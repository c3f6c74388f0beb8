"""The exported network as it runs on board: bound to memory of its own, one row, one thread.

Inputs are written in place and outputs read in place, which saves onnxruntime's conversions: on a small network these
cost as much as the network itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

Tensors = dict[str, npt.NDArray[Any]]

TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
}


def open_session(onnx: bytes) -> onnxruntime.InferenceSession:
    """A session for a batch of one on one thread that sleeps between ticks instead of spinning."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_free_dimension_override_by_name("batch", 1)
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


class Network:
    """A session of open_session() with its inputs and outputs."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        """ValueError when a shape is not fixed but for the batch, or a type is none of TYPES."""
        self.session = session
        self._binding = session.io_binding()
        self.inputs: Tensors = {}
        """Input name -> (1, ...), to be written before run()."""
        self.outputs: Tensors = {}
        """Output name -> (1, ...), overwritten by run()."""
        for value in session.get_inputs():
            array = self.inputs[value.name] = _memory(value)
            self._binding.bind_input(value.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for value in session.get_outputs():
            array = self.outputs[value.name] = _memory(value)
            self._binding.bind_output(value.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Compute the outputs from the inputs."""
        self.session.run_with_iobinding(self._binding)

    def infer(self, inputs: Tensors) -> Tensors:
        """The same for inputs by name, each with a leading axis of 1; the outputs are copies."""
        for name, array in self.inputs.items():
            given = inputs[name]
            if given.shape != array.shape or given.dtype != array.dtype:
                raise ValueError(
                    f"'{name}' is {given.dtype} {given.shape}; the network takes {array.dtype} {array.shape}"
                )
            array[...] = given
        self.run()
        return {name: array.copy() for name, array in self.outputs.items()}


def _memory(value: Any) -> npt.NDArray[Any]:
    shape = value.shape[1:]
    if not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"'{value.name}' has shape {value.shape}; all but the first axis must be fixed")
    if value.type not in TYPES:
        raise ValueError(f"'{value.name}' is a {value.type}; {', '.join(TYPES)} can be run")
    return np.zeros((1, *shape), TYPES[value.type])
