"""The arena of the benchmark: what its knobs do, one at a time, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot.config import ConfigError
from sim.arena import Outcome, Subject
from sim.model import find_robot
from sim.perturbation import Perturbation, Pulse
from sim.published_arena import PublishedArena, PublishedArenaConfig
from sim.tasks import load_task

C1 = PublishedArenaConfig(
    m1=0.52346, r1=0.2, l1=0.2, I1=0.0318872, m2=0.625568, r2=0.255693, I2=0.0508698, duration_s=0.4
)


def subject(action: float = 0.0, task: str = "pendubot_swingup", seen: list[np.ndarray] | None = None) -> Subject:
    """A controller that always does the same, and notes what it was shown."""

    def act(inputs: dict[str, np.ndarray]) -> np.ndarray:
        if seen is not None:
            seen.append(inputs["observation"].copy())
        return np.full((len(inputs["observation"]), 1), action)

    chosen = load_task(task)
    return Subject(
        task=task, spec=find_robot(chosen.robot).spec, observation=chosen.observation, action=chosen.action,
        control_period_s=0.01, episode=lambda: act,
    )  # fmt: skip


def run(
    perturbations: list[Perturbation], action: float = 0.0, task: str = "pendubot_swingup", **changed: object
) -> Outcome:
    arena = PublishedArena(replace(C1, **changed), load_task(task))
    return arena.run(subject(action, task), perturbations, trace=True)


def test_it_hangs_still_when_nothing_is_done() -> None:
    np.testing.assert_array_equal(run([Perturbation()]).final, np.zeros((1, 4)))


def test_success_is_being_upright_at_the_end() -> None:
    outcome = run([Perturbation()], start=(np.pi, 0.0), duration_s=0.02)
    assert outcome.success.all()
    assert not run([Perturbation()], start=(np.pi - 0.4, 0.0), duration_s=0.02).success.any()
    assert run([Perturbation()], start=(3 * np.pi, -2 * np.pi), duration_s=0.02).success.all()  # modulo 2 pi


def test_runs_begin_about_the_start_by_their_seed() -> None:
    runs = [Perturbation(seed=seed) for seed in (*range(40), 0)]
    begun = run(runs, start_spread=0.1, duration_s=0.01).final[:, :2]
    assert (np.abs(begun) < 0.101).all() and np.ptp(begun, axis=0) == pytest.approx([0.2, 0.2], abs=0.03)
    assert (begun[0] == begun[-1]).all()


@pytest.mark.parametrize(("task", "driven"), [("pendubot_swingup", 0), ("acrobot_swingup", 1)])
def test_the_passive_joint_gets_no_torque_and_no_noise(task: str, driven: int) -> None:
    """With a massive upper link and no coupling an elbow torque would show at once."""
    noisy = run([Perturbation(values={"torque_noise": 1.0}, seed=1)], task=task, duration_s=0.01)
    plain = run([Perturbation()], 1.0, task=task, duration_s=0.01)
    # of torque u on joint j the accelerations are M^-1 e_j u: their ratio tells which joint was driven
    ratio = plain.final[0, 2] / plain.final[0, 3]
    assert noisy.final[0, 2] / noisy.final[0, 3] == pytest.approx(ratio, rel=1e-3)
    assert abs(ratio) < 1.0 if driven == 1 else ratio < 0.0


def test_a_delayed_measurement_is_whole_steps_old_and_the_first_at_the_beginning() -> None:
    seen: list[np.ndarray] = []
    arena = PublishedArena(replace(C1, start=(1.0, 0.0), duration_s=0.1), load_task("pendubot_swingup"))
    late = [Perturbation(values={"delay": d}) for d in (0.0, 0.0199, 0.02)]
    arena.run(subject(seen=seen), late)
    cosine = np.stack(seen)[:, :, 0]  # (ticks, runs)
    np.testing.assert_array_equal(cosine[2:, 2], cosine[:-2, 0])  # 20 ms are two ticks
    np.testing.assert_array_equal(cosine[:2, 2], cosine[0, 0])
    assert (cosine[3:, 1] != cosine[3:, 2]).all()  # 19.9 ms are nine steps of 2 ms, not ten


def test_velocity_noise_is_on_both_velocities_alone_and_of_the_size_asked_for() -> None:
    seen: list[np.ndarray] = []
    arena = PublishedArena(replace(C1, duration_s=5.0), load_task("pendubot_swingup"))
    arena.run(subject(seen=seen), [Perturbation(), Perturbation(values={"velocity_noise": 0.3}, seed=4)])
    shown = np.stack(seen)
    np.testing.assert_array_equal(shown[:, 0, :4], shown[:, 1, :4])
    assert shown[:, 1, 4:6].std(axis=0) == pytest.approx(0.3, rel=0.1)
    assert not shown[:, 0, 4:6].any()


def test_a_slow_motor_approaches_what_is_wanted_by_the_same_share_each_step() -> None:
    """Against a constant torque of the same impulse: 1 - (1 - k)^i of it acts in step i."""
    slow = run([Perturbation(values={"torque_response": 0.5})], 0.5, duration_s=0.01)
    shares = [1.0 - 0.5**i for i in range(1, 6)]
    fast = run([Perturbation()], 0.5 * float(np.mean(shares)), duration_s=0.01)
    assert slow.final[0, 2] == pytest.approx(fast.final[0, 2], rel=1e-3)


def test_a_push_adds_to_a_saturated_motor_and_reaches_the_passive_joint() -> None:
    still, pushed, elbow = run(
        [
            Perturbation(),
            Perturbation(pulses=(Pulse(channel="shoulder", time_s=0.2, width_s=0.05, size=3.0),)),
            Perturbation(pulses=(Pulse(channel="elbow", time_s=0.2, width_s=0.05, size=0.3),)),
        ],
        1.0,
    ).final
    assert np.abs(pushed - still).max() > 0.1 and np.abs(elbow - still).max() > 0.1


def test_a_heavier_lower_link_takes_its_product_with_the_radius_along_unless_that_is_given() -> None:
    heavy, same, both = (
        Perturbation(values=v) for v in ({"m2": 0.7}, {"m2": 0.7, "m2r2": 0.7 * 0.255693}, {"m2": 0.7, "m2r2": 0.12})
    )
    final = run([heavy, same, both], start=(1.0, 0.5)).final
    np.testing.assert_allclose(final[0], final[1], rtol=1e-12)
    assert np.abs(final[2] - final[0]).max() > 1e-3


def test_a_run_depends_on_its_own_seed_and_not_on_those_beside_it() -> None:
    one = Perturbation(values={"torque_noise": 0.5, "velocity_noise": 0.2}, seed=7)
    crowd = [Perturbation(values={"torque_noise": 1.0}, seed=i) for i in range(5)]
    alone, among = run([one]), run([*crowd, one])
    np.testing.assert_array_equal(alone.final[0], among.final[-1])
    assert alone.returns[0] == pytest.approx(among.returns[-1], rel=1e-12)
    assert run([replace(one, seed=8)]).final[0] != pytest.approx(alone.final[0])


def test_a_pendulum_that_runs_away_has_failed_and_disturbs_nobody() -> None:
    wild = Perturbation(values={"b1": -50.0, "b2": -50.0})
    outcome = run([wild, Perturbation()], 0.5, duration_s=2.0, start=(np.pi, 0.1))
    assert not outcome.success[0] and not np.isfinite(outcome.final[0]).all()
    np.testing.assert_allclose(
        outcome.final[1], run([Perturbation()], 0.5, duration_s=2.0, start=(np.pi, 0.1)).final[0], rtol=1e-9
    )


def test_what_cannot_be_run_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"'m2r3', which this arena does not know\. .*Did you mean 'm2r2'\?"):
        run([Perturbation(values={"m2r3": 1.0})])
    with pytest.raises(ConfigError, match=r"whole multiple of the suite's 0\.003 s"):
        run([Perturbation()], timestep_s=0.003)
    with pytest.raises(ConfigError, match="made for task 'acrobot_swingup', not 'pendubot_swingup'"):
        PublishedArena(C1, load_task("pendubot_swingup")).run(subject(task="acrobot_swingup"), [Perturbation()])
    with pytest.raises(ConfigError, match="is for tasks that drive a double pendulum by torque"):
        PublishedArena(C1, load_task("arm_reach"))
    with pytest.raises(ConfigError, match=r"a pendulum with \{'m2r2': 0\.5\} cannot exist"):
        run([Perturbation(), Perturbation(values={"m2r2": 0.5})])
    with pytest.raises(ConfigError, match="start names 1 joints"):
        run([Perturbation()], start=(1.0,))
    with pytest.raises(ConfigError, match="relative to sensor, which this arena does not know"):
        PublishedArena(C1, load_task("pendubot_swingup")).unit("velocity_noise", "sensor")
