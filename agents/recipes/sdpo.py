"""SDPO: self-distillation policy optimisation (arXiv 2601.20802).

The policy p, shown the environment's feedback or a sibling's success, is its own teacher q, on the same ids:

    c_i = context(x, success of a sibling, feedback)          m_i = 1 where there is such a context
    D_t = divergence(p(. | x, y_<t), stopgrad q(. | c_i, y_<t))
    L   = 1/n sum_i m_i 1/|y_i| sum_t rho_t w_t D_t

The divergence is taken over the student's top k tokens and one bucket for the rest. rho and w correct for stale
and mismatched samplers. Samples without a context count in n (our reading: the released code averages each
micro-batch of one sequence). Both published settings are here: `sdpo` without rich
feedback, `sdpo_rich` with it; models answer without thinking in both.

Over several turns (our reading: the paper has one) each turn is a sequence i: it has a teacher's context of its own,
and a long episode counts by its decisions. With ``mean="trajectory"`` y_i is all that the policy wrote in an episode,
and every episode weighs the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from agents.batch import Batch
from agents.losses.reduction import sequence_mean
from agents.losses.terms import Term
from agents.recipes.base import TaughtRecipe
from agents.teachers.contexts import Context
from agents.teachers.teacher import TeacherSettings

_NO_THINKING = {"template": {"enable_thinking": False}}


class SDPO(TaughtRecipe):
    """Published setting without rich feedback: JSD, top 100, EMA 0.05, one optimiser step a rollout batch."""

    name: ClassVar[str] = "sdpo"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-5, "warmup_steps": 10}, "model": _NO_THINKING}

    context: Context = Context(sources=["sibling"], wording="paper")
    mean: Literal["turn", "trajectory"] = Field(
        "turn", description="what weighs the same in the loss: every turn, or every episode"
    )

    def idle(self, batch: Batch) -> Tensor | None:
        """What has no context."""
        return ~batch.taught

    def terms(self, batch: Batch) -> list[Term]:
        """The divergence on every token of every taught sample."""
        taught = batch.per_token(batch.taught).float()
        if self.mean == "turn":
            coefficients = sequence_mean(taught, batch.sequence, len(batch))
        else:
            episode = torch.zeros(len(batch), dtype=torch.long)
            for k, turns in enumerate(batch.trajectories):
                episode[turns] = k
            coefficients = sequence_mean(taught, batch.per_token(episode), len(batch.trajectories))
        return [self.distill(coefficients)]


class SDPORich(SDPO):
    """Published setting with rich feedback: reverse KL, top 20, EMA 0.01, 32 optimiser steps a rollout batch."""

    name: ClassVar[str] = "sdpo_rich"
    run_defaults: ClassVar[Mapping[str, Any]] = {
        "optim": {"lr": 1e-6, "warmup_steps": 0, "steps_per_batch": 32},
        "model": _NO_THINKING,
    }

    teacher: TeacherSettings = TeacherSettings(kind="ema", rate=0.01)
    context: Context = Context(sources=["sibling", "feedback"], wording="paper", allow_reference=True)
    alpha: float = Field(1.0, ge=0, le=1, description="divergence: 1 is the reverse KL")
    top_k: int = Field(20, ge=0, description="divergence over the student's likeliest tokens; 0: whole vocabulary")
