"""Runs in LeRobot's own Python, never in ours: `python lerobot_oracle.py read|train|write FOLDER OUT.npz`.

read: every item of a data set, as LeRobot gives it; train: a step of ACT on it; write: a data set by LeRobot itself.
"""

import sys

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

CAMERA = "observation.images.front"


def opened(folder, **more):
    return LeRobotDataset("local/set", root=folder, **more)


def dumped(data):
    """Items as arrays; pictures as LeRobot decodes them, in whole steps of 1/255."""
    items = [data[k] for k in range(len(data))]
    out = {n: np.stack([i[n].numpy() for i in items]) for n in ("observation.state", "action", "timestamp", "index")}
    if CAMERA in items[0]:
        out["images"] = np.stack([(i[CAMERA] * 255).round().to(torch.uint8).numpy() for i in items]).transpose(
            0, 2, 3, 1
        )
    out["task"] = np.array([i["task"] for i in items])
    return out | {"episode": np.array([int(i["episode_index"]) for i in items])}


def train(folder):
    """One step of a small ACT; the loss before it and after it on the same batch."""
    from lerobot.configs.types import FeatureType
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.act.processor_act import make_act_pre_post_processors

    try:
        from lerobot.utils.feature_utils import dataset_to_policy_features
    except ImportError:
        from lerobot.datasets.feature_utils import dataset_to_policy_features

    torch.manual_seed(0)
    torch.set_num_threads(1)
    meta = opened(folder).meta
    features = dataset_to_policy_features(meta.features)
    actions = {n: f for n, f in features.items() if f.type is FeatureType.ACTION}
    cfg = ACTConfig(
        input_features={n: f for n, f in features.items() if n not in actions}, output_features=actions, device="cpu",
        chunk_size=4, n_action_steps=4, dim_model=32, n_heads=2, dim_feedforward=64, n_encoder_layers=1,
        n_vae_encoder_layers=1, pretrained_backbone_weights=None, dropout=0.0,
    )  # fmt: skip
    policy = ACTPolicy(cfg)
    before, _ = make_act_pre_post_processors(cfg, dataset_stats=meta.stats)
    data = opened(folder, delta_timestamps={"action": [k / meta.fps for k in range(4)]})
    batch = before(next(iter(torch.utils.data.DataLoader(data, batch_size=8, shuffle=True))))
    optimizer = torch.optim.AdamW(policy.parameters(), 1e-3)
    losses = []
    for _ in range(2):
        torch.manual_seed(1)
        loss, _ = policy.forward(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return {"losses": np.array(losses)}


def write(folder):
    """Three episodes with a camera, as LeRobot's recorder leaves them, and what it reads back of them."""
    names = ["shoulder.pos", "elbow.pos"]
    vector = {"dtype": "float32", "shape": (2,), "names": names}
    camera = {"dtype": "video", "shape": (64, 64, 3), "names": ["height", "width", "channels"]}
    features = {"observation.state": vector, "action": vector, CAMERA: camera}
    data = LeRobotDataset.create("local/set", 30, features, root=folder, robot_type="lab_arm", use_videos=True)
    for length in (20, 25, 30):
        for k in range(length):
            image = np.zeros((64, 64, 3), np.uint8)
            image[:, :, 0], image[:32, :, 1] = 8 * k, 120
            q = np.float32([40.0 * np.sin(0.1 * k), 30.0 * np.cos(0.1 * k)])
            data.add_frame(
                {"observation.state": q, "action": q + np.float32(1.0), CAMERA: image, "task": f"wave {length}"}
            )
        data.save_episode()
    data.finalize()
    return dumped(opened(folder))


if __name__ == "__main__":
    what, where, out = sys.argv[1:]
    np.savez(out, **{"read": lambda f: dumped(opened(f)), "train": train, "write": write}[what](where))
