"""A robot that misbehaves on demand, and bundles made in a moment, for the onboard tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from robot import bundle
from robot.controller import Controller
from robot.driver import DriverError, EndOfLog, StaleState, StopReason
from robot.monitor import Monitor
from robot.network import open_session
from robot.observation import ActionConfig, Observation, ObservationConfig
from robot.spec import RobotSpec
from robot.state import JointCommand, Joints, Sample

OBSERVATION = ObservationConfig(features=("joint_cos", "joint_sin", "joint_velocity", "previous_action"))
ACTION = ActionConfig(actuators=("shoulder", "elbow"), scale=(2.0, 1.0))


class FakeDriver:
    """Joints that turn as torque integrates, on a simulated clock, with one trouble: a function of the tick.

    Troubles: `stale`, `lost` (DriverError), `end`, `nan`, `fast`, `old`, `late` (the clock jumps two and a half
    periods), `stall` (it jumps by 0.2 s before the reading), `ctrl-c`, `write` (DriverError on writing).
    """

    def __init__(self, spec: RobotSpec, trouble: Callable[[int], str] = lambda tick: "") -> None:
        self.spec, self._trouble = spec, trouble
        n = len(spec.joints)
        self.position, self.velocity = spec.default_pose.copy(), np.zeros(n)
        self.now, self._effort, self._tick, self._read = 0, np.zeros(n), -1, -1
        self.written: list[JointCommand] = []
        self.stopped: list[StopReason] = []

    @classmethod
    def from_config(cls, spec: RobotSpec) -> FakeDriver:
        return cls(spec)

    def now_ns(self) -> int:
        return self.now

    def wait(self, until_ns: int) -> None:
        dt = max(0, until_ns - self.now) * 1e-9
        self.velocity += dt * self._effort
        self.position += dt * self.velocity
        self.now = max(self.now, until_ns)

    def read(self, timeout_s: float) -> Sample:
        self._tick += 1
        trouble = self._trouble(self._tick)
        if trouble == "stale" or self._read == self.now:
            raise StaleState("nothing new")
        if trouble == "lost":
            raise DriverError("motor 2 does not answer")
        if trouble == "end":
            raise EndOfLog("over")
        if trouble == "ctrl-c":
            raise KeyboardInterrupt
        if trouble == "stall":
            self.now += 200_000_000
        self._read = self.now
        position, velocity = self.position.copy(), self.velocity.copy()
        if trouble == "nan":
            position[1] = np.nan
        if trouble == "fast":
            velocity[0] = -99.0
        t_ns = self.now - (200_000_000 if trouble == "old" else 0)
        if trouble == "late":
            self.now += round(2.5 * self.spec.control_period_s * 1e9)
        names = self.spec.joint_names
        joints = Joints(names=names, t_ns=t_ns, position=position, velocity=velocity, effort=self._effort)
        return Sample(t_ns=self.now, joints=joints)

    def write(self, command: JointCommand) -> JointCommand:
        if self._trouble(self._tick) == "write":
            raise DriverError("the bus is off")
        command = command.ordered(self.spec.joint_names)
        self._effort = np.clip(command.effort, -self.spec.effort_limits, self.spec.effort_limits)
        self.written.append(command)
        return command

    def stop(self, reason: StopReason) -> None:
        self.stopped.append(reason)
        self._effort = np.zeros_like(self._effort)

    def close(self) -> None:
        return None


def network(
    inputs: Mapping[str, tuple[int, ...]],
    actions: int,
    *,
    hidden: tuple[int, ...] = (16,),
    state: int = 0,
    seed: int = 0,
) -> bytes:
    """A random network over all its inputs (uint8 for images) as ONNX; `state` adds a recurrent state of that size."""
    rng = np.random.default_rng(seed)
    nodes, weights, parts = [], [], []
    values = []
    for name, shape in inputs.items():
        kind = TensorProto.UINT8 if name.startswith("image_") else TensorProto.FLOAT
        values.append(helper.make_tensor_value_info(name, kind, ["batch", *shape]))
        nodes.append(helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Flatten", [f"{name}_float"], [f"{name}_flat"]))
        parts.append(f"{name}_flat")
    outputs = [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", actions])]
    width = sum(int(np.prod(s)) for s in inputs.values())
    if state:
        values.append(helper.make_tensor_value_info("state_memory", TensorProto.FLOAT, ["batch", state]))
        outputs.append(helper.make_tensor_value_info("state_memory_next", TensorProto.FLOAT, ["batch", state]))
        parts.append("state_memory")
        width += state
    nodes.append(helper.make_node("Concat", parts, ["x"], axis=1))
    sizes = (width, *hidden)
    layers = [(f"h{i - 1}" if i else "x", f"h{i}", sizes[i], sizes[i + 1]) for i in range(len(hidden))]
    last = f"h{len(hidden) - 1}"
    layers.append((last, "action", hidden[-1], actions))
    layers += [(last, "state_memory_next", hidden[-1], state)] if state else []
    for source, target, n, m in layers:
        weights.append(
            numpy_helper.from_array((rng.normal(size=(n, m)) / np.sqrt(n)).astype(np.float32), f"w_{target}")
        )
        nodes.append(helper.make_node("MatMul", [source, f"w_{target}"], [f"{target}_linear"]))
        nodes.append(helper.make_node("Tanh", [f"{target}_linear"], [target]))
    graph = helper.make_graph(nodes, "policy", values, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def make_bundle(
    path: Path,
    spec: RobotSpec,
    observation: ObservationConfig = OBSERVATION,
    action: ActionConfig = ACTION,
    state: int = 0,
    hidden: tuple[int, ...] = (16,),
    **changes: Any,
) -> Path:
    """A bundle of a random network for `spec`."""
    n, rng = 20, np.random.default_rng(1)
    shapes: dict[str, tuple[int, ...]] = {}
    encoder = Observation(spec, observation, action)
    shapes["observation"] = (encoder.size,)
    if observation.history:
        shapes |= {"history": (observation.history, encoder.history_size), "history_mask": (observation.history,)}
    for camera in observation.cameras:
        shapes[f"image_{camera}"] = (3, 8, 10)
    onnx_bytes = network(shapes, encoder.action_size, hidden=hidden, state=state)
    golden = {k: rng.normal(size=(n, *s)).astype(np.float32) for k, s in shapes.items() if not k.startswith("image_")}
    golden |= {k: rng.integers(0, 256, (n, *s), dtype=np.uint8) for k, s in shapes.items() if k.startswith("image_")}
    if state:
        golden["state_memory"] = rng.normal(size=(n, state)).astype(np.float32)
    controller = Controller(open_session(onnx_bytes), spec, observation, action, spec.control_period_s)
    rows = [controller.infer({k: v[i : i + 1] for k, v in golden.items()}) for i in range(n)]
    arguments: dict[str, Any] = {
        "onnx": onnx_bytes,
        "spec": spec,
        "task": "hold_still",
        "observation": observation,
        "action": action,
        "control_period_s": spec.control_period_s,
        "golden_inputs": golden,
        "golden_outputs": {name: np.concatenate([r[name] for r in rows]) for name in rows[0]},
        "monitor": Monitor.fit(encoder.components, golden["observation"]),
        "lineage": {"seed": 0},
        "gate": {"success": {"mean": 1.0, "ci95": [0.9, 1.0], "n": 50}},
    }
    return bundle.write(path, **{**arguments, **changes})
