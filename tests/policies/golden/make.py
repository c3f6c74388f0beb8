"""Make the golden encoders anew: python tests/policies/golden/make.py

Small encoders of each kind with the numbers that they give. test_golden.py holds every later terrafirma to them: same
input, same output, for ever. Make them anew only together with a new VERSION of the kind, whose old artefacts are
then refused by name; a change of the numbers under the same VERSION is a bug, because robots run these encoders.

    <kind>/encoder.yaml, encoder.safetensors [, heads.safetensors]   an artefact as pretraining writes it
    <kind>/golden.safetensors                                        in/NAME and out/NAME
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from policies import tensors
from policies.encoders.evidence import Evidence
from policies.encoders.heads import STRIDE, Heads
from policies.encoders.physics import EncoderCard, PhysicsEncoder
from policies.encoders.vision import Seen, VisionCard, VisionEncoder

HERE = Path(__file__).resolve().parent
GOLDEN = "golden.safetensors"
ROWS = 8


def physics_outputs(encoder: PhysicsEncoder, heads: Heads, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a physics encoder and its heads make of the golden inputs."""
    with torch.no_grad():
        context = encoder(given["history"], given["mask"])
        mean, log_variance = heads.parameters_head(context)
        earlier = given["history"][:, -4:, len(encoder.card.components) :]
        predicted = heads.predictor(given["observation"], earlier, given["action"], context)
    return {"context": context, "mean": mean, "log_variance": log_variance, "predicted": predicted}


def vision_outputs(encoder: VisionEncoder, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a vision encoder makes of the golden pictures."""
    with torch.no_grad():
        seen = encoder(*(given[f"image_{camera}"] for camera in encoder.card.cameras))
    return dict(zip(Seen._fields, seen, strict=True))


def unlike_new(module: nn.Module) -> None:
    """Weights and statistics that training might have left; fresh ones are too tame to find a fault."""
    rng = np.random.default_rng(5)
    for name, values in sorted(module.state_dict().items()):
        if not values.is_floating_point():
            continue
        noise = torch.from_numpy(rng.standard_normal(values.shape)).to(values)
        positive = any(word in name for word in ("deviation", "running_var", "spread", "step", "motion"))
        values.mul_(torch.exp(0.3 * noise)) if positive else values.add_(0.1 * noise)


def physics(kind: str) -> None:
    """A pendulum's encoder on windows of which some are cut short and some have holes; `equations` has some inside."""
    known = kind == "equations"
    components = ("cos/shoulder", "sin/shoulder", "velocity/shoulder", "previous_action/shoulder")
    card = EncoderCard(
        robot="simple_pendulum", fingerprint="golden", control_period_s=0.01, components=components,
        actuators=("shoulder",), history=40, context=4 if known else 6, span=4, hidden=(12, 12), predictor=(12,),
        equations=known, parameters=("body/pendulum/com", "actuator/shoulder/gain"),
    )  # fmt: skip
    encoder, heads = PhysicsEncoder(card).eval(), Heads(card, 4 * STRIDE).eval()
    unlike_new(encoder), unlike_new(heads)
    if encoder.evidence.stretches.foreseen is not None and isinstance(encoder.evidence, Evidence):
        encoder.evidence.mixing.copy_(5.0 * torch.eye(3))  # large enough for a window to tell something
    rng = np.random.default_rng(7)
    angle = np.cumsum(rng.normal(0.0, 0.1, (ROWS, 60)), axis=1) + rng.uniform(-3.0, 3.0, (ROWS, 1))
    action = np.clip(rng.normal(0.0, 0.5, (ROWS, 60)), -1.0, 1.0)
    velocity = np.gradient(angle, 0.01, axis=1)
    rows = np.stack([np.cos(angle), np.sin(angle), velocity, np.roll(action, 1, axis=1), action], axis=2)
    mask = np.ones((ROWS, 40))
    mask[1, :15], mask[2], mask[3, 20:23], mask[4, ::7] = 0.0, 0.0, 0.0, 0.0
    given = {
        "history": rows[:, :40] * mask[..., None],
        "mask": mask,
        "observation": rows[:, 40, :4],
        "action": action[:, 40 : 40 + 4 * STRIDE, None],
    }
    inputs = {k: torch.from_numpy(v.astype(np.float32)) for k, v in given.items()}
    encoder.save(HERE / kind)
    heads.save(HERE / kind)
    write(kind, inputs, physics_outputs(encoder, heads, inputs))


def vision() -> None:
    """Two cameras, on pictures of noise, of one colour, and of a bright square that moves."""
    card = VisionCard(
        robot="simple_pendulum", fingerprint="golden", cameras=("side", "front"), height=32, width=40,
        channels=(4, 6, 8), points=3, features=6, states=("joint_cos/shoulder", "joint_sin/shoulder"),
        keypoints=("joint/shoulder", "body/pendulum"),
    )  # fmt: skip
    encoder = VisionEncoder(card).eval()
    unlike_new(encoder)
    rng = np.random.default_rng(7)
    pictures = rng.integers(0, 256, (2, ROWS, 3, 32, 40), dtype=np.uint8)
    pictures[:, 0], pictures[:, 1] = 0, 200
    for i in range(2, ROWS - 1):
        pictures[:, i] //= 8
        pictures[:, i, :, 3 * i : 3 * i + 6, 4 * i : 4 * i + 6] = 220
    given = {f"image_{name}": torch.from_numpy(p) for name, p in zip(card.cameras, pictures, strict=True)}
    encoder.save(HERE / "vision")
    write("vision", given, vision_outputs(encoder, given))


def write(kind: str, given: dict[str, Tensor], made: dict[str, Tensor]) -> None:
    """Write golden.safetensors of a kind."""
    named = {f"in/{k}": v for k, v in given.items()} | {f"out/{k}": v for k, v in made.items()}
    tensors.save(HERE / kind / GOLDEN, named)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    physics("physics")
    vision()
    physics("equations")
