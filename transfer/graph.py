"""A policy as an ONNX graph: traced once for its structure, given each policy's own weights, then simplified.

Tracing takes the exporter most of its time and does not read the weights, so policies of one structure (before
fine-tuning, after it, and from scratch, or with an encoder that was adapted) share a trace. That nothing of a policy
stayed in it is not taken on trust: transfer/export.py runs every graph beside its policy.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from onnxscript import ir
from torch import Tensor, nn
from torch.nn import functional

from policies.card import PolicyCard
from policies.policy import Answer, Policy

Inputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Trace:
    program: torch.onnx.ONNXProgram
    model: Any
    """Of onnx_ir, not simplified yet: what depends on weights is still computed from them."""


_traces: dict[str, _Trace] = {}
"""By structure; the last few of this process."""
KEPT = 4


def to_onnx(policy: Policy, example: Inputs) -> bytes:
    """The policy as an ONNX file, weights inside, first axis named `batch`; the same policy gives the same bytes."""
    structure = structure_of(policy.card)
    if structure not in _traces:
        if len(_traces) == KEPT:
            del _traces[next(iter(_traces))]
        _traces[structure] = _traced(policy, example)
    trace, graph = _traces[structure], _Graph(policy)
    model = trace.model.clone()
    for name, tensor in (*graph.named_parameters(), *graph.named_buffers()):
        if name in model.graph.initializers:
            model.graph.initializers[name].const_value = ir.tensor(tensor.detach().numpy().copy(), name=name)
    trace.program.model = model
    with _quiet():
        trace.program.optimize()
    return _bytes(trace.program.model_proto)


def structure_of(card: PolicyCard) -> str:
    """What a trace depends on: all of the card but where the policy and its encoders come from and what they scored."""
    parts = {"encoder": card.encoder, "vision": card.vision}
    bare = {name: replace(part, lineage={}, scores={}) for name, part in parts.items() if part is not None}
    return repr(replace(card, lineage={}, **bare))  # type: ignore[arg-type]


def _traced(policy: Policy, example: Inputs) -> _Trace:
    values = tuple(torch.from_numpy(np.ascontiguousarray(example[name][:2])) for name in policy.input_names)
    batch = torch.export.Dim("batch")
    with _quiet():
        program = torch.onnx.export(
            _Graph(policy).eval(),
            values,
            dynamo=True,
            input_names=list(policy.input_names),
            output_names=list(policy.output_names),
            dynamic_shapes=(tuple({0: batch} for _ in values),),
            verbose=False,
            optimize=False,
        )
    assert program is not None
    return _Trace(program, program.model)


@contextlib.contextmanager
def _quiet() -> Any:
    """The exporter says much, and warns of its own deprecations and of torchvision, which nothing here needs."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _bytes(model: Any) -> bytes:
    """Without what tells of the machine that made it."""
    model.doc_string = ""
    del model.metadata_props[:]
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info, model.graph):
        part.doc_string = ""
        del part.metadata_props[:]  # stack traces with the paths of this machine
    for function in model.functions:
        del function.metadata_props[:]
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Graph(nn.Module):
    """A policy with positional inputs and no outputs that are None, as the exporter wants it."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy, self.names = policy, policy.input_names

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.names, values, strict=True))
        plain = self.policy.recurrent is None and self.policy.mirror is None
        answer = self._remembering(**given) if self.policy.memory.steps and plain else self.policy(**given)
        return tuple(value for value in answer if value is not None)

    def _remembering(self, state_memory: Tensor, **given: Tensor) -> Answer:
        """The same of a policy with memory, whose present and past are scaled in one go.

        On board a node costs a microsecond or two. The first layer's columns are put in the order that comes of it.
        """
        policy = self.policy
        shown, context = policy.perceive(**given)
        rows, following = policy.memory.advance(state_memory, shown, policy.normalizer)
        first, *others = policy.actor
        assert isinstance(first, nn.Linear)
        now, size = shown.shape[1], policy.memory.size
        present, told, past = first.weight[:, :now], first.weight[:, now:-size], first.weight[:, -size:]
        weight = torch.cat([past, torch.zeros_like(present[:, :1]), present, told], dim=1)
        vector = rows if context is None else torch.cat([rows, context], dim=1)
        said = torch.tanh(nn.Sequential(*others)(functional.linear(vector, weight, first.bias)))
        return Answer(said if policy.hold is None else policy.hold(shown, said), context, following, None)
