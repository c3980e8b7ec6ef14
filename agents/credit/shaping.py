"""From a teacher's log-ratio to part of an advantage: bounded, without gradient, [N] to [N].

d_t = log q(y_t) - log p(y_t) in nats is unbounded on both sides; what it adds to an advantage, or multiplies it by, is
not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from agents.credit.tokens import centred, mean_one

FLOOR = -0.5 * math.log(2.0)
"""Lower bound of `soft_gain`."""


def soft_gain(log_ratio: Tensor, limit: float | None = None) -> Tensor:
    """``(softplus(d) - log 2) / 2``: 0 at 0, rising, above -log(2) / 2, half of d where d is large (AntiSD).

    It is the sampled token's part of a Jensen-Shannon divergence. ``limit``: d is first cut to [-limit, limit].

    >>> soft_gain(torch.tensor([0.0])).tolist()
    [0.0]
    """
    d = log_ratio if limit is None else log_ratio.clamp(-limit, limit)
    return 0.5 * (softplus(d) - math.log(2.0))


def credit_weight(
    log_ratio: Tensor, sign: Tensor, counted: Tensor, trajectory: Tensor, n: int, spread: float, limit: float
) -> Tensor:
    """Weights of advantages that only move credit within a trajectory; their mean over its counted tokens is 1 (SGCD).

    ``s_t = sign(A) clip(d_t, -limit, limit)``, standardised within the trajectory; the weight is ``1 + spread
    tanh(s_t)``, in [1 - spread, 1 + spread], over its trajectory's mean. 1 where not ``counted``.

    ``trajectory``: [N] in [0, n).
    """
    s = centred(sign * log_ratio.clamp(-limit, limit), counted, trajectory, n, "sequence", scale=True)
    weights = mean_one(1 + spread * torch.tanh(s), counted, trajectory, n, "sequence")
    return torch.where(counted, weights, 1.0)
