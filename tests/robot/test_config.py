"""The YAML converter: what it accepts, and that each refusal says what, where and what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from robot import config
from robot.config import ConfigError


@dataclass(frozen=True, kw_only=True)
class Uniform:
    kind: Literal["uniform"] = "uniform"
    low: float
    high: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Fixed:
    kind: Literal["fixed"] = "fixed"
    value: float


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate_hz: float = 100.0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.rate_hz > 0:
            raise ConfigError(f"rate_hz is {self.rate_hz}; it must be above 0.")


@dataclass(frozen=True, kw_only=True)
class Outer:
    count: int
    inner: Inner = Inner()
    law: Uniform | Fixed | None = None
    mode: Literal["fast", "slow"] = "fast"
    where: Path | None = None
    pair: tuple[float, float] = (0.0, 1.0)
    table: dict[str, float] | None = None
    flag: bool = False


def parse(text: str) -> Outer:
    return config.convert(Outer, config.parse_yaml(text, "a.yaml"), source="a.yaml")


def test_full_document_converts_to_typed_values() -> None:
    outer = parse(
        "count: 3\ninner: {rate_hz: 1e2, names: [a, b]}\nlaw: {kind: uniform, low: -.inf}\n"
        "mode: slow\nwhere: runs/x\npair: [1, 2.5]\ntable: {x: 1e-3}\nflag: true"
    )
    assert outer == Outer(
        count=3,
        inner=Inner(rate_hz=100.0, names=("a", "b")),
        law=Uniform(low=-math.inf),
        mode="slow",
        where=Path("runs/x"),
        pair=(1.0, 2.5),
        table={"x": 1e-3},
        flag=True,
    )
    assert isinstance(outer.pair[0], float)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("count: 3\ninner: {rate_hx: 1}", ["a.yaml", "'inner.rate_hx'", "Did you mean 'rate_hz'"]),
        ("inner: {}", ["a.yaml", "'count'", "missing"]),
        ("count: three", ["a.yaml", "count", "'three'", "whole number"]),
        ("count: true", ["count", "True", "whole number"]),
        ("count: 1.5", ["count", "1.5", "whole number"]),
        ("count: 1\nflag: 1", ["flag", "true or false"]),
        ("count: 1\nmode: fats", ["mode", "'fats'", "'fast', 'slow'"]),
        ("count: 1\npair: [1]", ["pair", "2 values"]),
        ("count: 1\npair: [1, x]", ["pair[1]", "'x'", "a number"]),
        ("count: 1\ntable: {x: .nan}", ["table.x", "not NaN"]),
        ("count: 1\nlaw: {kind: unifrom, low: 0}", ["law.kind", "'unifrom'", "Did you mean 'uniform'"]),
        ("count: 1\ninner: {rate_hz: -1}", ["a.yaml", "inner", "rate_hz is -1.0", "above 0"]),
        ("count: 1\ncount: 2", ["a.yaml, line 2", "'count' stands twice"]),
        ("count: [1", ["a.yaml, line", "not valid YAML"]),
        ("- 1", ["a.yaml", "a mapping"]),
    ],
)
def test_error_names_file_key_value_and_remedy(text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_saved_dataclass_reads_back_equal_at_full_precision(tmp_path: Path) -> None:
    outer = Outer(
        count=7,
        inner=Inner(rate_hz=1 / 3, names=("1e-3", "true", "null", "ü", "-")),
        law=Fixed(value=6.07e-5),
        where=Path("1e5"),
        table={"a b": 1e300, "x": -math.inf},
    )
    config.save(tmp_path / "a.yaml", outer)
    assert config.load(Outer, tmp_path / "a.yaml") == outer


def test_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: cannot be read"):
        config.load(Outer, tmp_path / "nothing.yaml")


def test_yaml_tags_build_no_objects() -> None:
    with pytest.raises(ConfigError, match="not valid YAML"):
        config.parse_yaml("!!python/object/apply:os.system ['true']", "a.yaml")
