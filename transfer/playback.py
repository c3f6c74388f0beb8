"""Recorded windows played back on simulations: the logged commands through the way, the servos and the physics.

The one path from parameters to simulated positions, for evaluation and for identification. A servo keeps its goals in
the frame of its own encoder, so a joint's zero moves readings and goals alike; its profile is led through what was
commanded before the window; where a recording says that the torque was off, it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mujoco
import numpy as np
import numpy.typing as npt

from sim.actuator import units_per_effort
from sim.model import Model
from sim.plant import Plant
from transfer.shots import Shots

Array = npt.NDArray[np.float64]
Values = Mapping[str, Array]

BEFORE_S = 2.0
"""Of the commands before a window that a servo's profile is led through: one that lags behind a fast sweep forgets
where it began only after a second or more."""
RK4, IMPLICIT = mujoco.mjtIntegrator.mjINT_RK4, mujoco.mjtIntegrator.mjINT_IMPLICITFAST


class Playback:
    """One set of windows at one physics step."""

    def __init__(self, model: Model, shots: Shots, timestep_s: float, nthread: int = 0) -> None:
        """The model's integrator is set: RK4, but for servos, whose gearing makes them stiff. Contacts are off."""
        self.model, self.shots, self.timestep, self.nthread = model, shots, timestep_s, nthread
        kinds = [a.kind for a in model.spec.actuators]
        self.servos = model.spec.driven[[k == "position_pd" for k in kinds]]
        self._servo_names = [a.name for a in model.spec.actuators if a.kind == "position_pd"]
        model.mj.opt.integrator = IMPLICIT if len(self.servos) else RK4
        if len(self.servos):
            model.mj.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
        self._units = units_per_effort(model)
        self._plants: dict[int, Plant] = {}
        self._stiffness = np.array([shots.series[e].stiffness for e in shots.episode])

    def __call__(
        self,
        points: Sequence[Mapping[str, float | Array]],
        zeros: Array,
        starts: Array | float = 0.0,
        shift: int = 0,
    ) -> tuple[Array, Array]:
        """Positions as read and velocities at the logged rows, (n, R, J) each, of n points.

        points: target -> value, one or (W,); of `timing/...` one for all windows. zeros (n, W, J): joint zeros [rad],
        reading minus truth, beside what `sensor/<joint>/offset` says; starts (n, W, J): added to the start velocities.
        """
        shots, count = self.shots, len(points)
        plant, joints = self._plant(count * len(shots)), shots.position.shape[1]
        plant.set(self._values(points))
        zeros = zeros + plant.outer["sensor", "offset"].reshape(count, len(shots), joints)
        acting, before = self._commands(plant, zeros, shift)
        start = (shots.position - zeros).reshape(-1, joints)
        rate = (shots.velocity + np.broadcast_to(starts, zeros.shape)).reshape(-1, joints)
        plant.reset(start, rate)
        if before is not None:
            plant.rehearse(before)
        recorded = plant.run(acting, record=True)
        assert recorded is not None  # run() records when asked to
        position = np.concatenate([start[:, None], recorded[0]], axis=1).reshape(count, len(shots), -1, joints)
        velocity = np.concatenate([rate[:, None], recorded[1]], axis=1).reshape(count, len(shots), -1, joints)
        late = self._late(plant)
        read, rates = np.empty((2, count, *shots.row_position.shape))
        for i in range(count):
            at = late[i * len(shots)] if late is not None else 0.0
            read[i], rates[i] = shots.at_rows(position[i], velocity[i], self.timestep, at)
            read[i] += zeros[i][shots.window]
        return read, rates

    def _plant(self, nsim: int) -> Plant:
        if nsim not in self._plants:
            self._plants = {nsim: Plant(self.model, nsim, self.timestep, self.timestep, self.nthread)}
        return self._plants[nsim]

    def _values(self, points: Sequence[Mapping[str, float | Array]]) -> dict[str, Array]:
        """Target -> (n W,) of all points; the servos' stiffness with what each recording says of its P gain."""
        width = len(self.shots)
        names = dict.fromkeys(name for point in points for name in point)
        unlike = bool((self._stiffness != 1.0).any())
        if unlike:
            names |= dict.fromkeys(f"actuator/{a}/kp" for a in self._servo_names)
        out = {}
        for name in names:
            nominal = self.model.nominal(name)
            out[name] = np.concatenate([np.broadcast_to(point.get(name, nominal), width) for point in points])
            if unlike and name.startswith("actuator/") and name.endswith("/kp"):
                out[name] = out[name] * np.tile(self._stiffness, len(points))
        return out

    def _commands(self, plant: Plant, zeros: Array, shift: int) -> tuple[Array, Array | None]:
        """Acting commands (n W, steps, J) in the unit of each actuator, and those before the windows, for servos."""
        shots, width = self.shots, len(self.shots)
        steps, history = shots.steps(self.timestep), round(BEFORE_S / self.timestep) if len(self.servos) else 0
        made: dict[tuple[float, float], Array] = {}
        blocks = []
        for i in range(len(zeros)):
            timing = (float(plant.delay[i * width]), float(plant.lag[i * width]))
            if timing not in made:  # points that agree about delay and lag share the work
                made[timing] = self._acting(steps, history, shift, *timing)
            block = made[timing]
            if len(self.servos):
                block = block.copy()
                block[..., self.servos] -= zeros[i][:, None, self.servos]
            blocks.append(block)
        whole = np.concatenate(blocks)
        return (whole[:, history:], whole[:, :history]) if history else (whole, None)

    def _acting(self, steps: int, history: int, shift: int, delay_s: float, lag_s: float) -> Array:
        """(W, history + steps, J) as logged; NaN for servos without torque."""
        shots, grid = self.shots, self.timestep * np.arange(-history, steps + 1)
        out = np.empty((len(shots), len(grid) - 1, shots.position.shape[1]))
        for i, series in enumerate(shots.series):
            mine = shots.episode == i
            edges = shots.start[mine, None] + grid
            out[mine] = series.command.mean_torque(edges, shift, delay_s, lag_s) * self._units
            if series.powered is not None and len(self.servos):
                on = series.powered.held(edges[:, :-1] + 0.5 * self.timestep - delay_s)
                out[mine] = np.where((on < 0.5) & np.isin(np.arange(out.shape[2]), self.servos), np.nan, out[mine])
        return out

    def _late(self, plant: Plant) -> Array | None:
        """(n W,) delay of the position sensor [s], or None."""
        signals = self.model.objects(("sensor", "delay"))
        if "joint.position" not in signals:
            return None
        late = plant.outer["sensor", "delay"][:, signals.index("joint.position")]
        return late if late.any() else None
