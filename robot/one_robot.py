"""OneRobot: the observation and the command of the one robot on board, in plain numbers.

What is computed is what Observation (robot/observation.py) computes for a batch, and a test holds one against the other
for every feature and kind of action. On the few numbers of a tick, though, Python's own arithmetic is quicker than
array operations: each of these, called once in some milliseconds, finds the processor's caches without its code.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from robot.network import Tensors
from robot.observation import CHANGE, Feature, Observation, signals_in
from robot.state import JointCommand, Joints, Sample

Array = npt.NDArray[np.float64]


class OneRobot:
    """Encoder and decoder of one robot, with the layout of an Observation of one."""

    def __init__(self, batch: Observation, inputs: Tensors) -> None:
        """`inputs` of the network are what encode() fills."""
        self._batch, self._inputs = batch, inputs
        action, spec = batch.action, batch.spec
        self._plan = [(columns.start, feature) for columns, feature in batch.plan]
        self._plain = not batch.config.history and all(_of_numbers(feature) for _, feature in self._plan)
        """Whether all is told from one number at a time; otherwise arrays it is."""
        self._row = memoryview(inputs["observation"][0]).cast("B").cast("f")
        self._rest = spec.default_pose.tolist()
        names = [a.name for a in spec.actuators]
        outputs = {spec.driven[names.index(n)]: i for i, n in enumerate(action.actuators)}
        bounds = zip(batch.origin.tolist(), batch.low.tolist(), batch.high.tolist(), strict=True)
        # of each joint: the output that drives it and its scale, or any and 0; what an output of 0 commands; bounds
        self._joints = [
            (outputs.get(j, 0), action.scale[outputs[j]] if j in outputs else 0.0, *b) for j, b in enumerate(bounds)
        ]
        self.reset()

    def reset(self) -> None:
        """Begin an episode: forget the history, the previous action, and where the joints were."""
        self._batch.reset()
        self._previous = [0.0] * self._batch.action_size
        self._now: list[float] = []
        self._before: list[float] | None = None

    def encode(self, sample: Sample, joints: Joints, goal: Array | None) -> None:
        """Fill the network's inputs from a reading, whose `joints` are in the spec's order."""
        if not self._plain:
            self._batch.encode(signals_in(sample, joints, goal), into=self._inputs)
            return
        row = self._row
        self._now = joints.position.tolist()
        for start, feature in self._plan:
            for i, value in enumerate(self._values(feature, joints, goal), start):
                row[i] = value

    def _values(self, feature: Feature | None, joints: Joints, goal: Array | None) -> Iterable[float]:
        if feature is None:
            return self._previous
        if feature.each is None:
            if feature is not CHANGE:
                return [] if goal is None else goal.tolist()
            return [q - before for q, before in zip(self._now, self._before or self._now, strict=True)]
        if feature.signal == "joint.position":
            return map(feature.each, self._now, self._rest)
        measured = joints.velocity if feature.signal == "joint.velocity" else joints.effort
        return map(feature.each, measured.tolist(), self._rest)

    def decode(self, action: npt.NDArray[np.floating], t_ns: int) -> JointCommand:
        """The command of the network's output (1, A), within the robot's limits; encode() will remember it."""
        batch = self._batch
        if not self._plain:
            return batch.to_command(batch.decode(action)[0], t_ns)
        # in this order of arguments what is not a number stays so, and is a fault in robot/safety.py
        self._previous = shares = [min(max(a, -1.0), 1.0) for a in action[0].tolist()]
        self._before = self._now
        values = [min(max(o + scale * shares[i], low), high) for i, scale, o, low, high in self._joints]
        return batch.to_command(np.array(values), t_ns)


def _of_numbers(feature: Feature | None) -> bool:
    return feature is None or feature is CHANGE or feature.each is not None or feature.signal == "goal"
