"""An encoder that reads a recording's innovations and tells the simulator what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.encoders.heads import Heads
from policies.encoders.physics import EncoderConfig, PhysicsEncoder
from policies.encoders.pretrain import pretrain
from robot.config import ConfigError
from robot.log import Channel, EpisodeLog
from sim.model import Model, RobotConfig
from sim.randomization import JointGaussian, Point, Randomization, Term
from transfer.context_prediction import Reader, evaluate_with_context, load
from transfer.dataset import DataRefused
from transfer.innovations import AHEAD_S, GRID_S, Foreteller, card_of, components, innovation_windows, unexplained

Simulate = Callable[..., EpisodeLog]
CONFIG = EncoderConfig(
    history=24, span=1, context=6, hidden=(24,), horizon=4, predictor=(8,), simulations=240, windows=8, grounding=300,
    updates=60, batch=128, learning_rate=5e-3, base=False,
)  # fmt: skip
DAMPING = 0.1
LAW = Randomization(
    name="posterior",
    robot="simple_pendulum",
    terms=(
        Term(
            targets=("joint/shoulder/damping",),
            law=JointGaussian(
                transform=("log",), bounds=((0.0, 1.0),), mean=(float(np.log(DAMPING)),), covariance=((0.04,),)
            ),
        ),
        Term(
            targets=("sensor/shoulder/offset",),
            law=JointGaussian(transform=("none",), bounds=((-1.0, 1.0),), mean=(0.0,), covariance=((0.0016,),)),
        ),
        Term(targets=("timing/command/delay",), law=Point(values=(0.004,))),
    ),
)
TRUTH = {"joint/shoulder/damping": DAMPING, "timing/command/delay": 0.004}


@pytest.fixture(scope="module")
def logs(pendulum: RobotConfig, simulate: Simulate) -> list[EpisodeLog]:
    """Recordings that the encoder is trained along, each with a zero of its own."""
    return [simulate(pendulum, TRUTH, seed=s, seconds=8.0, zero=0.02 * (s - 1)) for s in range(3)]


@pytest.fixture(scope="module")
def folder(pendulum: RobotConfig, logs: list[EpisodeLog], tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("encoder")
    data = innovation_windows(logs, Model(pendulum), LAW, CONFIG, seed=0, nthread=1)
    pretrain(data, card_of(pendulum.spec, CONFIG), CONFIG, out, seed=0)
    return out


@pytest.fixture
def pair(folder: Path) -> tuple[PhysicsEncoder, Heads]:
    return load(folder)


def test_the_context_finds_another_recordings_zero_and_the_prediction_gains(
    pendulum: RobotConfig, simulate: Simulate, pair: tuple[PhysicsEncoder, Heads]
) -> None:
    new = [simulate(pendulum, TRUTH, seed=9, seconds=6.0, zero=0.05), simulate(pendulum, TRUTH, seed=8, zero=-0.04)]
    both = evaluate_with_context(new, Model(pendulum), LAW, *pair, nthread=1)
    reader = Reader(*pair, Foreteller(Model(pendulum), LAW, nthread=1))
    zeros = reader.values(both.told)["sensor/shoulder/offset"]
    assert zeros[both.given.file == 0][-1] == pytest.approx(0.05, abs=0.02)
    assert zeros[both.given.file == 1][-1] == pytest.approx(-0.04, abs=0.02)
    given, alone = both.scored()
    assert given.position_rmse(1) < 0.7 * alone.position_rmse(1)
    result = both.result(np.random.default_rng(0))
    assert result["difference"]["0.5"]["ci95"][1] < 0.0
    assert (
        result["prediction"]["0.5"]["position_rmse"]["n"] == result["windows"] == len(given.file) < len(both.alone.file)
    )


def test_where_nothing_differs_the_prediction_is_hardly_changed(
    pendulum: RobotConfig, simulate: Simulate, pair: tuple[PhysicsEncoder, Heads]
) -> None:
    both = evaluate_with_context([simulate(pendulum, TRUTH, seed=7)], Model(pendulum), LAW, *pair, nthread=1)
    other = evaluate_with_context(
        [simulate(pendulum, TRUTH, seed=7, zero=0.05)], Model(pendulum), LAW, *pair, nthread=1
    )
    assert both.given.position_rmse(1) < 0.4 * other.alone.position_rmse(1)


def test_nothing_after_a_windows_start_is_read(
    pendulum: RobotConfig, simulate: Simulate, pair: tuple[PhysicsEncoder, Heads]
) -> None:
    log = simulate(pendulum, TRUTH, seed=5, seconds=6.0, zero=0.03)
    reader = Reader(*pair, Foreteller(Model(pendulum), LAW, nthread=1))
    starts = np.array([0.25, 1.5, 3.0])
    late = round(3.0 / 0.01)
    broken = {
        name: Channel(
            name, c.unit, c.components, c.t_ns, np.where(np.arange(len(c.values))[:, None] > late, 9.0, c.values)
        )
        for name, c in log.channels.items()
    }
    whole, cut = reader.told(log, starts), reader.told(replace(log, channels=broken), starts)
    np.testing.assert_array_equal(whole.mean, cut.mean)
    assert whole.rows.tolist() == cut.rows.tolist() and whole.rows[0] == 0 and (whole.mean[0] == 0.0).all()
    assert (np.diff(whole.variance, axis=0) <= 0.0).all()  # more past, more certain


def test_with_a_limit_the_rest_of_the_recording_is_scored_alone(
    pendulum: RobotConfig, simulate: Simulate, pair: tuple[PhysicsEncoder, Heads]
) -> None:
    log = simulate(pendulum, TRUTH, seed=5, seconds=6.0, zero=0.03)
    both = evaluate_with_context([log], Model(pendulum), LAW, *pair, until_s=2.5, nthread=1)
    assert len(np.unique(both.told.rows)) == 1 and both.told.rows[0] == 1 + int((2.5 - 0.02 - AHEAD_S) / GRID_S)


def test_a_recording_without_a_past_is_refused(
    pendulum: RobotConfig, simulate: Simulate, pair: tuple[PhysicsEncoder, Heads]
) -> None:
    both = evaluate_with_context([simulate(pendulum, TRUTH, seed=1, seconds=1.3)], Model(pendulum), LAW, *pair)
    with pytest.raises(DataRefused, match="no recording has a past"):
        both.scored()


def test_an_encoder_that_reads_something_else_is_refused(
    pendulum: RobotConfig, double_pendulum: RobotConfig, pair: tuple[PhysicsEncoder, Heads]
) -> None:
    foreteller = Foreteller(Model(double_pendulum), replace(LAW, robot="", terms=()))
    with pytest.raises(ConfigError, match=r"of robot 'simple_pendulum'.*of 'double_pendulum_c1'.*logs=DATASET"):
        Reader(*pair, foreteller)


def test_departures_tell_a_zero_to_first_order(pendulum: RobotConfig, simulate: Simulate) -> None:
    foreteller = Foreteller(Model(pendulum), LAW, nthread=1)
    log = simulate(pendulum, TRUTH, seed=3, seconds=4.0, zero=0.02)
    rows, slopes = foreteller.rows(log), foreteller.slopes(foreteller.shots(log), {"sensor/shoulder/offset": 0.01})
    assert rows.observation.shape == (len(rows.t), len(components(pendulum.spec)))
    late, slope = rows.departure[:, -1], slopes[:, -1, 0]
    assert -(late @ slope) / (slope @ slope) == pytest.approx(0.02, rel=0.15)
    left = unexplained([rows.departure], [slopes], np.array([[0.0016]]))[0]
    assert np.square(left[:, -1]).mean() < 0.1 * np.square(late).mean()
