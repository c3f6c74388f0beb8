"""How long a picture takes: the vision encoder of 64 pixels as ONNX on one core, against the promised 3 ms.

Run it by name: python -m pytest -q -s tests/benchmarks/test_vision_latency.py
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from policies.encoders.vision import Seen, VisionConfig, VisionEncoder
from sim.model import find_robot
from transfer.images import vision_card

PICTURES = 300


def test_a_picture_takes_less_than_3_ms_on_one_core(tmp_path: Path) -> None:
    encoder = VisionEncoder(vision_card(find_robot("simple_pendulum"), VisionConfig())).eval()
    image = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.onnx.export(
        encoder, (image,), tmp_path / "e.onnx", input_names=["image_side"], output_names=list(Seen._fields),
        dynamic_shapes=(({0: torch.export.Dim("B")},),), dynamo=True, verbose=False,
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(tmp_path / "e.onnx", options)
    taken = []
    for _ in range(PICTURES):
        begin = time.perf_counter()
        session.run(None, {"image_side": image[:1].numpy()})
        taken.append(1e3 * (time.perf_counter() - begin))
    p50, p99 = np.percentile(taken, [50, 99])
    print(f"\na picture of 64 x 64: p50 {p50:.2f} ms, p99 {p99:.2f} ms ({PICTURES} pictures)")
    assert p50 < 3.0
