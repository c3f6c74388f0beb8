"""What a teacher said, round by round, and the checkpoints of a distillation, without pickle.

lessons/000003.npz                  what was shown and said in the third round
lessons/000003.safetensors          student, optimizer and curriculum after it
lessons/state.yaml                  how many rounds are over, and the settings
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from policies import optimizers, tensors
from policies.given import digest_of
from policies.policy import Policy
from robot import config, files
from robot.config import ConfigError

if TYPE_CHECKING:
    from policies.distill import DistillConfig

FOLDER, STATE = "lessons", "state.yaml"


class Lessons(NamedTuple):
    """n moments."""

    rows: Tensor
    """(n, shown)"""
    contexts: Tensor | None
    """(n, Z), of a student with a physics encoder."""
    memories: Tensor | None
    """(n, M, 1 + shown), of a student with a memory."""
    said: Tensor
    """(n, A) the teacher's actions."""

    @staticmethod
    def join(parts: Sequence[Lessons]) -> Lessons:
        """One after the other."""
        columns = zip(*parts, strict=True)
        return Lessons(*(None if c[0] is None else torch.cat(c) for c in columns))  # type: ignore[arg-type]

    def at(self, pick: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """Some of the moments."""
        context, memory = (None if part is None else part[pick] for part in (self.contexts, self.memories))
        return self.rows[pick], context, memory, self.said[pick]


@dataclass(frozen=True, kw_only=True, slots=True)
class LessonState:
    """state.yaml."""

    done: int
    """Rounds."""
    seed: int
    settings: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    """Digests of teacher and student as they began."""


class Book:
    """The checkpoints of one distillation; without a folder nothing is kept."""

    def __init__(
        self,
        out: Path | None,
        settings: DistillConfig,
        seed: int,
        student: Policy,
        optimizer: torch.optim.Optimizer,
        curriculum: Any,
        given: Mapping[str, Policy],
    ) -> None:
        self._folder = None if out is None else Path(out) / FOLDER
        self._student, self._optimizer, self._curriculum = student, optimizer, curriculum
        inputs = {name: digest_of(policy) for name, policy in given.items()}
        self._state = LessonState(done=0, seed=seed, settings=config.to_plain(asdict(settings)), inputs=inputs)

    @property
    def done(self) -> int:
        """Rounds that are over."""
        return self._state.done

    def open(self, resume: bool) -> list[Lessons]:
        """What was said in earlier rounds, with student, optimizer and curriculum put back.

        ConfigError when there is something and it is not to be resumed, or when it has other settings.
        """
        if self._folder is None or not (self._folder / STATE).exists():
            return []
        if not resume:
            raise ConfigError(
                f"{self._folder.parent} already holds a distillation; continue it with resume=true, or give another "
                "out=."
            )
        found = config.load(LessonState, self._folder / STATE)
        before, now = ({**s.settings, "seed": s.seed, **s.inputs} for s in (found, self._state))
        changed = next((key for key in now if before.get(key) != now[key]), None)
        if changed:
            raise ConfigError(
                f"{self._folder}: this distillation was started with {changed} = {before.get(changed)}, and is to be "
                f"resumed with {now[changed]}; give the same, or another out=."
            )
        named = tensors.load(self._folder / f"{found.done:06d}.safetensors")
        own = {k.removeprefix("student/"): v for k, v in named.items() if k.startswith("student/")}
        self._student.load_state_dict(own)
        optimizers.write("optimizer", self._optimizer, named)
        self._curriculum.restore(
            {k.removeprefix("curriculum/"): v.numpy() for k, v in named.items() if k.startswith("curriculum/")}
        )
        self._state = found
        return [_load(self._folder / f"{k:06d}.npz") for k in range(1, found.done + 1)]

    def write(self, done: int, newest: Lessons) -> None:
        """Keep the round that is over; a kill at any moment leaves the one before."""
        settings = self._state
        self._state = LessonState(done=done, seed=settings.seed, settings=settings.settings, inputs=settings.inputs)
        if self._folder is None:
            return
        arrays = {k: v.numpy() for k, v in newest._asdict().items() if v is not None}
        data = io.BytesIO()
        np.savez(data, **arrays)
        files.write_bytes(self._folder / f"{done:06d}.npz", data.getvalue())
        named = {f"student/{k}": v for k, v in self._student.state_dict().items()}
        named |= optimizers.read("optimizer", self._optimizer)
        state = self._curriculum.state()
        named |= {f"curriculum/{k}": torch.from_numpy(np.ascontiguousarray(v)) for k, v in state.items()}
        tensors.save(self._folder / f"{done:06d}.safetensors", named)
        config.save(self._folder / STATE, self._state)  # last: it says which of the others count
        (self._folder / f"{done - 1:06d}.safetensors").unlink(missing_ok=True)


def _load(path: Path) -> Lessons:
    try:
        with np.load(path, allow_pickle=False) as found:
            parts = [torch.from_numpy(found[name]) if name in found else None for name in Lessons._fields]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); without it this cannot be resumed.") from error
    return Lessons(*parts)  # type: ignore[arg-type]
