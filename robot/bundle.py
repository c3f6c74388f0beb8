"""ControllerBundle: the one folder that is copied to a robot.

    policy.onnx             normalizer, encoders and network
    manifest.yaml           spec, observation, action, timing, lineage, gate
    golden.npz              recorded inputs and outputs, replayed before each run
    monitor.npz             what the training observations looked like
    report.html, README.md  for people
    signature.json          the digests of all of the above, and who signed them (OpenSSF model signing)

`load` is what runs onboard; robot/verification.py has the checks it makes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robot import config, files, signature
from robot.card import model_card, small_report
from robot.controller import Controller
from robot.manifest import Manifest, tensor_of
from robot.monitor import Monitor
from robot.network import open_session
from robot.observation import ActionConfig, Observation, ObservationConfig
from robot.signature import BundleRefused
from robot.spec import RobotSpec
from robot.verification import FILES, Verification, tolerances

__all__ = ["BundleRefused", "Controller", "checks", "load", "write"]


def write(
    path: Path,
    *,
    onnx: bytes,
    spec: RobotSpec,
    task: str,
    observation: ObservationConfig,
    action: ActionConfig,
    control_period_s: float,
    golden_inputs: Mapping[str, npt.NDArray[Any]],
    golden_outputs: Mapping[str, npt.NDArray[Any]],
    monitor: Monitor,
    variant: str = "float32",
    licence: str = "not stated",
    lineage: Mapping[str, Any] | None = None,
    gate: Mapping[str, Any] | None = None,
    report_html: str | None = None,
    key: Path | None = None,
) -> Path:
    """Write a bundle, whole or not at all; the same arguments give the same bytes.

    The golden arrays have shape (n, ...), rows independent of each other. `key` is a PEM file with a P-256
    private key. Raises BundleRefused, and writes nothing, when the result would be refused by load().
    """
    session = open_session(onnx)
    manifest = Manifest(
        terrafirma=metadata.version("terrafirma"),
        task=task,
        fingerprint=spec.fingerprint(),
        control_period_s=control_period_s,
        observation=observation,
        action=action,
        inputs={t.name: tensor_of(t) for t in session.get_inputs()},
        outputs={t.name: tensor_of(t) for t in session.get_outputs()},
        variant=variant,
        tolerance=tolerances(golden_outputs, variant),
        licence=licence,
        lineage=dict(lineage or {}),
        gate=dict(gate or {}),
        spec=spec,
    )
    golden = {f"input.{k}": v for k, v in golden_inputs.items()} | {f"output.{k}": v for k, v in golden_outputs.items()}
    golden["command"] = Observation(spec, observation, action, len(golden_outputs["action"])).decode(
        golden_outputs["action"]
    )
    contents = {
        "policy.onnx": onnx,
        "manifest.yaml": config.dump_yaml(manifest).encode(),
        "golden.npz": _npz(golden),
        "monitor.npz": _npz(monitor.arrays()),
        "report.html": (report_html or small_report(manifest)).encode(),
        "README.md": model_card(manifest).encode(),
    }
    with files.replacing_folder(Path(path)) as folder:
        for name, data in contents.items():
            files.write_bytes(folder / name, data)
        files.write_bytes(folder / signature.NAME, signature.sign(contents, key))
        try:
            load(folder)
        except BundleRefused as error:
            raise BundleRefused(str(error).replace(str(folder), str(path))) from error
    return Path(path)


def load(
    path: Path, key: Path | None = None, spec: RobotSpec | None = None, rate_hz: float | None = None
) -> Controller:
    """A controller, after every check has passed.

    `key` pins the signer to a PEM public key, `spec` the robot, `rate_hz` the control rate. Raises BundleRefused with
    the first reason.
    """
    verification = Verification(Path(path), key, spec, rate_hz)
    for _, step in verification.steps():
        step()
    return verification.controller


def checks(
    path: Path, key: Path | None = None, spec: RobotSpec | None = None, rate_hz: float | None = None
) -> list[dict[str, Any]]:
    """Each check as {name, ok, detail}; those that need a check which failed are not run and not listed."""
    verification = Verification(Path(path), key, spec, rate_hz)
    found: list[dict[str, Any]] = []
    for name, step in verification.steps():
        failed = {f["name"] for f in found if not f["ok"]}
        if failed and not (name in FILES and failed <= set(FILES)):
            break  # of the files each is looked at, so that all the changed ones are named at once
        try:
            found.append({"name": name, "ok": True, "detail": step()})
        except BundleRefused as error:
            found.append({"name": name, "ok": False, "detail": str(error)})
    return found


def _npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An npz whose bytes depend on the arrays alone: zip members in sorted order, dated 1980."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: np.asarray(arrays[name]) for name in sorted(arrays)})  # type: ignore[arg-type]
    return stream.getvalue()
