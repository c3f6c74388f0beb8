"""Appearance targets: nothing at the nominal, something away from it, and what each says it does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from mujoco.batch import Batch

from robot.config import shipped
from sim import randomization
from sim.appearance import IMAGE_EFFECTS, line_kernel
from sim.model import TARGETS, Model, find_robot, split
from sim.parameters import Parameters
from sim.render import Camera
from sim.targets import appearance

Array = npt.NDArray[np.float64]
SIZE = 64


class Studio:
    """One robot before one camera."""

    def __init__(self, robot: str, camera: str, n: int = 2) -> None:
        self.model = Model(find_robot(robot))
        self.parameters = Parameters(self.model, Batch(self.model.mj, n, 1))
        self.camera = Camera(self.model, camera, SIZE, SIZE, renderer="ray")
        self.qpos = np.tile(self.model.mj.qpos0, (n, 1))
        self.ids = np.arange(n)

    def photograph(self, values: dict[str, float], passes: tuple[str, ...] = ("rgb",)) -> dict[str, npt.NDArray]:
        self.parameters.set({k: np.array([v, self.model.nominal(k)]) for k, v in values.items()}, self.ids)
        return self.camera.render(self.qpos, passes, self.parameters.outer, rng=np.random.default_rng(5))

    def film(self, values: dict[str, float], speed: float = 3.0) -> npt.NDArray[np.float64]:
        """(h, w, 3) the picture of a robot whose joints move at `speed`, of several draws."""
        self.parameters.set({k: np.array([v, self.model.nominal(k)]) for k, v in values.items()}, self.ids)
        look = self.camera.look(self.parameters.outer)
        qvel = np.full((len(self.qpos), self.model.mj.nv), speed)
        return self.camera.expose(self.qpos, qvel, look, np.random.default_rng(5), 8)[0].astype(float)

    def rgb(self, values: dict[str, float]) -> npt.NDArray[np.float64]:
        """(h, w, 3) of the first of two simulations; the second has the nominal, which must not change."""
        images = self.photograph(values)["rgb"]
        assert (images[1] == self.plain).all()
        return images[0].astype(float)

    @property
    def plain(self) -> npt.NDArray[np.uint8]:
        return self.camera.images(self.qpos[:1])[0]


@pytest.fixture(scope="module")
def pendulum() -> Studio:
    return Studio("simple_pendulum", "side")


@pytest.fixture(scope="module")
def arm() -> Studio:
    return Studio("so101", "front")


@pytest.mark.parametrize("robot", ["simple_pendulum", "so101", "quadruped"])
def test_the_nominal_changes_nothing(robot: str) -> None:
    studio = Studio(robot, "front" if robot == "so101" else "side")
    every = {t: studio.model.nominal(t) for t in studio.model.available() if split(t)[0] in appearance.ROWS}
    assert len(every) > 30
    images = studio.photograph(every)["rgb"]
    assert (images == studio.plain).all()


@pytest.mark.parametrize("key", list(appearance.ROWS), ids=lambda key: "/".join(key))
def test_each_target_is_seen(key: tuple[str, str], pendulum: Studio) -> None:
    """With what it needs in force, every target changes some picture of the pendulum."""
    target, changes = TARGETS[key], []
    for name in pendulum.model.objects(key):
        full = f"{key[0]}/{name}/{key[1]}"
        needs = {(n.format(name) if "/" in n else f"{key[0]}/{name}/{n}"): v for n, v in target.needs}
        needs = {n: v for n, v in needs.items() if n in pendulum.model.available()}
        take = (
            pendulum.film if key == ("camera", "shutter") else lambda v: pendulum.photograph(v)["rgb"][0].astype(float)
        )
        before = take(needs)
        for value in target.probes(pendulum.model.nominal(full)):
            after = take(needs | {full: value})
            changes.append(np.abs(after - before).max())
    assert changes and max(changes) > 0.0


def test_the_exposure_counts_stops_and_the_white_balance_gains(arm: Studio) -> None:
    plain = arm.plain.astype(float)
    dim = plain.max(axis=-1) < 120
    assert arm.rgb({"camera/front/exposure": 1.0})[dim] == pytest.approx(2.0 * plain[dim], abs=1.5)
    red = arm.rgb({"camera/front/gain_red": 0.5})
    assert red[..., 0] == pytest.approx(0.5 * plain[..., 0], abs=1.0)
    assert (red[..., 1:] == plain[..., 1:]).all()


def test_noise_has_the_spread_that_it_says(arm: Studio) -> None:
    plain = arm.plain.astype(float)
    middle = (plain > 60) & (plain < 190)
    noise = (arm.rgb({"camera/front/noise": 0.05}) - plain)[middle]
    assert noise.std() == pytest.approx(0.05 * 255.0, rel=0.05) and abs(noise.mean()) < 1.0
    shot = (arm.rgb({"camera/front/shot_noise": 0.1}) - plain)[middle]
    assert shot.std() == pytest.approx(0.1 * 255.0 * np.sqrt(plain[middle].mean() / 255.0), rel=0.05)


def test_a_noisy_camera_wants_a_generator(arm: Studio) -> None:
    arm.parameters.set({"camera/front/noise": np.array([0.05, 0.0])}, arm.ids)
    with pytest.raises(ValueError, match="random generator"):
        arm.camera.images(arm.qpos, arm.parameters.outer)


def test_the_camera_moves_along_its_own_axes(pendulum: Studio) -> None:
    """At 1.7 m, a camera 0.1 m farther to the right sees the rod 0.1 m farther to the left."""
    rod = pendulum.model.mj.geom("disc").id

    def column(values: dict[str, float]) -> float:
        seen = pendulum.photograph(values, ("segmentation",))["segmentation"][0] == rod
        return float(np.nonzero(seen)[1].mean())

    pixels_a_metre = SIZE / (2.0 * 1.7 * np.tan(np.radians(22.5)))
    moved = column({"camera/side/x": 0.1}) - column({})
    assert moved == pytest.approx(-0.1 * pixels_a_metre, abs=0.7)
    turned = column({"camera/side/yaw": 0.1}) - column({})  # to the left: the scene goes to the right
    assert turned == pytest.approx(0.1 * 1.7 * pixels_a_metre, abs=0.7)
    assert column({"camera/side/principal_x": 0.25}) - column({}) == pytest.approx(0.25 * SIZE, abs=0.7)


def test_a_prop_stands_where_and_as_large_as_it_is_told(pendulum: Studio) -> None:
    values = {"prop/ball/size": 0.3, "prop/ball/u": 0.2, "prop/ball/v": -0.25, "prop/ball/distance": 0.8}
    made = pendulum.photograph(values, ("segmentation", "depth"))
    ball = made["segmentation"][0] == pendulum.camera.visual.props.start
    rows, columns = np.nonzero(ball)
    assert columns.mean() + 0.5 == pytest.approx(0.7 * SIZE, abs=1.0)
    assert rows.mean() + 0.5 == pytest.approx(0.25 * SIZE, abs=1.0)
    assert np.ptp(rows) + 1 == pytest.approx(0.3 * SIZE, rel=0.15)
    assert 0.5 < made["depth"][0][ball].min() < 0.8
    assert not (made["segmentation"][1] >= pendulum.camera.visual.props.start).any()


def test_blurs_keep_the_light(arm: Studio) -> None:
    plain = arm.plain.astype(float)
    for quantity, value in (("defocus", 0.03), ("shake", 0.1)):
        blurred = arm.rgb({f"camera/front/{quantity}": value})
        assert blurred.mean() == pytest.approx(plain.mean(), rel=0.01)
        assert np.square(np.diff(blurred, axis=1)).mean() < 0.5 * np.square(np.diff(plain, axis=1)).mean()


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, -2.0])
def test_the_shaken_point_is_a_line_of_the_length_and_direction_asked_for(angle: float) -> None:
    kernel = line_kernel(9.0, angle)
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    y, x = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
    along, across = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    assert np.sqrt((kernel * along**2).sum() * 12.0) == pytest.approx(9.0, rel=0.1)  # a uniform law of length 9
    assert (kernel * across**2).sum() < 0.5


def test_an_open_shutter_smears_what_moves_along_its_way(pendulum: Studio) -> None:
    """At 3 rad/s and 1/20 s the disc, 0.5 m from the pivot, goes 75 mm; what stands still stays sharp."""
    still, moving = pendulum.film({}), pendulum.film({"camera/side/shutter": 0.05})
    pixels_a_metre = SIZE / (2.0 * 1.7 * np.tan(np.radians(22.5)))

    def width(image: npt.NDArray[np.float64]) -> float:
        """Spread of the disc's darkness or light over the columns, at the height of its middle."""
        row = np.abs(image[round(SIZE / 2 + 0.5 * pixels_a_metre)].mean(axis=1) - image[0, 0].mean())
        return float(row.sum() ** 2 / np.square(row).sum())

    assert width(moving) - width(still) == pytest.approx(0.5 * 0.075 * pixels_a_metre, abs=1.2)
    middle = slice(SIZE // 2 - 6, SIZE // 2 - 2)
    assert np.abs(moving - still)[middle, middle].max() < 10.0
    assert np.array_equal(pendulum.film({"camera/side/shutter": 0.05}, speed=0.0), still)


def test_pictures_of_several_draws_have_smooth_edges(pendulum: Studio) -> None:
    """A rod thinner than a pixel keeps its light, as in a picture four times as fine; sharp pixels miss it."""
    fine = Camera(pendulum.model, "side", 4 * SIZE, 4 * SIZE, renderer="ray").images(pendulum.qpos[:1])[0].astype(float)
    averaged = fine.reshape(SIZE, 4, SIZE, 4, 3).mean(axis=(1, 3))
    errors = [np.abs(image - averaged).mean() for image in (pendulum.film({}), pendulum.plain)]
    assert errors[0] < 0.3 * errors[1]


def test_clutter_and_titles_follow_from_their_number_alone(pendulum: Studio) -> None:
    def look(target: str, value: float) -> npt.NDArray[np.float64]:
        return pendulum.photograph({target: value})["rgb"][0].astype(float)

    for target, one, other in (("scene/background/clutter", 9.1, 9.2), ("camera/side/title", 0.1, 0.11)):
        assert np.array_equal(look(target, one), look(target, one))
        assert np.abs(look(target, one) - look(target, other)).mean() > 1.0
    assert np.array_equal(look("scene/background/clutter", 0.9), look("scene/background/clutter", 0.0))
    plain, littered = pendulum.plain, look("scene/background/clutter", 20.0)
    robot = pendulum.photograph({}, ("segmentation",))["segmentation"][0] >= 0
    assert np.array_equal(littered[robot], plain[robot])  # behind it


def test_the_rows_have_their_readers() -> None:
    """Every quantity of the camera is read by an image effect, or by one of the scene."""
    read = {q for effect in IMAGE_EFFECTS for q in (*effect.quantities, *effect.also)}
    scene = {"x", "y", "z", "pitch", "yaw", "roll", "fovy", "principal_x", "principal_y", "shutter"}
    assert read | scene == {quantity for kind, quantity in appearance.ROWS if kind == "camera"}


@pytest.mark.parametrize("name", sorted(p.stem for p in (shipped() / "dr").glob("*_appearance.yaml")))
def test_the_shipped_priors_give_pictures_that_differ(name: str) -> None:
    law = randomization.load(shipped() / "dr" / f"{name}.yaml")
    model = Model(find_robot(law.robot))
    parameters = Parameters(model, Batch(model.mj, 4, 1))
    parameters.set(law.draw(model, np.random.default_rng(0), 4), np.arange(4))
    camera = Camera(model, model.spec.cameras[0].name if model.spec.cameras else "side", 32, 32, renderer="ray")
    images = camera.images(np.tile(model.mj.qpos0, (4, 1)), parameters.outer, np.random.default_rng(0)).astype(float)
    assert min(np.abs(images[i] - images[j]).mean() for i in range(4) for j in range(i)) > 5.0
