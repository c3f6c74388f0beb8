"""What `terrafirma bench` measures: one module for each `what`.

To add one: a module here with `measure(cfg, run) -> keys of result.json` (at least `rows` and `ratio`), where cfg is
transfer.stages.bench.Config, and its line in WHAT.
"""

WHAT = {
    "env": "transfer.bench.env",
    "render": "transfer.bench.render",
    "tick": "transfer.bench.tick",
    "identify": "transfer.bench.identify",
    "train": "transfer.bench.train",
}
"""what -> module, imported when it is asked for."""
