"""What a cluster is asked for, without one."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from robot import config
from robot.config import ConfigError
from transfer import cli
from transfer.scale.cluster import ScaleConfig, cluster
from transfer.stages.train import Config


def test_scale_is_a_choice_with_keys_of_its_own() -> None:
    words = ["scale=ray", "scale.workers=3", "scale.address=10.0.0.1:6379"]
    data = cli._data("train", cli._Taken(words, {}))
    made = config.convert(ScaleConfig, data["scale"], "terrafirma train", "scale")
    assert (made.engine, made.workers, made.groups, made.address) == ("ray", 3, 4, "10.0.0.1:6379")
    assert Config.__dataclass_fields__["scale"].default_factory() == ScaleConfig(engine="local")  # type: ignore[misc]


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"object_store_mib": 10}, {"timeout_s": 0.0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"scale.{next(iter(wrong))}"):
        ScaleConfig(**wrong)


def test_without_the_extra_the_pip_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'terrafirma\[scale\]'"), cluster(ScaleConfig(engine="ray")):
        pass
