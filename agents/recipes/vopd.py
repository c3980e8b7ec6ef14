"""vOPD: a KL for a KL (arXiv 2605.07865). The sampled token's word, less what was to be expected of it.

    R_t = log q_t(y_t) - log p_t(y_t)                    reward of sampled-token distillation
    V_t = - KL(p_t || q_t)                               its expectation over y_t ~ p_t: the state's value, for free
    L   = - 1/N sum_t stopgrad(R_t - V_t + lambda A_i) log p_t(y_t)

A_i is the group-relative advantage of a verifier, added with ``policy_weight`` lambda; 0 by default. With ``top_k``
(published: 100) the baseline alone is taken over the student's likeliest tokens, p and q renormalised there.

Status: full, from the released code. The gradient is that of the reverse KL in expectation, with this baseline, with
that over the top k, and with none: a baseline that ignores y_t has no expectation. That the variance falls is no law.
On random pairs of distributions over six outcomes it fell little where student and teacher are near each other (a
median ratio of 0.998; larger than without a baseline in 46% of pairs) and by a quarter where they are far apart
(0.73; larger in 19%).

Our readings: the distillation counts tokens that the teacher scored, the verifier's term all of them, through GRPO's
clipped surrogate. On the first optimiser step after a rollout the ratio is 1, and the two are one policy gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field

from agents.batch import Batch
from agents.losses.reduction import token_mean
from agents.losses.terms import PolicyGradient, Term
from agents.recipes.base import require_attempts
from agents.recipes.opd import OPD

if TYPE_CHECKING:
    from agents.config import TrainConfig


class VOPD(OPD):
    """`OPD` on the sampled token, with its own value as baseline."""

    name: ClassVar[str] = "vopd"
    run_defaults: ClassVar[Mapping[str, Any]] = {
        "optim": {"lr": 1e-5},
        "model": {"lora_rank": 64, "lora_alpha": 128.0},
        "batch": {"tasks": 64, "attempts": 1},
        "sampling": {"temperature": 1.0, "max_tokens": 2048},
    }

    form: Literal["full", "sampled", "baseline"] = Field(
        "baseline",
        description="baseline: the sampled token's log-ratio less its expectation; sampled: without; full: that of opd",
    )
    top_k: int = Field(0, ge=0, description="the baseline over the student's likeliest tokens; 0: whole vocabulary")
    policy_weight: float = Field(0.0, ge=0, description="weight of the verifier's group-relative advantage")
    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio, in the verifier's term")
    clip_high: float = Field(0.2, ge=0, description="upper clip of the ratio, in the verifier's term")

    def check_run(self, run: TrainConfig) -> None:
        """A group of one has no advantages."""
        if self.policy_weight:
            require_attempts(run, f"recipe.policy_weight={self.policy_weight:g}", "recipe.policy_weight=0")

    def terms(self, batch: Batch) -> list[Term]:
        """The divergence's estimate on taught tokens, and the verifier's advantage on all."""
        terms: list[Term] = [self.distill(token_mean(batch.per_token(batch.taught).float()))]
        if self.policy_weight:
            policy = self.policy_weight * token_mean(torch.ones(len(batch.targets)))
            advantages = batch.per_token(batch.advantages)
            terms.append(PolicyGradient(policy, advantages, self.clip_low, self.clip_high, is_clip=self.is_clip))
        return terms
