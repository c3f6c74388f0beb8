"""Triangles of geoms: closed surfaces of the right volume that face outwards, and bodies where MuJoCo has them."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from sim import shapes
from sim.model import Model, find_robot


def volume(mesh: shapes.Mesh) -> float:
    """Of a closed surface, by the divergence theorem; negative when it is inside out."""
    corners = mesh[0][:, :3][mesh[1]]
    return float(np.einsum("mi,mi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6.0)


def facing(mesh: shapes.Mesh) -> float:
    """Smallest cosine between the normal of a triangle and those of its corners."""
    corners = mesh[0][mesh[1]]
    normal = np.cross(corners[:, 1, :3] - corners[:, 0, :3], corners[:, 2, :3] - corners[:, 0, :3])
    length = np.linalg.norm(normal, axis=1)
    solid = length > 1e-12  # at the poles triangles have no area
    cosine = np.einsum("mci,mi->mc", corners[solid, :, 3:], normal[solid] / length[solid, None])
    return float(cosine.min())


@pytest.mark.parametrize(
    ("mesh", "expected", "tolerance"),
    [
        (shapes.box(np.array([0.1, 0.2, 0.3])), 8 * 0.1 * 0.2 * 0.3, 1e-9),
        (shapes.ellipsoid(np.array([0.1, 0.2, 0.3])), 4 / 3 * np.pi * 0.1 * 0.2 * 0.3, 0.06),
        (shapes.ellipsoid(np.full(3, 0.1), stretch=0.4), 4 / 3 * np.pi * 0.1**3 + np.pi * 0.1**2 * 0.8, 0.06),
        (shapes.cylinder(0.1, 0.4), np.pi * 0.1**2 * 0.8, 0.03),
    ],
)
def test_a_primitive_is_closed_and_faces_outwards(mesh: shapes.Mesh, expected: float, tolerance: float) -> None:
    assert volume(mesh) == pytest.approx(expected, rel=tolerance)
    assert np.allclose(np.linalg.norm(mesh[0][:, 3:], axis=1), 1.0)
    assert facing(mesh) > 0.3


def test_every_visible_geom_is_drawn_where_it_is() -> None:
    model = Model(find_robot("so101")).mj
    data = mujoco.MjData(model)
    data.qpos[:6] = [0.3, -0.5, 0.4, 1.0, 0.2, 0.4]
    mujoco.mj_kinematics(model, data)
    pose = shapes.body_poses(model, data.qpos[None])[0]
    parts = shapes.shapes(model)
    assert [p.name for p in parts] == [model.geom(g).name for g in range(model.ngeom)]
    for part in parts:
        turn = np.zeros(9)
        mujoco.mju_quat2Mat(turn, pose[part.body, 3:].astype(float))
        centre = (part.vertices[:, :3].min(axis=0) + part.vertices[:, :3].max(axis=0)) / 2
        place = turn.reshape(3, 3) @ centre + pose[part.body, :3]
        assert np.allclose(place, data.geom(part.name).xpos, atol=1e-5)


def test_hidden_things_are_not_drawn() -> None:
    text = """<mujoco><asset><hfield name="h" nrow="2" ncol="3" size="1 1 .1 .1" elevation="0 1 0 0 0 1"/></asset>
      <worldbody><geom name="below" type="hfield" hfield="h" pos="0 0 -.2"/><geom name="up" type="hfield" hfield="h"/>
      <body><geom name="seen" size=".1"/><geom name="collision" size=".1" group="3"/>
      <geom name="clear" size=".1" rgba="1 1 1 0"/></body></worldbody></mujoco>"""
    parts = shapes.shapes(mujoco.MjModel.from_xml_string(text))
    assert [p.name for p in parts] == ["up", "seen"]
    heights = (parts[0].vertices.astype(float), parts[0].triangles.astype(int))
    assert facing(heights) > 0.5 and heights[0][:, 2].max() == pytest.approx(0.1)


def test_the_extent_covers_what_moves_but_not_the_ground() -> None:
    model = Model(find_robot("simple_pendulum")).mj
    swing = shapes.body_poses(model, np.linspace(0, np.pi, 40)[:, None])
    centre, radius = shapes.extent(shapes.shapes(model), swing)
    assert np.abs(centre[2]) < 0.02 and 0.5 < radius < 0.8
    quadruped = Model(find_robot("quadruped")).mj
    standing = shapes.body_poses(quadruped, quadruped.key_qpos)
    assert shapes.extent(shapes.shapes(quadruped), standing)[1] < 0.6
    assert quadruped.body(shapes.moving_base(quadruped)).name == "trunk"
    assert shapes.moving_base(Model(find_robot("so101")).mj) == -1  # the cube is free, but no robot
