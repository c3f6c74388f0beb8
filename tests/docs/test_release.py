"""What tests/docs/release.py wants of a wheel."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", HERE / "release.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_wheel_without_a_model_a_page_or_a_config_is_told(release: ModuleType, tmp_path: Path) -> None:
    lost = {"sim/models/so101.xml", "transfer/report/viewer.html", "transfer/_configs/robot/so101.yaml", "robot/cli.py"}
    assert lost < release.wanted()
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        for name in release.wanted() - lost:
            wheel.writestr(name, "")
    assert release.missing(tmp_path / "a.whl") == sorted(lost)


def test_a_step_that_ends_otherwise_says_what_it_printed(release: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(release.Failed, match="said"):
        release.step("a step", ["bash", "-c", "echo said; false"], tmp_path)
