"""Long random runs stay finite and small, and a simulation that blows up is restarted alone."""

from __future__ import annotations

import numpy as np
import pytest

from sim.randomization import NOMINAL
from sim.tasks import names
from sim.tasks.ant import ANT
from sim.vecenv import BatchedEnv
from tests.benchmarks.soak import soak
from transfer.bench.ours import Arena

VECTORS = [n for n in (ANT.name, *names()) if not n.endswith("_pixels")]


@pytest.mark.parametrize("name", VECTORS)
def test_a_short_soak_is_finite_and_does_not_grow(name: str) -> None:
    result = soak(name, 12_000, simulations=32)
    assert result.ok, str(result)
    assert result.steps >= 12_000 and result.episodes > 0


@pytest.mark.parametrize("name", VECTORS)
def test_a_simulation_that_blows_up_restarts_alone_and_is_counted(name: str) -> None:
    arena, ill = Arena.of(name), 2

    def run(hurt: bool) -> tuple[BatchedEnv, list[np.ndarray], list[np.ndarray]]:
        env = BatchedEnv(arena.task, arena.robot, NOMINAL, 6, seed=3, start="evaluate", nthread=2)
        env.reset()
        rng, states, ends = np.random.default_rng(0), [], []
        for k in range(12):
            if hurt and k == 5:
                env.plant.batch.bind("qvel")[ill] = 1e11
            step = env.step(0.2 * rng.uniform(-1.0, 1.0, (6, env.action_space.shape[0])))
            assert np.isfinite(step.reward).all() and np.isfinite(step.inputs["observation"]).all()
            states.append(env.plant.qpos.copy())
            ends.append(step.terminated & ~step.success)
        return env, states, ends

    env, states, ends = run(hurt=True)
    calm_env, calm, calm_ends = run(hurt=False)
    assert (env.unstable, calm_env.unstable) == (1, 0)
    others = np.arange(6) != ill
    np.testing.assert_array_equal(np.array(states)[:, others], np.array(calm)[:, others])
    np.testing.assert_array_equal(np.array(ends)[:, others], np.array(calm_ends)[:, others])
    assert ends[5][ill] and not np.array(calm_ends)[:, ill].any() and env._age[ill] == 6
    assert np.abs(states[5][ill] - calm[5][ill]).max() > 0.0
