"""Per-token losses that see the target's log-probability only: policy gradients and sampled distillation.

``logp`` is the current policy's, with gradient; ``old`` at the start of the batch, ``sampler`` as the sampler
reported it, ``[N]`` each, nats.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agents.losses.divergence import LOG_RATIO_LIMIT, k2, k3, sampled_token, sampled_token_baseline
from agents.losses.terms import Distill, Likelihood, Pointwise, PolicyGradient


def importance_weights(
    logp: Tensor, old: Tensor | None, sampler: Tensor | None, clip: float | None
) -> tuple[Tensor, Tensor]:
    """The two detached off-policy factors of a token, ``[N]`` each, both capped at ``clip`` from above only.

    - ``rho = p / p_old``: how far the policy moved since the start of the batch; 1 where ``old`` is None.
    - ``w = p_old / p_sampler``: how far trainer and sampler disagree about the same weights; 1 where
      ``sampler`` is None. ``old`` then defaults to the current policy.

    Both are 1 where ``sampler`` is NaN: the policy did not sample that token, so that no ratio of its own corrects it.

    `Distill` is multiplied by both; `PolicyGradient` by w, rho being its ratio.
    """
    now = logp.detach()
    start = now if old is None else old.detach()

    def capped(log_ratio: Tensor) -> Tensor:
        ratio = log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
        return ratio if clip is None else ratio.clamp(max=clip)

    one = torch.ones_like(now)
    elsewhere = torch.zeros_like(now, dtype=torch.bool) if sampler is None else sampler.isnan()
    rho = one if old is None else capped((now - start).masked_fill(elsewhere, 0.0))
    w = one if sampler is None else capped((start - sampler.detach()).masked_fill(elsewhere, 0.0))
    return rho, w


def policy_gradient(term: PolicyGradient, logp: Tensor, old: Tensor | None, sampler: Tensor | None) -> Tensor:
    """The surrogate per token, ``[N]``, to be minimised; times w, which is 1 where ``behaviour`` is given.

    - "clip": ``-min(rho A, clip(rho, 1 - low, 1 + high) A)``, at most ``-dual_clip A`` where A < 0 (PPO eq. 7).
    - "cispo": ``-stopgrad(min(rho, 1 + high)) A log p`` (MiniMax-M1 eq. 4, without a lower bound).
    - "plain": ``-A log p``.

    with ``rho = exp(power * log(p / start) + shift)``, start being ``behaviour`` where given, else ``old``, else p.
    """
    advantages = term.advantages.detach()
    _, w = importance_weights(logp, old, sampler, term.is_clip)
    start = logp.detach() if old is None else old.detach()
    if term.behaviour is not None:
        elsewhere = ~term.behaviour.isnan()
        start = torch.where(elsewhere, term.behaviour.detach().to(start.dtype), start)
        w = w.masked_fill(elsewhere, 1.0)
    if term.surrogate == "plain":
        return -advantages * logp * w
    log_rho = term.ratio_power * (logp - start)
    if term.ratio_shift is not None:
        log_rho = log_rho + term.ratio_shift.detach()
    rho = log_rho.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    if term.surrogate == "cispo":
        return -rho.detach().clamp(max=1 + term.clip_high) * advantages * logp * w
    clipped = rho.clamp(1 - term.clip_low, 1 + term.clip_high)
    gain = torch.minimum(rho * advantages, clipped * advantages)
    if term.dual_clip is not None:
        gain = torch.where(advantages < 0, torch.maximum(gain, term.dual_clip * advantages), gain)
    return -gain * w


def sampled_form(term: Distill, logp: Tensor, teacher_logp: Tensor, baseline: Tensor | None) -> Tensor:
    """A `Distill` of form "sampled", "k2", "k3" or "baseline" per token, ``[N]``, without importance weights."""
    if term.form == "baseline":
        assert baseline is not None
        return sampled_token_baseline(logp, teacher_logp, baseline)
    return {"sampled": sampled_token, "k2": k2, "k3": k3}[term.form](logp, teacher_logp)


def per_token(
    term: PolicyGradient | Likelihood | Pointwise, logp: Tensor, old: Tensor | None, sampler: Tensor | None
) -> Tensor:
    """A term that needs no teacher, token by token, ``[N]``, without its coefficients."""
    if isinstance(term, PolicyGradient):
        return policy_gradient(term, logp, old, sampler)
    return -logp if isinstance(term, Likelihood) else term.per_token(logp)
