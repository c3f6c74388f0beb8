"""What fine-tuning costs on the domain that a policy or an encoder came from.

What guards against it is in policies/encoders/guards.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from policies.encoders.adapt import AdaptResult
from policies.encoders.heads import Heads
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.probes import prediction_errors
from policies.encoders.windows import WindowData
from transfer import kpi
from transfer.select import Episodes, success_of


def of_policy(before: Episodes, after: Episodes, rng: np.random.Generator) -> dict[str, Any]:
    """Forgetting of the return on the source domain, from paired episodes, with the successes beside it."""
    return {
        "return": kpi.forgetting(before.returns, after.returns, rng),
        "success_before": success_of(before),
        "success_after": success_of(after),
    }


def of_encoder(
    encoder: PhysicsEncoder, heads: Heads, adapted: AdaptResult, source: WindowData, rng: np.random.Generator
) -> kpi.Kpi:
    """Forgetting of the prediction on simulated windows; J is minus the prediction error, resampled by simulation."""
    errors = (
        prediction_errors(encoder, heads.predictor, source),
        prediction_errors(adapted.encoder, adapted.heads.predictor, source),
    )
    groups = np.unique(source.group)
    before, after = (np.array([-e[source.group == g].mean() for g in groups]) for e in errors)
    return kpi.forgetting(before, after, rng)
