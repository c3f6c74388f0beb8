"""Between simulation and robot: identification, gaps, fine-tuning, export, tests of what was transferred."""

import robot  # noqa: F401 - before any file imports onnxruntime: it decides there what that reports to whom
