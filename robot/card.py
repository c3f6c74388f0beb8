"""The two pages of a bundle that are for people: README.md (model card) and, unless one is given, report.html."""

from __future__ import annotations

import html
from typing import Any

from robot import config
from robot.manifest import Manifest

_CARD = """# {task} on {robot}

A controller bundle of terrafirma {version}: copy this folder to the robot.

    terrafirma verify bundle=FOLDER [key=PUBLIC.pem]
    terrafirma run bundle=FOLDER driver=sim seconds=10
    terrafirma run bundle=FOLDER driver=NAME seconds=10 shadow=true     # watches, moves nothing

| | |
|---|---|
| robot | {robot}, fingerprint {fingerprint} |
| control period | {period} s |
| observation | {features}; history of {history} steps; cameras: {cameras} |
| action | {action} |
| network | {variant}: {network} |
| licence | {licence} |

## Intended use
The robot with the fingerprint above, at the stated period, through the runtime's limits and watchdog. Bundles for
other robots are refused. Watch it in shadow mode first, then with the emergency stop in your hand.

## Gate
{gate}

## Lineage
{lineage}
"""

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body{{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}}pre{{overflow-x:auto}}</style>
<body><h1>{title}</h1>
<p>This bundle was exported without a report. What its manifest says:</p><pre>{manifest}</pre></body>
</html>
"""


def model_card(manifest: Manifest) -> str:
    """README.md of a bundle."""
    action = ", ".join(
        f"{name} ±{scale:g}" for name, scale in zip(manifest.action.actuators, manifest.action.scale, strict=True)
    )
    network = ", ".join(f"{name} {list(t.shape)}" for name, t in (manifest.inputs | manifest.outputs).items())
    return _CARD.format(
        task=manifest.task,
        robot=manifest.spec.name,
        version=manifest.terrafirma,
        fingerprint=manifest.fingerprint,
        period=manifest.control_period_s,
        features=", ".join(manifest.observation.features),
        history=manifest.observation.history,
        cameras=", ".join(manifest.observation.cameras) or "none",
        action=f"{manifest.action.kind}: {action}",
        network=network,
        variant=manifest.variant,
        licence=manifest.licence,
        gate=_block(manifest.gate),
        lineage=_block(manifest.lineage),
    )


def small_report(manifest: Manifest) -> str:
    """A page with the manifest, for a bundle whose maker gave no report."""
    title = html.escape(f"{manifest.task} on {manifest.spec.name}")
    return _PAGE.format(title=title, manifest=html.escape(config.dump_yaml(manifest)))


def _block(values: dict[str, Any]) -> str:
    if not values:
        return "Nothing was recorded."
    return "\n".join("    " + line for line in config.dump_yaml(values).splitlines())
