"""The checks between a bundle on disk and a controller: whole, signed, for this robot, and computing what it should.

Every file is read once, and the bytes that were checked are the bytes that run.
"""

from __future__ import annotations

import functools
import io
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from robot import config, signature
from robot.config import ConfigError
from robot.controller import Controller
from robot.machine import OPSETS, cpu_class, opsets_of
from robot.manifest import SCHEMA, Manifest, tensor_of
from robot.migrations import STEPS
from robot.monitor import Monitor
from robot.network import Tensors, open_session
from robot.observation import Observation
from robot.signature import BundleRefused
from robot.spec import RobotSpec

FILES = ("policy.onnx", "manifest.yaml", "golden.npz", "monitor.npz", "report.html", "README.md")
TOLERANCE = 1e-5
"""Largest |a - b| / max(|a|, 1) between a recorded and a replayed output."""
RECURRENT_TOLERANCE = 1e-4
"""The same of a network with a state, which may read pictures: what is rounded there is what the state carries on."""
OTHER_CPU = 10.0
"""How much farther the outputs may be on a processor of another class than that on which they were recorded."""
ROUNDED = ("int8",)
"""Variants whose kernels round differently from one instruction set to the next: run on the recorded class alone."""


class Verification:
    """The checks in order; each returns what it found, or raises BundleRefused."""

    controller: Controller

    def __init__(self, path: Path, key: Path | None, spec: RobotSpec | None, rate_hz: float | None = None) -> None:
        self.path, self.key, self.spec, self.rate_hz = path, key, spec, rate_hz
        self.contents: dict[str, bytes] = {}

    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("folder", self.folder),
            (signature.NAME, self.document),
            *((name, functools.partial(self.file, name)) for name in FILES),
            ("signature", lambda: signature.check(self.signed, str(self.path / signature.NAME), self.key)),
            ("manifest", self.read_manifest),
            ("robot", self.robot),
            ("rate", self.rate),
            ("opset", self.opset),
            ("interface", self.interface),
            ("golden", self.golden),
        ]

    def folder(self) -> str:
        """Exactly the files of a bundle, each a plain file, read once."""
        if not self.path.is_dir():
            raise BundleRefused(f"{self.path}: no bundle here; give the folder that `terrafirma export` made.")
        if not (self.path / signature.NAME).exists():
            raise BundleRefused(
                f"{self.path / signature.NAME}: is missing; no bundle, or a part of one: copy it again."
            )
        expected = {*FILES, signature.NAME}
        for item in sorted(self.path.iterdir()):
            if item.name not in expected:
                raise BundleRefused(f"{item}: does not belong to a bundle; remove it or copy the bundle again.")
            if item.is_symlink() or not item.is_file():
                raise BundleRefused(f"{item}: is a link or a folder, not a plain file; copy the bundle again.")
            self.contents[item.name] = item.read_bytes()
        for name in FILES:
            if name not in self.contents:
                raise BundleRefused(f"{self.path / name}: is missing; copy the bundle again.")
        return f"{len(expected)} files"

    def document(self) -> str:
        place = self.path / signature.NAME
        self.signed = signature.parse(self.contents[signature.NAME], str(place))
        if set(self.signed.files) != set(FILES):
            strange = sorted(set(self.signed.files) ^ set(FILES))
            raise BundleRefused(f"{place}: does not list a bundle's files ({', '.join(strange)}); copy it again.")
        return f"digest {self.signed.digest[:16]}"

    def file(self, name: str) -> str:
        found, expected = signature.sha256(self.contents[name]), self.signed.files[name]
        if found != expected:
            raise BundleRefused(
                f"{self.path / name}: was changed after the bundle was made (sha256 {found[:12]}, signed "
                f"{str(expected)[:12]}); copy the bundle again."
            )
        return f"sha256 {found[:16]}"

    def read_manifest(self) -> str:
        place = str(self.path / "manifest.yaml")
        try:
            data = config.parse_yaml(self.contents["manifest.yaml"].decode(), place)
            found = data.get("schema") if isinstance(data, dict) else None
            data, migrated = self._migrate(data, found, place)
            self.manifest = config.convert(Manifest, data, place)
        except BundleRefused:
            raise
        except (ConfigError, UnicodeDecodeError) as error:
            raise BundleRefused(str(error)) from error
        return f"{self.manifest.task}, made by terrafirma {self.manifest.terrafirma}{migrated}"

    def _migrate(self, data: Any, schema: Any, place: str) -> tuple[Any, str]:
        """The manifest in the present schema, and what was done to it; reads the monitor's arrays, too."""
        if schema != SCHEMA and schema not in STEPS:
            raise BundleRefused(
                f"{place}: schema {schema!r} is unknown; this terrafirma reads {SCHEMA} and can migrate "
                f"{', '.join(str(n) for n in STEPS)}; use the version that made it."
            )
        try:
            self.monitor = read_npz(self.contents["monitor.npz"])
            for step in range(schema, SCHEMA):
                data, self.monitor = STEPS[step](data, self.monitor)
        except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
            raise BundleRefused(
                f"{self.path / 'monitor.npz'}: not usable ({error}); export the policy again."
            ) from error
        return data, "" if schema == SCHEMA else f"; migrated from schema {schema}"

    def robot(self) -> str:
        place, spec = self.path / "manifest.yaml", self.manifest.spec
        if spec.fingerprint() != self.manifest.fingerprint:
            raise BundleRefused(f"{place}: its spec does not have the fingerprint it states; export the policy again.")
        if self.spec is not None and self.spec.fingerprint() != spec.fingerprint():
            raise BundleRefused(
                f"{place}: made for robot '{spec.name}' ({spec.fingerprint()}), but this is '{self.spec.name}' "
                f"({self.spec.fingerprint()}); export the policy for this robot."
            )
        return f"{spec.name} ({spec.fingerprint()})"

    def rate(self) -> str:
        """The bundle's control rate is the one that is asked for, and one that the robot keeps."""
        place, period = self.path / "manifest.yaml", self.manifest.control_period_s
        if self.rate_hz is not None and abs(period * self.rate_hz - 1.0) > 1e-6:
            raise BundleRefused(
                f"{place}: made for a control rate of {1 / period:g} Hz, not {self.rate_hz:g} Hz; a policy is as good "
                "as the rate it was trained at: train it at the other rate."
            )
        return f"{1 / period:g} Hz"

    def opset(self) -> str:
        """The operators of the network are ones that every supported onnxruntime has."""
        place, (lowest, highest) = self.path / "policy.onnx", OPSETS
        try:
            opsets = opsets_of(self.contents["policy.onnx"])
        except ValueError as error:
            raise BundleRefused(f"{place}: no ONNX file ({error}); export the policy again.") from error
        version = opsets.get("", opsets.get("ai.onnx", 0))
        strange = sorted(set(opsets) - {"", "ai.onnx"})
        if strange or not lowest <= version <= highest:
            what = f"operators of '{strange[0]}'" if strange else f"opset {version}"
            raise BundleRefused(
                f"{place}: wants {what}; opsets {lowest} to {highest} of standard ONNX run on every supported "
                "onnxruntime: export it again."
            )
        return f"opset {version}"

    def interface(self) -> str:
        """The network takes what this robot measures and nothing else; builds the controller."""
        place, m = self.path / "policy.onnx", self.manifest
        try:
            session = open_session(self.contents["policy.onnx"])
            encoder = Observation(m.spec, m.observation, m.action)
        except ConfigError as error:
            raise BundleRefused(f"{self.path / 'manifest.yaml'}: {error}") from error
        except Exception as error:  # onnxruntime's errors have no common class of their own
            raise BundleRefused(f"{place}: onnxruntime cannot load it ({str(error).splitlines()[0]}).") from error
        _check_interface(session, m, encoder, str(place))
        try:
            monitor = Monitor.of_arrays(self.monitor)
            if monitor.observation.components != encoder.components:
                raise ValueError("its components are not those of the observation")
        except (ValueError, KeyError, np.linalg.LinAlgError) as error:
            raise BundleRefused(
                f"{self.path / 'monitor.npz'}: not usable ({error}); export the policy again."
            ) from error
        try:
            self.controller = Controller(
                session, m.spec, m.observation, m.action, m.control_period_s, monitor, m.task, self.signed.digest
            )
        except ValueError as error:
            raise BundleRefused(f"{place}: cannot be run onboard ({error}); export the policy again.") from error
        return f"{', '.join(m.inputs)} -> {', '.join(m.outputs)}"

    def golden(self) -> str:
        place = self.path / "golden.npz"
        try:
            arrays = read_npz(self.contents["golden.npz"])
            worst = replay(self.controller, arrays)
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise BundleRefused(f"{place}: cannot be replayed ({error}); export the policy again.") from error
        name = max(worst, key=lambda n: worst[n])
        here, told = cpu_class(), self.manifest.tolerance
        if here not in told and "any" not in told:
            raise BundleRefused(
                f"{place}: a {self.manifest.variant} network rounds as its processor does; recorded on "
                f"{', '.join(told)}, this is {here}: export it there, or the float32 variant."
            )
        allowed = told.get(here, told.get("any", 0.0))
        if not worst[name] <= allowed:
            raise BundleRefused(
                f"{place}: replayed, '{name}' differs by {worst[name]:.2g} (allowed {allowed:g} on {here}): this "
                "machine does not compute what the policy computed; use the onnxruntime of the manifest's lineage, or "
                "export again."
            )
        return f"{len(arrays['command'])} recorded steps agree to {worst[name]:.1e} (allowed {allowed:g} on {here})"


