"""Controller: a reading in, a command out. The only thing on the robot that runs the network.

It owns the ONNX session, the observation history, the newest images and any recurrent state, so that one
call of act() is one control step exactly as in training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from robot.driver import DriverError, StaleState
from robot.monitor import Monitor
from robot.observation import ActionConfig, Observation, ObservationConfig, signals_of
from robot.spec import RobotSpec
from robot.state import JointCommand, Sample

Array = npt.NDArray[np.float64]
Tensors = dict[str, npt.NDArray[Any]]


def open_session(onnx: bytes) -> onnxruntime.InferenceSession:
    """A session for a batch of one on one thread that sleeps between ticks instead of spinning."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_free_dimension_override_by_name("batch", 1)
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


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
        self.period_ns = round(control_period_s * 1e9)
        self.encoder = Observation(spec, observation, action)
        self.goal: Array | None = np.zeros(len(observation.goal)) if observation.goal else None
        """(n_goal,) the task's goal; the caller may change it between ticks."""
        self._session = session
        self._outputs = [o.name for o in session.get_outputs()]
        self.input_shapes: dict[str, tuple[int, ...]] = {i.name: tuple(i.shape[1:]) for i in session.get_inputs()}
        """Input name -> shape without the batch axis."""
        self._states = {n: (1, *s) for n, s in self.input_shapes.items() if n.startswith("state_")}
        self._cameras = {c: self.input_shapes[f"image_{c}"][1:] for c in observation.cameras}
        self.reset()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras whose images the policy sees."""
        return tuple(self._cameras)

    def reset(self) -> None:
        """Begin an episode: forget history, previous action, images and recurrent state."""
        self.encoder.reset()
        self._state: Tensors = {name: np.zeros(shape, np.float32) for name, shape in self._states.items()}
        self._images: Tensors = {}
        self.observation: npt.NDArray[np.float32] | None = None
        """(D,) what the policy saw last."""
        self.action: npt.NDArray[np.float32] | None = None
        """(A,) what the policy answered last, before decode()."""

    def infer(self, inputs: Tensors) -> Tensors:
        """Run the network once: inputs and outputs by name, each with a leading batch axis of 1."""
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))

    def act(self, sample: Sample) -> JointCommand:
        """One control step. StaleState while a camera has given no image yet; KeyError names a missing joint."""
        inputs: Tensors = dict(self.encoder.encode(signals_of(sample, self.spec, self.goal)))
        for camera, size in self._cameras.items():
            inputs[f"image_{camera}"] = self._image(camera, size, sample)
        inputs |= self._state
        outputs = self.infer(inputs)
        self._state = {name: outputs[f"{name}_next"] for name in self._state}
        self.observation, self.action = inputs["observation"][0], outputs["action"][0]
        return self.encoder.to_command(self.encoder.decode(outputs["action"])[0], sample.t_ns)

    def _image(self, camera: str, size: tuple[int, ...], sample: Sample) -> npt.NDArray[np.uint8]:
        """(1, 3, h, w) the newest image of a camera, which may be older than the joints' reading."""
        if camera in sample.images:
            self._images[camera] = fit_image(sample.images[camera][1], size)
        if camera not in self._images:
            raise StaleState(f"camera '{camera}' has given no image yet")
        return self._images[camera]


def fit_image(image: npt.NDArray[np.uint8], size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """An image (H, W, 3) as (1, 3, h, w): cut to the target's aspect about the centre, then resized by area."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DriverError(
            f"an image has shape {image.shape} and type {image.dtype}; uint8 (height, width, 3) is needed"
        )
    height, width = size
    if image.shape[:2] != (height, width):
        import cv2  # an optional dependency, wanted only by cameras of another size

        scale = min(image.shape[0] / height, image.shape[1] / width)
        h, w = round(height * scale), round(width * scale)
        top, left = (image.shape[0] - h) // 2, (image.shape[1] - w) // 2
        cut = image[top : top + h, left : left + w]
        image = np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])
