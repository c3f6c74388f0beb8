"""Motions in a browser while this process runs, through viser: for what a page of its own is too heavy, or on a server.

viser is an extra, imported here alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from sim import shapes
from sim.motion import Motion


def load_viser() -> Any:
    """The package viser; ConfigError when it is not installed."""
    try:
        import viser
    except ModuleNotFoundError as error:
        raise ConfigError("live=true needs the package 'viser': pip install 'terrafirma[view]'.") from error
    return viser


def serve(motions: Sequence[Motion], port: int, seconds: float | None = None) -> str:
    """Show motions at http://localhost:`port` until Ctrl-C, or for `seconds`; returns the address."""
    viser = load_viser()
    server = viser.ViserServer(port=port, verbose=False)
    address = f"http://localhost:{server.get_port()}"
    print(f"live at {address}; Ctrl-C ends it", flush=True)
    try:
        _play(server, motions, None if seconds is None else time.monotonic() + seconds)
    except KeyboardInterrupt:
        print("closed", flush=True)
    finally:
        server.stop()
    return address


def _play(server: Any, motions: Sequence[Motion], until: float | None) -> None:
    """Play the chosen motion over and over; the browser chooses motion, frame and speed."""
    names = [motion.name for motion in motions]
    chosen = server.gui.add_dropdown("episode", names, initial_value=names[0])
    playing = server.gui.add_checkbox("play", True)
    speed = server.gui.add_slider("speed", 0.1, 4.0, 0.1, 1.0)
    moment = server.gui.add_slider("time [s]", 0.0, 1.0, 0.001, 0.0)
    shown = ""
    while until is None or time.monotonic() < until:
        if chosen.value != shown:
            shown = chosen.value
            motion = motions[names.index(shown)]
            poses = shapes.body_poses(motion.model, motion.qpos)
            frames = _build(server, motion, poses)
            duration = max((len(poses) - 1) * motion.frame_s, 1e-3)
            moment.max, moment.value = duration, 0.0
        elif playing.value:
            later = moment.value + motion.frame_s * speed.value
            moment.value = later if later <= duration else 0.0
        pose = poses[min(round(moment.value / motion.frame_s), len(poses) - 1)]
        with server.atomic():
            for frame, row in zip(frames, pose, strict=True):
                frame.position, frame.wxyz = row[:3], row[3:]
        time.sleep(motion.frame_s)


def _build(server: Any, motion: Motion, poses: npt.NDArray[np.float32]) -> list[Any]:
    """A frame for each body with its shapes in it; whoever looks is placed before them."""
    server.scene.reset()
    server.scene.set_up_direction("+z")
    parts = shapes.shapes(motion.model)
    centre, radius = shapes.extent(parts, poses)
    server.initial_camera.look_at = centre
    server.initial_camera.position = centre + 2.5 * radius * np.array([0.6, -0.75, 0.35])
    frames = [server.scene.add_frame(f"/body_{b}", show_axes=False) for b in range(motion.model.nbody)]
    for i, shape in enumerate(parts):
        server.scene.add_mesh_simple(
            f"/body_{shape.body}/shape_{i}",
            vertices=shape.vertices[:, :3],
            faces=shape.triangles,
            color=shape.rgba[:3],
            opacity=None if shape.rgba[3] == 1.0 else shape.rgba[3],
            side="double",
        )
    return frames
