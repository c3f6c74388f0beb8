"""Controller: a reading in, a command out. The only thing on the robot that runs the network.

It owns the ONNX session, the observation history, the newest images and any recurrent state, so that one
call of act() is one control step exactly as in training.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime

from robot.driver import DriverError, StaleState
from robot.monitor import Monitor
from robot.network import Network, Tensors
from robot.observation import ActionConfig, Observation, ObservationConfig
from robot.one_robot import OneRobot
from robot.spec import RobotSpec
from robot.state import JointCommand, Sample

Array = npt.NDArray[np.float64]


class Controller:
    """A policy with everything around it that must be as in training."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        spec: RobotSpec,
        observation: ObservationConfig,
        action: ActionConfig,
        control_period_s: float,
        monitor: Monitor | None = None,
        task: str = "",
        digest: str = "",
    ) -> None:
        """ConfigError when the robot does not measure what the observation needs."""
        self.spec, self.monitor, self.task, self.digest = spec, monitor, task, digest
        self._names, self.period_ns = spec.joint_names, round(control_period_s * 1e9)
        self.encoder = Observation(spec, observation, action)
        self.goal: Array | None = np.zeros(len(observation.goal)) if observation.goal else None
        """(n_goal,) the task's goal; the caller may change it between ticks."""
        self.network = Network(session)
        self.input_shapes: dict[str, tuple[int, ...]] = {n: a.shape[1:] for n, a in self.network.inputs.items()}
        """Input name -> shape without the batch axis."""
        self._one = OneRobot(self.encoder, self.network.inputs)
        inputs, outputs = self.network.inputs, self.network.outputs
        self._states = [(inputs[n], outputs[f"{n}_next"]) for n in self.input_shapes if n.startswith("state_")]
        self._answer = outputs["action"]
        self._observation = self.network.inputs["observation"][0]
        self._context = self.network.outputs["context"][0] if "context" in self.network.outputs else None
        self._cameras = {c: self.input_shapes[f"image_{c}"][1:] for c in observation.cameras}
        self.reset()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras whose images the policy sees."""
        return tuple(self._cameras)

    @property
    def needs(self) -> tuple[str, ...]:
        """Signals that the observation needs beside the joints' and the goal."""
        return tuple(s for s in self.encoder.signals if s.startswith("imu."))

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Camera -> (height, width) of what the policy sees."""
        return dict(self._cameras)

    @property
    def action(self) -> npt.NDArray[np.float32] | None:
        """(A,) what the policy answered last, before decode(); a copy, or None in a new episode."""
        return None if self.observation is None else self._answer[0].copy()

    def reset(self) -> None:
        """Begin an episode: forget history, previous action, images and recurrent state."""
        self._one.reset()
        for state, _ in self._states:
            state[...] = 0.0
        self._seen: set[str] = set()
        self.observation: npt.NDArray[np.float32] | None = None
        """(D,) what the policy saw last; overwritten by the next act()."""
        self.context: npt.NDArray[np.float32] | None = None
        """(Z,) what the physics encoder told last, likewise; None without one."""
        self.unfamiliar: str | None = None
        """Why what it sees is not what it saw in training, as it was once that had lasted; None while it is."""
        self._strange = 0

    def infer(self, inputs: Tensors) -> Tensors:
        """Run the network once: inputs and outputs by name, each with a leading batch axis of 1.

        What the episode remembers stays as it was.
        """
        before = [state.copy() for state, _ in self._states]
        outputs = self.network.infer(inputs)
        for (state, _), kept in zip(self._states, before, strict=True):
            state[...] = kept
        return outputs

    def act(self, sample: Sample) -> JointCommand:
        """One control step. StaleState while a camera has given no image yet; KeyError names a missing joint."""
        for camera, size in self._cameras.items():
            self._look(camera, size, sample)
        self._one.encode(sample, sample.joints.ordered(self._names), self.goal)
        self.network.run()
        for state, following in self._states:
            state[...] = following
        self.observation, self.context = self._observation, self._context
        if self.monitor is not None:
            self._compare(self.monitor)
        return self._one.decode(self._answer, sample.t_ns)

    def _compare(self, monitor: Monitor) -> None:
        if not monitor.beyond(self._observation, self._context):
            self._strange, self.unfamiliar = 0, None
            return
        self._strange += 1
        if self._strange == monitor.patience:  # the sentence is of when it had lasted, and not made anew in every tick
            self.unfamiliar = monitor.unfamiliar(self._observation, self._context)

    def _look(self, camera: str, size: tuple[int, ...], sample: Sample) -> None:
        """Show the network the newest image of a camera, which may be older than the joints' reading."""
        if camera in sample.images:
            image = resized(sample.images[camera][1], size)
            self.network.inputs[f"image_{camera}"][0] = image.transpose(2, 0, 1)
            self._seen.add(camera)
        elif camera not in self._seen:
            raise StaleState(f"camera '{camera}' has given no image yet")


def resized(image: npt.NDArray[np.uint8], size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """An image (H, W, 3) as (h, w, 3): cut to the target's aspect about the centre, then resized by area.

    DriverError when it is no such image.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DriverError(
            f"an image has shape {image.shape} and type {image.dtype}; uint8 (height, width, 3) is needed"
        )
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    import cv2  # an optional dependency, wanted only by cameras of another size

    scale = min(image.shape[0] / height, image.shape[1] / width)
    h, w = round(height * scale), round(width * scale)
    top, left = (image.shape[0] - h) // 2, (image.shape[1] - w) // 2
    cut = image[top : top + h, left : left + w]
    return np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
