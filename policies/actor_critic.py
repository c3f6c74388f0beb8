"""Actor and critic of PPO: a bounded mean, a critic that may see more, and a mirror symmetry where asked for."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from policies.symmetry import Mirror, Symmetry

ADAM = {"eps": 1e-5, "fused": True}


class Halves(nn.Module):
    """Hidden layers of the actor, which sees the first `actor` features, and of the critic, which sees all.

    Source: Pinto et al., "Asymmetric actor critic for image-based robot learning", RSS 2018.
    """

    def __init__(self, actor: int, critic: int, arch: dict[str, list[int]], activation: type[nn.Module]) -> None:
        super().__init__()
        self.actor = actor
        self.policy_net = nn.Sequential(*create_mlp(actor, -1, arch["pi"], activation))
        self.value_net = nn.Sequential(*create_mlp(critic, -1, arch["vf"], activation))
        self.latent_dim_pi, self.latent_dim_vf = arch["pi"][-1], arch["vf"][-1]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        latent: Tensor = self.policy_net(features[:, : self.actor])
        return latent

    def forward_critic(self, features: Tensor) -> Tensor:
        latent: Tensor = self.value_net(features)
        return latent


class BoundedActorCritic(ActorCriticPolicy):
    """The mean passes through tanh, as in the exported policy, so it cannot drift beyond the clip."""

    def __init__(
        self,
        *args: Any,
        actor_size: int,
        symmetry: Symmetry | None = None,
        memory: int = 0,
        encoder_rate: float = 1.0,
        **kwargs: Any,
    ) -> None:
        """`symmetry`: of the actor, which reads no context; `encoder_rate`: of trained encoders' learning rate."""
        self.actor_size, self.encoder_rate = actor_size, encoder_rate
        super().__init__(*args, **kwargs)
        self.mirror = None if symmetry is None else Mirror(symmetry.vector(0, memory))
        self.mirror_action = None if symmetry is None else Mirror(symmetry.action)

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.net_arch, dict)
        self.mlp_extractor = Halves(  # type: ignore[assignment]
            self.actor_size, self.features_dim, self.net_arch, self.activation_fn
        )

    def _build(self, lr_schedule: Schedule) -> None:
        """As Stable-Baselines3 does, which would give pretrained encoders random weights, too."""
        kept = {k: v.clone() for k, v in self.features_extractor.state_dict().items()}
        super()._build(lr_schedule)
        self.features_extractor.load_state_dict(kept)
        encoders = list(self.features_extractor.parameters())
        if encoders:
            own = [p for name, p in self.named_parameters() if "features_extractor" not in name]
            groups = [{"params": own, "factor": 1.0}, {"params": encoders, "factor": self.encoder_rate}]
            self.optimizer = self.optimizer_class(groups, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def extract_features(self, obs: PyTorchObs, features_extractor: Any = None) -> Tensor:
        """Without Stable-Baselines3's conversions: pictures stay uint8."""
        features: Tensor = self.features_extractor(obs)
        return features

    def mean(self, features: Tensor) -> Tensor:
        """(B, A) the deterministic action in [-1, 1]."""
        vector = features[:, : self.actor_size]
        action = torch.tanh(self.action_net(self.mlp_extractor.policy_net(vector)))
        if self.mirror is None or self.mirror_action is None:
            return action
        other = torch.tanh(self.action_net(self.mlp_extractor.policy_net(self.mirror(vector))))
        return 0.5 * (action + self.mirror_action(other))

    def assess(self, obs: PyTorchObs) -> tuple[Tensor, Tensor, Tensor]:
        """(B, A) mean action, (A,) or (B, A) logarithm of the noise's deviation, and (B,) value."""
        features = self.extract_features(obs)
        values = self.value_net(self.mlp_extractor.forward_critic(features)).flatten()
        return self.mean(features), self.log_std, values

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_std, values = self.assess(obs)
        distribution = self.action_dist.proba_distribution(mean, log_std)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, values[:, None], distribution.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        mean, log_std, values = self.assess(obs)
        distribution = self.action_dist.proba_distribution(mean, log_std)
        return values[:, None], distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        return self.action_dist.proba_distribution(self.mean(self.extract_features(obs)), self.log_std)

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        values: Tensor = self.value_net(self.mlp_extractor.forward_critic(self.extract_features(obs)))
        return values
