"""What runs on the robot: numpy, onnxruntime, PyYAML, mcap and cryptography are all it needs.

The official builds of onnxruntime (1.29 and later) have a thread that reports processes, networks and their hashes to
the builder. A robot reports to nobody, and a control loop wants no other thread: it is off unless the variable is set.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, when onnxruntime is imported
