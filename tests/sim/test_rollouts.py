"""Rollouts for pretraining: labelled, varied, reproducible, never across the end of an episode."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim.curriculum import Ramp
from sim.model import RobotConfig
from sim.randomization import Randomization, Term, Uniform
from sim.rollouts import KINDS, Excitation, Rollouts, labels, roll_out
from sim.tasks import load_task

PRIOR = Randomization(
    name="prior",
    terms=(
        Term(targets=("body/pendulum/com",), how="scale", law=Uniform(low=0.8, high=1.2)),
        Term(targets=("actuator/shoulder/gain",), law=Uniform(low=1.0, high=1.0)),
    ),
)


def rolled(robot: RobotConfig, seed: int = 0, **options: object) -> Rollouts:
    task = load_task("pendulum_swingup")
    return roll_out(task, robot, PRIOR, simulations=24, seconds=1.0, seed=seed, nthread=1, **options)  # type: ignore[arg-type]


def test_every_simulation_keeps_one_draw_and_only_what_varies_is_a_label(pendulum: RobotConfig) -> None:
    data = rolled(pendulum)
    assert data.names == ("body/pendulum/com",) and data.units == ("m",)
    assert data.parameters.shape == (24, 1) and len(np.unique(data.parameters)) == 24
    assert data.observation.shape == (24, 100, 4) and data.action.shape == (24, 100, 1)
    assert data.start[:, 0].all() and 24 < data.start.sum() < 60  # episodes of 3 s on average


def test_the_observation_that_follows_shows_the_action(pendulum: RobotConfig) -> None:
    data = rolled(pendulum)
    goes_on = ~data.start[:, 1:]
    np.testing.assert_allclose(data.observation[:, 1:, 3][goes_on], data.action[:, :-1, 0][goes_on], atol=1e-6)


def test_of_targets_that_vary_as_one_only_the_first_is_a_label() -> None:
    values = np.array([[1.0, 2.0, 3.0, 5.0], [1.5, 3.0, 3.0, 4.0], [0.5, 1.0, 3.0, 7.0]])
    names, kept = labels(("motor/a/rotor_inertia", "motor/b/rotor_inertia", "joint/a/damping", "body/a/mass"), values)
    assert names == ("motor/a/rotor_inertia", "body/a/mass")
    np.testing.assert_array_equal(kept, values[:, [0, 3]])


def test_equal_seeds_give_equal_rollouts(pendulum: RobotConfig) -> None:
    one, two, other = rolled(pendulum, 1), rolled(pendulum, 1), rolled(pendulum, 2)
    np.testing.assert_array_equal(one.observation, two.observation)
    assert not np.array_equal(one.observation, other.observation)


def test_excitations_are_of_all_kinds_and_bounded() -> None:
    rng = np.random.default_rng(0)
    excitation = Excitation(400, 2, 0.01, rng)
    made = np.stack([excitation.next(np.ones((400, 2))) for _ in range(300)], axis=1)
    assert np.abs(made).max() <= 1.0 and set(excitation.kind) == set(range(len(KINDS)))
    assert made[excitation.kind == KINDS.index("quiet")].std() < 0.1 < made.std()


def test_pumping_lifts_a_pendulum_that_the_motor_cannot_lift_at_once() -> None:
    excitation = Excitation(2000, 1, 0.01, np.random.default_rng(0), fast=[12.0])
    angle, velocity, highest = np.zeros((2000, 1)), np.zeros((2000, 1)), np.zeros((2000, 1))
    for _ in range(600):  # a pendulum of 0.5 m, and a motor of 0.4 times the weight's torque
        velocity += 0.01 * 9.81 / 0.5 * (0.4 * excitation.next(velocity) - np.sin(angle))
        angle += 0.01 * velocity
        highest = np.maximum(highest, np.abs(angle))
    upper = {kind: float((highest[excitation.kind == i] > np.pi / 2).mean()) for i, kind in enumerate(KINDS)}
    assert upper["pump"] > 2.5 * max(share for kind, share in upper.items() if kind != "pump"), upper


def test_a_policy_runs_in_its_share_of_the_simulations(pendulum: RobotConfig) -> None:
    seen: list[tuple[int, ...]] = []

    def act(inputs: dict[str, np.ndarray]) -> np.ndarray:
        seen.append(inputs["history"].shape)
        return np.full((24, 1), 1.0)

    data = rolled(pendulum, act=act, act_share=0.25, history=8)
    assert set(seen) == {(24, 8, 5)}
    assert (data.action[:6] >= 0.69).all() and data.action[6:].mean() < 0.5


def test_a_robot_that_fails_begins_anew_with_the_same_parameters(pendulum: RobotConfig) -> None:
    fast = Randomization(
        name="fast", terms=(Term(targets=("actuator/shoulder/gain",), law=Uniform(low=9.0, high=10.0)),)
    )
    data = roll_out(
        load_task("pendulum_swingup"), pendulum, fast, simulations=40, seconds=3.0, seed=0, nthread=1
    )  # far above the torque that the velocity limit allows for
    assert data.start[:, 1:].sum(axis=1).mean() > 0.9  # chance alone: 0.5
    assert len(np.unique(data.parameters)) == 40
    limit = pendulum.spec.joints[0].velocity_limit
    too_fast = np.abs(data.observation[:, :, 2]) > limit + 1.0
    assert not too_fast.any()  # what was too fast is over, and the next row begins another episode


def test_a_curriculum_is_for_policies_and_does_not_narrow_what_encoders_see(pendulum: RobotConfig) -> None:
    ramp = replace(PRIOR, curriculum=Ramp(over_env_steps=10**9))
    plain, grown = (
        roll_out(load_task("pendulum_swingup"), pendulum, law, simulations=6, seconds=0.1, seed=0, nthread=1)
        for law in (PRIOR, ramp)
    )
    np.testing.assert_array_equal(plain.parameters, grown.parameters)
