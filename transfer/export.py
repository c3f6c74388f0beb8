"""From a trained Policy to a controller bundle: one ONNX graph with everything inside, proved equal to the original.

The graph is exported once with a named batch axis. Parity is measured on every output, on recorded inputs
(which travel in the bundle as golden vectors) and on random ones around them; the runtime's own session runs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.policy import Policy
from robot import bundle
from robot.config import ConfigError
from robot.controller import Controller
from robot.monitor import Monitor
from robot.network import open_session
from robot.verification import ROUNDED, difference, tolerance
from transfer.cli import GateRefused
from transfer.graph import to_onnx
from transfer.latency import percentiles

Inputs = Mapping[str, npt.NDArray[Any]]

GOLDEN = 100
RANDOM = 1000
_PART = 100


@dataclass(frozen=True, slots=True)
class Export:
    """What was written, and how it was measured."""

    bundle: Path
    parity_max_error: float
    """Largest |a - b| / max(|a|, 1) over all outputs, recorded and random inputs."""
    bytes: int
    latency_us_p50: float
    latency_us_p99: float
    """Of the network alone, one thread, batch of one."""


def export(
    policy: Policy,
    out: Path,
    *,
    golden: Inputs,
    rng: np.random.Generator,
    seen: npt.NDArray[np.floating] | None = None,
    lineage: Mapping[str, Any] | None = None,
    gate: Mapping[str, Any] | None = None,
    report_html: str | None = None,
    key: Path | None = None,
) -> Export:
    """Write the bundle of a policy to `out`.

    `golden` are recorded inputs by name, of shape (n, ...) with n >= 2; the first 100 rows become the golden
    vectors. `seen` (n, D) are observations for the runtime's monitor (default: all of golden's). `key` is a PEM
    file with a P-256 private key. Raises GateRefused, and writes nothing, when the graph does not compute what
    the policy computes.
    """
    graph, error = proved(policy, golden, rng)
    write(policy, out, graph, golden, seen=seen, lineage=lineage, gate=gate, report_html=report_html, key=key)
    p50, p99 = percentiles({"float32": graph}, golden)["float32"][:2]
    return Export(Path(out), error, len(graph), p50, p99)


def proved(policy: Policy, golden: Inputs, rng: np.random.Generator) -> tuple[bytes, float]:
    """The ONNX file of a policy, and its largest error |a - b| / max(|a|, 1) on recorded and random inputs.

    Raises GateRefused when that is more than is allowed; ConfigError when the policy or the inputs do not serve.
    """
    if policy.eval().card.privileged:
        raise ConfigError(
            "export: the policy is a teacher, shown what no sensor of the robot measures; export a student."
        )
    inputs = select(policy, golden)
    recorded = {name: value[:GOLDEN] for name, value in inputs.items()}
    graph = to_onnx(policy, recorded)
    controller = controller_of(policy, graph)
    error = max(parity(policy, controller, part) for part in (recorded, *random_inputs(inputs, RANDOM, rng)))
    allowed = tolerance(policy.output_names)
    if not error <= allowed:
        raise GateRefused(f"export: the ONNX graph differs from the policy by {error:.2g}; {allowed:g} is allowed.")
    return graph, error


def write(
    policy: Policy,
    out: Path,
    graph: bytes,
    golden: Inputs,
    *,
    variant: str = "float32",
    seen: npt.NDArray[np.floating] | None = None,
    **papers: Any,
) -> Path:
    """The bundle of a network that stands for a policy; `papers` are lineage, gate, report and key.

    Golden outputs are the policy's, but where the network was made to differ: then they are its own.
    """
    inputs = select(policy, golden)
    recorded = {name: value[:GOLDEN] for name, value in inputs.items()}
    controller = controller_of(policy, graph)
    outputs = run_network(controller, recorded) if variant in ROUNDED else run_torch(policy, recorded)
    return bundle.write(
        out,
        onnx=graph,
        spec=policy.spec,
        task=policy.task,
        observation=policy.observation,
        action=policy.action,
        control_period_s=policy.control_period_s,
        golden_inputs=recorded,
        golden_outputs=outputs,
        monitor=Monitor.fit(controller.encoder.components, inputs["observation"] if seen is None else seen),
        variant=variant,
        **papers,
    )


def controller_of(policy: Policy, graph: bytes) -> Controller:
    """The controller that a network makes of a policy's robot, observation and actions."""
    return Controller(open_session(graph), policy.spec, policy.observation, policy.action, policy.control_period_s)


def run_torch(policy: Policy, inputs: Inputs) -> dict[str, npt.NDArray[Any]]:
    """The policy's outputs by name."""
    return policy.answer(inputs)


def parity(policy: Policy, controller: Controller, inputs: Inputs) -> float:
    """The largest |a - b| / max(|a|, 1) between torch and the runtime's session, row by row, over all outputs."""
    given = run_network(controller, inputs)
    return max(difference(value, given[name]) for name, value in run_torch(policy, inputs).items())


def run_network(controller: Controller, inputs: Inputs) -> dict[str, npt.NDArray[Any]]:
    """The runtime session's outputs by name, computed row by row."""
    n = len(inputs["observation"])
    rows = [controller.infer({k: v[i : i + 1] for k, v in inputs.items()}) for i in range(n)]
    return {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}


def random_inputs(inputs: Inputs, n: int, rng: np.random.Generator) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """n inputs in parts: normal with twice the spread of `inputs`, uniform images, masks of every length."""
    for begin in range(0, n, _PART):
        size = min(_PART, n - begin)
        part = {}
        for name, value in inputs.items():
            shape = (size, *value.shape[1:])
            if value.dtype == np.uint8:
                part[name] = rng.integers(0, 256, shape, dtype=np.uint8)
            elif name == "history_mask":
                kept = rng.integers(0, shape[1] + 1, (size, 1))
                part[name] = (np.arange(shape[1]) >= shape[1] - kept).astype(np.float32)
            else:
                spread = 2.0 * value.std(axis=0) + 1e-3
                part[name] = (value.mean(axis=0) + spread * rng.normal(size=shape)).astype(np.float32)
        yield part


def select(policy: Policy, golden: Inputs) -> dict[str, npt.NDArray[Any]]:
    """The recorded inputs that the policy takes; ConfigError when one is missing, or there are fewer than two rows."""
    missing = [name for name in policy.input_names if name not in golden]
    if missing:
        raise ConfigError(f"export: recorded inputs lack '{missing[0]}', which the policy takes.")
    inputs = {name: np.ascontiguousarray(golden[name]) for name in policy.input_names}
    if len(inputs["observation"]) < 2:
        raise ConfigError("export: at least two recorded steps are needed.")
    return inputs
