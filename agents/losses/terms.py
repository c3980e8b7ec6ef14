"""What a loss is made of: a list of terms, each with its own coefficient per token.

    loss = sum over terms, sum over tokens t:  coefficients[t] * per_token_loss[t]

A coefficient is mask x weight / denominator with the denominator of the whole optimiser step
(`agents.losses.reduction`), so the loss and its gradient do not depend on how tokens are split into
micro-batches. Where a coefficient is exactly 0 nothing is computed, so nothing there can spoil the sum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from agents.losses.divergence import check_alpha

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are clamped to +-20 nats before exp."""


@dataclass(frozen=True)
class Distill:
    """Divergence from a teacher (`agents.losses.divergence`), times the importance weights rho and w."""

    coefficients: Tensor
    """[N]; must be 0 where the teacher has nothing to say."""
    alpha: float = 0.5
    top_k: int | None = None
    """Compare on the student's k likeliest tokens only; None: on the whole vocabulary."""
    tail: bool = True
    """With ``top_k``: one more bucket for all other tokens, instead of renormalising."""
    form: Literal["full", "sampled"] = "full"
    """``"sampled"``: the one-sample estimate of the reverse KL on the sampled token; needs ``alpha=1``."""
    is_clip: float | None = 2.0
    """Cap of each importance weight; None: no cap."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k}: keep at least one token, or None for the whole vocabulary")
        if self.form not in ("full", "sampled"):
            raise ValueError(f"form={self.form!r} is neither 'full' nor 'sampled'")
        if self.form == "sampled" and (self.alpha != 1.0 or self.top_k is not None):
            raise ValueError(
                f"form='sampled' estimates the reverse KL: it needs alpha=1 and top_k=None, "
                f"not alpha={self.alpha}, top_k={self.top_k}"
            )


@dataclass(frozen=True)
class PolicyGradient:
    """PPO's clipped surrogate with separate bounds (DAPO's clip-higher) and an optional dual clip."""

    coefficients: Tensor
    """[N]"""
    advantages: Tensor
    """[N], taken as constants."""
    clip_low: float = 0.2
    clip_high: float = 0.28
    dual_clip: float | None = None
    """Bound, > 1, of the ratio where the advantage is negative."""
    is_clip: float | None = 2.0
    """Cap of the trainer/sampler importance weight; None: no cap."""

    def __post_init__(self) -> None:
        if self.advantages.shape != self.coefficients.shape:
            raise ValueError(
                f"advantages have shape {tuple(self.advantages.shape)}, coefficients "
                f"{tuple(self.coefficients.shape)}: give one advantage per token"
            )
        if self.dual_clip is not None and self.dual_clip <= 1.0:
            raise ValueError(f"dual_clip={self.dual_clip} must be above 1, or None")


@dataclass(frozen=True)
class Likelihood:
    """Cross-entropy, ``-log p(target)``: supervised fine-tuning, or a replay regulariser."""

    coefficients: Tensor
    """[N]"""


Term = Distill | PolicyGradient | Likelihood
AnyTerm = TypeVar("AnyTerm", bound=Term)


def select(term: AnyTerm, rows: Tensor | slice) -> AnyTerm:
    """The same term on some of the tokens, for instance those of one micro-batch."""
    columns: dict[str, Any] = {"coefficients": term.coefficients[rows]}
    if isinstance(term, PolicyGradient):
        columns["advantages"] = term.advantages[rows]
    return replace(term, **columns)


def importance_weights(
    logp: Tensor, old: Tensor | None, sampler: Tensor | None, clip: float | None
) -> tuple[Tensor, Tensor]:
    """The two detached off-policy factors of a token, ``[N]`` each, both capped at ``clip`` from above only.

    - ``rho = p / p_old``: how far the policy moved since the start of the batch; 1 where ``old`` is None.
    - ``w = p_old / p_sampler``: how far trainer and sampler disagree about the same weights; 1 where
      ``sampler`` is None or NaN. ``old`` then defaults to the current policy.

    `Distill` is multiplied by both; `PolicyGradient` by w, rho being its ratio.
    """
    now = logp.detach()
    start = now if old is None else old.detach()

    def capped(log_ratio: Tensor) -> Tensor:
        ratio = log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
        return ratio if clip is None else ratio.clamp(max=clip)

    one = torch.ones_like(now)
    rho = one if old is None else capped(now - start)
    w = one if sampler is None else capped((start - sampler.detach()).masked_fill(sampler.isnan(), 0.0))
    return rho, w


def policy_gradient(term: PolicyGradient, logp: Tensor, old: Tensor | None, sampler: Tensor | None) -> Tensor:
    """Clipped surrogate per token, ``[N]``, to be minimised (PPO eq. 7).

    ``-min(r A, clip(r, 1 - low, 1 + high) A)``, at most ``-dual_clip A`` where A < 0, times w.
    """
    advantages = term.advantages.detach()
    start = logp.detach() if old is None else old.detach()
    ratio = (logp - start).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    clipped = ratio.clamp(1 - term.clip_low, 1 + term.clip_high)
    gain = torch.minimum(ratio * advantages, clipped * advantages)
    if term.dual_clip is not None:
        gain = torch.where(advantages < 0, torch.maximum(gain, term.dual_clip * advantages), gain)
    _, w = importance_weights(logp, old, sampler, term.is_clip)
    return -gain * w
