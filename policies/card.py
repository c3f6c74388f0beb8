"""PolicyCard: what a policy was made for, and from what; policy.yaml beside its weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from policies.encoders.physics import EncoderCard
from policies.encoders.vision import VisionCard
from policies.hold import HoldCard
from policies.network import NetworkConfig
from policies.sight import Sight
from policies.symmetry import Symmetry
from robot.config import ConfigError
from robot.observation import ActionConfig, Observation, ObservationConfig
from robot.spec import RobotSpec

VERSION = 3
READABLE = (2, 3)
"""A card of version 2 says nothing that has another meaning now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyCard:
    """policy.yaml: what a policy was made for, and from what."""

    version: int = VERSION
    task: str
    control_period_s: float
    spec: RobotSpec
    observation: ObservationConfig
    action: ActionConfig
    network: NetworkConfig = field(default_factory=NetworkConfig)
    encoder: EncoderCard | None = None
    """The physics encoder inside, if there is one."""
    hold: HoldCard | None = None
    """The linear feedback beside the network, if there is one."""
    vision: VisionCard | None = None
    """The vision encoder inside; there is one where the observation lists cameras."""
    privileged: tuple[str, ...] = ()
    """Signals of the simulator that a teacher is shown, in order; with any, it cannot be exported."""
    symmetry: Symmetry | None = None
    """The mirror symmetry that the actor has exactly."""
    lineage: dict[str, str] = field(default_factory=dict)
    """What it was trained on: randomization, environment steps, the policy it started from."""

    def __post_init__(self) -> None:
        if self.version not in READABLE:
            raise ConfigError(
                f"the policy's version is {self.version}; this terrafirma knows {VERSION}: train it again."
            )
        object.__setattr__(self, "version", VERSION)
        if self.encoder is not None:
            self.encoder.check(self.layout(), self.control_period_s)
            if self.encoder.history != self.observation.history:
                raise ConfigError(
                    f"observation.history is {self.observation.history}; the encoder needs {self.encoder.history}."
                )
        if self.vision is not None:
            self.vision.check(self.spec)
            if set(self.vision.cameras) != set(self.observation.cameras):
                raise ConfigError(
                    f"the vision encoder looks through {list(self.vision.cameras)}; task '{self.task}' gives "
                    f"{list(self.observation.cameras)}. Pretrain one with encoder.cameras="
                    f"[{','.join(self.observation.cameras)}]."
                )
        if self.symmetry is not None:
            self._check_symmetry(self.symmetry)

    def _check_symmetry(self, symmetry: Symmetry) -> None:
        if self.hold is not None:
            raise ConfigError("a symmetric actor has no hold beside it: give network.hold=false, or symmetry=none.")
        if self.encoder is not None or self.network.recurrent:
            raise ConfigError(
                "a symmetric actor cannot read a physics encoder's context or an LSTM, whose numbers have no mirror "
                "image; train it without, or with symmetry=augment."
            )
        sizes = len(symmetry.shown.index), len(symmetry.action.index)
        if sizes != (self.shown, len(self.action.actuators)):
            raise ConfigError(
                f"the symmetry is of {sizes[0]} components and {sizes[1]} actions; the policy is shown {self.shown} "
                f"and has {len(self.action.actuators)} actions."
            )

    def layout(self, batch: int = 1) -> Observation:
        """The encoder of inputs and decoder of outputs that belongs to this policy."""
        return Observation(self.spec, self.observation, self.action, batch)

    @property
    def shown(self) -> int:
        """Length of what the actor is shown of one moment: the observation, what the vision encoder tells, and to a
        teacher the privileged signals."""
        seen = Sight.size(self.vision, self.network) if self.vision else 0
        return self.layout().size + seen + len(self.privileged)

    @property
    def vector(self) -> int:
        """Length of what the actor reads: shown, context and memory."""
        context = self.encoder.context if self.encoder else 0
        return self.shown + context + self.network.memory * (1 + self.shown)

    def with_encoder(self, encoder: EncoderCard | None) -> PolicyCard:
        """The same card with another physics encoder, or none, and the history that it needs."""
        history = 0 if encoder is None else encoder.history
        return replace(self, observation=replace(self.observation, history=history), encoder=encoder)

    def with_vision(self, vision: VisionCard | None) -> PolicyCard:
        """The same card with another vision encoder.

        ConfigError when none is given and the task has cameras, or when another's state does not mean the same.
        """
        if vision is None and self.observation.cameras:
            raise ConfigError(
                f"task '{self.task}' sees through cameras: pretrain an encoder for them with `terrafirma pretrain "
                f"encoder=vision robot={self.spec.name}`, and give its folder as vision=DIR."
            )
        if self.vision is not None and vision is not None and vision.states != self.vision.states:
            raise ConfigError(
                f"the policy reads {list(self.vision.states)}; the vision encoder tells {list(vision.states)}."
            )
        return replace(self, vision=vision)
