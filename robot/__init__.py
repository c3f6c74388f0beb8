"""What runs on the robot: numpy, onnxruntime, PyYAML, mcap and cryptography are all it needs."""
