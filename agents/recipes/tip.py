"""TIP: token importance in on-policy distillation (arXiv 2604.14084). Half of the tokens teach as much as all.

Worth learning are tokens where the student is unsure, and those where it is sure and wrong:

    h_t   student's entropy, d_t its divergence from the teacher, at its current weights
    h^, d^   each scaled to [0, 1] over the batch, h cut off at its 0.98 quantile
    s_t = h^ + d^ - h^ d^                                            soft or
    L   = mean of KL(p_t || q_t) over the share rho of tokens with the highest s

What is left out costs no backward pass through the vocabulary. ``select="product"`` is what the released code does
instead: it draws the share without replacement, each token in proportion to (H / log V)^a (JSD / log 2)^g, a product,
in which a sure token never counts. With rho=1 both are `agents.recipes.opd`.

Status: full for both selections. Left out is an optional weight of samples, softmax(reward / beta), whose scope could
not be confirmed. Our readings: the divergence of s is that of the loss; ties go to the earlier token; a and g, whose
values could not be confirmed, are 1.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor

from agents.batch import Batch, Sample
from agents.credit.tokens import drawn, soft_or, top_share, unit_range
from agents.losses.reduction import token_mean
from agents.losses.terms import Distill, Term
from agents.recipes.opd import OPD
from agents.recipes.tools import StepTools
from agents.trajectory import Group


class TIP(OPD):
    """`OPD` on the tokens that matter."""

    name: ClassVar[str] = "tip"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}, "batch": {"tasks": 16, "attempts": 8}}
    reads_student: ClassVar[bool] = True

    rho: float = Field(
        0.5, gt=0, le=1, description="share of the taught tokens that is learnt from; 0.2 is published too"
    )
    quantile: float = Field(0.98, gt=0, le=1, description="entropies above this quantile count as equal")
    select: Literal["soft_or", "product"] = Field(
        "soft_or", description="soft_or: the highest scores, as in the paper; product: drawn, as in the released code"
    )
    entropy_power: float = Field(1.0, ge=0, description="with product: exponent of the entropy")
    divergence_power: float = Field(1.0, ge=0, description="with product: exponent of the divergence")

    _seed: str = PrivateAttr(default="")

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """As for every taught recipe; remembers what this step's draws are seeded by."""
        self._seed = tools.seed
        return super().views(samples, groups, tools)

    def measure(self, tokens: int) -> Distill:
        """The divergence that tokens are chosen by: with product the Jensen-Shannon divergence."""
        term = super().measure(tokens)
        return replace(term, alpha=0.5, form="full") if self.select == "product" else term

    def terms(self, batch: Batch) -> list[Term]:
        """The divergence on the chosen tokens, mean over them."""
        kept = self.chosen(batch)
        batch.log["tokens_kept"] = float(kept.float().mean())
        return [self.distill(token_mean(kept.float()))]

    def chosen(self, batch: Batch) -> Tensor:
        """[N] bool: the tokens to learn from."""
        taught = batch.per_token(batch.scored)
        if batch.student is None or not taught.any():
            return torch.zeros(len(batch.targets), dtype=torch.bool)
        entropy, gap = batch.student.entropy, batch.student.gap.masked_fill(~taught, 0.0).clamp(min=0.0)
        if self.select == "soft_or":
            scores = soft_or(unit_range(entropy, taught, self.quantile), unit_range(gap, taught))
        else:  # constant factors, log V and log 2, drop out of a draw in proportion
            weights = entropy.clamp(min=0.0) ** self.entropy_power * gap**self.divergence_power
            seed = random.Random(f"{self._seed}:tip").getrandbits(63)
            scores = drawn(weights, torch.Generator().manual_seed(seed))
        return top_share(scores, taught, self.rho)
