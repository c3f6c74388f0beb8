"""A real identification excitation through the CAN bus: the log is what the emulated motors really did."""

from __future__ import annotations

import csv
import gzip
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("can")
pytest.importorskip("serial")

from robot import cli, config
from robot import log as logs
from robot.drivers import mit_protocol as mit
from robot.spec import RobotSpec, find_robot, load_spec
from tests.sim.emulated import bench, busy

Array = npt.NDArray[np.float64]

MOTOR = mit.MOTORS["AK80-6_V1.1"]
COUNTS = (2.0 * MOTOR.position / 65535, 2.0 * MOTOR.velocity / 4095, 2.0 * MOTOR.torque / 4095)
"""One step of position [rad], velocity [rad/s] and torque [N m] in a state frame."""
SECONDS = 2.0


@pytest.fixture
def recording() -> Path:
    """A recording in which both joints of the design C.1 were excited."""
    folder = os.environ.get("TERRAFIRMA_REAL_LOGS")
    path = Path(folder or "") / "double_pendulum" / "c1" / "sysid" / "143339.csv.gz"
    if not folder or not path.is_file():
        pytest.skip("needs real recordings: set TERRAFIRMA_REAL_LOGS to their folder")
    return path


def torques(recording: Path) -> tuple[Array, Array]:
    """Times (n,) [s] and commanded torques (n, 2) [N m] of the recording's beginning."""
    with gzip.open(recording, "rt") as stream:
        rows = list(itertools.takewhile(lambda r: float(r["time"]) <= SECONDS, csv.DictReader(stream)))
    return np.array([float(r["time"]) for r in rows]), np.array([[float(r[f"tau_con{i}"]) for i in "12"] for r in rows])


def patient(spec: RobotSpec, period_s: float, folder: Path) -> Path:
    """The robot's file with a watchdog that does not bark at a busy machine."""
    data = config.load_yaml(find_robot(spec.name))
    data["spec"]["watchdog_s"] = 20.0
    data["spec"]["control_period_s"] = period_s
    config.save(folder / "patient.yaml", data)
    return folder / "patient.yaml"


def test_a_real_excitation_comes_back_as_what_the_motors_did(recording: Path, tmp_path: Path) -> None:
    with bench("can", direction=(1, -1), zero=(0.1, -0.2)) as motors:
        t, asked = torques(recording)
        asked = np.clip(asked, -motors.spec.effort_limits, motors.spec.effort_limits)
        head, table = ",".join(["time", *(a.name for a in motors.spec.actuators)]), np.column_stack([t, asked])
        np.savetxt(tmp_path / "asked.csv", table, delimiter=",", header=head, comments="")
        period_s = 0.05 if (slow := busy()) else motors.spec.control_period_s
        words = [
            f"robot={patient(motors.spec, period_s, tmp_path)}",
            "driver=can",
            "interface=slcan",
            f"channel={motors.port}",
        ]
        words += ["direction=[1,-1]", "zero=[0.1,-0.2]"]
        words += [f"excitation={tmp_path / 'asked.csv'}", f"seconds={SECONDS}", f"out={tmp_path / 'out'}"]
        cli.call("record", words)
        log = logs.load(tmp_path / "out" / "episode.mcap")
        states, orders = np.array(motors.body.record.states), np.array(motors.body.record.orders)
    measured = np.stack([log[f"joint.{n}"].values for n in ("position", "velocity", "effort")], axis=2)
    sent, stamps = log["command.effort"], log["joint.position"].t_ns
    assert len(stamps) > 0.5 * SECONDS / period_s
    assert np.ptp(measured[..., 0], axis=0).min() > 0.5  # it did move
    for k in range(2):
        truth = states[states[:, 1] == k]
        late = truth[in_order(truth[:, 2:], measured[:, k], COUNTS), 0] - stamps
        assert slow or busy() or np.abs(late).max() < 0.1e9
        understood = orders[(orders[:, 1] == k) & (orders[:, 7] == 1.0)]
        in_order(understood[:, 4:5], sent.values[sent.values[:, k] != 0.0, k : k + 1], COUNTS[2:])


def in_order(truth: Array, logged: Array, counts: Sequence[float]) -> npt.NDArray[np.intp]:
    """Where each row of the log (n, m) is found in the truth, one after the other, to within a count."""
    found, at = [], 0
    for i, row in enumerate(logged):
        near = (np.abs(truth[at:] - row) <= np.array(counts) * (1.0 + 1e-6)).all(axis=1)
        assert near.any(), f"row {i} of the log, {row}, is nothing that happened after row {at} of the truth"
        at += int(near.argmax())
        found.append(at)
    return np.array(found)


def test_a_servo_arm_goes_slowly_to_where_it_is_excited(tmp_path: Path) -> None:
    """Folded away when it begins, it is not thrown to the pose about which the excitation moves it."""
    folded = (0.0, -1.6, 1.6, 1.402, 0.0, 0.5)
    words = ["robot=so101", "driver=sim", f"start={list(folded)}", "excitation=chirp", "seconds=2", "amplitude=0.1"]
    cli.call("record", [*words, f"out={tmp_path}"])
    log = logs.load(tmp_path / "episode.mcap")
    targets = log["command.position"]
    speed = np.abs(np.diff(targets.values, axis=0)) / (np.diff(targets.t_ns)[:, None] * 1e-9)
    begin = next(t for t, text in zip(log["event"].t_ns, log["event"].values, strict=True) if "state: run" in text)
    slowly = targets.t_ns[1:] < begin
    assert slowly.sum() > 50 and speed[slowly].max() < 0.6  # [rad/s]: half a radian a second, in encoder counts
    assert np.abs(targets.values[targets.t_ns >= begin][0] - load_spec("so101").default_pose).max() < 0.05
