"""The controller that is put to the test, from the folder of a policy or of a bundle, for any number of robots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from robot import bundle, config, files
from robot.config import ConfigError
from robot.controller import Controller
from robot.result import Run
from sim.arena import Subject
from sim.vecenv import Inputs
from transfer.choices import existing, same_task

if TYPE_CHECKING:
    from policies.policy import Policy


def subject_of(policy: Path | None, loaded: Path | None, task: str, run: Run) -> tuple[Subject, str]:
    """The controller of policy= or bundle=, and the sha256 of the policy that it is.

    ConfigError unless exactly one is given, and was made for the task.
    """
    if (policy is None) == (loaded is None):
        raise ConfigError("one of policy= and bundle= is needed.")
    if loaded is not None:
        folder = run.input(existing(loaded, "bundle", "export"))
        found = of_bundle(folder)
        same_task(f"bundle={folder}", found.task, task)
        manifest = config.load_yaml(folder / "manifest.yaml")  # of any schema: of_bundle() has checked the bundle
        return found, str((manifest.get("lineage") or {}).get("policy_sha256", ""))
    folder = run.input(existing(policy, "policy", "train"))
    found = of_policy(folder)
    same_task(f"policy={folder}", found.task, task)
    return found, files.sha256(folder)


def of_policy(folder: Path) -> Subject:
    """A trained policy, in torch."""
    from policies.policy import Policy

    return subject_of_policy(Policy.load(folder))


def subject_of_policy(policy: Policy) -> Subject:
    """A policy in memory."""
    return Subject(
        task=policy.task,
        spec=policy.spec,
        observation=policy.observation,
        action=policy.action,
        control_period_s=policy.control_period_s,
        episode=policy.episode,
        privileged=bool(policy.card.privileged),
    )


def of_bundle(folder: Path) -> Subject:
    """A bundle, after all of its checks, whose network is run for many robots at once; onboard it is pinned to one."""
    return subject_of_network(bundle.load(folder), (folder / "policy.onnx").read_bytes())


def subject_of_network(controller: Controller, graph: bytes) -> Subject:
    """The same of a network in memory, and the controller that it makes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return Subject(
        task=controller.task,
        spec=controller.spec,
        observation=controller.encoder.config,
        action=controller.encoder.action,
        control_period_s=controller.period_ns * 1e-9,
        episode=lambda: BundleEpisode(session, controller.input_shapes),
    )


class BundleEpisode:
    """A bundle's network through an episode of n robots: what it remembers is given back to it."""

    def __init__(self, session: onnxruntime.InferenceSession, shapes: dict[str, tuple[int, ...]]) -> None:
        """`shapes`: input -> shape without the batch axis."""
        self._session, self._shapes = session, shapes
        self._outputs = [o.name for o in session.get_outputs()]
        self._state: dict[str, npt.NDArray[Any]] = {}

    def __call__(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        """Actions (n, A) in [-1, 1]; KeyError names an input that is missing."""
        n = len(inputs["observation"])
        if not self._state:
            self._state = {
                k: np.zeros((n, *shape), np.float32) for k, shape in self._shapes.items() if k.startswith("state_")
            }
        given = {name: self._state[name] if name in self._state else inputs[name] for name in self._shapes}
        outputs = dict(zip(self._outputs, self._session.run(self._outputs, given), strict=True))
        self._state = {name: outputs[f"{name}_next"] for name in self._state}
        action: npt.NDArray[np.float32] = outputs["action"]
        return action
