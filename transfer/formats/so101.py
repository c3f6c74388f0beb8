"""Folders of the SO-101 arm as the project SAGE records them: control.csv, state_motor.csv, joint_list.txt, event.csv.

Joints are told apart by the names in joint_list.txt. Commands and states carry one stamp, taken before six writes and
eighteen reads, so what a row says of the joints is some milliseconds old, and more for the last joint.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from robot.log import UNITS, Channel, EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import Finding
from transfer.formats import Recording
from transfer.formats.tables import Dialect, Table, parse
from transfer.screen import finding

Array = npt.NDArray[np.float64]

JOINTS = {
    "Rotation": "shoulder_pan",
    "Pitch": "shoulder_lift",
    "Elbow": "elbow_flex",
    "Wrist_Pitch": "wrist_flex",
    "Wrist_Roll": "wrist_roll",
    "Jaw": "gripper",
}
"""Name in joint_list.txt -> name in configs/robot/so101.yaml."""
JAW = (2.25, -0.1745)
"""The jaw's angle [rad] of its share of the way x: 2.25 x - 0.1745."""
NAMES = "joint_list.txt"


def detect(path: Path) -> bool:
    """A folder with a list of joints and both tables."""
    return path.is_dir() and (path / NAMES).is_file() and all(_file(path, n) for n in ("control", "state_motor"))


def _file(folder: Path, stem: str) -> Path | None:
    found = [p for ending in (".csv", ".csv.gz") if (p := folder / f"{stem}{ending}").is_file()]
    return found[0] if found else None


def read(path: Path, spec: RobotSpec) -> list[Recording]:
    """The one episode of a folder."""
    listed = [line.strip() for line in (path / NAMES).read_text(encoding="utf-8").splitlines() if line.strip()]
    joints = tuple(JOINTS.get(name, name) for name in listed)
    if set(joints) != set(spec.joint_names):
        wrong = next((j for j in joints if j not in spec.joint_names), None)
        detail = f"{NAMES} lists {', '.join(listed)}; robot '{spec.name}' has {', '.join(spec.joint_names)}."
        kind = "other_robot" if wrong or len(joints) != len(spec.joints) else "unknown_layout"
        return [Recording(log=None, findings=(finding(kind, "", NAMES, detail),))]
    commands = _table(path, "control", ("positions",), joints)
    states = _table(path, "state_motor", ("positions", "velocities", "torques"), joints)
    findings = [*commands.findings, *states.findings]
    if not commands.columns or not states.columns or any(f.kind == "missing_column" for f in findings):
        return [Recording(log=None, findings=tuple(findings))]
    of_command, of_state = _stamps(commands), _stamps(states)
    values = {
        "joint.position": (of_state, _jaw(_stack(states, "positions", joints), joints)),
        "joint.velocity": (of_state, _stack(states, "velocities", joints)),
        "command.position": (of_command, _jaw(_stack(commands, "positions", joints), joints)),
        "servo.current": (of_state, _stack(states, "torques", joints)),
    }
    channels = {n: Channel(n, UNITS.get(n, "1"), joints, t, v) for n, (t, v) in values.items()}
    channels |= _events(path)
    meta = {"source": path.name, "layout": "folder/so101", "stamps": "row"}
    log = EpisodeLog(path.name, spec.name, spec.fingerprint(), channels, meta)
    return [Recording(log=log, findings=(*findings, *_told(channels)))]


def _table(folder: Path, stem: str, lists: tuple[str, ...], joints: tuple[str, ...]) -> Table:
    """A table whose cells hold lists, as one column for each list and joint."""
    file = _file(folder, stem)
    assert file is not None
    header = ("timestamp", *(f"{name}/{joint}" for name in lists for joint in joints))
    # each row begins with the word for what it is; the header's begins with `type`
    return parse(file, Dialect(header=header, drop='"[] ', comment="type", labels=1))


def _stamps(table: Table) -> npt.NDArray[np.int64]:
    return np.round(np.nan_to_num(table.columns["timestamp"]) * 1e3).astype(np.int64)


def _stack(table: Table, name: str, joints: tuple[str, ...]) -> Array:
    return np.stack([table.columns[f"{name}/{joint}"] for joint in joints], axis=1)


def _jaw(values: Array, joints: tuple[str, ...]) -> Array:
    """Positions with the jaw's share of its way as an angle."""
    out, jaw = values.copy(), joints.index("gripper") if "gripper" in joints else None
    if jaw is not None:
        out[:, jaw] = JAW[0] * values[:, jaw] + JAW[1]
    return out


def _events(folder: Path) -> dict[str, Channel]:
    """The channel `event`, where the folder has one."""
    file = _file(folder, "event")
    if file is None or file.suffix == ".gz":
        return {}
    rows = [line.split(",") for line in file.read_text(encoding="utf-8").splitlines()[1:] if line.count(",") == 2]
    try:
        t_ns = np.array([round(float(row[1]) * 1e3) for row in rows], dtype=np.int64)
    except ValueError:
        return {}
    return {"event": Channel("event", UNITS["event"], (), t_ns, np.array([row[2] for row in rows], dtype=object))}


def _told(channels: dict[str, Channel]) -> list[Finding]:
    """What these recordings are known to hide, as far as it shows in this one."""
    state, command, current = (channels[n] for n in ("joint.position", "command.position", "servo.current"))
    findings = []
    if "gripper" in state.components:
        detail = f"the jaw is a share of its way while its velocity is in rad/s; read as {JAW[0]} x - {-JAW[1]} rad."
        findings.append(finding("converted", "joint.position", "component gripper", detail))
    if not (current.values < 0.0).any():
        detail = "'torques' is never negative: an unsigned current times a home-made scale, so no torque; kept apart."
        findings.append(finding("unsigned", "servo.current", "file", detail))
    if np.array_equal(state.t_ns, command.t_ns):
        detail = "commands and states share one stamp, taken before 6 writes and 18 reads: states are some ms younger."
        findings.append(finding("shared_stamp", "joint.position", "file", detail))
        apart = np.median(state.values - command.values, axis=0)
        joint = int(np.argmax(np.abs(apart)))
        detail = "zeros are the middle of the calibrated range, not the model's; the median of position less command "
        detail += f"is {apart[joint]:+.3f} rad at '{state.components[joint]}'."
        findings.append(finding("unknown_zero", "joint.position", "file", detail))
    return findings
