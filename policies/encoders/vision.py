"""The vision encoder: pictures of a robot -> features, state, and where its keypoints are in each picture.

uint8 pictures go in as they come from the camera; scaling is inside, so the robot and training cannot differ. On disk
it is a folder: encoder.safetensors (what is deployed) and encoder.yaml (the card). Coordinates of a picture run from
-1 to 1, from its left to its right and from its top to its bottom edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from policies import tensors
from policies.encoders.eye import Eye
from policies.network import mlp
from robot import config
from robot.config import ConfigError, nearest
from robot.spec import JointSpec, RobotSpec

VERSION = 1
WEIGHTS, CARD = "encoder.safetensors", "encoder.yaml"
SIDES = (32, 256)
"""Least and most pixels of a picture's side."""
POSITION, COSINE, SINE = "joint_position/", "joint_cos/", "joint_sin/"
BODY = "body_position/"


class Seen(NamedTuple):
    """What an encoder tells of B samples; the names are those of the exported file's outputs."""

    features: Tensor
    """(B, features) in (-1, 1): what policies read."""
    state: Tensor
    """(B, states) the components that the card lists, in their units."""
    log_variance: Tensor
    """(B, states) logarithm of the error's variance that the encoder expects of each."""
    keypoints: Tensor
    """(B, cameras * keypoints, 2) x to the right and y down; a point outside of the picture lies beyond [-1, 1]."""
    spread: Tensor
    """(B, cameras * keypoints) standard deviation of the votes for a keypoint: large where it is not to be found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionConfig:
    """configs/encoder/vision.yaml: the encoder's size and how it is pretrained."""

    kind: Literal["vision"] = "vision"
    cameras: tuple[str, ...] = ()
    """Cameras that the robot lists, one or two; default: the first two of them."""
    width: int = 0
    """Of the pictures [pixel]; default 0: the camera's own."""
    height: int = 0
    channels: tuple[int, ...] = (16, 32, 64, 64)
    """Widths of the pyramid; the first at half of the picture's size, each further one at half of the one before."""
    points: int = 16
    """Free spatial softmax channels of each camera beside the keypoints."""
    features: int = 32
    """Length of the vector that policies read."""
    backbone: Path | None = None
    """A safetensors file on this machine whose tensors, where they fit, the eyes begin with."""
    images: int = 24576
    """Pictures that are made for training, of each camera."""
    samples: int = 4
    """Draws of which each picture is the mean: smooth edges, and the blur of what moves."""
    appearances: int = 1
    """1, or 2: each state is shown in two appearances, whose features have to agree."""
    agreement_weight: float = 0.1
    map_weight: float = 0.0
    """Of learning, beside everything else, where the robot is and how near things are; 0: these maps are not made."""
    state_weight: float = 0.1
    updates: int = 2400
    processes: int = 2
    """That train together, each on batches of its own; the result depends on their number."""
    batch: int = 48
    """Samples of each process."""
    learning_rate: float = 6e-3
    shift: int = 4
    """Most pixels by which a picture is shifted at random in training; 0: never."""
    strong: bool = False
    """Change colours, add noise and cover parts in training, beyond what the prior does: for few pictures."""
    held_out: float = 0.04
    """Share of the pictures that is kept for validation and for the probes."""

    def __post_init__(self) -> None:
        for name in ("points", "features", "images", "samples", "updates", "processes", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"encoder.{name} is {getattr(self, name)}; it must be at least 1.")
        if self.appearances not in (1, 2):
            raise ConfigError(f"encoder.appearances is {self.appearances}; it must be 1 or 2.")
        if not 0.0 < self.held_out < 1.0:
            raise ConfigError(f"encoder.held_out is {self.held_out}; it must lie between 0 and 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionCard:
    """What a vision encoder was made for."""

    kind: Literal["vision"] = "vision"
    version: int = VERSION
    robot: str
    fingerprint: str
    """RobotSpec.fingerprint() of that robot."""
    cameras: tuple[str, ...]
    """One or two; pictures are given in this order."""
    height: int
    width: int
    """Of every picture [pixel]."""
    channels: tuple[int, ...]
    points: int
    features: int
    states: tuple[str, ...]
    """Components of the state: state_names()."""
    keypoints: tuple[str, ...]
    """Points looked for in each camera's picture."""
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    """Probe name -> {score, baseline}; more is better."""
    lineage: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ConfigError(
                f"the vision encoder's version is {self.version}; this terrafirma knows {VERSION}: pretrain it again."
            )
        if not 1 <= len(self.cameras) <= 2:
            raise ConfigError(f"a vision encoder takes one or two cameras, not {len(self.cameras)}.")
        if not all(SIDES[0] <= side <= SIDES[1] for side in (self.height, self.width)):
            raise ConfigError(
                f"pictures of {self.width} x {self.height} pixels: both sides must be {SIDES[0]} to {SIDES[1]}."
            )
        if len(self.channels) < 3:
            raise ConfigError("encoder.channels needs at least three widths: the heads look at a quarter of the size.")

    @classmethod
    def of(
        cls, spec: RobotSpec, config: VisionConfig, keypoints: tuple[str, ...], bodies: tuple[str, ...] = ()
    ) -> VisionCard:
        """The card of an encoder for this robot; ConfigError for a camera that it lacks."""
        sizes = {c.name: (c.width, c.height) for c in spec.cameras}
        names = config.cameras or tuple(sizes)[:2]
        if not names:
            raise ConfigError(f"robot '{spec.name}' lists no camera; a vision encoder needs one under spec.cameras.")
        for name in names:
            if name not in sizes:
                near = nearest(name, list(sizes))
                raise ConfigError(f"encoder.cameras: robot '{spec.name}' has no camera '{name}'. {near}")
        width, height = config.width or sizes[names[0]][0], config.height or sizes[names[0]][1]
        return cls(
            robot=spec.name,
            fingerprint=spec.fingerprint(),
            cameras=names,
            height=height,
            width=width,
            channels=config.channels,
            points=config.points,
            features=config.features,
            states=state_names(spec.joints, bodies),
            keypoints=keypoints,
        )

    def check(self, spec: RobotSpec) -> None:
        """ConfigError, naming what differs, when this robot's cameras do not give what the encoder was trained on."""
        again = f"Pretrain one for it: terrafirma pretrain encoder=vision robot={spec.name}."
        if spec.fingerprint() != self.fingerprint:
            differs = f"robot '{spec.name}'" if spec.name != self.robot else f"another version of robot '{spec.name}'"
            raise ConfigError(f"the encoder was pretrained for robot '{self.robot}', and this is {differs}. {again}")
        sizes = {c.name: (c.width, c.height) for c in spec.cameras}
        for name in self.cameras:
            if sizes.get(name) != (self.width, self.height):
                raise ConfigError(
                    f"the encoder takes {self.width} x {self.height} pixels of camera '{name}'; robot '{spec.name}' "
                    f"has {', '.join(f'{n} {w} x {h}' for n, (w, h) in sizes.items()) or 'no camera'}. {again}"
                )


def state_names(joints: tuple[JointSpec, ...], bodies: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Components of the state that pictures tell.

    A joint that can turn all around gives its cosine and sine, another its position [rad or m]; a free body gives
    its place in the world [m].
    """
    names: list[str] = []
    for joint in joints:
        low, high = joint.position_limits
        turns = joint.unit == "rad" and high - low >= 2.0 * math.pi
        names += [COSINE + joint.name, SINE + joint.name] if turns else [POSITION + joint.name]
    return (*names, *(f"{BODY}{body}/{axis}" for body in bodies for axis in "xyz"))


def joint_angles(seen: Seen, card: VisionCard) -> Tensor:
    """(B, joints) positions [rad or m] in the card's order; those that turn all around lie in (-pi, pi]."""
    columns = []
    for i, name in enumerate(card.states):
        if name.startswith(COSINE):
            columns.append(torch.atan2(seen.state[:, i + 1], seen.state[:, i]))
        elif name.startswith(POSITION):
            columns.append(seen.state[:, i])
    return torch.stack(columns, dim=1)


def image_angle(keypoints: Tensor, aspect: float = 1.0, pivot: int = 0, end: int = 1) -> Tensor:
    """(B,) angle [rad] of `end` about `pivot` as seen: 0 points down in the picture, positive is counter-clockwise.

    keypoints (B, K, 2) as in Seen; `aspect` is the picture's width over its height.
    """
    x, y = ((keypoints[:, end] - keypoints[:, pivot]) * keypoints.new_tensor([aspect, 1.0])).unbind(dim=1)
    return torch.atan2(x, y)


class VisionEncoder(nn.Module):
    """Pictures (B, 3, h, w) uint8 RGB, one a camera of the card -> Seen."""

    def __init__(self, card: VisionCard) -> None:
        super().__init__()
        self.card = card
        eyes = [Eye(card) for _ in card.cameras]
        self.eyes = nn.ModuleList(eyes)
        self.compress = nn.Linear(sum(eye.size for eye in eyes), card.features)
        self.state = mlp(card.features, (64,), 2 * len(card.states), nn.ReLU)

    def forward(self, *images: Tensor) -> Seen:
        """images: (B, 3, h, w) uint8, RGB, one for each camera in the card's order.

        ConfigError, naming both sizes, when a picture is not of the size that the encoder was trained on.
        """
        self.check(images)
        return self.fuse([eye(image) for eye, image in zip(self.eyes, images, strict=True)])

    def fuse(self, looked: list[tuple[Tensor, Tensor, Tensor]]) -> Seen:
        """What the eyes read, one entry a camera -> Seen."""
        summary, keypoints, spread = (torch.cat(parts, dim=1) for parts in zip(*looked, strict=True))
        features = torch.tanh(self.compress(summary))
        state, log_variance = self.state(features).chunk(2, dim=1)
        return Seen(features, state, log_variance.clamp(-12.0, 4.0), keypoints, spread)

    def check(self, images: tuple[Tensor, ...]) -> None:
        """ConfigError when pictures are missing, or of another size or type than the encoder takes."""
        card = self.card
        if len(images) != len(card.cameras):
            raise ConfigError(f"the encoder takes a picture of each of {list(card.cameras)}, and got {len(images)}.")
        for name, image in zip(card.cameras, images, strict=True):
            if image.dtype != torch.uint8 or tuple(image.shape[1:]) != (3, card.height, card.width):
                raise ConfigError(
                    f"camera '{name}': got {str(image.dtype).removeprefix('torch.')} of shape {tuple(image.shape)}; "
                    f"the encoder takes uint8 (B, 3, {card.height}, {card.width}) in RGB: resize the pictures."
                )

    def save(self, folder: Path) -> Path:
        """Write weights and card."""
        tensors.save(Path(folder) / WEIGHTS, dict(self.state_dict()))
        config.save(Path(folder) / CARD, self.card)
        return Path(folder)

    @classmethod
    def load(cls, folder: Path) -> VisionEncoder:
        """Read an encoder; ConfigError when the folder holds none, or one of another version."""
        encoder = cls(config.load(VisionCard, Path(folder) / CARD))
        tensors.load_into(encoder, Path(folder) / WEIGHTS)
        return encoder.eval()
