"""What an on-policy learner has seen since its last update."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(kw_only=True)
class Rollout:
    """T steps of N environments."""

    observation: Tensor
    """Actor observations [T, N, O]."""
    action: Tensor
    """Sampled actions before the limit [T, N, A]."""
    log_likelihood: Tensor
    """Of the actions under the policy that took them [T, N]."""
    privileged: Tensor
    """Critic observations [T, N, Q]."""
    reward: Tensor
    """Rewards [T, N]."""
    terminated: Tensor
    """Failures [T, N]."""
    ended: Tensor
    """Failures and time-outs [T, N]."""
    value: Tensor
    """Values of the states [T, N]."""
    next_value: Tensor
    """Values of the states reached, before any reset [T, N]."""
