"""The arena of every robot: which knobs there are, that they act, and that a run can be had again."""

from __future__ import annotations

import numpy as np
import pytest

from robot.config import ConfigError
from sim.arena import Outcome, Subject
from sim.model import find_robot
from sim.mujoco_arena import MujocoArena, MujocoArenaConfig
from sim.perturbation import Perturbation, Pulse
from sim.randomization import Normal, Randomization, Term
from sim.tasks import load_task

MASS = "body/pendulum/mass"


def arena_of(task: str, **changed: object) -> MujocoArena:
    chosen = load_task(task)
    return MujocoArena(MujocoArenaConfig(**changed), chosen, find_robot(chosen.robot), nthread=1)  # type: ignore[arg-type]


def subject(task: str, action: float = 0.0) -> Subject:
    chosen = load_task(task)
    width = len(chosen.action.actuators)
    return Subject(
        task=task, spec=find_robot(chosen.robot).spec, observation=chosen.observation, action=chosen.action,
        control_period_s=chosen.control_period_s,
        episode=lambda: lambda inputs: np.full((len(inputs["observation"]), width), action),
    )  # fmt: skip


def run(task: str, perturbations: list[Perturbation], action: float = 0.0, **changed: object) -> Outcome:
    return arena_of(task, **changed).run(subject(task, action), perturbations, trace=True)


@pytest.mark.parametrize("task", ["pendulum_swingup", "pendubot_swingup", "arm_reach", "quadruped_velocity"])
def test_every_named_disturbance_exists_and_disturbs_the_controller_or_the_robot(task: str) -> None:
    arena = arena_of(task, duration_s=0.5)
    changed = {"torque_noise": 0.5, "torque_response": 0.03, "velocity_noise": 0.5, "delay": 0.03}
    seen: list[np.ndarray] = []

    def act(inputs: dict[str, np.ndarray]) -> np.ndarray:
        seen.append(inputs["observation"].copy())
        phase = 0.3 * np.sin(0.7 * len(seen))
        return np.full((len(inputs["observation"]), len(arena.task.action.actuators)), phase)

    plain = subject(task)
    watching = Subject(**{f: getattr(plain, f) for f in plain.__slots__} | {"episode": lambda: act})
    values = [{knob: v for knobs in arena.expand(name).values() for knob in knobs} for name, v in changed.items()]
    outcome = arena.run(watching, [Perturbation(), *(Perturbation(values=v) for v in values)])
    shown = np.stack(seen)
    assert np.isfinite(outcome.final).all()
    for i, name in enumerate(changed, start=1):
        assert np.abs(shown[:, i] - shown[:, 0]).max() > 1e-3, name


@pytest.mark.parametrize(
    ("task", "channel", "size"), [("arm_reach", "elbow_flex", 3.0), ("quadruped_velocity", "trunk/y", 80.0)]
)
def test_a_push_moves_the_robot_where_it_falls(task: str, channel: str, size: float) -> None:
    arena = arena_of(task, duration_s=0.6)
    assert channel in arena.channels
    pulse = Pulse(channel=channel, time_s=0.3, width_s=0.05, size=size)
    still, pushed = Perturbation(seed=3), Perturbation(pulses=(pulse,), seed=3)
    outcome = run(task, [still, pushed], duration_s=0.6)
    assert outcome.trace is not None
    position = outcome.trace.position
    before, after = (np.abs(position[rows, 1] - position[rows, 0]).max() for rows in (slice(0, 4), slice(-10, None)))
    assert before < 0.02 < after
    assert outcome.trace.push[..., list(arena.channels).index(channel)].max() == pytest.approx(size, rel=0.05)


def test_the_parameters_of_a_run_are_its_own() -> None:
    nominal = arena_of("pendulum_swingup").nominal(MASS)
    runs = [Perturbation(seed=1), Perturbation(values={MASS: 2.0 * nominal}, seed=1)]
    light, heavy = run("pendulum_swingup", runs, 0.8, duration_s=0.3).final[:, 0]
    assert 0.0 < heavy < light


