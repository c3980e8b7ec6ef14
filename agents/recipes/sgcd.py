"""SGCD: sibling-guided credit distillation (arXiv 2606.12634). A note on siblings only moves credit between tokens.

Status: partial. That weights are bounded, detached, of mean 1 and made from the divergence is the paper's; the exact
weight is not public and is our reading.

Token-wise self-distillation can silently destroy tool use. So no divergence is minimised. In a group with successes and
failures an author contrasts the two in a few sentences; the policy that reads this note says where credit belongs:

    d_t = log q(y_t | x, note, y_<t) - log p(y_t | x, y_<t)                         no gradient
    s_t = sign(A) clip(d_t, -5, 5), standardised over the tokens of the trajectory
    w_t = (1 + 0.5 tanh s_t) / its mean over the trajectory
    L   = the clipped surrogate of GRPO with A w_t

A trajectory's mean advantage is the group's A, exactly: where student and teacher agree about all tokens alike it is
GRPO. Groups that all succeed or all fail have no note, and no advantage either.

One note is written for a group, before anything is scored, by the policy or by its teacher (``author``; the paper has
an external model); it may have been made from the attempt that is scored. The paper draws groups anew until they are
mixed and adds a KL to the first weights: neither is done here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from agents.batch import MAIN, Batch, Sample
from agents.credit.shaping import credit_weight
from agents.recipes.advantage import AdvantageRecipe
from agents.recipes.base import Texts
from agents.recipes.tools import StepTools
from agents.recipes.writers import contrast_notes
from agents.teachers.contexts import Context
from agents.trajectory import Group


class SGCD(AdvantageRecipe):
    """Policy gradient whose credit a note on the siblings moves within each trajectory."""

    name: ClassVar[str] = "sgcd"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}, "check_teacher": 0}
    gives: ClassVar[tuple[str, ...]] = ("summary",)

    context: Context = Context(sources=["summary"], wording="paper")
    spread: float = Field(0.5, ge=0, lt=1, description="weights are within 1 - spread and 1 + spread before their mean")
    limit: float = Field(5.0, gt=0, description="log-ratios are cut to so many nats")
    author: Literal["policy", "teacher"] = Field("policy", description="who contrasts the siblings")
    author_tokens: int = Field(256, ge=8, description="longest note")
    quoted: int = Field(2000, ge=1, description="characters of each turn of an attempt that the author sees")

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """Words, where it is the author."""
        return super().needs(name) | ({"generate": "recipe.author='teacher'"} if self.author == "teacher" else {})

    def given(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> Texts:
        """One note for each mixed group."""
        mine = {g: groups[g] for g in sorted({s.group for s in samples})}
        notes = contrast_notes(mine, tools, self.author, self.author_tokens, self.quoted)
        tools.log["notes"] = float(len(notes))
        return {**super().given(samples, groups, tools), "summary": [notes.get(s.group) for s in samples]}

    def reshaped(self, batch: Batch, advantages: Tensor, log_ratio: Tensor) -> Tensor:
        """The advantage times weights of mean 1 over each trajectory."""
        episode = torch.zeros(len(batch), dtype=torch.long)
        for k, turns in enumerate(batch.trajectories):
            episode[turns] = k
        read = batch.per_token(batch.taught)
        weights = credit_weight(
            log_ratio, advantages.sign(), read, batch.per_token(episode), len(batch.trajectories), self.spread,
            self.limit,
        )  # fmt: skip
        batch.log["credit_moved"] = float((weights - 1).abs().mean()) if len(weights) else 0.0
        return advantages * weights
