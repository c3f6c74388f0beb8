"""Golden encoders: the artefacts in golden/ give the numbers that they gave when they were made, for ever.

They are read, run in torch and as ONNX. When one of these tests fails, an encoder that a robot runs today would do
something else after an update: undo the change, or give the kind a new VERSION and run golden/make.py.
"""

from __future__ import annotations

import io
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from policies import tensors
from policies.encoders import physics, vision
from policies.encoders.heads import Heads
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.vision import Seen, VisionEncoder
from robot.config import ConfigError
from tests.policies.golden.make import GOLDEN, HERE, physics_outputs, vision_outputs

TOLERANCE = 1e-5
KINDS = {
    "physics": (PhysicsEncoder, physics.VERSION),
    "equations": (PhysicsEncoder, physics.VERSION),
    "vision": (VisionEncoder, vision.VERSION),
}


def recorded(kind: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    named = tensors.load(HERE / kind / GOLDEN)
    return tuple(  # type: ignore[return-value]
        {k.removeprefix(part): v for k, v in named.items() if k.startswith(part)} for part in ("in/", "out/")
    )


def agree(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        error = ((found[name] - values).abs() / values.abs().clamp(min=1.0)).max()
        assert error <= TOLERANCE, f"{name} differs by {error:.2g}"


@pytest.mark.parametrize("kind", ["physics", "equations"])
def test_a_golden_physics_encoder_gives_its_numbers(kind: str) -> None:
    given, wanted = recorded(kind)
    encoder = PhysicsEncoder.load(HERE / kind)
    agree(physics_outputs(encoder, Heads.load(HERE / kind, encoder.card).eval(), given), wanted)


def test_a_golden_vision_encoder_gives_its_numbers() -> None:
    given, wanted = recorded("vision")
    agree(vision_outputs(VisionEncoder.load(HERE / "vision"), given), wanted)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_golden_numbers_are_worth_keeping(kind: str) -> None:
    """Rows differ from each other: a dead encoder would agree with anything."""
    _, wanted = recorded(kind)
    for name, values in wanted.items():
        assert torch.isfinite(values).all() and values.flatten(1).std(dim=0).max() > 1e-3, name
    sizes = sum(p.stat().st_size for p in (HERE / kind).iterdir())
    assert sizes < 200_000


def onnx(network: nn.Module, given: tuple[Tensor, ...]) -> onnxruntime.InferenceSession:
    batch, file = torch.export.Dim("batch"), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, given, dynamo=True, dynamic_shapes=tuple({0: batch} for _ in given), verbose=False
        )
    assert program is not None
    program.save(file)
    return onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, given: tuple[Tensor, ...]) -> list[np.ndarray]:
    names = [x.name for x in session.get_inputs()]
    return session.run(None, dict(zip(names, (g.numpy() for g in given), strict=True)))


@pytest.mark.parametrize("kind", ["physics", "equations"])
def test_the_golden_physics_encoder_gives_its_numbers_as_onnx(kind: str) -> None:
    given, wanted = recorded(kind)
    inputs = given["history"], given["mask"]
    (context,) = run(onnx(PhysicsEncoder.load(HERE / kind), inputs), inputs)
    agree({"context": torch.from_numpy(context)}, {"context": wanted["context"]})


class Spread(nn.Module):
    """A vision encoder with pictures as one argument each and a plain tuple as output."""

    def __init__(self, encoder: VisionEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, side: Tensor, front: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.encoder(side, front))


def test_the_golden_vision_encoder_gives_its_numbers_as_onnx() -> None:
    given, wanted = recorded("vision")
    inputs = given["image_side"], given["image_front"]
    outputs = run(onnx(Spread(VisionEncoder.load(HERE / "vision")).eval(), inputs), inputs)
    agree({name: torch.from_numpy(out) for name, out in zip(Seen._fields, outputs, strict=True)}, wanted)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("step", [-1, 1])
def test_an_artefact_of_another_version_is_refused_in_one_sentence(kind: str, step: int, tmp_path: Path) -> None:
    encoder, version = KINDS[kind]
    folder = tmp_path / kind
    shutil.copytree(HERE / kind, folder)
    card = folder / "encoder.yaml"
    text = card.read_text()
    assert f"version: {version}\n" in text, f"golden/{kind} is of an old version: run tests/policies/golden/make.py"
    card.write_text(text.replace(f"version: {version}\n", f"version: {version + step}\n"))
    with pytest.raises(
        ConfigError, match=rf"version is {version + step}; this terrafirma knows {version}: pretrain"
    ) as e:
        encoder.load(folder)
    assert str(e.value).startswith(str(card)) and str(e.value).count("\n") == 0


@pytest.mark.parametrize("kind", ["physics", "equations"])
def test_nonsense_is_told_in_bounds_and_the_same_row_by_row(kind: str) -> None:
    """Export compares torch with ONNX on random numbers too: of those, equations of motion must not make infinities."""
    encoder, rng = PhysicsEncoder.load(HERE / kind), np.random.default_rng(0)
    history = torch.from_numpy(3.0 * rng.normal(size=(64, encoder.card.history, encoder.card.row))).float()
    mask = torch.from_numpy(rng.random((64, encoder.card.history)) < 0.7).float()
    mask[:32] = 1.0
    with torch.no_grad():
        told = encoder(history, mask)
        alone = torch.cat([encoder(history[i : i + 1], mask[i : i + 1]) for i in range(64)])
    assert told.abs().max() <= 1.0 + 1e-6
    torch.testing.assert_close(told, alone, rtol=0.0, atol=TOLERANCE)