def test_the_middle_of_a_posterior_is_the_nominal() -> None:
    task = load_task("pendulum_swingup")
    law = Randomization(name="fit", terms=(Term(targets=(MASS,), law=Normal(mean=1.5, sd=0.1)),))
    arena = MujocoArena(MujocoArenaConfig(duration_s=0.3), task, find_robot(task.robot), law, nthread=1)
    assert arena.nominal(MASS) == 1.5 and arena.base == {MASS: 1.5}
    middle = arena.run(subject(task.name, 0.8), [Perturbation(seed=1)]).final
    set_by_hand = run(task.name, [Perturbation(values={MASS: 1.5}, seed=1)], 0.8, duration_s=0.3).final
    np.testing.assert_array_equal(middle, set_by_hand)


def test_a_start_depends_on_the_seed_of_the_run_and_not_on_those_beside_it() -> None:
    outcome = run("arm_reach", [Perturbation(seed=i) for i in (1, 2, 3)], duration_s=0.04)
    alone = run("arm_reach", [Perturbation(seed=3)], duration_s=0.04)
    np.testing.assert_allclose(alone.final[0], outcome.final[2], atol=1e-9)
    assert np.abs(outcome.final[0] - outcome.final[1]).max() > 0.01


def test_the_same_run_gives_the_same_to_the_last_bit() -> None:
    noisy = Perturbation(values={"torque_noise/shoulder": 0.3}, seed=5)
    first, again = (run("pendulum_swingup", [noisy], 0.3, duration_s=1.0) for _ in range(2))
    np.testing.assert_array_equal(first.final, again.final)
    np.testing.assert_array_equal(first.returns, again.returns)


def test_it_succeeds_where_the_task_does() -> None:
    held = run("pendulum_swingup", [Perturbation()], start=(np.pi,), duration_s=1.1)
    hanging = run("pendulum_swingup", [Perturbation()], duration_s=1.1)
    # an unstable rest: it leaves by far less than the region in that time
    assert held.success.all() and not hanging.success.any()


def test_ranges_are_relative_to_what_the_robot_is() -> None:
    arena = arena_of("quadruped_velocity")
    assert arena.unit("sensor/joint.velocity/noise", "sensor") == 0.5
    assert arena.unit("torque_noise/FR_calf", "torque_limit") == 35.55
    assert arena.unit("joint/FR_calf/frictionloss", "torque_limit") == 35.55
    assert arena.unit("timing/command/lag", "control_period") == 0.02
    assert arena.unit("body/trunk/mass", "nominal") == arena.model.nominal("body/trunk/mass")
    assert set(arena.channels) == {"trunk/x", "trunk/y"}
    assert arena.channels["trunk/x"] == pytest.approx(9.81 * arena.model.mj.body_subtreemass[1], rel=1e-3)
    assert "sensor/imu.gyro/noise" in arena.expand("velocity_noise")["velocity_noise"]
    assert len(arena.expand("body/*/mass")) > 10


def test_cameras_are_late_beyond_their_own_latency() -> None:
    arena = arena_of("arm_reach")
    assert "delay/wrist" in arena.expand("delay")["delay"]
    rows = arena._rows([Perturbation(values={"delay/wrist": 0.05}), Perturbation()])
    drawn = rows.draw(arena.model, np.random.default_rng(0), 2)
    np.testing.assert_allclose(drawn["camera/wrist/latency"], [0.08, 0.03])


def test_what_cannot_be_run_is_refused_in_a_sentence() -> None:
    arena = arena_of("pendulum_swingup")
    with pytest.raises(ConfigError, match="Did you mean 'torque_noise'"):
        arena.expand("torque_nois")
    with pytest.raises(ConfigError, match="target 'body/pendulum/mas' is unknown"):
        arena.expand("body/pendulum/mas")
    with pytest.raises(ConfigError, match="Did you mean 'body/pendulum/mass'"):
        arena.expand("body/pendulm/mass")
    assert arena.expand("joint/*/range_low") == {}  # a quantity that exists, of which this robot has none
    with pytest.raises(ConfigError, match="relative to torque_limit, which means nothing for it"):
        arena.unit(MASS, "torque_limit")
    with pytest.raises(ConfigError, match="made for task 'arm_reach', not 'pendulum_swingup'"):
        arena.run(subject("arm_reach"), [Perturbation()])
    with pytest.raises(ConfigError, match="outside its valid range"):
        arena.run(subject("pendulum_swingup"), [Perturbation(values={MASS: -1.0})])
