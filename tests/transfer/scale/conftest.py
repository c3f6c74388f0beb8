"""One small Ray cluster for all tests of a process that need one; it is shut down at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from transfer.scale.cluster import Cluster, ScaleConfig, cluster

SMALL = ScaleConfig(engine="ray", address="local", workers=2, object_store_mib=100, timeout_s=250.0)


@pytest.fixture(scope="session")
def small_cluster() -> Iterator[Cluster]:
    """Two processors of a cluster that was started for the tests."""
    pytest.importorskip("ray")
    with cluster(SMALL) as joined:
        yield joined
