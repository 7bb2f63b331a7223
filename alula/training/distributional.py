"""The loss of critics that learn mean and spread of the return: DSAC-T (Duan et al., arXiv 2310.05858)."""

import torch
from torch import Tensor

XI, EPSILON = 3.0, 0.1
"""Bound of an error in standard deviations, and what keeps divisors from zero."""


def distributional_loss(
    mean: Tensor, std: Tensor, target: Tensor, drawn: Tensor, bound: Tensor, variance: Tensor
) -> Tensor:
    """What has the gradient of DSAC-T's critics, whose return is N(Q, sigma); its value means nothing.

    Args:
        mean: Q of each critic [C, B].
        std: sigma of each critic [C, B].
        target: of the mean: the target of the expected return, y_Q [B].
        drawn: of the spread: the target with a drawn return, y_Z [B].
        bound: largest error that counts, b of each critic [C, 1].
        variance: moving average omega of sigma^2 of each critic [C, 1].
    """
    q, s = mean.detach(), std.detach()
    # C(y_Z; b) - Q = clip(y_Z - Q, -b, b)
    error = torch.minimum(torch.maximum(drawn - q, -bound), bound)
    # grad L = -(omega + e) E[(y_Q - Q) / (sigma^2 + e) grad Q + ((C - Q)^2 - sigma^2) / (sigma^3 + e) grad sigma]
    pull = (target - q) / (s**2 + EPSILON)
    widen = (error**2 - s**2) / (s**3 + EPSILON)
    return -((variance + EPSILON) * (pull * mean + widen * std)).mean(1).sum()
