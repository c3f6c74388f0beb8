"""The GPU's simulations: MuJoCo Warp behind the interface of mujoco.batch.Batch (extra `gpu`).

A WarpBatch *is* a Batch whose physics steps run elsewhere. States, inputs and model fields stay what they are for the
rest of sim/: numpy arrays of float64 on the host, written and read where they stand. Before physics runs, what has
changed in them goes to the device in float32; afterwards state and bound fields come back. Randomized fields get
MuJoCo Warp's leading dimension of simulations; the constants derived from them are those of MuJoCo itself
(mj_setConst, in float64), so a draw means the same on both. Motors and friction of our own, which need the state
before each physics step, are computed by the same numpy code, at the price of a copy each step.

What one control step copies is the state and what was bound, nq + 2 nv + ... numbers a simulation. `tensor()` gives
the device's own array to torch without a copy.

This is the only file that imports warp; the device `cpu` is for checks, it is much slower than backend=cpu.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt
from mujoco.batch import Batch

from robot.config import ConfigError

Array = npt.NDArray[np.float64]
PACKAGES = ("warp", "mujoco_warp")
STATE = ("time", "qpos", "qvel", "act", "qacc_warmstart")
"""What a physics step changes and the host sees."""
INPUTS = (*STATE, "ctrl", "qfrc_applied", "xfrc_applied", "mocap_pos", "mocap_quat")
"""What the host may write."""
UNLIMITED = (-1e30, 1e30)
SWITCHES: dict[str, tuple[str, Any]] = {
    "actuator_forcelimited": ("actuator_forcerange", UNLIMITED),
    "actuator_ctrllimited": ("actuator_ctrlrange", UNLIMITED),
    "actuator_biastype": ("actuator_biasprm", 0.0),
}
"""What MuJoCo Warp has on for all simulations or for none -> the field, and its value, that are as good as off."""
FLAGS = {"opt.density": "has_fluid", "opt.viscosity": "has_fluid", "opt.wind": "has_fluid",
         "tendon_stiffness": "has_tendon_stiffness", "tendon_damping": "has_tendon_damping"}  # fmt: skip
"""Field -> the switch that MuJoCo Warp leaves off where the field is 0 in the model as compiled."""
FORCES = {"cfrc_ext", "cfrc_int", "cacc"}
"""Outputs that MuJoCo Warp computes only when asked."""
LARGEST = float(mujoco.mjMAXVAL)
CONTACTS = 48
"""Room for contacts in a simulation; more of them is an error, never a contact less."""


def _packages() -> tuple[Any, Any]:
    """The modules warp and mujoco_warp."""
    try:
        warp, mujoco_warp = (importlib.import_module(name) for name in PACKAGES)
    except ImportError as error:
        raise ConfigError(f"backend=warp needs MuJoCo Warp ({error}): pip install 'terrafirma[gpu]'.") from error
    warp.config.log_level = warp.LOG_WARNING  # not a line for each kernel that it compiles
    return warp, mujoco_warp


def cuda_device() -> str:
    """The name of the CUDA device that backend=warp uses; ConfigError when there is none."""
    warp, _ = _packages()
    warp.init()
    if not warp.get_cuda_device_count():
        raise ConfigError(
            "backend=warp needs a CUDA device, and warp finds none here; use backend=cpu, or in bench device=cpu, a "
            "slow check of the same kernels."
        )
    return str(warp.get_cuda_devices()[0].name)


class WarpBatch(Batch):
    """nsim simulations on one device; the methods of Batch for all simulations at once.

    A field given by expand() must be asked for again before it is written again.
    """

    def __init__(self, model: mujoco.MjModel, nsim: int, nthread: int = 0, on_cpu: bool = False) -> None:
        """ConfigError when package or device is missing, or MuJoCo Warp lacks something that the model has."""
        super().__init__(model, nsim, nthread)
        self._warp, self._engine = _packages()
        lacking = {"delays that the MJCF itself declares": model.nhistory, "plugins of MuJoCo": model.nplugin}
        for what, count in lacking.items():
            if count:
                raise ConfigError(f"backend=warp does not simulate {what}; use backend=cpu.")
        self._device = "cpu" if on_cpu else "cuda:0"
        if not on_cpu:
            cuda_device()
        with self._warp.ScopedDevice(self._device):
            try:
                self._on_device = self._engine.put_model(model)
            except (NotImplementedError, ValueError) as error:
                raise ConfigError(
                    f"backend=warp: MuJoCo Warp cannot simulate this robot ({error}); use backend=cpu."
                ) from error
            self._now = self._engine.make_data(model, nsim, nconmax=CONTACTS, njmax=_rows(model))
        self._mirrors = {name: super(WarpBatch, self).bind(name) for name in INPUTS}
        self._mirrors = {name: mirror for name, mirror in self._mirrors.items() if mirror.size}
        self._sent = {name: np.full(mirror.shape, np.nan, dtype=np.float32) for name, mirror in self._mirrors.items()}
        self._outputs: dict[str, Array] = {}
        self._written: set[str] = set()
        self._graph: Any = None
        # MuJoCo Warp adds the actuators' own damping to the joints' and tendons' when it takes a model over
        self._more = {f: self._host(f)[0] - getattr(model, f) for f in ("dof_damping", "tendon_damping")}
        super().reset()

    # ---- what Batch offers

    def bind(self, name: str) -> Array:
        """A live (nsim, ...) array over an MjData field; of an output read-only."""
        if name in INPUTS:
            mirror: Array = super().bind(name)
            return mirror
        if name not in self._outputs:
            if not isinstance(getattr(self._now, name, None), self._warp.array):
                raise ConfigError(f"backend=warp: MuJoCo Warp does not compute '{name}'; use backend=cpu.")
            if name in FORCES:
                self._on_device.opt.run_rne_postconstraint, self._graph = True, None
            shape = np.shape(getattr(self._data, name))
            self._outputs[name] = np.zeros((self.nsim, *shape))
        shown = self._outputs[name].view()
        shown.flags.writeable = False
        return shown

    def expand(self, name: str) -> npt.NDArray[Any]:
        """A live (nsim, ...) array over a model field, taken over before the next physics step."""
        self._written.add(name)
        values: npt.NDArray[Any] = super().expand(name)
        return values

    def set_const(self, ids: npt.ArrayLike | None = None) -> None:
        super().set_const(ids)
        batched = _batched(type(self._on_device))
        names = [n for n in mujoco.MjModel._setconst_outputs if n in batched and getattr(self.model, n).size]
        for name in names:
            self.expand(name)

    def reset(self, ids: npt.ArrayLike | None = None, keyframe: npt.ArrayLike = -1, stage: int = 3) -> None:
        super().reset(ids, keyframe, mujoco.mjtStage.mjSTAGE_NONE.value)
        if stage:
            self.forward(ids)

    def step(self, ids: npt.ArrayLike | None = None, nstep: int = 1, stage: int = 0) -> None:
        if ids is not None or stage:
            raise ValueError("a WarpBatch steps all its simulations, and computes nothing at the new state")
        self._send()
        self._advance(nstep)
        self._fetch()

    def forward(self, ids: npt.ArrayLike | None = None, stage: int = 3) -> None:
        """mj_forward of all; only the outputs of `ids` are shown."""
        self._send()
        with self._warp.ScopedDevice(self._device):
            self._engine.forward(self._on_device, self._now)
        which = slice(None) if ids is None else np.asarray(ids)
        for name, values in self._outputs.items():
            values[which] = self._of_device(name)[which]

    def rollout(
        self,
        nstep: int,
        control: npt.ArrayLike | None = None,
        control_spec: int = mujoco.mjtState.mjSTATE_CTRL.value,
        record: Sequence[Any] = ("qpos",),
        ids: npt.ArrayLike | None = None,
        out: dict[Any, npt.NDArray[Any]] | None = None,
    ) -> dict[Any, npt.NDArray[Any]]:
        """As Batch.rollout(), for controls and names of fields; every physics step's state is fetched."""
        shown = {name: self.bind(name) for name in record}
        out = {name: np.empty((self.nsim, nstep, *values.shape[1:])) for name, values in shown.items()}
        steps, ctrl = None if control is None else np.asarray(control), self.bind("ctrl")
        for k in range(nstep):
            if steps is not None:
                ctrl[...] = steps[:, k]
            self.step()
            for name, values in shown.items():
                out[name][:, k] = values
        return out

    def tensor(self, name: str) -> Any:
        """An MjData field as a torch tensor (nsim, ...) of float32 on the device, without a copy; to be read.

        It is live until the WarpBatch ends: each step writes it anew.
        """
        return self._warp.to_torch(getattr(self._now, name))

    def advance(self, nstep: int) -> None:
        """Only physics: steps without a look at what the host has written, and without fetching anything."""
        self._advance(nstep)
        self._warp.synchronize_device(self._device)

    # ---- to the device and back

    def _advance(self, nstep: int) -> None:
        with self._warp.ScopedDevice(self._device):
            if self._device == "cpu":
                for _ in range(nstep):
                    self._engine.step(self._on_device, self._now)
                return
            if self._graph is None:
                with self._warp.ScopedCapture() as capture:
                    self._engine.step(self._on_device, self._now)
                self._graph = capture.graph
            for _ in range(nstep):
                self._warp.capture_launch(self._graph)

    def _send(self) -> None:
        """What the host has written since the last step."""
        for name, mirror in self._mirrors.items():
            values = mirror.astype(np.float32)
            if not np.array_equal(values, self._sent[name]):
                getattr(self._now, name).assign(values)
                self._sent[name] = values
        for name in sorted(self._written):
            self._send_field(name, np.asarray(super().expand(name)))
        self._written.clear()

    def _fetch(self) -> None:
        for name in STATE:
            if name in self._mirrors:
                self._sent[name] = values = np.array(self._of_device(name))
                self._mirrors[name][...] = values
        for name, values in self._outputs.items():
            values[...] = self._of_device(name)
        if self._of_device("overflow").any():
            raise ConfigError(
                f"backend=warp: a simulation has more constraints than there is room for ({CONTACTS} contacts); "
                "use backend=cpu."
            )
        self._put_back()

    def _put_back(self) -> None:
        """Simulations whose state is no longer finite start from the default, and say so in `warning`, as MuJoCo's."""
        for name, warning in (("qpos", mujoco.mjtWarning.mjWARN_BADQPOS), ("qvel", mujoco.mjtWarning.mjWARN_BADQVEL)):
            with np.errstate(invalid="ignore"):
                bad = np.flatnonzero(~(np.abs(self._mirrors[name]) <= LARGEST).all(axis=1))
            if bad.size:
                super().reset(bad.astype(np.int32), stage=mujoco.mjtStage.mjSTAGE_NONE.value)
                self.warning[bad, int(warning), 1] += 1

    def _of_device(self, name: str) -> npt.NDArray[Any]:
        """(nsim, ...) an MjData field; on the device `cpu` the array itself."""
        shape = np.shape(getattr(self._data, name, 0))
        values: npt.NDArray[Any] = getattr(self._now, name).numpy().reshape(self.nsim, *shape)
        return values

    def _host(self, field: str) -> npt.NDArray[Any]:
        """A model field as the device has it: (1 or nsim, ...)."""
        owner, name = self._place(field)
        values: npt.NDArray[Any] = getattr(owner, name).numpy()
        return values

    def _place(self, field: str) -> tuple[Any, str]:
        return (self._on_device.opt, field[4:]) if field.startswith("opt.") else (self._on_device, field)

    def _send_field(self, field: str, values: npt.NDArray[Any]) -> None:
        """A model field of all simulations."""
        if not values.size:
            return
        owner, name = self._place(field)
        have = getattr(owner, name, None)
        if not isinstance(have, self._warp.array):
            raise _fixed(field)
        if name not in _batched(type(owner)):
            self._send_shared(field, values, have)
            return
        values = values + self._more[field] if field in self._more else values
        switch, off = next(((s, off) for s, (part, off) in SWITCHES.items() if part == field), ("", 0.0))
        if switch in self._expanded:
            values = np.where(np.asarray(super().expand(switch))[..., None] == 0, off, values)
        template = have.numpy()
        rows = np.ascontiguousarray(values.reshape(self.nsim, *template.shape[1:]), dtype=template.dtype)
        if field in FLAGS and rows.any() and not getattr(self._on_device, FLAGS[field]):
            setattr(self._on_device, FLAGS[field], True)
            self._graph = None
        if len(template) == self.nsim and self.nsim > 1:
            have.assign(rows)
        else:  # of its own for each simulation from now on
            setattr(owner, name, self._warp.array(rows, dtype=have.dtype, device=self._device))
            self._graph = None

    def _send_shared(self, field: str, values: npt.NDArray[Any], have: Any) -> None:
        """A model field of which MuJoCo Warp has one for all simulations."""
        one, template = values.max(axis=0), have.numpy()
        alike = values == one
        if field in SWITCHES:
            part = SWITCHES[field][0]
            alike |= values == 0
            if part not in self._written:
                self._send_field(part, np.asarray(super().expand(part)))
        if not np.all(alike):
            raise _fixed(field)
        if not np.array_equal(template, one):
            have.assign(one.astype(template.dtype))


def _batched(kind: type) -> set[str]:
    """Fields of MuJoCo Warp's Model or Option that may have a value for each simulation."""
    return {f.name for f in dataclasses.fields(kind) if getattr(f.type, "shape", ("",))[0] == "*"}


def _fixed(field: str) -> ConfigError:
    return ConfigError(
        f"backend=warp: MuJoCo Warp has one '{field}' for all simulations; take what changes it out of the "
        "randomization, or use backend=cpu."
    )


def _rows(model: mujoco.MjModel) -> int:
    """Room for rows of constraints in each simulation: friction, limits, equalities, and CONTACTS contacts."""
    width = int(max([0, *model.geom_condim, *model.pair_dim]))
    rows = 2 * (width - 1) if model.opt.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL and width > 1 else width
    return int(model.nv + model.ntendon + 2 * (model.njnt + model.ntendon) + 6 * model.neq + CONTACTS * rows) or 1
