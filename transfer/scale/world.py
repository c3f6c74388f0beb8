"""What a process that rolls out makes its groups from: data alone, so that it can be sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.engine import Backend
from sim.model import RobotConfig
from sim.randomization import Randomization
from sim.tasks import Task
from transfer.training import environments

if TYPE_CHECKING:
    from policies.groups import Group, GroupPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """The environments of a training."""

    task: Task
    robot: RobotConfig
    law: Randomization
    history: int
    """Window of the physics encoder [control steps]."""
    privileged: bool
    """Whether what only critics and teachers may see is told."""
    backend: Backend = "cpu"
    """Where the physics of each worker runs."""

    def group(self, plan: GroupPlan, nthread: int = 0) -> Group:
        """One group; its random streams are those of Group.begin()."""
        from policies.groups import Group

        make = environments(
            self.task,
            self.robot,
            self.law,
            self.history,
            0,
            privileged=self.privileged,
            nthread=nthread,
            backend=self.backend,
        )
        return Group(plan, make)
