"""docs/licences.md names everything that is pinned; so does the bill of materials."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", HERE / "licences.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_names_every_pinned_package_at_its_version_with_a_licence(licences: ModuleType) -> None:
    """After a change of constraints.txt, run tests/docs/licences.py where all extras are installed."""
    table = re.findall(r"^\| (\S+) \| (\S+) \| ([^|]+) \| [^|]+ \|$", licences.PAGE.read_text(), re.MULTILINE)
    assert {name: version for name, version, _ in table if name != "package"} == licences.pinned()
    assert not [name for name, _, licence in table if licence in ("", "not stated")]


def test_what_runs_on_a_robot_is_told_apart_from_what_trains(licences: ModuleType) -> None:
    edge = licences.closure(licences.roots()["edge"])
    assert {"numpy", "onnxruntime", "pyyaml", "mcap", "cryptography"} <= edge and not {"torch", "mujoco"} & edge


def test_the_bill_of_materials_is_cyclonedx(licences: ModuleType) -> None:
    row = {"name": "PyYAML", "version": "6.0.3", "licence": "MIT", "for": "edge"}
    bill = licences.bill([row])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["components"][0]["purl"] == "pkg:pypi/pyyaml@6.0.3"