def tolerance(outputs: Collection[str]) -> float:
    """How far two computations of these outputs may differ."""
    return RECURRENT_TOLERANCE if any(name.startswith("state_") for name in outputs) else TOLERANCE


def tolerances(outputs: Collection[str], variant: str) -> dict[str, float]:
    """How far golden outputs recorded on this machine may differ, by class of processor."""
    own = tolerance(outputs)
    return {cpu_class(): own} if variant in ROUNDED else {cpu_class(): own, "any": OTHER_CPU * own}


def replay(controller: Controller, golden: Mapping[str, npt.NDArray[Any]]) -> dict[str, float]:
    """The largest |a - b| / max(|a|, 1) of each recorded output, and of the command decoded from the action."""
    inputs = {k.removeprefix("input."): v for k, v in golden.items() if k.startswith("input.")}
    expected = {k.removeprefix("output."): v for k, v in golden.items() if k.startswith("output.")}
    n = len(golden["command"])
    if n == 0 or any(len(v) != n for v in golden.values()):
        raise ValueError("its arrays are empty or of different lengths")
    if {k: v.shape[1:] for k, v in inputs.items()} != controller.input_shapes:
        raise ValueError(f"its inputs are not the network's {', '.join(controller.input_shapes)}")
    rows = [controller.infer({k: v[i : i + 1] for k, v in inputs.items()}) for i in range(n)]
    outputs = {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}
    if set(outputs) != set(expected):
        raise ValueError(f"it records {sorted(expected)}, the network gives {sorted(outputs)}")
    worst = {name: difference(expected[name], outputs[name]) for name in expected}
    decoder = Observation(controller.spec, controller.encoder.config, controller.encoder.action, n)
    return worst | {"command": difference(golden["command"], decoder.decode(outputs["action"]))}


