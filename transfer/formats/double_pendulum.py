"""Logs of DFKI's double_pendulum benches (designs A.0, C.0 and C.1).

`tau_con` is the total command, friction compensation (`tau_fric`) included. Per cycle the state of the previous reply
is read, the torque clipped and sent, and the stamp taken last: row k's command is sent when row k + 1 is read.
"""

from __future__ import annotations

from transfer.formats.layout import Layout, columns

LAYOUT = Layout(
    name="csv/double_pendulum",
    late_rows=1,
    channels={
        "joint.position": columns("pos_meas1", "pos_meas2"),
        "joint.velocity": columns("vel_meas1", "vel_meas2"),
        "joint.effort": columns("tau_meas1", "tau_meas2"),
        "command.effort": columns("tau_con1", "tau_con2"),
    },
)
