"""Unknowns by the names of targets: what a pattern takes, and why a target is refused."""

from __future__ import annotations

import numpy as np
import pytest

from robot.config import ConfigError
from sim.model import Model, find_robot
from transfer.chosen_unknowns import chosen_unknowns
from transfer.friction_models import unknowns_of
from transfer.identify import identify
from transfer.shooting import sharing
from transfer.unknowns import default_unknowns, physical


@pytest.fixture(scope="module")
def arm() -> Model:
    return Model(find_robot("so101"))


def test_a_pattern_takes_every_target_of_its_name(arm: Model) -> None:
    found = chosen_unknowns(arm, ["joint/*/damping", "timing/command/delay"], by_row=False)
    assert [u.name for u in found] == [f"joint/{j}/damping" for j in arm.spec.joint_names] + ["timing/command/delay"]
    assert all(u.joint == u.name.split("/")[1] for u in found[:-1])


def test_the_robot_s_own_rule_is_kept_where_it_has_one(arm: Model) -> None:
    rule = {u.name: u for u in default_unknowns(arm, by_row=False)}
    for unknown in chosen_unknowns(arm, ["actuator/*/kp", "sensor/elbow_flex/offset"], by_row=False):
        assert unknown == rule[unknown.name]


def test_every_target_that_can_be_chosen_begins_inside_its_range_and_near_its_nominal(arm: Model) -> None:
    from sim.targets import check_ranges

    found = chosen_unknowns(
        arm, ["body/*", "joint/*", "actuator/*", "world/*", "supply/*", "residual/*"][:5], by_row=False
    )
    middle = physical(found, np.array([[u.mean for u in found]]))
    check_ranges(tuple(u.name for u in found), middle)
    spread = np.array([u.mean + 2.0 * u.sd for u in found])
    check_ranges(
        tuple(u.name for u in found if u.transform != "none"),
        physical(found, spread[None])[:, [u.transform != "none" for u in found]],
    )


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("joint/elbow/damping", "is no target"),
        ("timing/command/jitter", "drawn anew"),
        ("camera/front/yaw", "does not show"),
        ("sensor/joint.velocity/delay", "not compared"),
    ],
)
def test_what_logs_cannot_tell_is_refused_with_the_reason(arm: Model, pattern: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        chosen_unknowns(arm, [pattern], by_row=False)


def test_a_floating_base_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="floating base, 'trunk'"):
        identify([], Model(find_robot("quadruped")))


def test_unknowns_of_a_kind_are_moved_together_and_those_of_the_whole_arm_alone(arm: Model) -> None:
    unknowns = default_unknowns(arm, by_row=False)
    moves, which, own = sharing(unknowns, arm.spec.joint_names)
    assert moves.shape == (int(which.max()) + 1, len(unknowns)) and (moves.sum(axis=0) == 1).all()
    kp = [i for i, u in enumerate(unknowns) if u.name.endswith("/kp")]
    assert len({int(which[i]) for i in kp}) == 1 and (own[kp] == np.eye(6)).all()
    delay = next(i for i, u in enumerate(unknowns) if u.name == "timing/command/delay")
    assert moves[which[delay]].sum() == 1 and own[delay].all()


def test_friction_models_have_what_their_laws_have() -> None:
    model = Model(find_robot("servo_bench"))
    quantities = [{u.kind[1] for u in unknowns_of(model, f"M{i}", by_row=False)} for i in range(1, 7)]
    assert quantities[0] < quantities[1] < quantities[3] and "motor_friction" in quantities[2] - quantities[1]
    third = next(u for u in unknowns_of(model, "M3", by_row=False) if u.kind[1] == "motor_friction")
    fifth = next(u for u in unknowns_of(model, "M5", by_row=False) if u.kind[1] == "motor_friction")
    assert len(third.targets) == 2 and len(fifth.targets) == 1  # of motor and load alike, and apart
    assert {"motor_quadratic", "load_quadratic"} <= quantities[5] - quantities[4]
    assert "supply/bus/resistance" in {u.name for u in unknowns_of(model, "M6+sag", by_row=False)}
    with pytest.raises(ConfigError, match="'M7' is unknown"):
        unknowns_of(model, "M7", by_row=False)
    with pytest.raises(ConfigError, match="Did you mean 'sag'"):
        unknowns_of(model, "M1+sagg", by_row=False)
