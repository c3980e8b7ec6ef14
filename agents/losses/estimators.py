"""Divergences from one sampled token, as functions of its log-probability, for `agents.losses.terms.Pointwise`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from agents.losses.divergence import LOG_RATIO_LIMIT, k3

PointFunction = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
"""What `agents.losses.terms.Pointwise` takes."""


def weighted_k3(cap: float) -> PointFunction:
    """``rho k3`` with ``rho = p(y) / p_start(y)``, at most ``cap``, *not* detached; ``k3 = e^d - d - 1``.

    Over y ~ p_start the expectation of its gradient is that of KL(p || q), the reverse KL, where no rho is capped. With
    rho as a constant it would be the forward KL's (`agents.losses.divergence.k3`). Where rho is capped it is a
    constant.

    The function takes ``constants["teacher"]``, log q(y), and ``constants["start"]``, log p_start(y), nats.
    """

    def loss(logp: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
        start, teacher = constants["start"].to(logp.dtype), constants["teacher"].to(logp.dtype)
        rho = (logp - start).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp().clamp(max=cap)
        return rho * k3(logp, teacher)

    return loss
