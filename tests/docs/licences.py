"""Makes docs/licences.md: what terrafirma is installed with, at which versions, and under which licences.

    .venv/bin/python tests/docs/licences.py              # writes the page
    .venv/bin/python tests/docs/licences.py sbom.json    # the same as a CycloneDX 1.5 bill of materials

Licences are what the installed packages say of themselves: the SPDX expression, else the classifiers, else the licence
field's first line. Which extra wants a package is followed through the packages' own requirements.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "licences.md"
COPYLEFT = re.compile(r"GPL|MPL|EUPL|copyleft", re.IGNORECASE)
KNOWN = {
    "antlr4-python3-runtime": "BSD-3-Clause",
    "flatbuffers": "Apache-2.0",
}
"""Where the package's metadata are silent: what its repository's LICENSE says."""

HEAD = """# Licences

terrafirma is Apache-2.0. It is installed with the packages below, which it does not contain; versions are those of
`constraints.txt`, licences what each package's own metadata say. Made by `tests/docs/licences.py`.

The column *for* says what brings a package, directly or through another: `edge` is what runs on a robot, the others are
extras (`pip install 'terrafirma[train]'`).
"""


def pinned() -> dict[str, str]:
    """Name -> version of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().split()
    return dict(line.split("==", 1) for line in lines)


def licence(package: Distribution) -> str:
    """What the package says of its licence, in a few words."""
    data = package.metadata
    if expression := data.get("License-Expression"):
        return str(expression)
    classifiers = [c.split(" :: ")[-1] for c in data.get_all("Classifier") or [] if c.startswith("License :: ")]
    classifiers = [c for c in classifiers if c != "OSI Approved"]
    if classifiers:
        return ", ".join(dict.fromkeys(classifiers))
    text = (data.get("License") or "").strip().splitlines()
    if text and text[0] not in ("UNKNOWN", ""):
        return text[0][:80]
    return KNOWN.get(canonicalize_name(str(data["Name"])), "not stated")


def roots() -> dict[str, list[Requirement]]:
    """`edge` and each extra -> what pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {k: v for k, v in project["optional-dependencies"].items() if k != "all"}
    return {
        name: [Requirement(r) for r in wanted] for name, wanted in {"edge": project["dependencies"], **extras}.items()
    }


def closure(wanted: list[Requirement]) -> set[str]:
    """Names of all packages that these requirements bring on this machine, as far as they are installed."""
    found: set[tuple[str, str]] = set()
    ahead = [(r, "") for r in wanted]
    while ahead:
        requirement, extra = ahead.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        news = [e for e in ("", *requirement.extras) if (name, e) not in found]
        found |= {(name, e) for e in news}
        try:
            needs = [Requirement(r) for r in distribution(name).requires or []]
        except PackageNotFoundError:
            continue
        ahead += [(need, e) for e in news for need in needs]
    return {name for name, _ in found}


def rows() -> list[dict[str, str]]:
    """One row a pinned package. SystemExit names those that are not installed, of which nothing can be said."""
    wanted_by = {name: closure(wanted) for name, wanted in roots().items()}
    found, missing = [], []
    for name, version in pinned().items():
        try:
            package = distribution(name)
        except PackageNotFoundError:
            missing.append(name)
            continue
        key = canonicalize_name(name)
        reasons = [extra for extra, names in wanted_by.items() if key in names]
        found.append({"name": name, "version": version, "licence": licence(package), "for": ", ".join(reasons)})
    if missing:
        raise SystemExit(f"not installed here, so nothing is known of them: {', '.join(missing)}")
    return found


def page(table: list[dict[str, str]]) -> str:
    """docs/licences.md."""
    lines = [HEAD, "| package | version | licence | for |", "|---|---|---|---|"]
    lines += [f"| {r['name']} | {r['version']} | {r['licence']} | {r['for'] or 'nothing any more'} |" for r in table]
    strict = [f"{r['name']} ({r['licence']})" for r in table if COPYLEFT.search(r["licence"])]
    lines += [
        "",
        f"Of these, under licences that ask for changes to be passed on: {', '.join(strict) or 'none'}.",
    ]
    return "\n".join(lines) + "\n"


def bill(table: list[dict[str, str]]) -> dict[str, Any]:
    """The table as a CycloneDX bill of materials (https://cyclonedx.org/docs/1.5/json/)."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "terrafirma", "version": version}},
        "components": [
            {
                "type": "library",
                "name": r["name"],
                "version": r["version"],
                "purl": f"pkg:pypi/{canonicalize_name(r['name'])}@{r['version']}",
                "licenses": [{"license": {"name": r["licence"]}}],
            }
            for r in table
        ],
    }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(bill(rows()), indent=1) + "\n")
    else:
        PAGE.write_text(page(rows()))