def difference(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """The largest |a - b| / max(|a|, 1); infinite when shapes differ or a value is not a number."""
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float((np.abs(a - b) / np.maximum(np.abs(a), 1.0)).max(initial=0.0))


def _check_interface(session: onnxruntime.InferenceSession, m: Manifest, encoder: Observation, place: str) -> None:
    found = {t.name: tensor_of(t) for t in session.get_inputs()}
    outputs = {t.name: tensor_of(t) for t in session.get_outputs()}
    if found != m.inputs or outputs != m.outputs:
        raise BundleRefused(f"{place}: its inputs or outputs are not those of manifest.yaml; export the policy again.")
    wanted: dict[str, tuple[int, ...]] = {"observation": (encoder.size,)}
    if m.observation.history:
        wanted["history"] = (m.observation.history, encoder.history_size)
        wanted["history_mask"] = (m.observation.history,)
    cameras = [f"image_{c}" for c in m.observation.cameras]
    states = [n for n in found if n.startswith("state_") and f"{n}_next" in outputs]
    for name, tensor in found.items():
        if name not in {*wanted, *cameras, *states}:
            raise BundleRefused(f"{place}: wants '{name}', which robot '{m.spec.name}' cannot give; train without it.")
        if name in wanted and tensor.shape[1:] != wanted[name]:
            raise BundleRefused(f"{place}: '{name}' has shape {tensor.shape}; the observation gives {wanted[name]}.")
    for name in (*wanted, *cameras):
        if name not in found:
            raise BundleRefused(f"{place}: has no input '{name}', which manifest.yaml lists; export the policy again.")
    if "action" not in outputs or outputs["action"].shape[1:] != (encoder.action_size,):
        raise BundleRefused(
            f"{place}: has no output 'action' of {encoder.action_size} values; export the policy again."
        )


def read_npz(data: bytes) -> Tensors:
    """The arrays of an npz; ValueError when one of them would have to be unpickled."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
